package agent

import (
	"errors"
	"time"
)

// State is what is happening to an agent. What the agent chose (a break) may
// wait behind it: an agent who takes a break while talking is onCall with
// Paused set, and onBreak when the call and its wrap-up are over.
type State string

// The states of an agent.
const (
	Available State = "available"
	Ringing   State = "ringing"
	OnCall    State = "onCall"
	WrapUp    State = "wrapUp"
	OnBreak   State = "onBreak"
	Offline   State = "offline"
)

// ReasonNoAnswer is the reason of the pause that the gateway makes when an
// agent lets the phone ring too often.
const ReasonNoAnswer = "no answer"

// Reasons of the state offline.
const (
	ReasonSignedOut = "signed out"
	ReasonNoPhone   = "no phone"
	ReasonRestarted = "gateway restarted"
)

// Errors of the registry.
var (
	ErrUnknown     = errors.New("agent is not known")
	ErrSignedOut   = errors.New("agent is not signed in")
	ErrBusy        = errors.New("agent is busy")
	ErrUnavailable = errors.New("agent is not available")
	ErrNoReason    = errors.New("a break needs a reason")
	ErrNotOnBreak  = errors.New("agent is not on a break")
	ErrNotWrapUp   = errors.New("agent is not in wrap-up")
	ErrLeaseGone   = errors.New("lease is over")
	ErrClosed      = errors.New("agent registry is closed")
)

// Kind says what an agent is leased for.
type Kind string

// The kinds of leases.
const (
	// KindOffer is a queue's offer: only an available agent gets one.
	KindOffer Kind = "offer"
	// KindOfferInUse is an offer of a queue with ring-in-use: an agent who is
	// on a call, but neither ringing nor in wrap-up, may get one too.
	KindOfferInUse Kind = "offerInUse"
	// KindDialled is a call that the agent makes. It begins answered, is
	// allowed on a break and ends a running wrap-up.
	KindDialled Kind = "dialled"
	// KindDirect is a call to the agent's extension. It is allowed on a break
	// and in wrap-up.
	KindDirect Kind = "direct"
)

// SignIn is what a sign-in says.
type SignIn struct {
	Agent     string
	Extension string
	Session   string
	Endpoint  string // what rings: "app" or a device's name
}

// View is an agent at one moment.
type View struct {
	Agent      string
	Extension  string
	Session    string
	Endpoint   string
	SignedIn   bool
	SignedInAt time.Time
	// Reachable says that the chosen endpoint is registered.
	Reachable bool
	State     State
	Reason    string
	Since     time.Time
	// Until is the planned end of the state wrapUp. WrapUpUntil is the same,
	// also while a further call hides the wrap-up.
	Until       time.Time
	WrapUpUntil time.Time
	// Paused says that no call is offered: a break, or unanswered offers.
	Paused      bool
	PauseReason string
	PausedSince time.Time
	Comment     string // of the break
	// CallID and Campaign belong to the call or wrap-up; Calls are all that
	// hold a lease on the agent.
	CallID   string
	Campaign string
	Calls    []string
	// Ringing is how many of Calls have not been answered yet.
	Ringing int
	// Rev grows with every change: a reader drops an older view.
	Rev uint64
}

// Staffed says that the agent is signed in with a phone that can ring.
func (v View) Staffed() bool { return v.SignedIn && v.Reachable }

// Restored is what the journal knows of an agent after a restart.
type Restored struct {
	SignIn
	SignedInAt time.Time
	// Break is the motive of a break that was not ended, or ReasonNoAnswer.
	Break       string
	Comment     string
	BreakSince  time.Time
	PausedSince time.Time
	// State, Since and Rev are those of the agent's last AgentState fact.
	State State
	Since time.Time
	Rev   uint64
}

// Stats are counters of the registry.
type Stats struct {
	SignedIn int
	ByState  map[State]int
	// LeasesExpired counts offers whose result never came: repairs.
	LeasesExpired uint64
	// FactsPending are facts that the journal has not acknowledged yet;
	// FactsFailed those that it refused.
	FactsPending int
	FactsFailed  uint64
}
