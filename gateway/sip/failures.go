package sip

import (
	"net/netip"
	"time"
)

// failureKey is a user at an address; an empty user stands for all of an
// address, a zero address for all of a user.
type failureKey struct {
	user string
	addr netip.Addr
}

const (
	maxBackOff  = 5 * time.Minute
	failureLife = time.Hour
	goodLife    = 24 * time.Hour
	addrFactor  = 20 // failures free for an address, all users together
	userFactor  = 20 // failures free for a user, all addresses together
)

// failure counts wrong passwords.
type failure struct {
	count int
	until time.Time
	last  time.Time
}

// failureTable slows guessing down. The pair of user and address waits after
// few failures. Address and user alone wait after many, but then only pairs
// that have not succeeded of late: guessing locks out neither the office that
// shares an address nor a user who works elsewhere.
type failureTable struct {
	free, limit int
	m           map[failureKey]failure
	good        map[failureKey]time.Time
}

func newFailureTable(free, limit int) failureTable {
	return failureTable{free: free, limit: limit, m: make(map[failureKey]failure), good: make(map[failureKey]time.Time)}
}

func (t *failureTable) blocked(k failureKey, now time.Time) bool {
	if now.Before(t.m[k].until) {
		return true
	}
	if at, ok := t.good[k]; ok && now.Sub(at) < goodLife {
		return false
	}
	return now.Before(t.m[failureKey{addr: k.addr}].until) || now.Before(t.m[failureKey{user: k.user}].until)
}

func (t *failureTable) failed(k failureKey, now time.Time) {
	t.add(k, t.free, now)
	t.add(failureKey{addr: k.addr}, t.free*addrFactor, now)
	t.add(failureKey{user: k.user}, t.free*userFactor, now)
}

func (t *failureTable) add(k failureKey, free int, now time.Time) {
	f, known := t.m[k]
	if !known && len(t.m) >= t.limit {
		t.sweep(now)
		if len(t.m) >= t.limit && k.user != "" {
			return // an attack with endless names still counts by its address
		}
	}
	if now.Sub(f.last) > failureLife {
		f = failure{}
	}
	f.count++
	f.last = now
	if over := f.count - free; over >= 0 {
		f.until = now.Add(min(time.Second<<min(over, 20), maxBackOff))
	}
	t.m[k] = f
}

func (t *failureTable) succeeded(k failureKey, now time.Time) {
	delete(t.m, k)
	if _, ok := t.good[k]; ok || len(t.good) < t.limit {
		t.good[k] = now
	}
}

func (t *failureTable) sweep(now time.Time) {
	for k, f := range t.m {
		if now.Sub(f.last) > failureLife && now.After(f.until) {
			delete(t.m, k)
		}
	}
	for k, at := range t.good {
		if now.Sub(at) > goodLife {
			delete(t.good, k)
		}
	}
}
