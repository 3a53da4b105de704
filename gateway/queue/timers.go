package queue

import (
	"container/heap"
	"time"
)

// timers are moments at which something should be looked at. What they point to
// may have changed by then: whoever looks checks.
type timers struct{ h timerHeap }

type timer struct {
	at   time.Time
	what any // *offer, *entry, *worker, *line
}

func (t *timers) add(at time.Time, what any) { heap.Push(&t.h, timer{at: at, what: what}) }

func (t *timers) due(now time.Time) (any, bool) {
	if len(t.h) == 0 || t.h[0].at.After(now) {
		return nil, false
	}
	what := t.h[0].what
	heap.Pop(&t.h)
	return what, true
}

func (t *timers) next() (time.Time, bool) {
	if len(t.h) == 0 {
		return time.Time{}, false
	}
	return t.h[0].at, true
}

type timerHeap []timer

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *timerHeap) Push(x any) {
	if t, ok := x.(timer); ok {
		*h = append(*h, t)
	}
}

// Pop implements heap.Interface.
func (h *timerHeap) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = timer{}
	*h = (*h)[:last]
	return t
}
