package ua

import (
	"math/rand/v2"
	"time"
)

// Backoff says when a lost connection is tried again: the first time almost at once, then after times that
// double. Each time is shortened by chance by up to half, so that the phones of a gateway that came back do
// not all come at the same moment.
type Backoff struct {
	First time.Duration // default 500 ms
	Max   time.Duration // default 30 s
}

// After is the wait before attempt n, counted from 0; chance is 0 to 1.
func (b Backoff) After(n int, chance float64) time.Duration {
	first, limit := b.First, b.Max
	if first <= 0 {
		first = 500 * time.Millisecond
	}
	if limit <= 0 {
		limit = 30 * time.Second
	}
	if n == 0 {
		return time.Duration(float64(first) * chance)
	}
	d := limit
	if n < 20 {
		d = min(limit, first<<n)
	}
	return d - time.Duration(float64(d)/2*chance)
}

func (b Backoff) next(n int) time.Duration {
	return b.After(n, rand.Float64()) //nolint:gosec // G404: spreads load, no secret
}
