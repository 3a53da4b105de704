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
	c.post(func() { c.stopRinging(agent, elsewhere) })
}

// stopRinging ends a ring. When it crosses the agent's answer the two are
// joined already: the owner then decides by their RingResult, and if it wants
// the agent off, it says so again.
func (c *Call) stopRinging(agent string, elsewhere bool) {
	g, ok := c.rings[agent]
	switch {
	case ok && !g.back:
		c.endRing(g, event.BySystem, RingResult{Outcome: OutcomeCancelled, Cause: cancelCause(elsewhere)})
	case ok, c.agent == nil, c.agent.far.agent != agent, c.out != nil, c.over:
	case !c.late:
		c.late = true
	default:
		c.takeOff(event.BySystem, sip.Cause{Code: 487, Text: "no longer offered"})
		c.playMusic()
	}
}

func cancelCause(elsewhere bool) sip.Cause {
	if elsewhere {
		return sip.Cause{Code: 200, Text: "Call completed elsewhere"} // RFC 3326 section 2
	}
	return sip.Cause{Code: 487, Text: "no longer offered"}
}

// ring sends the INVITEs. Runs on the call's goroutine.
func (c *Call) ring(r RingRequest, back bool) error {
	switch {
	case c.over, c.dropping:
		return ErrEnded
	case !c.customer.live():
		return ErrState
	case c.agent != nil, c.keep != nil && !back:
		return ErrBusy
	}
	if _, ok := c.rings[r.Target.Agent]; ok {
		return ErrBusy
	}
	legs, err := c.invitePhones(r)
	if err != nil {
		return err
	}
	g := &ring{req: r, legs: make(map[string]*leg, len(legs)), started: c.now(), stop: func() {}, back: back}
	for _, l := range legs {
		g.legs[l.id] = l
	}
	c.rings[r.Target.Agent] = g
	if r.RingFor > 0 {
		g.stop = c.after(r.RingFor, func() {
			c.endRing(g, event.BySystem, RingResult{Outcome: OutcomeNoAnswer, Cause: sip.Cause{Code: 487, Text: "no answer"}})
		})
	}
	return nil
}

// invitePhones rings all registered phones of a target.
func (c *Call) invitePhones(r RingRequest) ([]*leg, error) {
	phones := c.sw.phones(r.Target)
	if len(phones) == 0 {
		return nil, ErrUnreachable
	}
	legs := make([]*leg, 0, len(phones))
	var last error
	for _, b := range phones {
		l, err := c.inviteAgent(b, r)
		if err != nil {
			last = err
			c.log.Warn("ring a phone", "agent_id", r.Target.Agent, "err", err)
			continue
		}
		legs = append(legs, l)
	}
	if len(legs) == 0 {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, last)
	}
	return legs, nil
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
		c.endLeg(l, sip.Cause{})
		return nil, fmt.Errorf("offer to %s: %w", b.User, err)
	}
	flow := b.Flow
	l.dialog, err = c.sw.o.Signalling.Invite(c.sw.ctx, sip.Invite{
		URI:            b.Contact,
		From:           c.shownTo(r.Target.Agent),
		To:             sip.Address{URI: sip.URI{Scheme: "sip", User: r.Target.Extension, Host: ourHost}},
		Flow:           &flow,
		Headers:        c.agentHeaders(r),
		SDP:            offer,
		SessionExpires: c.sw.o.SessionExpires,
	}, dialogEvents{call: c, leg: l})
	if err != nil {
		l.dialog = nil
		c.endLeg(l, sip.Cause{})
		return nil, fmt.Errorf("invite %s: %w", b.User, err)
	}
	return l, nil
}

// ourHost is the domain of the addresses that phones of ours see.
const ourHost = "cordboard.invalid"

// shownTo is whom the phone of an agent shows: the customer, or whom the agent
// dialled.
func (c *Call) shownTo(agent string) sip.Address {
	a := sip.Address{Name: c.FromName, URI: sip.URI{Scheme: "sip", User: c.From, Host: ourHost}}
	if c.Agent != "" && agent == c.Agent {
		a.Name, a.URI.User = "", c.To
	}
	if a.URI.User == "" {
		a.URI.User = "anonymous"
	}
	return a
}

// agentHeaders tell the agent's phone what the call is about.
func (c *Call) agentHeaders(r RingRequest) []sip.Header {
	h := []sip.Header{
		{Name: "X-Cordboard-Call", Value: c.ID},
		{Name: "X-Cordboard-Campaign", Value: c.Campaign},
		{Name: "X-Cordboard-Waited", Value: strconv.FormatInt(int64(r.Waited/time.Second), 10)},
	}
	if shown := c.shownTo(r.Target.Agent); shown.URI.User == "anonymous" {
		h = append(h, sip.Header{Name: "Privacy", Value: "id"}) // RFC 3323
	} else {
		h = append(h, sip.Header{Name: "P-Asserted-Identity", Value: shown.String()}) // RFC 3325
	}
	if r.AutoAnswer {
		h = append(h,
			sip.Header{Name: "Call-Info", Value: "<sip:" + ourHost + ">;answer-after=0"},
			sip.Header{Name: "Answer-Mode", Value: "Auto"}) // RFC 5373
	}
	return h
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
	if c.customer.live() {
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
func (c *Call) endRing(g *ring, by event.By, res RingResult) {
	if c.rings[g.req.Target.Agent] != g {
		return
	}
	delete(c.rings, g.req.Target.Agent)
	g.stop()
	for _, l := range g.legs {
		l.because(res.Cause)
		near, far := c.pair(l)
		c.cdr(near, far, by)
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

// ringingLegEnded ends one phone of a ring, for its own reason or for ours. A
// refusal that means the person ends the ring on all their phones (RFC 3261
// section 21.6).
func (c *Call) ringingLegEnded(g *ring, l *leg, cause sip.Cause) {
	by := event.BySystem
	if cause.Remote {
		by = event.ByAgent
	}
	delete(g.legs, l.id)
	l.because(cause)
	near, far := c.pair(l)
	c.cdr(near, far, by)
	c.endLeg(l, cause)
	if len(g.legs) > 0 && cause.Code < 600 {
		return
	}
	for _, other := range g.legs {
		c.endLeg(other, cancelCause(true))
	}
	if c.rings[g.req.Target.Agent] != g {
		return
	}
	delete(c.rings, g.req.Target.Agent)
	g.stop()
	c.ringDone(g, RingResult{Outcome: outcomeOf(cause), LegID: l.id, Channel: l.far.channel, Cause: cause})
}

// outcomeOf maps a final response to an offer's outcome.
func outcomeOf(cause sip.Cause) Outcome {
	switch cause.Code {
	case 200:
		return OutcomeCancelled // ours: answered elsewhere
	case 486, 600, 603:
		return OutcomeRejected
	case 408, 487:
		return OutcomeNoAnswer
	default:
		return OutcomeUnreachable
	}
}
