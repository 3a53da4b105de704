package queue

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cordboard/cordboard/gateway/campaign"
)

// strategy is how a queue chooses among the members who could take an entry,
// with the meaning that Asterisk's app_queue gives it. Members of a lower
// penalty go first, except where the strategy uses the penalty itself.
type strategy struct {
	all bool // everyone of the lowest penalty, not one
	// weighed says that the strategy uses the penalty as its own weight.
	weighed bool
	// key is a member's place; the lowest is offered first, equals in the
	// order of the campaign's members.
	key func(m *member, r *rand.Rand) int64
	// why says for people what won.
	why func(m *member, now time.Time) string
}

// strategyOf returns a strategy's entry of the table (ACD-01 to ACD-07).
func strategyOf(s campaign.Strategy) strategy {
	byOrder := func(m *member, _ *rand.Rand) int64 { return int64(m.order) }
	switch s {
	case campaign.RingAll:
		return strategy{
			all: true, key: byOrder,
			why: func(*member, time.Time) string { return "rings everyone who is free" },
		}
	case campaign.FewestCalls:
		return strategy{
			key: func(m *member, _ *rand.Rand) int64 { return int64(m.calls) },
			why: func(m *member, _ time.Time) string { return fmt.Sprintf("fewest calls of this queue: %d", m.calls) },
		}
	case campaign.Random:
		return strategy{
			key: func(_ *member, r *rand.Rand) int64 { return r.Int64() },
			why: func(*member, time.Time) string { return "by chance" },
		}
	case campaign.RRMemory:
		return strategy{
			key: func(m *member, _ *rand.Rand) int64 {
				n := len(m.q.members)
				return int64(((m.order-m.q.next)%n + n) % n)
			},
			why: func(m *member, _ time.Time) string { return fmt.Sprintf("next in the round: member %d", m.order+1) },
		}
	case campaign.Linear:
		return strategy{
			key: byOrder,
			why: func(m *member, _ time.Time) string { return fmt.Sprintf("first in order: member %d", m.order+1) },
		}
	case campaign.WRandom:
		return strategy{
			weighed: true,
			key:     func(m *member, r *rand.Rand) int64 { return r.Int64N(int64(m.penalty+1) * 1000) },
			why: func(m *member, _ time.Time) string {
				return fmt.Sprintf("by chance weighed with penalty %d", m.penalty)
			},
		}
	case campaign.LeastRecent:
	}
	return strategy{
		key: func(m *member, _ *rand.Rand) int64 {
			if m.lastCall.IsZero() {
				return -1 << 62
			}
			return m.lastCall.UnixNano()
		},
		why: func(m *member, now time.Time) string {
			if m.lastCall.IsZero() {
				return "no call of this queue yet"
			}
			return "last call of this queue longest ago: " + now.Sub(m.lastCall).Round(time.Second).String()
		},
	}
}

// choose returns the members to ring for an entry, and why.
func (c *Core) choose(now time.Time, q *line, e *entry) ([]*member, string) {
	s := strategyOf(q.cfg.Strategy)
	var best *member
	var bestGroup int
	var bestKey int64
	n := 0
	for _, m := range q.ready {
		if slices.Contains(e.tried, m.w) {
			continue
		}
		n++
		group, key := m.group(s), s.key(m, c.rnd)
		if best == nil || group < bestGroup || group == bestGroup && (key < bestKey || key == bestKey && m.order < best.order) {
			best, bestGroup, bestKey = m, group, key
		}
	}
	if best == nil {
		return nil, ""
	}
	why := fmt.Sprintf("%s: %s; %d could take it", q.cfg.Strategy, s.why(best, now), n)
	if bestGroup > 0 && !s.weighed {
		why += fmt.Sprintf("; penalty %d", best.penalty)
	}
	if !s.all {
		return []*member{best}, why
	}
	var group []*member
	for _, m := range q.ready {
		if m.group(s) == bestGroup && !slices.Contains(e.tried, m.w) {
			group = append(group, m)
		}
	}
	slices.SortFunc(group, func(a, b *member) int { return a.order - b.order })
	return group, why
}

// group is a member's penalty; who is on a call already comes after all others.
func (m *member) group(s strategy) int {
	g := 0
	if !s.weighed {
		g = m.penalty
	}
	if m.w.status.Availability == Engaged {
		g += 1 << 20
	}
	return g
}
