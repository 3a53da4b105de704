package queue

import (
	"time"

	"github.com/cordboard/cordboard/gateway/event"
)

// CommandKind says what a command is.
type CommandKind uint8

// What the core decides or states.
const (
	CommandEntered    CommandKind = iota + 1
	CommandOffer                  // lease Agent and ring for CallID
	CommandOfferEnded             // an offer was not taken; with Stop the phone still rings
	CommandOverdue                // no result came for an offer: a repair
	CommandRefused                // an answer came too late: end that leg
	CommandPause                  // pause Agent for unanswered offers
	CommandConnected
	CommandReentered // Agent was lost; the entry is at the head again
	CommandLeft      // with Drop the call layer is told
	CommandCompleted
)

// Command is one decision or statement of the core. Which fields are set
// follows from the kind.
type Command struct {
	Kind   CommandKind
	CallID string
	Queue  string
	Agent  string
	// Why explains an offer, its end, a pause or a refusal.
	Why     string
	RingFor time.Duration
	InUse   bool // of an offer: the agent may be on a call
	// AutoAnswer is the campaign's.
	AutoAnswer bool
	Outcome    Outcome
	Stop       bool
	LegID      string
	// Ring, Hold and Talk are how long the phone rang, the caller waited and
	// talked in all.
	Ring, Hold, Talk time.Duration
	WrapUp           time.Duration
	Position         int
	OriginalPosition int
	Again            bool // connected once before
	Late             bool // the offer had been ended when its answer came
	Reason           event.LeaveReason
	Key              string
	By               event.By
	Cause            string
	Drop             bool
}

// Availability is whether an agent can be offered a call.
type Availability uint8

// The availabilities. Engaged is on a call and nothing else: a queue with
// ring-in-use may offer a further one.
const (
	Away Availability = iota
	Engaged
	Free
)

// AgentStatus is what the core needs to know of an agent.
type AgentStatus struct {
	Agent        string
	Availability Availability
	// Staffed is signed in with a phone that can ring, whatever else.
	Staffed bool
	// Paused ends an offer that rings.
	Paused bool
	// State and Since explain, and Since breaks ties.
	State string
	Since time.Time
}
