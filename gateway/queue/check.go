package queue

import (
	"fmt"
	"slices"
	"time"
)

// Check returns every invariant that does not hold, right after Tick with the
// same time. There is never one, unless this package has a fault.
func (c *Core) Check(now time.Time) []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	waiting := 0
	for _, q := range c.queues {
		c.checkLine(now, q, bad)
		waiting += len(q.waiting)
	}
	if waiting != c.waiting {
		bad("%d entries are counted as waiting, %d are", c.waiting, waiting)
	}
	for id, e := range c.entries {
		in := slices.Contains(e.q.waiting, e)
		switch e.state {
		case StateWaiting:
			if !in || len(e.offers) > 0 {
				bad("entry %s waits: in its queue %t, with %d offers", id, in, len(e.offers))
			}
		case StateRinging:
			if !in || len(e.offers) == 0 {
				bad("entry %s rings: in its queue %t, with %d offers", id, in, len(e.offers))
			}
		case StateTalking:
			if in || e.worker == nil || !slices.Contains(e.worker.talks, e) {
				bad("entry %s talks to an agent who does not talk to it", id)
			}
		case StateGone:
			bad("entry %s is gone and still known", id)
		}
		for _, o := range e.offers {
			if o.e != e || o.m.w.offer != o {
				bad("entry %s is offered to agent %s, who has another offer", id, o.m.w.name)
			}
		}
	}
	for _, w := range c.workers {
		checkWorker(w, c, bad)
	}
	return errs
}

func (c *Core) checkLine(now time.Time, q *line, bad func(string, ...any)) {
	ringing, staffed := 0, 0
	for i, e := range q.waiting {
		if c.entries[e.CallID] != e {
			bad("queue %s holds entry %s, which is gone", q.cfg.Name, e.CallID)
		}
		if e.state == StateRinging {
			ringing++
		}
		if i > 0 && !q.waiting[i-1].before(e) {
			bad("queue %s has entry %s before its turn", q.cfg.Name, q.waiting[i-1].CallID)
		}
	}
	for _, m := range q.members {
		if m.staffed {
			staffed++
		}
		if ready := m.at >= 0; ready != m.w.canTake(now, m) {
			bad("queue %s: member %s ready is %t", q.cfg.Name, m.w.name, ready)
		}
		if m.at >= 0 && (m.at >= len(q.ready) || q.ready[m.at] != m) {
			bad("queue %s: member %s is not where it should be", q.cfg.Name, m.w.name)
		}
	}
	if ringing != q.ringing || staffed != q.staffed {
		bad("queue %s counts %d ringing, %d staffed; there are %d, %d", q.cfg.Name, q.ringing, q.staffed, ringing, staffed)
	}
}

func checkWorker(w *worker, c *Core, bad func(string, ...any)) {
	if o := w.offer; o != nil {
		if c.entries[o.e.CallID] != o.e || !slices.Contains(o.e.offers, o) {
			bad("agent %s has an offer that no entry has", w.name)
		}
	}
	inUse := false
	for _, e := range w.talks {
		inUse = inUse || e.q.cfg.RingInUse
		if c.entries[e.CallID] != e || e.state != StateTalking || e.worker != w {
			bad("agent %s talks to entry %s, which does not", w.name, e.CallID)
		}
	}
	if n := len(w.talks); n > 1 && !inUse {
		bad("agent %s has %d calls", w.name, n)
	}
	if w.offer != nil && len(w.talks) > 0 && !w.offer.e.q.cfg.RingInUse {
		bad("agent %s is rung while on a call", w.name)
	}
}
