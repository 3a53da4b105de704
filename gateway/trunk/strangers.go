package trunk

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// maxStrangers bounds the sources that are remembered; others share one
	// account of answers.
	maxStrangers = 16384

	// trustFor is how long a source stays known after it proved itself.
	trustFor = 10 * time.Minute
)

// strangers counts what unknown sources were answered, so that a scanner gets
// a few refusals and then silence.
type strangers struct {
	most int
	gap  time.Duration

	mu    sync.Mutex
	known map[netip.Addr]*stranger
	rest  stranger
	swept time.Time
}

type stranger struct {
	left    int
	at      time.Time // of the last change of left
	trusted time.Time // until then every request is answered
}

func newStrangers(most int, gap time.Duration) *strangers {
	return &strangers{most: most, gap: gap, known: make(map[netip.Addr]*stranger), rest: stranger{left: most}}
}

// key is what sources are counted by: an IPv4 address or an IPv6 /64.
func key(a netip.Addr) netip.Addr {
	if p, err := a.Prefix(64); err == nil && a.Is6() {
		return p.Addr()
	}
	return a
}

// answer takes one of a source's answers and reports whether there was one.
func (s *strangers) answer(src netip.Addr) bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.sourceLocked(key(src), now)
	s.refill(x, now)
	if now.Before(x.trusted) {
		return true
	}
	if x.left <= 0 {
		return false
	}
	x.left--
	return true
}

// silenced reports whether answer would say no.
func (s *strangers) silenced(src netip.Addr) bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.known[key(src)]
	if !ok {
		return false
	}
	s.refill(x, now)
	return x.left <= 0 && !now.Before(x.trusted)
}

// trust gives a source that proved itself its answers back.
func (s *strangers) trust(src netip.Addr) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.sourceLocked(key(src), now)
	if x != &s.rest {
		x.left, x.at, x.trusted = s.most, now, now.Add(trustFor)
	}
}

func (s *strangers) sourceLocked(a netip.Addr, now time.Time) *stranger {
	if x := s.known[a]; x != nil {
		return x
	}
	if len(s.known) >= maxStrangers && now.Sub(s.swept) > s.gap/4 {
		s.swept = now
		for k, x := range s.known {
			if s.refill(x, now); x.left >= s.most && !now.Before(x.trusted) {
				delete(s.known, k)
			}
		}
	}
	if len(s.known) >= maxStrangers {
		return &s.rest
	}
	x := &stranger{left: s.most, at: now}
	s.known[a] = x
	return x
}

// refill gives one answer back for each gap that passed.
func (s *strangers) refill(x *stranger, now time.Time) {
	if n := int(now.Sub(x.at) / s.gap); n > 0 {
		x.left = min(s.most, x.left+n)
		x.at = x.at.Add(time.Duration(n) * s.gap)
	}
}
