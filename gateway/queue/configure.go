package queue

import (
	"slices"
	"time"

	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/event"
)

// Configure makes the queues as the campaigns say. Members keep their history,
// entries their place; the callers of a queue that is gone are put out.
func (c *Core) Configure(now time.Time, campaigns []campaign.Campaign) []Command {
	c.begin()
	wanted := map[string]bool{}
	for i := range campaigns {
		wanted[campaigns[i].Name] = true
		c.configure(now, campaigns[i])
	}
	for name, q := range c.queues {
		if wanted[name] {
			continue
		}
		q.gone = true
		q.cfg.Members = nil
		c.setMembers(now, q)
		for _, e := range slices.Clone(q.waiting) {
			c.leave(now, e, event.LeftClosed, "", true)
		}
		c.retire(q)
	}
	return c.done(now)
}

func (c *Core) configure(now time.Time, cfg campaign.Campaign) {
	q, ok := c.queues[cfg.Name]
	if !ok {
		q = &line{}
		c.queues[cfg.Name] = q
	}
	q.cfg, q.loc, q.gone = cfg, c.loc, false
	if cfg.Timezone != "" {
		if loc, err := time.LoadLocation(cfg.Timezone); err == nil {
			q.loc = loc
		}
	}
	c.setMembers(now, q)
	for _, e := range q.waiting {
		if limit := cfg.MaxWait; limit > 0 {
			c.timers.add(e.since.Add(limit-e.waited), e)
		}
	}
	if q.staffed == 0 && cfg.LeaveWhenEmpty {
		if q.emptySince.IsZero() {
			q.emptySince = now
		}
		c.timers.add(q.emptySince.Add(emptyGrace), q)
	}
	c.mark(q)
}

// setMembers makes a line's members as its campaign says.
func (c *Core) setMembers(now time.Time, q *line) {
	old := map[string]*member{}
	for _, m := range q.members {
		old[m.w.name] = m
	}
	q.members = q.members[:0:0]
	for i, cm := range q.cfg.Members {
		m, ok := old[cm.User]
		if ok {
			delete(old, cm.User)
		} else {
			w, known := c.workers[cm.User]
			if !known {
				w = &worker{name: cm.User, status: AgentStatus{Agent: cm.User}}
				c.workers[cm.User] = w
			}
			m = &member{q: q, w: w, at: -1}
			w.members = append(w.members, m)
		}
		m.order, m.penalty, m.paused = i, cm.Penalty, cm.Paused
		q.members = append(q.members, m)
		c.restaff(now, m)
		c.refresh(now, m.w)
	}
	for _, m := range old {
		q.unready(m)
		m.w.members = slices.DeleteFunc(m.w.members, func(x *member) bool { return x == m })
		if m.staffed {
			m.staffed = false
			q.staffed--
			c.emptied(now, q)
		}
	}
}

// retire removes a line whose campaign is gone when its last entry is.
func (c *Core) retire(q *line) {
	if q.gone && len(q.waiting) == 0 && q.talking == 0 {
		delete(c.queues, q.cfg.Name)
	}
}
