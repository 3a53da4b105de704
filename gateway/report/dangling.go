package report

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
)

// causeRestarted is why everything ends that a crash left open.
const causeRestarted = "gateway restarted"

// Dangling is what a crash left open.
type Dangling struct {
	// At is the time of the last sign of life before the crash.
	At time.Time
	// Calls close entries, legs, recordings and calls; append them at At.
	// RecordingFinished knows nothing of its file: fill it in first.
	Calls []event.Payload
	// Agents end breaks and pauses and sign agents out; append them at At,
	// unless the agents are restored from SignedIn.
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
	// Paused is set when the gateway had taken the agent out of its queues.
	Paused      bool
	PauseReason string
	PausedSince time.Time
}

// Dangling applies what is in the stream and returns what was left open. Call
// it at start, before Run and before any fact of this start is appended.
func (p *Projector) Dangling(ctx context.Context) (Dangling, error) {
	if !p.running.TryLock() {
		return Dangling{}, ErrRunning
	}
	defer p.running.Unlock()
	r, err := p.begin(ctx)
	if err != nil {
		return Dangling{}, err
	}
	if err := r.catchUp(ctx); err != nil {
		return Dangling{}, fmt.Errorf("read facts of the last run: %w", err)
	}
	return r.m.st.dangling(), nil
}

func (r *reading) catchUp(ctx context.Context) error {
	last := r.p.o.Source.Last()
	if last <= r.seq {
		return nil
	}
	first, err := r.p.o.Source.First(ctx)
	if err != nil {
		return fmt.Errorf("oldest fact: %w", err)
	}
	if first > last {
		// All that was not read has grown too old: nothing to wait for.
		return r.commit(ctx, Batch{From: r.seq, To: last}, 0)
	}
	return r.read(ctx, last)
}

func (s *state) dangling() Dangling {
	d := Dangling{At: s.alive}
	entries := slices.SortedFunc(maps.Keys(s.entries), func(a, b string) int {
		return cmp.Or(s.entries[a].At.Compare(s.entries[b].At), cmp.Compare(a, b))
	})
	for _, id := range entries {
		d.Calls = append(d.Calls, s.entries[id].end(id, s.alive))
	}
	calls := slices.SortedFunc(maps.Keys(s.calls), func(a, b string) int {
		return cmp.Or(s.calls[a].At.Compare(s.calls[b].At), cmp.Compare(a, b))
	})
	for _, id := range calls {
		d.Calls = append(d.Calls, s.calls[id].endLegs(id, s.alive)...)
	}
	for _, path := range slices.Sorted(maps.Keys(s.recordings)) {
		rec := s.recordings[path]
		d.Calls = append(d.Calls, event.RecordingFinished{
			CallID: rec.Start.CallID, Path: path, DurationMs: millis(rec.At, s.alive),
		})
	}
	for _, id := range calls {
		c := s.calls[id]
		d.Calls = append(d.Calls, event.CallEnded{
			CallID: id, Campaign: c.Start.Campaign, Agent: c.Agent, By: event.BySystem, Cause: causeRestarted,
			DurationMs: millis(c.At, s.alive), TalkMs: millis(c.AnsweredAt, s.alive),
		})
	}
	for _, name := range slices.Sorted(maps.Keys(s.agents)) {
		d.agent(name, s.agents[name], s.alive)
	}
	return d
}

// end closes an entry: whoever had an agent was served.
func (e *openEntry) end(callID string, at time.Time) event.Payload {
	if e.ConnectedAt.IsZero() {
		return event.QueueLeft{
			CallID: callID, Queue: e.Queue, Reason: event.LeftClosed, Position: e.Position, OriginalPosition: e.Position,
			WaitSeconds: seconds(e.At, at), Cause: causeRestarted,
		}
	}
	return event.QueueCompleted{
		CallID: callID, Queue: e.Queue, Agent: e.Agent, By: event.BySystem, HoldSeconds: e.HoldSeconds,
		TalkSeconds: seconds(e.ConnectedAt, at), OriginalPosition: e.Position, Cause: causeRestarted,
	}
}

// endLegs returns the call records that are missing: one for each far leg that
// was being tried, or one for the customer's leg when nobody was tried.
func (c *openCall) endLegs(id string, at time.Time) []event.Payload {
	var list []event.Payload
	row := event.CallLegEnded{
		CallID: id, Direction: c.Start.Direction, Campaign: c.Start.Campaign, Src: c.Start.From, SrcName: c.Start.FromName,
		Dst: c.Start.To, LastApp: "Dial", StartedAt: c.At, EndedAt: later(c.At, at), Disposition: "NO ANSWER",
		By: event.BySystem, Trunk: c.Start.Trunk,
	}
	if c.Queued {
		row.LastApp = "Queue"
	}
	customer, agent := "SIP/"+c.Start.Trunk, "SIP/"+c.Start.Agent
	row.Channel = customer
	if c.Start.Direction != event.Inbound {
		row.Channel, row.DstChannel = agent, customer
	}
	for _, leg := range slices.Sorted(maps.Keys(c.Legs)) {
		l, r := c.Legs[leg], row
		r.LegID, r.Agent = leg, cmp.Or(l.Agent, c.Start.Agent)
		if c.Start.Direction == event.Inbound {
			r.DstChannel = "SIP/" + l.Agent
		}
		if !l.AnsweredAt.IsZero() {
			answered := l.AnsweredAt
			r.AnsweredAt, r.Disposition, r.Recorded = &answered, "ANSWERED", c.Recorded
		}
		list = append(list, r)
	}
	if len(list) == 0 && c.LegsEnded == 0 {
		row.Agent = c.Start.Agent
		list = append(list, row)
	}
	if c.Start.Direction == event.Outbound && c.Start.Campaign != "" && !c.OutEnded {
		out := event.OutCallEnded{
			CallID: id, Campaign: c.Start.Campaign, Agent: c.Start.Agent, Number: c.Start.To, DialStatus: "CANCEL",
			TotalSeconds: seconds(c.At, at),
		}
		if !c.AnsweredAt.IsZero() {
			out.DialStatus, out.TalkSeconds = "ANSWER", seconds(c.AnsweredAt, at)
		}
		list = append(list, out)
	}
	return list
}

func (d *Dangling) agent(name string, a *openAgent, at time.Time) {
	if a.WrapUp != nil {
		d.Agents = append(d.Agents, event.WrapUpFinished{Agent: name, Campaign: a.WrapUp.Campaign, CallID: a.WrapUp.CallID})
	}
	if b := a.Break; b != nil {
		d.Agents = append(d.Agents, event.BreakEnded{
			Agent: name, Motive: b.Reason, Comment: b.Comment, Seconds: seconds(b.At, at),
		})
	}
	if b := a.Pause; b != nil {
		d.Agents = append(d.Agents, event.AgentUnpaused{Agent: name, Reason: b.Reason, PausedSeconds: seconds(b.At, at)})
	}
	if a.SignIn == nil {
		return
	}
	d.Agents = append(d.Agents, event.AgentSignedOut{
		Agent: name, Session: a.SignIn.Session, Message: causeRestarted, LoginSeconds: seconds(a.At, at),
	})
	in := SignedIn{
		Agent: name, Extension: a.SignIn.Extension, Session: a.SignIn.Session, Endpoint: a.SignIn.Endpoint, Since: a.At,
	}
	if b := a.Break; b != nil {
		in.Break, in.BreakComment, in.BreakSince = b.Reason, b.Comment, b.At
	}
	if b := a.Pause; b != nil {
		in.Paused, in.PauseReason, in.PausedSince = true, b.Reason, b.At
	}
	d.SignedIn = append(d.SignedIn, in)
}

func millis(from, to time.Time) int64 {
	if from.IsZero() || to.Before(from) {
		return 0
	}
	return to.Sub(from).Milliseconds()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
