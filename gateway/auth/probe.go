package auth

import (
	"context"
	"crypto/md5" //nolint:gosec // the key of RFC 8489 section 9.2.2 is MD5
	"crypto/rand"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// probeFor is how long the phone of a test lives.
	probeFor = 5 * time.Minute
	// maxProbes bounds how many there are at once.
	maxProbes = 10
)

// Probe is a phone without a user for the few minutes of a test: it may call
// the echo and the test numbers of trunks. It is never stored.
type Probe struct {
	ID           string
	ExpiresAt    time.Time
	SIPUser      string
	SIPPassword  string
	TURNUser     string
	TURNPassword string
}

// probe is what is kept of one.
type probe struct {
	id, sipUser, turnUser, ha1 string
	turnKey                    []byte
	expires                    time.Time
}

// probes are the live ones.
type probes struct {
	mu   sync.Mutex
	live []probe
}

// find returns a live probe; the dead are dropped on the way.
func (ps *probes) find(is func(probe) bool) (probe, bool) {
	now := time.Now()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	kept := ps.live[:0]
	for _, p := range ps.live {
		if now.Before(p.expires) {
			kept = append(kept, p)
		}
	}
	clear(ps.live[len(kept):])
	ps.live = kept
	for _, p := range ps.live {
		if is(p) {
			return p, true
		}
	}
	return probe{}, false
}

// NewProbe makes the phone of a test. Errors: ErrBusy when there are too many.
func (s *Service) NewProbe(ctx context.Context, by Principal, remote netip.Addr) (Probe, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Probe{}, fmt.Errorf("id of a test phone: %w", err)
	}
	out := Probe{
		ID: id.String(), ExpiresAt: time.Now().Add(probeFor).UTC().Truncate(time.Second),
		SIPUser: "doctor." + strings.ToLower(rand.Text()[:12]), SIPPassword: rand.Text(),
		TURNUser: strings.ToLower(rand.Text()[:16]), TURNPassword: rand.Text(),
	}
	key := md5.Sum([]byte(out.TURNUser + ":" + s.o.TURNRealm + ":" + out.TURNPassword)) //nolint:gosec // RFC 8489 section 9.2.2
	p := probe{
		id: out.ID, sipUser: out.SIPUser, turnUser: out.TURNUser, expires: out.ExpiresAt,
		ha1: HA1(out.SIPUser, s.o.Realm, out.SIPPassword), turnKey: key[:],
	}
	s.probes.find(func(probe) bool { return false })
	s.probes.mu.Lock()
	full := len(s.probes.live) >= maxProbes
	if !full {
		s.probes.live = append(s.probes.live, p)
	}
	s.probes.mu.Unlock()
	if full {
		return Probe{}, ErrBusy
	}
	s.audit(ctx, by.Name(), host(remote), "test phone made", out.ID)
	return out, nil
}

// EndProbe ends the phone of a test before its time.
func (s *Service) EndProbe(id string) error {
	p, ok := s.probes.find(func(p probe) bool { return p.id == id })
	if !ok {
		return ErrNotFound
	}
	s.probes.mu.Lock()
	for i := range s.probes.live {
		if s.probes.live[i].id == id {
			s.probes.live[i].expires = time.Time{}
		}
	}
	s.probes.mu.Unlock()
	s.o.SessionEnded(Session{ID: id, SIPUser: p.sipUser, TURNUser: p.turnUser}, "ended")
	return nil
}

func (s *Service) probeBySIP(user string) (probe, bool) {
	if !strings.HasPrefix(user, "doctor.") {
		return probe{}, false
	}
	return s.probes.find(func(p probe) bool { return p.sipUser == user })
}

func (s *Service) probeByTURN(user string) (probe, bool) {
	return s.probes.find(func(p probe) bool { return p.turnUser == user })
}
