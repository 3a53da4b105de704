package call

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/registrar"
	"github.com/cordboard/cordboard/gateway/sip"
)

// maxForks bounds how many registered phones of one endpoint ring at once.
const maxForks = 4

// Outcome is how ringing an agent ended.
type Outcome string

// The outcomes of a ring.
const (
	OutcomeAnswered    Outcome = "answered"
	OutcomeRejected    Outcome = "rejected"
	OutcomeBusy        Outcome = "busy"
	OutcomeUnreachable Outcome = "unreachable"
	OutcomeNoAnswer    Outcome = "noAnswer"
	OutcomeCancelled   Outcome = "cancelled"
)

// RingResult says how ringing an agent ended.
type RingResult struct {
	Outcome Outcome
	LegID   string
	Channel string
	// RingMs is from the INVITE to the end of ringing, in milliseconds.
	RingMs int64
	Cause  sip.Cause
}

// Target is whom to ring.
type Target struct {
	Agent     string // username
	Extension string // address of record
	// SIPUser picks the phone that the agent signed in with; empty = any phone
	// of the extension.
	SIPUser string
}

// RingRequest rings one agent for a call.
type RingRequest struct {
	Target     Target
	RingFor    time.Duration
	AutoAnswer bool
	Waited     time.Duration
}

// ring is the ringing of one agent, on one phone or several at once.
type ring struct {
	req     RingRequest
	legs    map[string]*leg
	started time.Time
	stop    func() // of the ring timer
	last    sip.Cause
	// back says that this ring brings a lost agent back, without the owner.
	back bool
}

// Ring starts ringing an agent for a call. When it returns nil the owner gets
// exactly one RingResult for the agent.
func (s *Switch) Ring(ctx context.Context, callID string, r RingRequest) error {
	c, err := s.find(callID)
	if err != nil {
		return err
	}
	return c.do(ctx, func() error { return c.ring(r, false) })
}

// StopRinging ends the ringing of an agent; the owner gets OutcomeCancelled.
// The phone is told that the call was answered elsewhere when elsewhere is true.
func (s *Switch) StopRinging(callID, agent string, elsewhere bool) {
	c, err := s.find(callID)
	if err != nil {
		return
	}
	c.post(func() {
		if g, ok := c.rings[agent]; ok {
			c.endRing(g, RingResult{Outcome: OutcomeCancelled, Cause: cancelCause(elsewhere)})
		}
	})
}

func cancelCause(elsewhere bool) sip.Cause {
	if elsewhere {
		return sip.Cause{Code: 200, Text: "Call completed elsewhere"} // RFC 3326 section 2
	}
	return sip.Cause{Code: 487, Text: "no longer offered"}
}

// ring sends the INVITEs. Runs on the call's goroutine.
func (c *Call) ring(r RingRequest, back bool) error {
	if c.over {
		return ErrEnded
	}
	if _, ok := c.rings[r.Target.Agent]; ok {
		return ErrBusy
	}
	phones := c.sw.phones(r.Target)
	if len(phones) == 0 {
		return ErrUnreachable
	}
	g := &ring{req: r, legs: map[string]*leg{}, started: c.now(), stop: func() {}, back: back}
	var last error
	for _, b := range phones {
		l, err := c.inviteAgent(b, r)
		if err != nil {
			last = err
			c.log.Warn("ring a phone", "agent_id", r.Target.Agent, "err", err)
			continue
		}
		g.legs[l.id] = l
	}
	if len(g.legs) == 0 {
		return fmt.Errorf("%w: %w", ErrUnreachable, last)
	}
	c.rings[r.Target.Agent] = g
	if r.RingFor > 0 {
		g.stop = c.after(r.RingFor, func() {
			c.endRing(g, RingResult{Outcome: OutcomeNoAnswer, Cause: sip.Cause{Code: 487, Text: "no answer"}})
		})
	}
	return nil
}

// phones returns the registered phones of a target, the freshest first.
func (s *Switch) phones(t Target) []registrar.Binding {
	all := s.o.Locator.Bindings(t.Extension)
	out := make([]registrar.Binding, 0, len(all))
	for _, b := range all {
		if t.SIPUser != "" && b.User != t.SIPUser {
			continue
		}
		if out = append(out, b); len(out) == maxForks {
			break
		}
	}
	return out
}

// inviteAgent makes the media and the dialog toward one registered phone.
func (c *Call) inviteAgent(b registrar.Binding, r RingRequest) (*leg, error) {
	port, err := c.newAgentPort(b.Flow)
	if err != nil {
		return nil, err
	}
	far := party{agent: r.Target.Agent, sipUser: b.User, number: r.Target.Extension, contact: b.Contact, instance: b.InstanceID}
	l, err := c.newLeg(sideAgent, port.port, far)
	if err != nil {
		port.port.Close()
		return nil, err
	}
	l.far.channel = channelName(b.User, l.id)
	port.events.bind(c, l)
	offer, err := l.port.Offer(c.sw.ctx)
	if err != nil {
		l.port.Close()
		return nil, fmt.Errorf("offer to %s: %w", b.User, err)
	}
	flow := b.Flow
	d, err := c.sw.o.Signalling.Invite(c.sw.ctx, sip.Invite{
		URI:     b.Contact,
		From:    sip.Address{Name: c.FromName, URI: sip.URI{Scheme: "sip", User: userPart(c.From), Host: "cordboard.invalid"}},
		To:      sip.Address{URI: sip.URI{Scheme: "sip", User: r.Target.Extension, Host: "cordboard.invalid"}},
		Flow:    &flow,
		Headers: c.agentHeaders(r),
		SDP:     offer,
	}, dialogEvents{call: c, leg: l})
	if err != nil {
		l.port.Close()
		return nil, fmt.Errorf("invite %s: %w", b.User, err)
	}
	l.dialog = d
	return l, nil
}

// agentHeaders tell the agent's phone what the call is about.
func (c *Call) agentHeaders(r RingRequest) []sip.Header {
	h := []sip.Header{
		{Name: "X-Cordboard-Call", Value: c.ID},
		{Name: "X-Cordboard-Campaign", Value: c.Campaign},
		{Name: "X-Cordboard-Waited", Value: strconv.FormatInt(int64(r.Waited/time.Second), 10)},
	}
	if r.AutoAnswer {
		h = append(h,
			sip.Header{Name: "Call-Info", Value: "<sip:cordboard.invalid>;answer-after=0"},
			sip.Header{Name: "Answer-Mode", Value: "Auto"}) // RFC 5373
	}
	return h
}

// userPart makes the user part of a caller's address.
func userPart(number string) string {
	if number == "" {
		return "anonymous"
	}
	return number
}

// portOf couples a new port with the events object that was given to it, which
// learns its leg only afterwards.
type portOf struct {
	port   *media.Port
	events *portEvents
}

// newAgentPort makes the media toward an agent's phone: WebRTC over WebSocket,
// RTP for a desk phone.
func (c *Call) newAgentPort(f sip.Flow) (portOf, error) {
	ev := newPortEvents()
	var p *media.Port
	var err error
	customer := ""
	if c.customer != nil && c.customer.port != nil {
		customer = c.customer.port.Codec()
	}
	codecs := c.sw.o.AgentCodecs(f, customer)
	if f.Transport == "ws" || f.Transport == "wss" {
		p, err = c.sw.o.Media.NewWebRTC(media.WebRTCOptions{Codecs: codecs, Label: c.ID}, ev)
	} else {
		p, err = c.sw.o.Media.NewRTP(media.RTPOptions{Codecs: codecs, Label: c.ID}, ev)
	}
	if err != nil {
		return portOf{}, fmt.Errorf("make media: %w", err)
	}
	return portOf{port: p, events: ev}, nil
}

// endRing ends a ring that nobody took and tells the owner.
func (c *Call) endRing(g *ring, res RingResult) {
	if c.rings[g.req.Target.Agent] != g {
		return
	}
	delete(c.rings, g.req.Target.Agent)
	g.stop()
	by := event.BySystem
	for _, l := range g.legs {
		l.set(StateEnded, c.now())
		c.cdr(c.customer, l, by)
		c.endLeg(l, res.Cause)
		res.Channel, res.LegID = l.far.channel, l.id
	}
	c.ringDone(g, res)
}

// ringDone reports a ring's end to whoever asked for it.
func (c *Call) ringDone(g *ring, res RingResult) {
	res.RingMs = c.now().Sub(g.started).Milliseconds()
	if g.back {
		if res.Outcome != OutcomeAnswered {
			c.log.Info("lost agent did not take the call back", "agent_id", g.req.Target.Agent, "outcome", string(res.Outcome))
		}
		return
	}
	if c.owner != nil {
		c.owner.RingResult(c.ID, g.req.Target.Agent, res)
	}
}

// agentLegEnded handles the end of a ringing leg that was not our doing.
func (c *Call) ringingLegEnded(g *ring, l *leg, cause sip.Cause) {
	delete(g.legs, l.id)
	l.set(StateEnded, c.now())
	l.because(cause)
	g.last = cause
	c.cdr(c.customer, l, event.ByAgent)
	c.endLeg(l, cause)
	if len(g.legs) > 0 {
		return
	}
	delete(c.rings, g.req.Target.Agent)
	g.stop()
	c.ringDone(g, RingResult{Outcome: outcomeOf(cause), LegID: l.id, Channel: l.far.channel, Cause: cause})
}

// outcomeOf maps a final response to an offer's outcome.
func outcomeOf(cause sip.Cause) Outcome {
	switch cause.Code {
	case 486, 600, 603:
		return OutcomeRejected
	case 408, 487:
		return OutcomeNoAnswer
	default:
		return OutcomeUnreachable
	}
}
