package sip

import "sync"

// maxStrand bounds what the network may queue on one strand.
const maxStrand = 256

// strand runs functions one at a time, in order. It has a goroutine only while
// there is something to run.
type strand struct {
	spawn func(func()) bool

	mu      sync.Mutex
	queue   []func()
	running bool
	paused  bool
}

// post queues fn. It reports false if fn will never run, as all is closed.
func (s *strand) post(fn func()) bool { return s.push(fn, false) }

// offer queues fn unless the queue is full.
func (s *strand) offer(fn func()) bool { return s.push(fn, true) }

func (s *strand) push(fn func(), bounded bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bounded && len(s.queue) >= maxStrand {
		return false
	}
	s.queue = append(s.queue, fn)
	s.startLocked()
	return s.running || s.paused
}

// resume starts a paused strand.
func (s *strand) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = false
	s.startLocked()
}

func (s *strand) startLocked() {
	if s.running || s.paused || len(s.queue) == 0 {
		return
	}
	s.running = s.spawn(s.run)
}

func (s *strand) run() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 || s.paused {
			s.running = false
			s.mu.Unlock()
			return
		}
		fn := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		if len(s.queue) == 0 {
			s.queue = nil
		}
		s.mu.Unlock()
		fn()
	}
}
