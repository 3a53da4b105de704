package media

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

// maxBehind bounds the ticks that are made up for after the machine stood still.
const maxBehind = 5

// shard drives the ports given to it: one 20 ms tick for all of them.
type shard struct {
	e    *Engine
	wake chan struct{}

	mu    sync.Mutex
	ports atomic.Pointer[[]*Port] // replaced, never changed
}

func (s *shard) list() []*Port {
	if l := s.ports.Load(); l != nil {
		return *l
	}
	return nil
}

func (s *shard) add(p *Port) {
	s.mu.Lock()
	next := append(slices.Clone(s.list()), p)
	s.ports.Store(&next)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *shard) remove(p *Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := slices.DeleteFunc(slices.Clone(s.list()), func(o *Port) bool { return o == p })
	s.ports.Store(&next)
}

// run ticks while there are ports and sleeps while there are none.
func (s *shard) run() {
	for {
		select {
		case <-s.e.done:
			return
		case <-s.wake:
		}
		if !s.tickWhileBusy() {
			return
		}
	}
}

// tickWhileBusy returns false when the engine is closed.
func (s *shard) tickWhileBusy() bool {
	ticker := time.NewTicker(codec.FrameDuration)
	defer ticker.Stop()
	start := time.Now()
	var ticks int64
	for len(s.list()) > 0 {
		select {
		case <-s.e.done:
			return false
		case <-ticker.C:
		}
		due := int64(time.Since(start) / codec.FrameDuration)
		ticks = max(ticks, due-maxBehind)
		for ; ticks < due; ticks++ {
			at := time.Now()
			for _, p := range s.list() {
				p.tick(at)
			}
		}
	}
	return true
}
