package auth

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// ThrottledError says that sign-ins for this user or from this address must
// wait. It is the same whether the user exists or not.
type ThrottledError struct {
	After time.Duration
}

// Error implements error.
func (e *ThrottledError) Error() string {
	return fmt.Sprintf("too many attempts: try again in %d s", int(e.After.Round(time.Second)/time.Second))
}

// limit says how many wrong attempts are free and how the wait grows after.
type limit struct {
	burst float64
	max   time.Duration
}

const (
	// forgive is how long one wrong attempt is remembered.
	forgive = time.Minute
	// maxStrikes bounds the memory of the throttle.
	maxStrikes = 50_000
	// maxKnown is how many addresses are remembered of a user.
	maxKnown = 8
)

// throttle slows guessing down by user and address together, by address, and
// by user. An address from which a user has signed in before is judged by the
// first alone, so that guessing from elsewhere cannot keep agents out
// (contract, rules of safety 3).
type throttle struct {
	mu      sync.Mutex
	strikes map[string]*strike
	known   map[string][]netip.Prefix
}

type strike struct {
	count float64
	at    time.Time // when count was right
	until time.Time // no attempt before
}

func newThrottle() *throttle {
	return &throttle{strikes: map[string]*strike{}, known: map[string][]netip.Prefix{}}
}

// attempt is one sign-in that was let through and charged.
type attempt struct {
	user string
	from netip.Prefix
	keys map[string]limit
}

// network is what counts as one address: an IPv6 customer has a /64.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// begin charges an attempt before its password is checked, so that parallel
// guesses count too.
func (t *throttle) begin(now time.Time, user string, from netip.Addr) (attempt, error) {
	a := attempt{user: user, from: network(from)}
	t.mu.Lock()
	defer t.mu.Unlock()
	a.keys = map[string]limit{"p" + user + " " + a.from.String(): {burst: 5, max: 5 * time.Minute}}
	if !t.isKnownLocked(user, a.from) {
		a.keys["a"+a.from.String()] = limit{burst: 20, max: time.Minute}
		a.keys["u"+user] = limit{burst: 30, max: 30 * time.Second}
	}
	var wait time.Duration
	for k := range a.keys {
		if s := t.strikes[k]; s != nil {
			wait = max(wait, s.until.Sub(now))
		}
	}
	if wait > 0 {
		return attempt{}, &ThrottledError{After: wait}
	}
	for k, l := range a.keys {
		t.chargeLocked(now, k, l)
	}
	return a, nil
}

func (t *throttle) chargeLocked(now time.Time, key string, l limit) {
	s := t.strikes[key]
	if s == nil {
		if len(t.strikes) >= maxStrikes {
			t.sweepLocked(now)
		}
		s = &strike{at: now}
		t.strikes[key] = s
	}
	s.decay(now)
	s.count++
	if over := s.count - l.burst; over > 0 {
		s.until = now.Add(min(l.max, time.Second<<uint(min(over, 20))))
	}
}

func (s *strike) decay(now time.Time) {
	s.count = max(0, s.count-now.Sub(s.at).Seconds()/forgive.Seconds())
	s.at = now
}

// succeeded takes the charges of a right password back and remembers where it
// came from.
func (t *throttle) succeeded(a attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range a.keys {
		switch s := t.strikes[k]; {
		case s == nil:
		case k[0] == 'p':
			delete(t.strikes, k)
		default:
			s.count, s.until = max(0, s.count-1), time.Time{}
		}
	}
	t.rememberLocked(a.user, a.from)
}

// remember notes an address from which a user has signed in.
func (t *throttle) remember(user string, from netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rememberLocked(user, network(from))
}

func (t *throttle) rememberLocked(user string, from netip.Prefix) {
	if !from.IsValid() || t.isKnownLocked(user, from) {
		return
	}
	k := append(t.known[user], from)
	t.known[user] = k[max(0, len(k)-maxKnown):]
}

func (t *throttle) isKnownLocked(user string, from netip.Prefix) bool {
	return slices.Contains(t.known[user], from)
}

// sweepLocked forgets what is forgiven, and if that is not enough, whatever the
// map yields first.
func (t *throttle) sweepLocked(now time.Time) {
	for k, s := range t.strikes {
		if s.decay(now); s.count == 0 && now.After(s.until) {
			delete(t.strikes, k)
		}
	}
	for k := range t.strikes {
		if len(t.strikes) < maxStrikes*9/10 {
			return
		}
		delete(t.strikes, k)
	}
}
