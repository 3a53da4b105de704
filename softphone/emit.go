package softphone

import "sync"

// maxWaiting is how many events may wait before those that can be missed (Stats, Digit) are left out.
// Others are never dropped; their number is bounded by what calls can do.
const maxWaiting = 256

// queue hands events to the owner of the phone, in order, on one goroutine.
type queue struct {
	mu     sync.Mutex
	events []Event
	wake   chan struct{}
	closed bool
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) put(e Event) {
	q.mu.Lock()
	if len(q.events) >= maxWaiting {
		switch e.(type) {
		case Stats, Digit:
			q.mu.Unlock()
			return
		default:
		}
	}
	q.events = append(q.events, e)
	q.mu.Unlock()
	q.signal()
}

// close lets run return when all events were told.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) run(tell func(Event)) {
	for {
		q.mu.Lock()
		events, closed := q.events, q.closed
		q.events = nil
		q.mu.Unlock()
		for _, e := range events {
			tell(e)
		}
		if len(events) > 0 {
			continue
		}
		if closed {
			return
		}
		<-q.wake
	}
}
