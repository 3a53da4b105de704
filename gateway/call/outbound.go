package call

import (
	"context"
	"fmt"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/gateway/trunk"
)

// DialFor is how long a dialled party may ring.
const DialFor = 2 * time.Minute

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

	caller *leg // the agent's leg before it is joined
	// fars are tried at once: one trunk, or the phones of an extension, by leg.
	fars     map[string]*leg
	tries    []try
	last     sip.Cause
	answered bool
	early    *leg   // the caller hears it before the answer
	heard    bool   // the caller's phone was told to listen before the answer
	sdp      []byte // our description for the caller, sent with the 200
	viaPhone bool   // the agent's phone sent the INVITE
	stop     func() // of the timer that ends the ringing
}

// try invites the called party one way. It fails when nobody could be invited.
type try func() ([]*leg, error)

// Outbound takes the INVITE of an agent's phone and dials. On error the caller
// rejects the dialog; a call that cannot be routed further is refused by the
// call itself, which leaves its records.
func (s *Switch) Outbound(d *sip.Dialog, o Outbound, owner Owner) (*Call, error) {
	c, err := s.newCall(o.Info, owner)
	if err != nil {
		return nil, err
	}
	if err := c.do(s.ctx, func() error {
		err := c.beginOut(d, o)
		c.over = c.over || err != nil
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
	c.writeStart()
	c.dial()
	return nil
}

// takePhone makes the leg of a phone that sent the INVITE d, with our
// description for it.
func (c *Call) takePhone(d *sip.Dialog, caller Target) (l *leg, ours []byte, err error) {
	port, err := c.newAgentPort(d.Flow())
	if err != nil {
		return nil, nil, err
	}
	if ours, err = describe(c.sw.ctx, port.port, d.Offer()); err != nil {
		port.port.Close()
		return nil, nil, fmt.Errorf("answer the phone's offer: %w", mediaError(err))
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
	l.dialog, l.agreed = d, len(d.Offer()) > 0
	port.events.bind(c, l)
	d.Accept(dialogEvents{call: c, leg: l})
	return l, ours, nil
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
		c.over = c.over || err != nil
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
	c.writeStart()
	c.out.stop = c.after(DialFor, func() {
		c.finish(event.BySystem, "the agent's phone did not answer", sip.Cause{Code: 487, Text: "no answer"})
	})
	return nil
}

// dial makes the list of ways to the called party and tries the first. A call
// that has no way at all ends.
func (c *Call) dial() {
	o := c.out
	o.tries = c.ways()
	o.stop = c.after(DialFor, func() { c.outFailed(sip.Cause{Code: 408, Text: "no answer"}) })
	if err := c.tryNext(); err != nil {
		code, text := SIPStatus(err)
		c.outFailed(sip.Cause{Code: code, Text: text, Err: err})
	}
}

func (c *Call) ways() []try {
	o := c.out
	if o.Extension.Extension != "" {
		return []try{func() ([]*leg, error) {
			return c.invitePhones(RingRequest{Target: o.Extension})
		}}
	}
	var ways []try
	for _, line := range c.sw.o.Carriers.Route(o.PreferredTrunk) {
		if o.OnlyTrunk && line.Name() != o.PreferredTrunk {
			continue
		}
		ways = append(ways, func() ([]*leg, error) {
			l, err := c.inviteTrunk(line)
			if err != nil {
				return nil, err
			}
			return []*leg{l}, nil
		})
	}
	return ways
}

// tryNext tries the next way to the called party.
func (c *Call) tryNext() error {
	o := c.out
	err := ErrNoTrunk
	for len(o.tries) > 0 {
		next := o.tries[0]
		o.tries = o.tries[1:]
		var legs []*leg
		if legs, err = next(); err == nil {
			o.fars = make(map[string]*leg, len(legs))
			for _, l := range legs {
				o.fars[l.id] = l
			}
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
		return nil, fmt.Errorf("trunk %s: %w: %w", line.Name(), ErrNoTrunk, err)
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
	inv := line.Invite(c.out.To, c.out.CallerID)
	inv.SDP, inv.SessionExpires = offer, c.sw.o.SessionExpires
	if l.dialog, err = c.sw.o.Signalling.Invite(c.sw.ctx, inv, dialogEvents{call: c, leg: l}); err != nil {
		l.dialog = nil
		c.endLeg(l, sip.Cause{})
		return nil, fmt.Errorf("invite trunk %s: %w: %w", line.Name(), ErrNoTrunk, err)
	}
	c.Trunk = line.Name()
	return l, nil
}

// outProgress tells the agent that the called party rings.
func (c *Call) outProgress(l *leg, code int) {
	o := c.out
	if o.fars[l.id] == nil || !o.caller.live() {
		return
	}
	if l.agreed && o.early == nil && len(o.fars) == 1 && (o.caller.agreed || !o.viaPhone) {
		o.early = l
		o.caller.sound++
		if err := media.Join(l.port, o.caller.port); err != nil {
			c.log.Warn("early media", "err", err)
		}
	}
	rings := o.early == nil && code == 180
	if !o.viaPhone {
		if rings {
			c.play(o.caller, ringback, true, nil)
		}
		return
	}
	var sdp []byte
	switch {
	case o.early != nil:
		code, sdp, o.heard = 183, o.sdp, true
	case rings && o.heard: // the phone listens to us since another trunk's announcement
		c.play(o.caller, ringback, true, nil)
		code, sdp = 183, o.sdp
	}
	if err := o.caller.dialog.Provisional(code, sdp); err != nil {
		c.log.Debug("progress to the phone", "err", err)
	}
}

// ringback is what callers hear while the called party rings.
const ringback = "tone/ringback"

// outAnswered: the called party answered, or the originating agent's own phone
// did and dialling begins.
func (c *Call) outAnswered(l *leg) {
	o := c.out
	if o.answered {
		return
	}
	if l == o.caller {
		if !o.viaPhone && l.set(StateAnswered, c.now()) {
			o.stop()
			c.dial()
		}
		return
	}
	if o.fars[l.id] == nil {
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
	delete(o.fars, l.id)
	for _, other := range o.fars {
		c.endLeg(other, cancelCause(true))
	}
	clear(o.fars)
	c.customer = l
	c.join(o.caller)
	if c.owner != nil {
		c.owner.RingResult(c.ID, c.Agent, RingResult{Outcome: OutcomeAnswered, LegID: o.caller.id, Channel: o.caller.far.channel})
	}
}

// outFarEnded: a party being tried is gone before it answered.
func (c *Call) outFarEnded(l *leg, cause sip.Cause) {
	o := c.out
	delete(o.fars, l.id)
	by := event.BySystem
	if cause.Remote {
		by = event.ByCustomer
	}
	l.because(cause)
	c.cdr(o.caller, l, by)
	c.endLeg(l, cause)
	if o.early == l {
		o.early = nil
	}
	if o.last.Code == 0 || cause.Code != 480 { // what a person did says more than a phone that is gone
		o.last = cause
	}
	if len(o.fars) > 0 && cause.Code < 600 {
		return
	}
	for _, other := range o.fars { // the person refused, on one of their phones
		c.endLeg(other, cancelCause(true))
	}
	clear(o.fars)
	if trunk.FailsOver(cause.Code) && len(o.tries) > 0 && c.tryNext() == nil {
		return
	}
	c.outFailed(o.last)
}

// outFlowGone ends the legs of a connection that is gone and whose INVITE waits
// for an answer.
func (c *Call) outFlowGone(f sip.Flow, cause sip.Cause) {
	o := c.out
	for _, l := range o.fars {
		if !c.over && l.dialog != nil && l.dialog.Flow() == f {
			c.outFarEnded(l, cause)
		}
	}
	if l := o.caller; !c.over && !o.viaPhone && l.live() && l.state != StateAnswered && l.dialog.Flow() == f {
		c.callerEnded(cause)
	}
}

// outFailed ends a call whose called party cannot be had. A phone that dialled
// gets the final response; one that was rung gets a clean end.
func (c *Call) outFailed(cause sip.Cause) {
	c.out.last = cause
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
	for _, l := range o.fars {
		l.because(sip.Cause{Code: 487, Text: "cancelled"})
		c.cdr(o.caller, l, by)
		c.endLeg(l, cause)
	}
	clear(o.fars)
	if o.caller != nil && o.caller != c.agent {
		if c.pairs == 0 {
			o.caller.because(cause)
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
