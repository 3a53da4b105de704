package registrar

import "sync"

// outboxSize bounds the changes that wait for a slow consumer.
const outboxSize = 1 << 16

// outbox hands changes to their consumer without making anyone wait. If the
// consumer falls too far behind, what waits is replaced by one Resync.
type outbox struct {
	to   func(Change)
	wake chan struct{}

	mu   sync.Mutex
	list []Change
}

func newOutbox(to func(Change)) *outbox {
	return &outbox{to: to, wake: make(chan struct{}, 1)}
}

func (o *outbox) post(c Change) {
	o.mu.Lock()
	if len(o.list) >= outboxSize {
		o.list = append(o.list[:0], Change{Kind: Resync})
	}
	o.list = append(o.list, c)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outbox) run(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-o.wake:
		}
		o.mu.Lock()
		list := o.list
		o.list = nil
		o.mu.Unlock()
		for _, c := range list {
			o.to(c)
		}
	}
}
