package call

import (
	"context"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
)

// Snapshot is a call as it stands.
type Snapshot struct {
	Info

	StartedAt time.Time
	// Phase is waiting, ringing, dialing, connected, held or kept (the agent
	// was lost and is waited for).
	Phase       string
	Agent       string
	ConnectedAt time.Time
	Ringing     []string
	Legs        []LegSnapshot
}

// LegSnapshot is one leg of a Snapshot.
type LegSnapshot struct {
	ID, Side, State, Agent, Trunk, Codec string
	Quality                              media.Quality
}

// Live returns all calls as they stand; calls that end meanwhile are left out.
func (s *Switch) Live(ctx context.Context) []Snapshot {
	calls := s.all()
	out := make([]Snapshot, 0, len(calls))
	for _, c := range calls {
		var snap Snapshot
		if c.do(ctx, func() error { snap = c.snapshot(); return nil }) == nil {
			out = append(out, snap)
		}
	}
	return out
}

// Snapshot returns one call as it stands.
func (s *Switch) Snapshot(ctx context.Context, callID string) (Snapshot, error) {
	c, err := s.find(callID)
	if err != nil {
		return Snapshot{}, err
	}
	var snap Snapshot
	err = c.do(ctx, func() error { snap = c.snapshot(); return nil })
	return snap, err
}

func (c *Call) snapshot() Snapshot {
	snap := Snapshot{Info: c.Info, StartedAt: c.started, Phase: c.phase(), ConnectedAt: c.connected, Agent: c.lastAgent}
	add := func(l *leg) {
		if !l.live() {
			return
		}
		snap.Legs = append(snap.Legs, LegSnapshot{
			ID: l.id, Side: l.side.String(), State: l.state.String(), Agent: l.far.agent, Trunk: l.far.trunk,
			Codec: l.port.Codec(), Quality: l.port.Quality(),
		})
	}
	add(c.customer)
	add(c.agent)
	if c.out != nil && !c.out.answered {
		add(c.out.caller)
		for _, l := range c.out.fars {
			add(l)
		}
	}
	for agent, g := range c.rings {
		snap.Ringing = append(snap.Ringing, agent)
		for _, l := range g.legs {
			add(l)
		}
	}
	return snap
}

func (c *Call) phase() string {
	switch {
	case c.echo:
		return "connected"
	case c.keep != nil:
		return "kept"
	case c.agent != nil && c.held:
		return "held"
	case c.agent != nil:
		return "connected"
	case len(c.rings) > 0:
		return "ringing"
	case c.Direction != event.Inbound:
		return "dialing"
	default:
		return "waiting"
	}
}
