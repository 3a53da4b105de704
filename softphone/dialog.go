package softphone

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cordboard/cordboard/gateway/media/dtmf"
	"github.com/cordboard/cordboard/gateway/sip"
)

// incoming takes a new call; it is on a goroutine of the dialog's.
func (p *Phone) incoming(d *sip.Dialog) {
	c := newCall(p, CallID(uuid.NewString()))
	c.offer = d.Offer()
	if len(c.offer) > 0 {
		if err := p.media.Check(c.offer); err != nil {
			p.refuse(d, 488)
			return
		}
	}
	r := d.Request()
	c.dialog = d
	e := Incoming{
		Call: c.id, From: r.From().URI.User, Name: r.From().Name,
		GUID: r.Header(headerCall), Campaign: r.Header(headerCampaign), Waited: waited(r.Header(headerWaited)),
		AutoAnswer: autoAnswer(r.Headers("Call-Info"), r.Headers("Alert-Info"), r.Header("Answer-Mode")),
	}
	c.guid, c.beep = e.GUID, e.AutoAnswer
	c.stage.Store(int32(stageRinging))
	d.Accept(dialogEvents{c: c})
	p.agent.Follow(d)
	if err := d.Provisional(180, nil); err != nil {
		p.log.Debug("ringing not told", "err", err)
	}
	if err := p.add(c, e); err != nil {
		p.agent.Forget(d)
		p.refuse(d, 486)
		return
	}
	if e.AutoAnswer {
		if p.c.HoldOthers {
			p.holdOthers(c.id)
		}
		c.post(c.answer)
	}
}

func (p *Phone) refuse(d *sip.Dialog, code int) {
	if err := d.Reject(code, ""); err != nil {
		p.log.Debug("call not refused", "err", err)
	}
}

// waited reads a header of seconds, whole or with a fraction.
func waited(s string) time.Duration {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f < 1e6) {
		return 0
	}
	return time.Duration(f * float64(time.Second))
}

// autoAnswer reports whether an INVITE asks to be answered without a ring: Answer-Mode (RFC 5373), or
// answer-after=0 in Call-Info or Alert-Info, as desk phones know it.
func autoAnswer(callInfo, alertInfo []string, mode string) bool {
	word, _, _ := strings.Cut(mode, ";")
	if strings.EqualFold(strings.TrimSpace(word), "auto") {
		return true
	}
	for _, list := range [][]string{callInfo, alertInfo} {
		for _, v := range list {
			for part := range strings.FieldsFuncSeq(v, func(r rune) bool { return r == ';' || r == ',' }) {
				name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
				if strings.EqualFold(strings.TrimSpace(name), "answer-after") && strings.Trim(value, ` "`) == "0" {
					return true
				}
			}
		}
	}
	return false
}

// dialogEvents hands what happens in a dialog to the call's goroutine.
type dialogEvents struct {
	sip.NoEvents

	c *call
}

// Progress implements sip.Events.
func (e dialogEvents) Progress(code int, _ string, sdp []byte) {
	e.c.post(func(context.Context) { e.c.progress(code, sdp) })
}

// Answered implements sip.Events.
func (e dialogEvents) Answered(sdp []byte) {
	e.c.post(func(context.Context) {
		if e.c.dialled {
			e.c.accepted(sdp)
		} else {
			e.c.acknowledged(sdp)
		}
	})
}

// Offer implements sip.Events. While the call negotiates itself it says 491, as RFC 3261 section 14.1 asks.
func (e dialogEvents) Offer(offer []byte) (answer []byte, code int) {
	type result struct {
		sdp  []byte
		code int
	}
	res := make(chan result, 1)
	fn := func(ctx context.Context) {
		sdp, code := e.c.reoffered(ctx, offer)
		res <- result{sdp, code}
	}
	t := time.NewTimer(setupLimit)
	defer t.Stop()
	select {
	case e.c.mailbox <- fn:
	case <-e.c.over:
		return nil, 481
	case <-t.C:
		return nil, 491
	}
	select {
	case r := <-res:
		return r.sdp, r.code
	case <-e.c.over:
		return nil, 481
	case <-t.C:
		return nil, 491
	}
}

// Info implements sip.Events.
func (e dialogEvents) Info(contentType string, body []byte) {
	if !dtmf.IsInfo(contentType) {
		return
	}
	if digit, d, err := dtmf.ParseInfo(contentType, body); err == nil {
		e.c.p.events.put(Digit{Call: e.c.id, Digit: digit, For: d})
	}
}

// Ended implements sip.Events.
func (e dialogEvents) Ended(cause sip.Cause) {
	c := e.c
	c.end(c.far(cause))
	c.goneOnce.Do(func() { close(c.gone) })
}
