package server

import (
	"sync"
	"time"
)

// The bounds of admission where Admission names none.
const (
	// defaultSetUps is how many calls of trunks may be on their way into a queue
	// at once: each takes about two milliseconds of a core, so that one who is
	// admitted last is answered within some tens of milliseconds.
	defaultSetUps = 64
	// defaultLateness is how long setting a call up may take on average. A gateway
	// that is idle takes two milliseconds; one that is late has no core to spare.
	defaultLateness = 30 * time.Millisecond
	// alwaysSetUps calls are set up at once however late the gateway is: they show
	// when it has caught up.
	alwaysSetUps = 4
	// latenessWeight is the share of one call in the average, 1/8.
	latenessWeight = 8
)

// admission decides whether a new call from outside is taken. Above the
// gateway's capacity calls would wait for seconds and fail in the end; refused
// at once, the carrier may send them elsewhere, and those who are in are served.
type admission struct {
	setUps   int           // at once; 0 = a default
	lateness time.Duration // on average; 0 = a default

	mu      sync.Mutex
	now     int
	average time.Duration
	refused uint64
}

// enter admits a call; done must be called when it was set up or refused.
func (a *admission) enter(now time.Time) (done func(at time.Time), ok bool) {
	limit, late := a.setUps, a.lateness
	if limit <= 0 {
		limit = defaultSetUps
	}
	if late <= 0 {
		late = defaultLateness
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now >= limit || a.now >= alwaysSetUps && a.average > late {
		a.refused++
		return nil, false
	}
	a.now++
	return func(at time.Time) { a.leave(at.Sub(now)) }, true
}

func (a *admission) leave(took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now--
	a.average += (took - a.average) / latenessWeight
}

// stats are the calls that were refused, those that are being set up, and how
// long that takes on average.
func (a *admission) stats() (refused uint64, now int, average time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refused, a.now, a.average
}
