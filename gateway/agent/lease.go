package agent

import (
	"time"

	"github.com/cordboard/cordboard/gateway/event"
)

// Lease is one call's hold on an agent. Until it is answered it expires: an
// offer whose result never comes cannot keep an agent for ever.
type Lease struct {
	r        *Registry
	agent    string
	callID   string
	kind     Kind
	campaign string
	// The registry's mutex guards these.
	answered   bool
	answeredAt time.Time
	expires    time.Time
	gone       bool
}

// Agent returns whose lease it is.
func (l *Lease) Agent() string { return l.agent }

// CallID returns which call has it.
func (l *Lease) CallID() string { return l.callID }

// Lease takes an agent for a call. kind says which states allow it; ttl is how
// long the agent may ring. The error is ErrBusy when another call has the
// agent, ErrUnavailable in a break, in wrap-up or without a phone,
// ErrSignedOut or ErrUnknown.
func (r *Registry) Lease(agentName, callID string, kind Kind, campaign string, ttl time.Duration) (*Lease, error) {
	var l *Lease
	_, err := r.change(agentName, false, func(a *agent, now time.Time) error {
		if err := a.allows(kind); err != nil {
			return err
		}
		l = &Lease{r: r, agent: a.name, callID: callID, kind: kind, campaign: campaign, expires: now.Add(ttl)}
		if kind == KindDialled {
			l.answered, l.answeredAt = true, now
			a.endWrapUp(now)
		}
		if _, ok := a.leases[callID]; ok {
			return ErrBusy
		}
		a.leases[callID] = l
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// allows reports whether the agent may be taken for a call of that kind.
func (a *agent) allows(kind Kind) error {
	if a.signedAt.IsZero() {
		return ErrSignedOut
	}
	switch kind {
	case KindDialled, KindDirect:
		if len(a.leases) > 0 {
			return ErrBusy
		}
		return nil
	case KindOfferInUse:
		for _, l := range a.leases {
			if !l.answered {
				return ErrBusy
			}
		}
	case KindOffer:
		if len(a.leases) > 0 {
			return ErrBusy
		}
	default:
		return ErrUnavailable
	}
	if !a.reachable || !a.pause.since.IsZero() || !a.wrap.until.IsZero() {
		return ErrUnavailable
	}
	return nil
}

// Answered says that the agent took the call: the lease no longer expires. The
// error is ErrLeaseGone when it expired before.
func (l *Lease) Answered() error {
	_, err := l.r.change(l.agent, false, func(_ *agent, now time.Time) error {
		switch {
		case l.gone:
			return ErrLeaseGone
		case l.answered:
			return errSame
		}
		l.answered, l.answeredAt = true, now
		return nil
	})
	return err
}

// Release gives the agent back. After an answered call wrap-up begins, if
// wrapUp is above zero and the agent is still signed in. A second Release does
// nothing.
func (l *Lease) Release(wrapUpTime time.Duration, campaign string) {
	// The only errors are those of an agent or a registry that is gone, and
	// then there is nothing left to give back.
	_, _ = l.r.change(l.agent, false, func(a *agent, now time.Time) error {
		if l.gone {
			return errSame
		}
		l.gone = true
		delete(a.leases, l.callID)
		if !l.answered || wrapUpTime <= 0 || a.signedAt.IsZero() {
			return nil
		}
		until := now.Add(wrapUpTime)
		if a.wrap.until.After(until) {
			return nil
		}
		if !a.wrap.until.IsZero() {
			a.wrap.until = now
			a.endWrapUp(now)
		}
		a.wrap = wrapUp{campaign: campaign, callID: l.callID, until: until}
		a.add(event.WrapUpStarted{
			Agent: a.name, Campaign: campaign, CallID: l.callID, Seconds: seconds(wrapUpTime),
		})
		return nil
	})
}
