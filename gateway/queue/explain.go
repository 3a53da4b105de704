package queue

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Explain says what an entry waits for, for people.
func (c *Core) Explain(now time.Time, callID string) (EntryState, string) {
	e, ok := c.entries[callID]
	if !ok {
		return StateGone, "is in no queue any more"
	}
	switch e.state {
	case StateTalking:
		return e.state, "talks to " + e.worker.name
	case StateRinging:
		names := make([]string, len(e.offers))
		for i, o := range e.offers {
			names[i] = o.m.w.name
		}
		slices.Sort(names)
		return e.state, "rings at " + strings.Join(names, ", ")
	case StateWaiting, StateGone:
	}
	q := e.q
	text := fmt.Sprintf("place %d of %d after %s", c.position(e), len(q.waiting), e.wait(now).Round(time.Second))
	if len(q.members) == 0 {
		return e.state, text + "; the queue has no members"
	}
	counts := map[string]int{}
	for _, m := range q.members {
		counts[m.why(now, e)]++
	}
	parts := make([]string, 0, len(counts))
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[k], k))
	}
	text += fmt.Sprintf("; of %d members %s", len(q.members), strings.Join(parts, ", "))
	if len(e.tried) > 0 && now.Before(e.retryAt) {
		text += "; tries them again in " + e.retryAt.Sub(now).Round(time.Second).String()
	}
	return e.state, text
}

// why says for people why a member does not ring for an entry.
func (m *member) why(now time.Time, e *entry) string {
	w := m.w
	switch {
	case m.paused:
		return "paused in this queue"
	case w.offer != nil:
		return "rung for another caller"
	case len(w.talks) > 0 && !m.q.cfg.RingInUse:
		return "on a call"
	case w.canTake(now, m) && slices.Contains(e.tried, w):
		return "free but did not take this call"
	case w.canTake(now, m):
		return "free"
	case now.Before(w.coolUntil) && w.status.Availability == Free:
		return "free but just not reached"
	case w.status.State == "":
		return "signed out"
	default:
		return w.status.State
	}
}

// views returns the entries of a line in order of their turn, then those who
// talk.
func (c *Core) calls() map[string][]string {
	out := map[string][]string{}
	for name, q := range c.queues {
		ids := make([]string, 0, len(q.waiting)+q.talking)
		for _, e := range q.waiting {
			ids = append(ids, e.CallID)
		}
		out[name] = ids
	}
	var talking []*entry
	for _, e := range c.entries {
		if e.state == StateTalking {
			talking = append(talking, e)
		}
	}
	slices.SortFunc(talking, func(a, b *entry) int { return a.since.Compare(b.since) })
	for _, e := range talking {
		out[e.q.cfg.Name] = append(out[e.q.cfg.Name], e.CallID)
	}
	return out
}

// status returns what the core believes of an agent.
func (c *Core) status(agentName string) (AgentStatus, bool) {
	w, ok := c.workers[agentName]
	if !ok {
		return AgentStatus{}, false
	}
	return w.status, true
}

// holds reports whether a call rings at an agent or is with it.
func (c *Core) holds(callID, agentName string) bool {
	return c.offerOf(callID, agentName) != nil || c.talks(callID, agentName)
}
