package agent

import (
	"container/heap"
	"iter"
	"time"
)

// deadlines are moments at which an agent should be looked at, the nearest
// first. An entry whose reason is gone by then does no harm.
type deadlines []deadline

type deadline struct {
	at    time.Time
	agent string
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d deadlines) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }

// Push implements heap.Interface.
func (d *deadlines) Push(x any) {
	if e, ok := x.(deadline); ok {
		*d = append(*d, e)
	}
}

// Pop implements heap.Interface.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	e := (*d)[last]
	(*d)[last] = deadline{}
	*d = (*d)[:last]
	return e
}

func (d *deadlines) add(at time.Time, agent string) { heap.Push(d, deadline{at: at, agent: agent}) }

// due removes the entries up to now, and yields each agent.
func (d *deadlines) due(now time.Time) iter.Seq[string] {
	return func(yield func(string) bool) {
		for len(*d) > 0 && !(*d)[0].at.After(now) {
			agent := (*d)[0].agent
			heap.Pop(d)
			if !yield(agent) {
				return
			}
		}
	}
}

func (d *deadlines) next() (time.Time, bool) {
	if len(*d) == 0 {
		return time.Time{}, false
	}
	return (*d)[0].at, true
}
