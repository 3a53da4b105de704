package agent

import (
	"context"
	"strings"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
)

// What an AgentSignedOut fact says when a sign-in ended by another one.
const (
	messageTakenOver = "taken over"
	messageMoved     = "endpoint changed"
)

// SignIn makes an agent available at an endpoint and ends a break. The newest
// sign-in takes over from an older one; calls go on. It returns when the
// journal has it. Whether the endpoint can ring is told by Phone, before or
// after.
func (r *Registry) SignIn(ctx context.Context, in SignIn) error {
	done, err := r.change(in.Agent, true, func(a *agent, now time.Time) error {
		if !a.signedAt.IsZero() {
			if a.in == in {
				return errSame
			}
			message := messageTakenOver
			if a.in.Session == in.Session {
				message = messageMoved
			}
			a.signOut(now, message)
		}
		a.in, a.signedAt = in, now
		if a.phoneWhy == "" {
			a.phoneWhy = ReasonNoPhone
		}
		a.add(event.AgentSignedIn{Agent: a.name, Extension: in.Extension, Session: in.Session, Endpoint: in.Endpoint})
		return nil
	})
	return wait(ctx, done, err)
}

// SignOut ends an agent's sign-in, whichever it is. A call goes on to its end,
// nothing new is offered. Signing out twice is no error.
func (r *Registry) SignOut(ctx context.Context, agentName, message string) error {
	return r.signOut(ctx, agentName, "", message)
}

// SignOutSession ends an agent's sign-in only if it is the one of that
// session: the end of a session that was taken over ends nothing.
func (r *Registry) SignOutSession(ctx context.Context, agentName, session, message string) error {
	return r.signOut(ctx, agentName, session, message)
}

func (r *Registry) signOut(ctx context.Context, agentName, session, message string) error {
	done, err := r.change(agentName, false, func(a *agent, now time.Time) error {
		if a.signedAt.IsZero() || session != "" && session != a.in.Session {
			return errSame
		}
		a.endWrapUp(now)
		a.signOut(now, message)
		return nil
	})
	return wait(ctx, done, err)
}

// Phone says whether the agent's chosen endpoint can ring, and why not. It does
// not wait for the journal.
func (r *Registry) Phone(agentName string, reachable bool, why string) error {
	_, err := r.change(agentName, true, func(a *agent, _ time.Time) error {
		if reachable {
			why = ""
		} else if why == "" {
			why = ReasonNoPhone
		}
		if a.reachable == reachable && a.phoneWhy == why {
			return errSame
		}
		a.reachable, a.phoneWhy = reachable, why
		return nil
	})
	return err
}

// Break starts a break, or changes its motive. During a call or wrap-up it
// begins for the log at once and shows as state when they are over.
func (r *Registry) Break(ctx context.Context, agentName, motive, comment string) error {
	done, err := r.change(agentName, false, func(a *agent, now time.Time) error {
		switch {
		case strings.TrimSpace(motive) == "":
			return ErrNoReason
		case a.signedAt.IsZero():
			return ErrSignedOut
		case a.pause.motive == motive && a.pause.comment == comment:
			return errSame
		}
		if a.pause.motive != "" {
			a.add(event.BreakEnded{
				Agent: a.name, Motive: a.pause.motive, Comment: a.pause.comment,
				Seconds: seconds(now.Sub(a.pause.breakSince)),
			})
		}
		a.pause.motive, a.pause.comment, a.pause.breakSince, a.pause.noAnswer = motive, comment, now, false
		a.add(event.BreakStarted{Agent: a.name, Motive: motive, Comment: comment})
		return nil
	})
	return wait(ctx, done, err)
}

// Unbreak ends a break, and a pause for unanswered offers.
func (r *Registry) Unbreak(ctx context.Context, agentName string) error {
	done, err := r.change(agentName, false, func(a *agent, now time.Time) error {
		if a.pause.since.IsZero() {
			return ErrNotOnBreak
		}
		a.endBreak(now, a.pause.comment)
		return nil
	})
	return wait(ctx, done, err)
}

// PauseNoAnswer pauses an agent who let the phone ring too often, until
// Unbreak. It does not wait for the journal.
func (r *Registry) PauseNoAnswer(agentName string) error {
	_, err := r.change(agentName, false, func(a *agent, _ time.Time) error {
		switch {
		case a.signedAt.IsZero():
			return ErrSignedOut
		case !a.pause.since.IsZero():
			return errSame
		}
		a.pause.noAnswer = true
		return nil
	})
	return err
}

// FinishWrapUp ends an agent's wrap-up before its time (AGENT-06).
func (r *Registry) FinishWrapUp(ctx context.Context, agentName string) error {
	done, err := r.change(agentName, false, func(a *agent, now time.Time) error {
		if a.wrap.until.IsZero() {
			return ErrNotWrapUp
		}
		a.endWrapUp(now)
		return nil
	})
	return wait(ctx, done, err)
}

// Forget removes an agent whose user was deleted. It is refused with ErrBusy
// while the agent is signed in or in a call.
func (r *Registry) Forget(agentName string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.agents[agentName]
	if !ok {
		return nil
	}
	if !a.signedAt.IsZero() || len(a.leases) > 0 {
		return ErrBusy
	}
	delete(r.agents, agentName)
	r.lanes.Do(agentName, func(context.Context) { r.views.Delete(agentName) })
	return nil
}

// Restore brings back what the journal knows of agents after a restart: their
// sign-ins and breaks. It is called before Run. They are offline until Phone
// says that their endpoint is back; the change from the state of before the
// restart is a fact.
func (r *Registry) Restore(agents []Restored) error {
	for _, s := range agents {
		_, err := r.change(s.Agent, true, func(a *agent, _ time.Time) error {
			a.rev = s.Rev
			if s.State != "" {
				a.shown, a.since = shown{state: s.State}, s.Since
			}
			if s.Session == "" {
				return nil
			}
			a.in, a.signedAt, a.phoneWhy = s.SignIn, s.SignedInAt, ReasonRestarted
			switch s.Break {
			case "":
			case ReasonNoAnswer:
				a.pause.noAnswer = true
			default:
				a.pause.motive, a.pause.comment, a.pause.breakSince = s.Break, s.Comment, s.BreakSince
			}
			if s.Break != "" {
				a.pause.since, a.pause.reason = s.PausedSince, s.Break
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
