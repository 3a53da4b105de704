package call

import (
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/media/dtmf"
	"github.com/cordboard/cordboard/gateway/sip"
)

// dialogEvents posts what happens on a leg's dialog to its call.
type dialogEvents struct {
	sip.NoEvents

	call *Call
	leg  *leg
}

// Progress implements sip.Events.
func (e dialogEvents) Progress(code int, _ string, sdp []byte) {
	e.call.post(func() { e.call.progress(e.leg, code, sdp) })
}

// Answered implements sip.Events.
func (e dialogEvents) Answered(sdp []byte) {
	e.call.post(func() { e.call.answered(e.leg, sdp) })
}

// Offer implements sip.Events: a re-INVITE is answered by the leg's own media,
// on the dialog's goroutine; the other side is never asked, because both legs
// end here.
func (e dialogEvents) Offer(sdp []byte) (answer []byte, code int) {
	port := e.leg.port
	var err error
	if len(sdp) == 0 {
		answer, err = port.Offer(e.call.sw.ctx)
	} else {
		answer, err = port.Answer(e.call.sw.ctx, sdp)
	}
	if err != nil {
		e.call.log.Warn("re-invite refused", "leg_id", e.leg.id, "err", err)
		code, _ := SIPStatus(mediaError(err))
		return nil, code
	}
	if len(sdp) == 0 {
		e.call.post(func() { e.leg.offered = true })
		return answer, 200
	}
	held := port.Held()
	e.call.post(func() {
		e.leg.offered = false
		e.call.holdChanged(e.leg, held)
	})
	return answer, 200
}

// Info implements sip.Events: digits by SIP INFO (dtmf-relay).
func (e dialogEvents) Info(contentType string, body []byte) {
	if !dtmf.IsInfo(contentType) {
		return
	}
	digit, d, err := dtmf.ParseInfo(contentType, body)
	if err != nil {
		e.call.log.Warn("digit by info", "leg_id", e.leg.id, "err", err)
		return
	}
	e.call.post(func() { e.call.relayDigit(e.leg, digit, d) })
}

// Ended implements sip.Events.
func (e dialogEvents) Ended(cause sip.Cause) {
	e.call.post(func() { e.call.legEnded(e.leg, cause) })
}

// portEvents posts what happens on a leg's media to its call. The port exists
// before the leg, so events wait until they belong to somebody. Digits need
// nothing here: they reach the other side with the media.
type portEvents struct {
	media.NoPortEvents

	mu      sync.Mutex
	call    *Call
	leg     *leg
	pending []func(*Call, *leg)
}

func newPortEvents() *portEvents { return &portEvents{} }

// bind says whose port this is and posts what happened meanwhile.
func (e *portEvents) bind(c *Call, l *leg) {
	e.mu.Lock()
	e.call, e.leg = c, l
	pending := e.pending
	e.pending = nil
	e.mu.Unlock()
	for _, fn := range pending {
		fn(c, l) // bind runs on the call's goroutine
	}
}

func (e *portEvents) post(fn func(*Call, *leg)) {
	e.mu.Lock()
	c, l := e.call, e.leg
	if c == nil {
		if len(e.pending) < mailboxSize {
			e.pending = append(e.pending, fn)
		}
		e.mu.Unlock()
		return
	}
	e.mu.Unlock()
	c.post(func() { fn(c, l) })
}

// Connected implements media.PortEvents.
func (e *portEvents) Connected() { e.post((*Call).mediaConnected) }

// Lost implements media.PortEvents.
func (e *portEvents) Lost() { e.post((*Call).mediaGone) }

// Back implements media.PortEvents.
func (e *portEvents) Back() { e.post((*Call).mediaBack) }

// Failed implements media.PortEvents.
func (e *portEvents) Failed(err error) {
	e.post(func(c *Call, l *leg) {
		c.log.Warn("media failed", "leg_id", l.id, "err", err)
		c.legFailed(l, sip.Cause{Code: 488, Text: "media failed", Err: err})
	})
}

// ringOf returns the ring that a leg belongs to, or nil.
func (c *Call) ringOf(l *leg) *ring {
	g, ok := c.rings[l.far.agent]
	if !ok || g.legs[l.id] != l {
		return nil
	}
	return g
}

// progress handles a provisional response of a leg that we invited.
func (c *Call) progress(l *leg, code int, sdp []byte) {
	if c.over || l.gone || l.state == StateEnded {
		return
	}
	if len(sdp) > 0 {
		// Early media, and with it an early start of ICE and DTLS.
		if err := l.agree(sdp); err != nil {
			c.log.Warn("early answer ignored", "leg_id", l.id, "err", err)
		}
	}
	tried := c.out == nil || l != c.out.caller
	if code >= 180 && l.set(StateRinging, c.now()) && tried {
		c.journal(event.CallLegRinging{CallID: c.ID, LegID: l.id, Agent: l.far.agent})
	}
	if c.out != nil {
		c.outProgress(l, code)
	}
}

// answered handles the 2xx of a leg that we invited, or the ACK of one that
// we answered.
func (c *Call) answered(l *leg, sdp []byte) {
	if c.over || l.gone || l.state == StateEnded {
		return
	}
	if l.offered { // the ACK of a re-INVITE without an offer
		l.offered = false
		if err := l.port.Answered(sdp); err != nil {
			c.log.Warn("answer to a re-invite does not fit", "leg_id", l.id, "err", err)
			return
		}
		c.holdChanged(l, l.port.Held())
		return
	}
	if len(sdp) > 0 {
		if err := l.agree(sdp); err != nil {
			c.log.Warn("answer does not fit the offer", "leg_id", l.id, "err", err)
			c.legFailed(l, sip.Cause{Code: 488, Text: "answer does not fit the offer", Err: err})
			return
		}
	}
	if !l.agreed {
		c.legFailed(l, sip.Cause{Code: 488, Text: "no answer to the offer"})
		return
	}
	switch g := c.ringOf(l); {
	case g != nil:
		c.agentAnswered(g, l)
	case c.out != nil:
		c.outAnswered(l)
	}
}

// legEnded handles the end of a dialog.
func (c *Call) legEnded(l *leg, cause sip.Cause) {
	if c.over || l.gone {
		return
	}
	l.because(cause)
	if g := c.ringOf(l); g != nil {
		c.ringingLegEnded(g, l, cause)
		return
	}
	switch {
	case l == c.customer:
		c.customerEnded(cause)
	case l == c.agent:
		c.agentEnded(cause)
	case c.out != nil && c.out.fars[l.id] != nil:
		c.outFarEnded(l, cause)
	case c.out != nil && l == c.out.caller:
		c.callerEnded(cause)
	}
}

// legFailed ends a leg that cannot go on for a reason of ours.
func (c *Call) legFailed(l *leg, cause sip.Cause) {
	if c.over || l.gone {
		return
	}
	l.because(cause)
	switch {
	case c.ringOf(l) != nil:
		c.ringingLegEnded(c.ringOf(l), l, cause)
	case l == c.agent:
		c.loseAgent(cause.Text)
	case c.out != nil && c.out.fars[l.id] != nil:
		c.outFarEnded(l, cause)
	default:
		c.finish(event.BySystem, cause.Text, cause)
	}
}

// customerEnded: the customer hung up, or their dialog broke.
func (c *Call) customerEnded(cause sip.Cause) {
	by := event.BySystem
	if cause.Remote {
		by = event.ByCustomer
	}
	c.finish(by, causeText(cause), sip.Cause{Code: 200, Q850: 16, Text: "the other side hung up"})
}

// agentEnded: the joined agent hung up, or is lost: only a BYE of the phone is
// the agent's wish.
func (c *Call) agentEnded(cause sip.Cause) {
	switch {
	case c.dropping: // the customer still hears why
		by := event.BySystem
		if cause.Remote {
			by = event.ByAgent
		}
		c.takeOff(by, cause)
	case cause.Remote && cause.Kind == sip.KindNormal:
		c.finish(event.ByAgent, causeText(cause), sip.Cause{Code: 200, Q850: 16, Text: "the other side hung up"})
	default:
		c.loseAgent(causeText(cause))
	}
}

func causeText(cause sip.Cause) string {
	switch {
	case cause.Text != "":
		return cause.Text
	case cause.Reason != "":
		return cause.Reason
	case cause.Err != nil:
		return cause.Err.Error()
	case cause.Code == 0 || cause.Code == 200:
		return "normal"
	default:
		return "ended"
	}
}

// later is which of two legs began last: the one that was tried for the other.
func later(a, b *leg) *leg {
	if b.times.started.Before(a.times.started) {
		return a
	}
	return b
}

// laterTime is the later of two times, zero if either is.
func laterTime(a, b time.Time) time.Time {
	switch {
	case a.IsZero() || b.IsZero():
		return time.Time{}
	case a.After(b):
		return a
	}
	return b
}
