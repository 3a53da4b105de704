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

// The names of the alarms.
const (
	AlarmDatabase = "report.database"
	AlarmPoison   = "report.poison"
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
	// First is the sequence of the oldest fact kept, one above Last when none is.
	First(ctx context.Context) (uint64, error)
	// Last is the sequence of the newest fact.
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
	// Alarm is told when facts cannot be applied and when they can again
	// (AlarmDatabase), and when one was put aside (AlarmPoison). It is called
	// from the reader: it must not wait for a fact to be applied.
	Alarm func(event.Alarm)
	// BatchSize is how many facts go into one transaction at most (default 500).
	BatchSize int
	// BatchWait is how long a fact waits for company (default 50 ms).
	BatchWait time.Duration
	// RetryMax bounds the back-off between attempts (default 10 s).
	RetryMax time.Duration
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

func (o *Options) defaults() error {
	if o.Log == nil || o.Store == nil || o.Source == nil {
		return errors.New("report: options need Log, Store and Source")
	}
	if o.Location == nil {
		o.Location = time.UTC
	}
	if o.Alarm == nil {
		o.Alarm = func(event.Alarm) {}
	}
	if o.BatchSize <= 0 {
		o.BatchSize = 500
	}
	if o.BatchWait <= 0 {
		o.BatchWait = 50 * time.Millisecond
	}
	if o.RetryMax <= 0 {
		o.RetryMax = 10 * time.Second
	}
	return nil
}
