package call

import (
	"bytes"
	"fmt"
	"time"

	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/sip"
)

// State is where one leg stands. Hold and mute are media direction, not state.
type State int

// The states of a leg, in the order in which they may follow one another.
const (
	StateTrying State = iota
	StateRinging
	StateAnswered
	StateEnded
)

// can reports whether a leg may move from s to to. Ended is final.
func (s State) can(to State) bool {
	switch s {
	case StateTrying:
		return to == StateRinging || to == StateAnswered || to == StateEnded
	case StateRinging:
		return to == StateAnswered || to == StateEnded
	case StateAnswered:
		return to == StateEnded
	case StateEnded:
	}
	return false
}

// String names the state as the API does.
func (s State) String() string {
	switch s {
	case StateTrying:
		return "trying"
	case StateRinging:
		return "ringing"
	case StateAnswered:
		return "answered"
	case StateEnded:
		return "ended"
	}
	return "unknown"
}

// side says whose leg it is.
type side int

const (
	sideCustomer side = iota
	sideAgent
)

func (s side) String() string {
	if s == sideCustomer {
		return "customer"
	}
	return "agent"
}

// leg is one party's side of a call: a dialog and its media. Only the call's
// goroutine reads or writes it, but for id, side, port and far, which never
// change once others know the leg.
type leg struct {
	id   string
	side side
	port *media.Port

	state  State
	dialog *sip.Dialog
	far    party
	// agreed is true once an offer was answered, either way; an answer may come
	// with a provisional response.
	agreed bool
	answer []byte // the far side's, in force
	// offered says that an offer of ours awaits its answer in the ACK of a
	// re-INVITE.
	offered   bool
	mediaLost bool
	flowGone  bool
	gone      bool   // dialog, media and channel are given back
	sound     uint64 // counts what was played or joined

	times   legTimes
	cause   sip.Cause
	caused  bool   // cause is set
	release func() // gives the trunk's channel back; nil for agents
}

// party is who a leg reaches.
type party struct {
	agent   string // username; empty for a carrier
	sipUser string // digest user of the agent's phone
	number  string // extension or telephone number
	trunk   string
	channel string // SIP/carrier-1a2b3c4d, as CDR_REPO and CONNECT name it
	// contact and instance (empty if unknown) tell one phone of a user from another.
	contact  sip.URI
	instance string
	// endpoint is the digest user of the phone that the agent was signed in with
	// when the leg began; their call follows them to another.
	endpoint string
}

type legTimes struct {
	started, ringing, answered, ended time.Time
}

// live reports whether the leg is there and still has its media.
func (l *leg) live() bool { return l != nil && !l.gone }

// agree puts the far side's answer to our offer into force; the same one again
// changes nothing.
func (l *leg) agree(sdp []byte) error {
	if l.agreed && bytes.Equal(sdp, l.answer) {
		return nil
	}
	if err := l.port.Answered(sdp); err != nil {
		return fmt.Errorf("answer of leg %s: %w", l.id, err)
	}
	l.agreed, l.answer = true, bytes.Clone(sdp)
	return nil
}

// set moves the leg to a state and notes the time; a move that cannot be is
// ignored and reported false.
func (l *leg) set(to State, now time.Time) bool {
	if !l.state.can(to) {
		return false
	}
	l.state = to
	switch to {
	case StateTrying:
	case StateRinging:
		l.times.ringing = now
	case StateAnswered:
		l.times.answered = now
	case StateEnded:
		l.times.ended = now
	}
	return true
}

// because notes why the leg ended; the first cause stands.
func (l *leg) because(cause sip.Cause) {
	if !l.caused {
		l.cause, l.caused = cause, true
	}
}

// channelName is the name of a leg in the log tables.
func channelName(peer, legID string) string {
	if len(legID) > 8 {
		legID = legID[len(legID)-8:]
	}
	return "SIP/" + peer + "-" + legID
}
