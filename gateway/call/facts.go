package call

import (
	"strconv"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/sip"
)

// cdr writes the call detail record of the customer's leg and one far leg, or
// of the near leg alone when nobody was tried.
func (c *Call) cdr(near, far *leg, by event.By) {
	r := event.CallLegEnded{
		CallID: c.ID, Direction: c.Direction, Campaign: c.Campaign,
		Src: c.From, SrcName: c.FromName, Dst: c.To,
		LastApp: c.lastApp(), StartedAt: c.started, EndedAt: c.now(), By: by, Trunk: c.Trunk,
	}
	l := near
	if near != nil {
		r.Channel = near.far.channel
		r.LegID = near.id
	}
	if far != nil {
		l = far
		r.LegID, r.DstChannel, r.Agent = far.id, far.far.channel, far.far.agent
		if c.pairs > 0 {
			r.StartedAt = far.times.started
		}
	}
	if l == nil {
		return
	}
	if c.Agent != "" {
		r.Agent = c.Agent
	}
	if far != nil && !far.times.answered.IsZero() {
		at := far.times.answered
		r.AnsweredAt = &at
	}
	r.Disposition = dispositionOf(l, far != nil)
	r.Recorded = c.rec != nil && r.AnsweredAt != nil
	r.CauseCode = causeCode(l.cause)
	c.pairs++
	c.journal(r)
}

func (c *Call) lastApp() string {
	if c.Direction == event.Inbound && c.Campaign != "" {
		return "Queue"
	}
	return "Dial"
}

// dispositionOf is the telephony result as CDR_REPO names it.
func dispositionOf(l *leg, tried bool) string {
	switch {
	case tried && !l.times.answered.IsZero():
		return "ANSWERED"
	case l.cause.Code == 486 || l.cause.Code == 600 || l.cause.Code == 603:
		return "BUSY"
	case l.cause.Code == 0 || l.cause.Code == 200 || l.cause.Code == 408 || l.cause.Code == 480 || l.cause.Code == 487:
		return "NO ANSWER"
	default:
		return "FAILED"
	}
}

func causeCode(cause sip.Cause) string {
	switch {
	case cause.Q850 != 0:
		return strconv.Itoa(cause.Q850)
	case cause.Code != 0:
		return strconv.Itoa(cause.Code)
	default:
		return ""
	}
}

// outCall is the OUTCALL fact of a manual outbound call (LOG-022).
func (c *Call) outCall() event.OutCallEnded {
	o := event.OutCallEnded{
		CallID: c.ID, Campaign: c.Campaign, Agent: c.Agent, Number: c.To,
		TotalSeconds: int64(c.now().Sub(c.started) / time.Second),
		TalkSeconds:  int64(c.talked / time.Second),
	}
	switch {
	case c.talked > 0 || (c.out != nil && c.out.answered):
		o.DialStatus = "ANSWER"
	case c.out == nil:
		o.DialStatus = "CANCEL"
	default:
		o.DialStatus = dialStatus(c.out.last)
	}
	return o
}

func dialStatus(last sip.Cause) string {
	switch last.Code {
	case 486, 600, 603:
		return "BUSY"
	case 408, 480:
		return "NOANSWER"
	case 0, 487:
		return "CANCEL"
	case 404, 484, 503:
		return "CHANUNAVAIL"
	default:
		return "CONGESTION"
	}
}
