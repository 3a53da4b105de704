package turn

import (
	"net/netip"
	"sync"
	"time"
)

// limiter is a token bucket per source address with bounded memory: sources
// beyond its capacity share one bucket.
type limiter struct {
	rate  float64 // tokens per second
	burst float64
	max   int

	mu     sync.Mutex
	bucket map[netip.Addr]*bucket
	rest   bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newLimiter(rate float64, burst, sources int) *limiter {
	return &limiter{
		rate: rate, burst: float64(burst), max: sources,
		bucket: make(map[netip.Addr]*bucket),
		rest:   bucket{tokens: float64(burst)},
	}
}

// source is what a rate is counted by: an IPv4 address or an IPv6 /64.
func source(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

// allow takes a token of the source and reports whether there was one.
func (l *limiter) allow(a netip.Addr, now time.Time) bool {
	key := source(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucket[key]
	if b == nil {
		if len(l.bucket) >= l.max {
			b = &l.rest
		} else {
			b = &bucket{tokens: l.burst, at: now}
			l.bucket[key] = b
		}
	}
	b.refill(now, l.rate, l.burst)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (b *bucket) refill(now time.Time, rate, burst float64) {
	if d := now.Sub(b.at); d > 0 {
		b.tokens = min(burst, b.tokens+d.Seconds()*rate)
		b.at = now
	}
}

// sweep forgets the sources whose bucket is full again.
func (l *limiter) sweep(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for a, b := range l.bucket {
		if b.refill(now, l.rate, l.burst); b.tokens >= l.burst {
			delete(l.bucket, a)
		}
	}
}
