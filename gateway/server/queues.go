package server

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/call"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/queue"
)

// queueCalls is the call layer as queues see it.
type queueCalls struct{ s *Server }

// Ring implements queue.Calls.
func (q queueCalls) Ring(ctx context.Context, callID, agentName string, o queue.RingOptions) error {
	t, err := q.s.target(agentName)
	if err != nil {
		return err
	}
	return q.s.calls.Ring(ctx, callID, call.RingRequest{
		Target: t, RingFor: o.RingFor, AutoAnswer: o.AutoAnswer, Waited: o.WaitedFor,
	})
}

// StopRinging implements queue.Calls.
func (q queueCalls) StopRinging(callID, agentName, why string) {
	q.s.calls.StopRinging(callID, agentName, strings.HasPrefix(why, "answered by "))
}

// Drop implements queue.Calls: the caller is told and the call ends.
func (q queueCalls) Drop(callID string, why event.LeaveReason) {
	prompt := "no-agent"
	if why == event.LeftClosed {
		prompt = "closing"
	}
	q.s.calls.Drop(callID, prompt, string(why))
}

// target is the phone that an agent signed in with.
func (s *Server) target(agentName string) (call.Target, error) {
	v, ok := s.agents.Current(agentName)
	if !ok || !v.SignedIn {
		return call.Target{}, agent.ErrSignedOut
	}
	t := call.Target{Agent: v.Agent, Extension: v.Extension}
	t.SIPUser = s.phoneOf(v)
	return t, nil
}

// endpointOf is target for the call layer.
func (s *Server) endpointOf(agentName string) (call.Target, bool) {
	t, err := s.target(agentName)
	return t, err == nil && t.SIPUser != ""
}

// queueOwner tells the queues what happens to the calls in them.
type queueOwner struct{ s *Server }

// RingResult implements call.Owner.
func (o queueOwner) RingResult(callID, agentName string, r call.RingResult) {
	o.s.queues.Result(callID, agentName, queue.RingResult{Outcome: queue.Outcome(r.Outcome), LegID: r.LegID, RingMs: r.RingMs})
}

// Gone implements call.Owner.
func (o queueOwner) Gone(callID string, by event.By, _ string) {
	o.s.queues.Ended(callID, by)
}

// AgentGone implements call.Owner: the caller is back at the head of the queue.
func (o queueOwner) AgentGone(callID, _ string) bool {
	o.s.queues.Reenter(callID)
	return true
}

// dialOwner holds the agents' leases of a call that an agent makes.
type dialOwner struct {
	s *Server

	mu     sync.Mutex
	leases []*agent.Lease
	callee *agent.Lease // of the colleague who is called
	wrapUp time.Duration
	name   string // campaign
}

// RingResult implements call.Owner: a colleague who answers is busy for queues.
func (o *dialOwner) RingResult(_, _ string, r call.RingResult) {
	o.mu.Lock()
	callee := o.callee
	o.mu.Unlock()
	if callee == nil || r.Outcome != call.OutcomeAnswered {
		return
	}
	if err := callee.Answered(); err != nil {
		o.s.log.Warn("called agent not held", "agent_id", callee.Agent(), "call_id", callee.CallID(), "err", err)
	}
}

// Gone implements call.Owner.
func (o *dialOwner) Gone(string, event.By, string) {
	o.mu.Lock()
	leases := o.leases
	o.leases = nil
	o.mu.Unlock()
	for _, l := range leases {
		l.Release(o.wrapUp, o.name) // without a campaign there is no wrap-up
	}
}

// AgentGone implements call.Owner: nobody else takes a dialled call.
func (*dialOwner) AgentGone(string, string) bool { return false }

// dialled leases the agents of a call that one of them makes, for as long as
// the call lives, and starts it. A user who is not signed in as an agent may
// call as well; nothing is offered to them anyway.
func (s *Server) dialled(o call.Outbound, owner *dialOwner, start func() error) error {
	if c, ok := s.campaigns.ByName(o.Campaign); ok {
		owner.wrapUp, owner.name = c.WrapUp, c.Name
	}
	lease, err := s.agents.Lease(o.Caller.Agent, o.ID, agent.KindDialled, o.Campaign, 0)
	switch {
	case err == nil:
		owner.hold(lease)
	case errors.Is(err, agent.ErrBusy) && !o.Urgent:
		return err
	}
	err = s.holdCallee(o, owner)
	if err == nil {
		err = start()
	}
	if err != nil {
		owner.wrapUp = 0
		owner.Gone(o.ID, event.BySystem, err.Error())
	}
	return err
}

// holdCallee leases the colleague whom an internal call rings, if they are
// signed in; who talks already is busy.
func (s *Server) holdCallee(o call.Outbound, owner *dialOwner) error {
	if o.Extension.Agent == "" {
		return nil
	}
	lease, err := s.agents.Lease(o.Extension.Agent, o.ID, agent.KindDirect, "", call.DialFor+calleeGrace)
	switch {
	case err == nil:
		owner.hold(lease)
		owner.mu.Lock()
		owner.callee = lease
		owner.mu.Unlock()
	case errors.Is(err, agent.ErrBusy):
		return err
	}
	return nil
}

// calleeGrace is how much longer than the ringing a colleague's lease lasts.
const calleeGrace = 10 * time.Second

func (o *dialOwner) hold(l *agent.Lease) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.leases = append(o.leases, l)
}
