package call

import (
	"strconv"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/sip"
)

// pair orders an agent's leg and the other side as a CDR does: who called first.
func (c *Call) pair(agent *leg) (near, far *leg) {
	if c.out != nil {
		return agent, c.customer
	}
	return c.customer, agent
}

// cdr writes the call detail record of a pair of legs, or of the near leg alone
// when nobody was tried. The pair began with the later of the two.
func (c *Call) cdr(near, far *leg, by event.By) {
	if near == nil {
		near, far = far, nil
	}
	if near == nil {
		return
	}
	tried := near
	r := event.CallLegEnded{
		CallID: c.ID, Direction: c.Direction, Campaign: c.Campaign, Agent: c.Agent,
		Src: c.From, SrcName: c.FromName, Dst: c.To, Channel: near.far.channel,
		LastApp: c.lastApp(), StartedAt: c.started, EndedAt: c.now(), By: by, Trunk: c.Trunk,
	}
	if far != nil {
		tried = later(near, far)
		r.DstChannel = far.far.channel
		if c.Agent == "" {
			r.Agent = far.far.agent
		}
		if at := laterTime(near.times.answered, far.times.answered); !at.IsZero() {
			r.AnsweredAt = &at
		}
		if c.pairs > 0 {
			r.StartedAt = tried.times.started
		}
	}
	r.LegID = tried.id
	r.Disposition = dispositionOf(tried.cause, r.AnsweredAt != nil)
	r.Recorded = c.rec != nil && r.AnsweredAt != nil
	r.CauseCode = causeCode(tried.cause)
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
func dispositionOf(cause sip.Cause, answered bool) string {
	if answered {
		return "ANSWERED"
	}
	switch cause.Code {
	case 486, 600, 603:
		return "BUSY"
	case 0, 200, 408, 480, 487:
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
