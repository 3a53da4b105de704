package call

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/gateway/trunk"
)

// dialFor is how long a dialled party may ring.
const dialFor = 2 * time.Minute

// Outbound is a call that an agent makes: to a number through a trunk, or to
// another extension.
type Outbound struct {
	Info
	// Caller is the agent's own phone.
	Caller Target
	// CallerID is what the called party sees.
	CallerID string
	// PreferredTrunk is the preferred way out; others follow by priority.
	PreferredTrunk string
	// OnlyTrunk takes the preferred one or none.
	OnlyTrunk bool
	// Extension is set for internal calls, and the trunk is not used.
	Extension Target
}

// out is the outgoing side of a call.
type out struct {
	Outbound

	caller   *leg // the agent's leg before it is joined
	far      *leg // the leg being tried
	tries    []func() (*leg, error)
	last     sip.Cause
	answered bool
	early    bool // far and caller hear each other before the answer
	sdp      []byte
	viaPhone bool // the agent's phone sent the INVITE
	stop     func()
}

// Outbound takes the INVITE of an agent's phone and dials. On error the caller
// rejects the dialog.
func (s *Switch) Outbound(d *sip.Dialog, o Outbound, owner Owner) (*Call, error) {
	c, err := s.newCall(o.Info, owner)
	if err != nil {
		return nil, err
	}
	if err := c.do(s.ctx, func() error {
		err := c.beginOut(d, o)
		if err != nil {
			c.over = true
		}
		return err
	}); err != nil {
		return nil, err
	}
	return c, nil
}

// beginOut makes the agent's leg from the INVITE of their phone and dials.
func (c *Call) beginOut(d *sip.Dialog, o Outbound) error {
	l, sdp, err := c.takePhone(d, o.Caller)
	if err != nil {
		return err
	}
	c.out = &out{Outbound: o, caller: l, sdp: sdp, viaPhone: true, stop: func() {}}
	c.started0()
	if err := c.dial(); err != nil {
		c.endLeg(l, sip.Cause{})
		return err
	}
	return nil
}

// takePhone makes the leg of a phone that sent the INVITE d, with our answer to
// its offer.
func (c *Call) takePhone(d *sip.Dialog, caller Target) (l *leg, sdp []byte, err error) {
	port, err := c.newAgentPort(d.Flow())
	if err != nil {
		return nil, nil, err
	}
	if len(d.Offer()) == 0 {
		port.port.Close()
		return nil, nil, fmt.Errorf("%w: the phone sent no offer", ErrNoCodec)
	}
	if sdp, err = port.port.Answer(c.sw.ctx, d.Offer()); err != nil {
		port.port.Close()
		if errors.Is(err, media.ErrNoCommonCodec) || errors.Is(err, media.ErrNotEncrypted) {
			return nil, nil, fmt.Errorf("%w: %w", ErrNoCodec, err)
		}
		return nil, nil, fmt.Errorf("answer the phone's offer: %w", err)
	}
	far := party{agent: caller.Agent, sipUser: caller.SIPUser, number: caller.Extension}
	if cs := d.Request().Contacts(); len(cs) > 0 {
		far.contact = cs[0].URI
	}
	for _, b := range c.sw.phones(caller) {
		if b.Flow == d.Flow() {
			far.instance = b.InstanceID
		}
	}
	if l, err = c.newLeg(sideAgent, port.port, far); err != nil {
		port.port.Close()
		return nil, nil, err
	}
	l.far.channel = channelName(caller.SIPUser, l.id)
	l.dialog, l.answerSDP = d, true
	port.events.bind(c, l)
	d.Accept(dialogEvents{call: c, leg: l})
	return l, sdp, nil
}

// Originate rings the agent's own phone, which answers by itself, and then
// dials (PHONE-37). It returns the call's id at once.
func (s *Switch) Originate(ctx context.Context, o Outbound, owner Owner) (string, error) {
	c, err := s.newCall(o.Info, owner)
	if err != nil {
		return "", err
	}
	err = c.do(ctx, func() error {
		err := c.beginOriginate(o)
		if err != nil {
			c.over = true
		}
		return err
	})
	return c.ID, err
}

func (c *Call) beginOriginate(o Outbound) error {
	phones := c.sw.phones(o.Caller)
	if len(phones) == 0 {
		return ErrUnreachable
	}
	c.out = &out{Outbound: o, stop: func() {}}
	l, err := c.inviteAgent(phones[0], RingRequest{Target: o.Caller, AutoAnswer: true})
	if err != nil {
		return err
	}
	c.out.caller = l
	c.started0()
	c.out.stop = c.after(dialFor, func() {
		c.finish(event.BySystem, "the agent's phone did not answer", sip.Cause{Code: 487, Text: "no answer"})
	})
	return nil
}

// started0 writes the beginning of an outgoing call.
func (c *Call) started0() {
	c.journal(event.CallStarted{
		CallID: c.ID, Direction: c.Direction, From: c.From, FromName: c.FromName,
		To: c.To, Trunk: c.Trunk, Campaign: c.Campaign, Agent: c.Agent,
	})
	c.log.Info("call started", "agent_id", c.Agent, "campaign", c.Campaign, "to", Number(c.To))
}

// dial makes the list of ways to the called party and tries the first.
func (c *Call) dial() error {
	o := c.out
	if o.Extension.Extension != "" {
		for _, b := range c.sw.phones(o.Extension) {
			o.tries = append(o.tries, func() (*leg, error) {
				return c.inviteAgent(b, RingRequest{Target: o.Extension})
			})
		}
		if len(o.tries) == 0 {
			return ErrUnreachable
		}
	} else {
		for _, line := range c.sw.o.Carriers.Route(o.PreferredTrunk) {
			if o.OnlyTrunk && line.Name() != o.PreferredTrunk {
				continue
			}
			o.tries = append(o.tries, func() (*leg, error) { return c.inviteTrunk(line) })
		}
	}
	o.stop = c.after(dialFor, func() {
		c.outFailed(sip.Cause{Code: 408, Text: "no answer"})
	})
	return c.tryNext()
}

// tryNext tries the next way to the called party.
func (c *Call) tryNext() error {
	o := c.out
	err := ErrNoTrunk
	for len(o.tries) > 0 {
		try := o.tries[0]
		o.tries = o.tries[1:]
		var l *leg
		if l, err = try(); err == nil {
			o.far = l
			return nil
		}
		c.log.Warn("way out failed", "err", err)
	}
	return err
}

// inviteTrunk sends the INVITE to a carrier.
func (c *Call) inviteTrunk(line *trunk.Line) (*leg, error) {
	release, err := line.Acquire()
	if err != nil {
		return nil, fmt.Errorf("trunk %s: %w", line.Name(), err)
	}
	ev := newPortEvents()
	port, err := c.sw.o.Media.NewRTP(media.RTPOptions{Codecs: line.Codecs(), SDES: line.SRTP() == trunk.SRTPSDES, Label: c.ID}, ev)
	if err != nil {
		release()
		return nil, fmt.Errorf("make media: %w", err)
	}
	l, err := c.newLeg(sideCustomer, port, party{number: c.To, trunk: line.Name()})
	if err != nil {
		port.Close()
		release()
		return nil, err
	}
	l.far.channel = channelName(line.Name(), l.id)
	l.release = release
	ev.bind(c, l)
	offer, err := port.Offer(c.sw.ctx)
	if err != nil {
		c.endLeg(l, sip.Cause{})
		return nil, fmt.Errorf("offer to trunk %s: %w", line.Name(), err)
	}
	inv := line.Invite(c.out.Number(), c.out.CallerID)
	inv.SDP = offer
	if l.dialog, err = c.sw.o.Signalling.Invite(c.sw.ctx, inv, dialogEvents{call: c, leg: l}); err != nil {
		c.endLeg(l, sip.Cause{})
		return nil, fmt.Errorf("invite trunk %s: %w", line.Name(), err)
	}
	c.Trunk = line.Name()
	return l, nil
}

// Number is what is dialled.
func (o *out) Number() string { return o.To }

// outProgress tells the agent that the called party rings.
func (c *Call) outProgress(l *leg, code int) {
	o := c.out
	if l != o.far || o.caller == nil || o.caller.port == nil {
		return
	}
	if l.answerSDP && !o.early {
		o.early = true
		if err := media.Join(l.port, o.caller.port); err != nil {
			c.log.Warn("early media", "err", err)
		}
	}
	switch {
	case o.viaPhone && o.early:
		code = 183
		fallthrough
	case o.viaPhone:
		var sdp []byte
		if o.early {
			sdp = o.sdp
		}
		if err := o.caller.dialog.Provisional(code, sdp); err != nil {
			c.log.Debug("progress to the phone", "err", err)
		}
	case !o.early && code == 180:
		c.play(o.caller, "tone/ringback", true, nil)
	}
}

// outAnswered: the called party answered, or the originating agent's own phone
// did and dialling begins.
func (c *Call) outAnswered(l *leg) {
	o := c.out
	if o.answered {
		return
	}
	if !o.viaPhone && l == o.caller {
		l.set(StateAnswered, c.now())
		o.stop()
		if err := c.dial(); err != nil {
			code, text := SIPStatus(err)
			c.outFailed(sip.Cause{Code: code, Text: text})
		}
		return
	}
	if l != o.far {
		return
	}
	if o.viaPhone {
		if err := o.caller.dialog.Answer(o.sdp); err != nil {
			c.finish(event.BySystem, "phone is gone", sip.Cause{Code: 480, Text: "phone is gone"})
			return
		}
	}
	o.stop()
	o.answered = true
	l.set(StateAnswered, c.now())
	o.caller.set(StateAnswered, c.now())
	c.customer = l
	c.join(o.caller)
	if c.owner != nil {
		c.owner.RingResult(c.ID, c.Agent, RingResult{Outcome: OutcomeAnswered, LegID: o.caller.id, Channel: o.caller.far.channel})
	}
}

// outFarEnded: the party being tried is gone before it answered.
func (c *Call) outFarEnded(l *leg, cause sip.Cause) {
	o := c.out
	if o.answered || o.far != l {
		return
	}
	l.set(StateEnded, c.now())
	c.cdr(o.caller, l, event.ByCustomer)
	c.endLeg(l, cause)
	o.far, o.last, o.early = nil, cause, false
	if trunk.FailsOver(cause.Code) {
		if err := c.tryNext(); err == nil {
			return
		}
	}
	c.outFailed(cause)
}

// outFailed ends a call whose called party cannot be had. A phone that dialled
// gets the final response; one that was rung hears busy and a clean end.
func (c *Call) outFailed(cause sip.Cause) {
	o := c.out
	if cause.Code != 0 {
		o.last = cause
	}
	if cause.Code < 300 {
		cause.Code = 480
	}
	c.finish(event.BySystem, causeText(cause), cause)
}

// finishOut ends the legs of an outgoing call that are not joined yet.
func (c *Call) finishOut(by event.By, cause sip.Cause) {
	o := c.out
	if o == nil {
		return
	}
	o.stop()
	if o.far != nil && o.far != c.customer {
		o.far.set(StateEnded, c.now())
		o.far.because(sip.Cause{Code: 487, Text: "cancelled"})
		c.cdr(o.caller, o.far, by)
		c.endLeg(o.far, cause)
	}
	if o.caller != nil && o.caller != c.agent {
		o.caller.set(StateEnded, c.now())
		if c.pairs == 0 {
			c.cdr(o.caller, nil, by)
		}
		c.endLeg(o.caller, cause)
	}
}

// callerEnded: the agent gave up before the answer.
func (c *Call) callerEnded(cause sip.Cause) {
	c.out.last = sip.Cause{Code: 487, Text: "cancelled"}
	by := event.BySystem
	if cause.Remote {
		by = event.ByAgent
	}
	c.finish(by, causeText(cause), sip.Cause{Code: 487, Text: "the caller gave up"})
}
