package media

import (
	"slices"
	"sync"
)

// maxEvents bounds the events that wait for a slow listener; digits beyond are dropped.
const maxEvents = 256

// mailbox calls functions one after another, in order, on a goroutine that
// lives only while there is something to call.
type mailbox struct {
	wg *sync.WaitGroup // of the engine

	mu      sync.Mutex
	queue   []func()
	running bool
	closed  bool
}

// post queues fn and never waits. It reports whether fn will run.
func (m *mailbox) post(fn func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || len(m.queue) >= maxEvents {
		return false
	}
	m.enqueueLocked(fn)
	return true
}

// must queues fn however much waits: facts, of which there are few.
func (m *mailbox) must(fn func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.enqueueLocked(fn)
	}
}

func (m *mailbox) enqueueLocked(fn func()) {
	m.queue = append(m.queue, fn)
	if !m.running {
		m.running = true
		m.wg.Go(m.run)
	}
}

func (m *mailbox) run() {
	for {
		m.mu.Lock()
		if len(m.queue) == 0 {
			m.running, m.queue = false, nil
			m.mu.Unlock()
			return
		}
		fn := m.queue[0]
		m.queue = slices.Delete(m.queue, 0, 1)
		m.mu.Unlock()
		fn()
	}
}

// close drops what waits and runs last, after which nothing runs any more.
func (m *mailbox) close(last ...func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.closed, m.queue = true, nil
	for _, fn := range last {
		m.enqueueLocked(fn)
	}
}
