package report

import (
	"github.com/cordboard/cordboard/gateway/event"
)

// queueFact applies what happens to entries of queues.
func (c *changing) queueFact() (done bool, err error) {
	switch c.f.Type { //nolint:exhaustive // the other kinds belong to others
	case event.KindQueueEntered:
		return true, on(c, c.entered)
	case event.KindQueueLeft:
		return true, on(c, c.left)
	case event.KindOfferEnded:
		return true, on(c, c.offerEnded)
	case event.KindQueueConnected:
		return true, on(c, c.connected)
	case event.KindQueueCompleted:
		return true, on(c, c.completed)
	}
	return false, nil
}

func (c *changing) putEntry(callID string, e *openEntry) error {
	if e == nil {
		delete(c.m.st.entries, callID)
	} else {
		c.m.st.entries[callID] = e
	}
	it, err := keep(itemEntry, callID, e)
	c.Open = append(c.Open, it)
	return err
}

func (c *changing) entered(p event.QueueEntered) error {
	c.log(QueueLogRow{Event: "ENTERQUEUE", CallID: p.CallID, QueueName: p.Queue, Number: p.Caller}, p.URL, p.Caller)
	if call := c.m.st.calls[p.CallID]; call != nil && !call.Queued {
		call.Queued = true
		if err := c.putCall(p.CallID, call); err != nil {
			return err
		}
	}
	return c.putEntry(p.CallID, &openEntry{At: c.f.Time, Queue: p.Queue, Caller: p.Caller, Position: p.Position})
}

func (c *changing) left(p event.QueueLeft) error {
	r := QueueLogRow{CallID: p.CallID, QueueName: p.Queue, Times: Times{WaitSeconds: p.WaitSeconds}}
	if e := c.m.st.entries[p.CallID]; e != nil {
		r.Number = e.Caller
	}
	data := []string{num(p.Position), num(p.OriginalPosition), num(p.WaitSeconds)}
	switch p.Reason {
	case event.LeftAbandon, event.LeftClosed:
		r.Event = "ABANDON"
		data = append(data, p.Cause)
	case event.LeftTimeout:
		r.Event = "EXITWITHTIMEOUT"
	case event.LeftEmpty:
		r.Event = "EXITEMPTY"
	case event.LeftKey:
		r.Event = "EXITWITHKEY"
		data = append([]string{p.Key}, data...)
	default:
		// A reason of a later version: the entry has ended all the same.
		r.Event = "ABANDON"
		data = append(data, string(p.Reason))
	}
	c.log(r, data...)
	return c.putEntry(p.CallID, nil)
}

func (c *changing) offerEnded(p event.OfferEnded) error {
	if p.Outcome == "noAnswer" {
		c.log(QueueLogRow{
			Event: "RINGNOANSWER", CallID: p.CallID, QueueName: p.Queue, Agent: p.Agent, Times: Times{RingMs: p.RingMs},
		}, num(p.RingMs))
	}
	return nil
}

func (c *changing) connected(p event.QueueConnected) error {
	if !p.Reattached {
		c.log(QueueLogRow{
			Event: "CONNECT", CallID: p.CallID, QueueName: p.Queue, Agent: p.Agent,
			Times: Times{WaitSeconds: p.HoldSeconds, RingMs: p.RingSeconds * 1000},
		}, num(p.HoldSeconds), p.LegID, num(p.RingSeconds))
	}
	e := c.m.st.entries[p.CallID]
	if e == nil {
		e = &openEntry{At: c.f.Time, Queue: p.Queue}
	}
	e.Agent, e.LegID = p.Agent, p.LegID
	if e.ConnectedAt.IsZero() {
		e.ConnectedAt, e.HoldSeconds = c.f.Time, p.HoldSeconds
	}
	if call := c.m.st.calls[p.CallID]; call != nil && p.LegID != "" {
		call.answer(p.LegID, p.Agent, c.f.Time)
		if err := c.putCall(p.CallID, call); err != nil {
			return err
		}
	}
	return c.putEntry(p.CallID, e)
}

func (c *changing) completed(p event.QueueCompleted) error {
	r := QueueLogRow{
		Event: "COMPLETECALLER", CallID: p.CallID, QueueName: p.Queue, Agent: p.Agent,
		Times: Times{WaitSeconds: p.HoldSeconds, TalkSeconds: p.TalkSeconds},
	}
	if p.By == event.ByAgent {
		r.Event = "COMPLETEAGENT"
	}
	if e := c.m.st.entries[p.CallID]; e != nil {
		r.Number = e.Caller
	}
	c.log(r, num(p.HoldSeconds), num(p.TalkSeconds), num(p.OriginalPosition), p.Cause)
	return c.putEntry(p.CallID, nil)
}
