package queue

import (
	"slices"
	"time"
)

// mark says that a line may have something to offer.
func (c *Core) mark(q *line) {
	if !q.dirty {
		q.dirty = true
		c.dirty = append(c.dirty, q)
	}
}

// dispatch makes every offer that can be made now: the heaviest queue first
// (VOICE-35), among equals the one whose first caller waits longest. Several
// callers of a queue are offered to several agents at once.
func (c *Core) dispatch(now time.Time) {
	for len(c.dirty) > 0 {
		best := 0
		for i := 1; i < len(c.dirty); i++ {
			if c.dirty[i].goesBefore(c.dirty[best]) {
				best = i
			}
		}
		q := c.dirty[best]
		if c.serve(now, q) {
			continue
		}
		q.dirty = false
		c.dirty = slices.Delete(c.dirty, best, best+1)
	}
}

func (q *line) goesBefore(o *line) bool {
	if q.cfg.Weight != o.cfg.Weight {
		return q.cfg.Weight > o.cfg.Weight
	}
	a, b := q.first(), o.first()
	switch {
	case a == nil || b == nil:
		return a != nil
	case !a.EnteredAt.Equal(b.EnteredAt):
		return a.EnteredAt.Before(b.EnteredAt)
	default:
		return a.seq < b.seq
	}
}

// first returns the first entry that rings nowhere.
func (q *line) first() *entry {
	if q.ringing == len(q.waiting) {
		return nil
	}
	for _, e := range q.waiting {
		if e.state == StateWaiting {
			return e
		}
	}
	return nil
}

// serve makes one entry's offer, if the line can make any.
func (c *Core) serve(now time.Time, q *line) bool {
	if len(q.ready) == 0 || q.ringing == len(q.waiting) {
		return false
	}
	for _, e := range q.waiting {
		if e.state == StateWaiting && c.offer(now, e) {
			return true
		}
	}
	return false
}

// offer offers an entry to whom the strategy chooses. Agents who did not take
// it are left out until all others who are free did not either; then the pause
// of VOICE-33 goes by and a new round begins.
func (c *Core) offer(now time.Time, e *entry) bool {
	q := e.q
	chosen, why := c.choose(now, q, e)
	if len(chosen) == 0 && len(e.tried) > 0 {
		if now.Before(e.retryAt) {
			if !e.armed.Equal(e.retryAt) {
				e.armed = e.retryAt
				c.timers.add(e.retryAt, e)
			}
			return false
		}
		e.tried = e.tried[:0]
		chosen, why = c.choose(now, q, e)
	}
	if len(chosen) == 0 {
		return false
	}
	e.state = StateRinging
	q.ringing++
	for _, m := range chosen {
		o := &offer{e: e, m: m, at: now, until: now.Add(q.cfg.RingTime + RingGrace)}
		e.offers = append(e.offers, o)
		m.w.offer = o
		c.timers.add(o.until, o)
		q.next = m.order + 1
		c.refresh(now, m.w)
		c.emit(Command{
			Kind: CommandOffer, CallID: e.CallID, Queue: e.Queue, Agent: m.w.name, Why: why,
			RingFor: q.cfg.RingTime, AutoAnswer: q.cfg.AutoAnswer, Hold: e.wait(now),
			InUse: m.w.status.Availability == Engaged,
		})
	}
	return true
}

// refresh puts a worker into the ready sets of its lines, or takes it out.
func (c *Core) refresh(now time.Time, w *worker) {
	for _, m := range w.members {
		if w.canTake(now, m) {
			if m.at < 0 {
				m.at = len(m.q.ready)
				m.q.ready = append(m.q.ready, m)
				c.mark(m.q)
			}
			continue
		}
		m.q.unready(m)
	}
}

func (q *line) unready(m *member) {
	if m.at < 0 {
		return
	}
	last := len(q.ready) - 1
	q.ready[m.at] = q.ready[last]
	q.ready[m.at].at = m.at
	q.ready[last] = nil
	q.ready = q.ready[:last]
	m.at = -1
}

// canTake reports whether a member could be offered an entry of its line now.
func (w *worker) canTake(now time.Time, m *member) bool {
	if m.paused || m.q.gone || w.offer != nil || !w.status.Staffed || w.status.Paused || now.Before(w.coolUntil) {
		return false
	}
	switch w.status.Availability {
	case Free:
		return len(w.talks) == 0 || m.q.cfg.RingInUse
	case Engaged:
		return m.q.cfg.RingInUse
	case Away:
	}
	return false
}

// restaff counts a member who is there, or no longer.
func (c *Core) restaff(now time.Time, m *member) {
	staffed := m.w.status.Staffed && !m.paused
	if staffed == m.staffed {
		return
	}
	m.staffed = staffed
	q := m.q
	if staffed {
		q.staffed++
		q.emptySince = time.Time{}
		return
	}
	q.staffed--
	c.emptied(now, q)
}

// emptied begins the wait for staff of a line that has none.
func (c *Core) emptied(now time.Time, q *line) {
	if q.staffed == 0 && q.emptySince.IsZero() {
		q.emptySince = now
		if q.cfg.LeaveWhenEmpty {
			c.timers.add(now.Add(emptyGrace), q)
		}
	}
}
