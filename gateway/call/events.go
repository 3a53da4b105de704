package call

import (
	"errors"
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

// Offer implements sip.Events: a re-INVITE is answered by the leg's own media;
// the other side is never asked, because both legs end here.
func (e dialogEvents) Offer(sdp []byte) (answer []byte, code int) {
	port := e.leg.port
	if port == nil {
		return nil, 481
	}
	var err error
	if len(sdp) == 0 {
		answer, err = port.Offer(e.call.sw.ctx)
	} else {
		answer, err = port.Answer(e.call.sw.ctx, sdp)
	}
	if err != nil {
		e.call.log.Warn("re-invite refused", "leg_id", e.leg.id, "err", err)
		if errors.Is(err, media.ErrNoCommonCodec) || errors.Is(err, media.ErrNotEncrypted) {
			return nil, 488
		}
		return nil, 400
	}
	held := port.Held()
	e.call.post(func() { e.call.holdChanged(e.leg, held) })
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
// before its leg, so events wait until bind.
type portEvents struct {
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
		c.post(func() { fn(c, l) })
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

// DTMF implements media.PortEvents.
func (e *portEvents) DTMF(digit byte, d time.Duration) {
	e.post(func(c *Call, l *leg) { c.digit(l, digit, d) })
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
		if g := c.ringOf(l); g != nil {
			c.hangupRinging(g, l, sip.Cause{Code: 488, Text: "media failed"})
			return
		}
		c.mediaGone(l)
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
	if c.over || l.state == StateEnded || l.port == nil {
		return
	}
	if len(sdp) > 0 && !l.answerSDP {
		// Early media, and with it an early start of ICE and DTLS.
		if err := l.port.Answered(sdp); err != nil {
			c.log.Warn("early answer ignored", "leg_id", l.id, "err", err)
		} else {
			l.answerSDP = true
		}
	}
	if code >= 180 && l.set(StateRinging, c.now()) {
		c.journal(event.CallLegRinging{CallID: c.ID, LegID: l.id, Agent: l.far.agent})
	}
	if c.out != nil {
		c.outProgress(l, code)
	}
}

// answered handles the 2xx of a leg that we invited, or the ACK of one that
// we answered.
func (c *Call) answered(l *leg, sdp []byte) {
	if c.over || l.state == StateEnded || l.port == nil {
		return
	}
	if len(sdp) > 0 && !l.answerSDP {
		if err := l.port.Answered(sdp); err != nil {
			c.log.Warn("answer does not fit the offer", "leg_id", l.id, "err", err)
			cause := sip.Cause{Code: 488, Text: "answer does not fit the offer"}
			if g := c.ringOf(l); g != nil {
				c.hangupRinging(g, l, cause)
				return
			}
			c.legFailed(l, cause)
			return
		}
		l.answerSDP = true
	}
	switch g := c.ringOf(l); {
	case g != nil:
		c.agentAnswered(g, l)
	case c.out != nil:
		c.outAnswered(l)
	}
}

// hangupRinging ends one leg of a ring for a reason of ours.
func (c *Call) hangupRinging(g *ring, l *leg, cause sip.Cause) {
	c.ringingLegEnded(g, l, cause)
}

// legEnded handles the end of a dialog.
func (c *Call) legEnded(l *leg, cause sip.Cause) {
	if c.over {
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
	case c.out != nil && l == c.out.far:
		c.outFarEnded(l, cause)
	case c.out != nil && l == c.out.caller:
		c.callerEnded(cause)
	}
}

// legFailed ends the call because one of its two sides cannot go on.
func (c *Call) legFailed(l *leg, cause sip.Cause) {
	l.because(cause)
	c.finish(event.BySystem, cause.Text, cause)
}

// customerEnded: the customer hung up, or their dialog broke.
func (c *Call) customerEnded(cause sip.Cause) {
	by := event.BySystem
	if cause.Remote {
		by = event.ByCustomer
	}
	c.finish(by, causeText(cause), sip.Cause{Code: 200, Q850: 16, Text: "the other side hung up"})
}

// agentEnded: the joined agent hung up, or is lost.
func (c *Call) agentEnded(cause sip.Cause) {
	if !cause.Remote {
		c.loseAgent(causeText(cause))
		return
	}
	c.finish(event.ByAgent, causeText(cause), sip.Cause{Code: 200, Q850: 16, Text: "the other side hung up"})
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
