package softphone

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/softphone/rtc"
)

const (
	// pathTick is how often a call looks at its path beside being told.
	pathTick = time.Second
	// repathEvery is the time between two tries to find a new path.
	repathEvery = 3 * time.Second
	// lostLimit is how long a call without media is kept: as long as the gateway keeps the customer.
	lostLimit = 35 * time.Second
)

// path is what is going on with the way of the media.
type path struct {
	lost  bool      // told by MediaLost
	until time.Time // when the call is given up; zero = media flows
	want  bool      // an ICE restart is due
	next  time.Time // not before
}

// pathChanged reads what has become of the media.
func (c *call) pathChanged(ctx context.Context) { c.lookAtPath(ctx) }

// lookAtPath acts on the state of the media: first connection, loss, return, and tries for a new path.
func (c *call) lookAtPath(ctx context.Context) {
	s := c.session()
	if s == nil || c.ending() != nil {
		return
	}
	at := c.at()
	if at != stageAnswered && at != stageTalking {
		return
	}
	now := time.Now()
	switch s.State() {
	case rtc.StateConnected:
		if at == stageAnswered {
			c.connected()
		}
		if c.path.lost {
			c.p.events.put(MediaBack{Call: c.id})
		}
		c.path.lost, c.path.until = false, time.Time{}
	case rtc.StateLost, rtc.StateFailed:
		if at == stageTalking && !c.path.lost {
			c.path.lost = true
			c.path.until = now.Add(lostLimit)
			c.p.events.put(MediaLost{Call: c.id})
		}
		c.path.want = true
	case rtc.StateNew:
	case rtc.StateClosed:
		return
	}
	if !c.path.until.IsZero() && now.After(c.path.until) {
		c.end(outcome{cause: CauseNoMedia, text: "no path for media", local: true})
		return
	}
	if c.path.want && now.After(c.path.next) && c.p.agent.Registered() {
		c.restart(ctx, s)
	}
}

// repath looks for a new path now: the network has changed.
func (c *call) repath(ctx context.Context) {
	if c.talking() {
		c.path.want, c.path.next = true, time.Time{}
		c.lookAtPath(ctx)
	}
}

// reachable: the phone is registered again, so a new path may be asked for at once.
func (c *call) reachable(ctx context.Context) {
	c.path.next = time.Time{}
	c.lookAtPath(ctx)
}

// unreachable: the connection is lost. A call that still rings here is offered anew by the gateway.
func (c *call) unreachable(context.Context) {
	if c.answerable() {
		c.end(outcome{cause: CauseLost, text: "connection lost while ringing", normal: true, local: true, code: 480})
	}
}

// restart negotiates a new path (ICE restart) by a re-INVITE.
func (c *call) restart(ctx context.Context, s *rtc.Session) {
	c.path.next = time.Now().Add(repathEvery)
	offer, err := s.Offer(ctx, c.held, true)
	if err == nil {
		err = c.reinvite(ctx, s, offer)
	}
	if err != nil {
		if ctx.Err() == nil {
			c.log.InfoContext(ctx, "no new path yet", "err", err)
		}
		return
	}
	c.path.want = false
	c.tellFarHold(s.FarHold())
}

// reinvite sends an offer and takes the answer; a refused offer is withdrawn.
func (c *call) reinvite(ctx context.Context, s *rtc.Session, offer []byte) error {
	d := c.dialogOf()
	rctx, cancel := context.WithTimeout(ctx, reinviteLimit)
	defer cancel()
	answer, err := d.Reinvite(rctx, offer)
	if err == nil {
		err = s.Answered(answer)
	}
	if err != nil {
		return fmt.Errorf("re-invite: %w", errors.Join(err, s.Rollback()))
	}
	return nil
}

// hold makes the far side hear what wantHold says.
func (c *call) hold(ctx context.Context) {
	s, on := c.session(), c.wantHold.Load()
	if s == nil || !c.talking() || on == c.held {
		return
	}
	offer, err := s.Offer(ctx, on, false)
	if err == nil {
		err = c.reinvite(ctx, s, offer)
	}
	if err != nil {
		c.wantHold.Store(c.held)
		if ctx.Err() == nil {
			c.p.events.put(Problem{Call: c.id, Err: fmt.Errorf("hold: %w", err)})
		}
		return
	}
	c.held = on
	if on {
		c.p.events.put(Held{Call: c.id})
	} else {
		c.p.events.put(Resumed{Call: c.id})
	}
	c.tellFarHold(s.FarHold())
}

// tellFarHold tells when the far side put us on hold or took us off.
func (c *call) tellFarHold(now bool) {
	if now == c.farHeld {
		return
	}
	c.farHeld = now
	if now {
		c.p.events.put(Held{Call: c.id, ByFar: true})
	} else {
		c.p.events.put(Resumed{Call: c.id, ByFar: true})
	}
}

// reoffered answers a re-INVITE or UPDATE of the far side.
func (c *call) reoffered(ctx context.Context, offer []byte) (answer []byte, code int) {
	s := c.session()
	if s == nil || c.at() < stageAnswered {
		return nil, 491
	}
	if len(offer) == 0 { // it wants our offer; its answer comes with the ACK
		sdp, err := s.Offer(ctx, c.held, false)
		if err != nil {
			return nil, 500
		}
		return sdp, 200
	}
	sdp, err := s.Answer(ctx, offer, c.held)
	switch {
	case errors.Is(err, rtc.ErrNoCommonCodec), errors.Is(err, rtc.ErrDescription):
		return nil, 488
	case err != nil:
		return nil, 500
	}
	c.tellFarHold(s.FarHold())
	return sdp, 200
}

// far is the outcome of a dialog that ended by itself.
func (c *call) far(cause sip.Cause) outcome {
	o := outcome{code: cause.Code, text: cause.Text}
	if o.text == "" {
		o.text = cause.Reason
	}
	if o.text == "" && cause.Err != nil {
		o.text = cause.Err.Error()
	}
	switch cause.Kind {
	case sip.KindNormal:
		o.cause, o.normal = CauseFarHangup, true
	case sip.KindCancelled:
		o.cause, o.normal = CauseCancelled, true
	case sip.KindRejected:
		o.cause = refusal(cause.Code)
	case sip.KindNoAck, sip.KindTimeout, sip.KindSessionTimer:
		o.cause = CauseTimeout
	case sip.KindTransportLost:
		// A call that still rings here is offered anew by the gateway.
		o.cause, o.normal = CauseLost, c.answerable()
	case sip.KindUnknown:
		o.cause = CauseFailed
	}
	return o
}

func refusal(code int) string {
	switch code {
	case 486, 600:
		return CauseBusy
	case 603:
		return CauseDeclined
	case 404, 410, 484, 604:
		return CauseNotFound
	case 408, 480, 487:
		return CauseNoAnswer
	case 488, 606, 415:
		return CauseNoCodec
	}
	return CauseRefused
}
