package agent

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
)

// errSame says that a change changes nothing.
var errSame = errors.New("nothing changes")

// agent is one agent; the registry's mutex guards it.
type agent struct {
	name      string
	in        SignIn
	signedAt  time.Time // zero = signed out
	reachable bool
	phoneWhy  string // why the phone is not reachable
	pause     pause
	wrap      wrapUp
	leases    map[string]*Lease // by call
	shown     shown
	since     time.Time
	rev       uint64
	hint      time.Time       // the deadline that the registry was last told of
	facts     []event.Payload // of the change that is being made
}

// pause is what keeps an agent from being offered calls.
type pause struct {
	motive, comment string // of the break, "" = none
	breakSince      time.Time
	noAnswer        bool
	since           time.Time // of the effective pause, zero = none
	reason          string    // of the effective pause
}

// wrapUp is the work after a call; until is zero when there is none.
type wrapUp struct {
	campaign, callID string
	until            time.Time
}

// shown is the derived state, as the last AgentState fact has it.
type shown struct {
	state    State
	reason   string
	callID   string
	campaign string
	until    time.Time
}

// newAgent makes an agent whose revisions begin above those of any earlier run
// of the gateway, so that a viewer who compares them never drops the newer one.
func newAgent(name string, now time.Time) *agent {
	return &agent{
		name: name, since: now, rev: uint64(max(0, now.UnixMilli())), leases: map[string]*Lease{},
		shown: shown{state: Offline, reason: ReasonSignedOut},
	}
}

func (a *agent) add(p event.Payload) { a.facts = append(a.facts, p) }

// seconds are whole seconds, as the queue log counts them.
func seconds(d time.Duration) int64 { return max(0, int64(d/time.Second)) }

// secondsLeft counts a begun second as a whole one, so that what ended early
// always has some left.
func secondsLeft(d time.Duration) int64 { return seconds(d + time.Second - 1) }

// derive finds what the agent's state is now and adds the facts of its change.
func (a *agent) derive(now time.Time) {
	a.derivePause(now)
	s := a.now()
	if s == a.shown {
		return
	}
	old := a.shown
	previous := now.Sub(a.since)
	if s.state != old.state || s.reason != old.reason {
		a.since = now
	}
	a.shown = s
	a.add(event.AgentState{
		Agent: a.name, State: string(s.state), Reason: s.reason,
		Previous: string(old.state), PreviousMs: max(0, previous.Milliseconds()), Since: a.since.UTC(),
		Until: s.until.UTC(), CallID: s.callID, Campaign: s.campaign, Rev: a.rev,
	})
}

// now returns the state that follows from everything that is known.
func (a *agent) now() shown {
	var ringing, talking *Lease
	for _, l := range a.leases {
		switch {
		case !l.answered:
			ringing = l
		case talking == nil || l.answeredAt.After(talking.answeredAt):
			talking = l
		}
	}
	switch {
	case talking != nil:
		return shown{state: OnCall, callID: talking.callID, campaign: talking.campaign}
	case ringing != nil:
		return shown{state: Ringing, callID: ringing.callID, campaign: ringing.campaign}
	case a.signedAt.IsZero():
		return shown{state: Offline, reason: ReasonSignedOut}
	case !a.wrap.until.IsZero():
		return shown{state: WrapUp, callID: a.wrap.callID, campaign: a.wrap.campaign, until: a.wrap.until}
	case !a.pause.since.IsZero():
		return shown{state: OnBreak, reason: a.pause.reason}
	case !a.reachable:
		return shown{state: Offline, reason: a.phoneWhy}
	default:
		return shown{state: Available}
	}
}

// derivePause writes REALPAUSE and REALUNPAUSE when the effective pause begins
// or ends, whatever its reason (LOG-018, LOG-019).
func (a *agent) derivePause(now time.Time) {
	p := &a.pause
	reason := p.motive
	if reason == "" && p.noAnswer {
		reason = ReasonNoAnswer
	}
	switch {
	case reason != "" && p.since.IsZero():
		p.since, p.reason = now, reason
		a.add(event.AgentPaused{Agent: a.name, Reason: reason})
	case reason == "" && !p.since.IsZero():
		a.add(event.AgentUnpaused{Agent: a.name, Reason: p.reason, PausedSeconds: seconds(now.Sub(p.since))})
		p.since, p.reason = time.Time{}, ""
	case reason != "":
		p.reason = reason
	}
}

// endBreak ends a break and a pause for unanswered offers.
func (a *agent) endBreak(now time.Time, comment string) {
	if a.pause.motive != "" {
		a.add(event.BreakEnded{
			Agent: a.name, Motive: a.pause.motive, Comment: comment,
			Seconds: seconds(now.Sub(a.pause.breakSince)),
		})
	}
	a.pause.motive, a.pause.comment, a.pause.noAnswer = "", "", false
	a.derivePause(now)
}

// endWrapUp ends a running wrap-up.
func (a *agent) endWrapUp(now time.Time) {
	if a.wrap.until.IsZero() {
		return
	}
	a.add(event.WrapUpFinished{
		Agent: a.name, Campaign: a.wrap.campaign, CallID: a.wrap.callID,
		SecondsLeft: secondsLeft(a.wrap.until.Sub(now)),
	})
	a.wrap = wrapUp{}
}

// signOut ends everything that belongs to a sign-in but the calls.
func (a *agent) signOut(now time.Time, message string) {
	a.endBreak(now, "")
	a.add(event.AgentSignedOut{
		Agent: a.name, Session: a.in.Session, Message: message,
		LoginSeconds: seconds(now.Sub(a.signedAt)),
	})
	a.in, a.signedAt = SignIn{Agent: a.name}, time.Time{}
}

// deadline is when time alone changes something next; zero = never.
func (a *agent) deadline() time.Time {
	at := a.wrap.until
	for _, l := range a.leases {
		if !l.answered && (at.IsZero() || l.expires.Before(at)) {
			at = l.expires
		}
	}
	return at
}

// expire ends what is due at now.
func (a *agent) expire(now time.Time) (lost []*Lease, changed bool) {
	for id, l := range a.leases {
		if !l.answered && !now.Before(l.expires) {
			l.gone = true
			delete(a.leases, id)
			lost = append(lost, l)
			changed = true
		}
	}
	if u := a.wrap.until; !u.IsZero() && !now.Before(u) {
		a.endWrapUp(now)
		changed = true
	}
	return lost, changed
}

func (a *agent) view() View {
	v := View{
		Agent: a.name, Extension: a.in.Extension, Session: a.in.Session, Endpoint: a.in.Endpoint,
		SignedIn: !a.signedAt.IsZero(), SignedInAt: a.signedAt, Reachable: a.reachable,
		State: a.shown.state, Reason: a.shown.reason, Since: a.since, Until: a.shown.until,
		Paused: !a.pause.since.IsZero(), PauseReason: a.pause.reason, PausedSince: a.pause.since, Comment: a.pause.comment,
		CallID: a.shown.callID, Campaign: a.shown.campaign, Rev: a.rev,
	}
	if len(a.leases) > 0 {
		v.Calls = slices.Sorted(maps.Keys(a.leases))
		for _, l := range a.leases {
			if !l.answered {
				v.Ringing++
			}
		}
	}
	v.WrapUpUntil = a.wrap.until
	return v
}
