package queue

import (
	"context"
	"errors"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
)

// Why a caller does not get into a queue.
var (
	ErrNoQueue   = errors.New("no such queue")
	ErrDuplicate = errors.New("the call is in a queue already")
	ErrClosed    = errors.New("the queue is outside its hours")
	ErrFull      = errors.New("the queue is full")
	ErrEmpty     = errors.New("the queue has no agent signed in")
	ErrOverload  = errors.New("the queues of this node are overloaded")
	ErrStopping  = errors.New("the gateway is stopping")
)

// ErrNoCall is for a call that the runner does not know.
var ErrNoCall = errors.New("the call is in no queue")

// Caller is a call that enters a queue.
type Caller struct {
	CallID string
	Queue  string // name of an inbound campaign
	From   string
	URL    string // logged with ENTERQUEUE, if there is one
	// Priority goes before the order of arrival; 0 is usual.
	Priority int
	// EnteredAt is when the wait began; zero = now.
	EnteredAt time.Time
}

// Outcome is how ringing an agent ended.
type Outcome string

// The outcomes of ringing an agent. Cancelled is the queue's own: another
// agent answered, or the caller is gone.
const (
	Answered    Outcome = "answered"
	Rejected    Outcome = "rejected"
	Busy        Outcome = "busy"
	Unreachable Outcome = "unreachable"
	NoAnswer    Outcome = "noAnswer"
	Cancelled   Outcome = "cancelled"
)

// RingResult is how ringing one agent for one call ended.
type RingResult struct {
	Outcome Outcome
	LegID   string // of an answered leg
	// RingMs is how long the phone rang, in milliseconds; 0 = take the time
	// since the offer.
	RingMs int64
}

// RingOptions say how to ring an agent.
type RingOptions struct {
	Campaign string
	// RingFor is how long the phone may ring: the call layer ends the ringing
	// then and reports NoAnswer. The queue itself gives up RingGrace later.
	RingFor    time.Duration
	AutoAnswer bool
	// WaitedFor is how long the caller has waited.
	WaitedFor time.Duration
	// Why explains the choice for people.
	Why string
}

// RingGrace is how long after RingFor the queue still waits for a result.
const RingGrace = 2 * time.Second

// Calls is the call layer as the queue sees it. Its methods are called for one
// call one at a time and in order, for different calls side by side, never on
// the runner's own goroutine.
type Calls interface {
	// Ring starts ringing an agent for a call. How it ended is reported by
	// Runner.Result, once; an error counts as Unreachable.
	Ring(ctx context.Context, callID, agent string, o RingOptions) error
	// StopRinging ends what Ring began. It may cross an answer: an answer that
	// is reported all the same counts while nobody else has the call. When
	// somebody has (two agents answered at the same moment), or the caller is
	// gone, StopRinging comes again, and the answered leg is to be ended.
	StopRinging(callID, agent, why string)
	// Drop puts a caller out of its queue: maximum wait, queue empty, gateway
	// stopping. The call layer plays a prompt and ends the call, or goes on to
	// the next destination.
	Drop(callID string, why event.LeaveReason)
}

// EntryState is where an entry of a queue is.
type EntryState string

// The states of an entry.
const (
	StateWaiting EntryState = "waiting"
	StateRinging EntryState = "ringing"
	StateTalking EntryState = "talking"
	StateGone    EntryState = "gone"
)

// EntryView is one caller of a queue, as viewers see it.
type EntryView struct {
	CallID    string
	Queue     string
	From      string
	State     EntryState
	EnteredAt time.Time
	Since     time.Time // of the state
	// Agents ring, or one has the call.
	Agents           []string
	OriginalPosition int
	Position         int // 0 when talking
}

// View is one queue, as viewers see it.
type View struct {
	Queue   string
	Open    bool
	Entries []EntryView // waiting and ringing in order of their turn, then talking
	Waiting int
	Ringing int
	Talking int
	Members int
	Staffed int // members signed in with a phone that can ring
	Ready   int // members who would be offered a call now
	Counters
}

// Counters count a queue's entries since the gateway started.
type Counters struct {
	Entered   uint64
	Connected uint64
	// WithinLevel were connected within the campaign's service level (ACD-27).
	WithinLevel uint64
	Abandoned   uint64
	TimedOut    uint64
	Evicted     uint64 // queue empty
	LeftOther   uint64 // key, closed
	Refused     uint64 // full, empty, out of hours, overload
	NoAnswers   uint64
	WaitMs      uint64 // of the connected, in total
	TalkMs      uint64
}

// Decision is one step of a call's way through a queue.
type Decision struct {
	At    time.Time
	What  string // entered, offered, offer ended, connected, reentered, left, completed
	Agent string
	Why   string
}

// Explanation says why a call is where it is.
type Explanation struct {
	CallID    string
	Queue     string
	State     EntryState
	Now       string // what it waits for
	Decisions []Decision
}

// Stats are the runner's counters.
type Stats struct {
	Entries   int // waiting, ringing or talking
	Waiting   int
	Mailbox   int // messages that wait for the runner
	Facts     int // facts that wait for the journal
	Actions   int // calls of the call layer that wait or run
	Overloads uint64
	Repairs   uint64
	Offers    uint64
	// FactsFailed are facts that the journal refused.
	FactsFailed uint64
	// RingDelay counts first offers by the time from Enter to Calls.Ring of
	// callers for whom an agent was free.
	RingDelay Histogram
}
