package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
)

const (
	// maxSessions bounds the sessions of one user; the oldest ends first.
	maxSessions = 20
	// flushEvery is how often times of last use are written and dead sessions
	// are ended.
	flushEvery = 30 * time.Second
)

// Options of New. Store, Journal, Log and Dir are needed.
type Options struct {
	Store   Store
	Journal event.Journal
	Log     *slog.Logger
	// Dir is the data folder: key, admin token and set-up link live there.
	Dir string
	// Realm is that of SIP digest, TURNRealm that of TURN credentials.
	Realm     string
	TURNRealm string
	// SessionIdle and SessionMax end sessions (default 12 h and 30 days).
	SessionIdle time.Duration
	SessionMax  time.Duration
	// LockAfter wrong passwords in a row block an account; 0 = never (SEC-05).
	LockAfter int
	Rules     PasswordRules
	// SessionEnded is told of each session that ended and why, after it is
	// gone; it must not block.
	SessionEnded func(s Session, reason string)
}

// Service answers who somebody is. It is safe for concurrent use.
type Service struct {
	o        Options
	sealer   *Sealer
	hasher   *hasher
	throttle *throttle
	// turn is held by the one who reads and then writes users.
	turn   chan struct{}
	probes probes

	mu       sync.RWMutex
	users    map[string]User
	devices  map[string]deviceRef // by digest user
	sessions map[string]*session  // by ID
	byHash   map[[sha256.Size]byte]*session
	bySIP    map[string]*session
	byTURN   map[string]*session
	tokens   map[[sha256.Size]byte]APIToken
	wrong    map[string]int // wrong passwords in a row, of existing users
	admin    *[sha256.Size]byte
	setUp    *[sha256.Size]byte
}

type deviceRef struct {
	username string
	device   Device
}

type session struct {
	Session

	seen    atomic.Int64 // Unix seconds of the last use
	written int64        // of those, what the store has
}

// New reads the store and opens the installation's key.
func New(ctx context.Context, o Options) (*Service, error) {
	if o.Store == nil || o.Journal == nil || o.Log == nil || o.Dir == "" {
		return nil, errors.New("auth: options need Store, Journal, Log and Dir")
	}
	if o.SessionIdle <= 0 {
		o.SessionIdle = 12 * time.Hour
	}
	if o.SessionMax <= 0 {
		o.SessionMax = 30 * 24 * time.Hour
	}
	if o.SessionEnded == nil {
		o.SessionEnded = func(Session, string) {}
	}
	sealer, err := OpenSealer(o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Service{
		o: o, sealer: sealer, hasher: newHasher(), throttle: newThrottle(), turn: make(chan struct{}, 1),
		sessions: map[string]*session{}, byHash: map[[sha256.Size]byte]*session{}, bySIP: map[string]*session{},
		byTURN: map[string]*session{}, tokens: map[[sha256.Size]byte]APIToken{}, wrong: map[string]int{},
	}
	sessions, err := o.Store.Sessions(ctx)
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	tokens, err := o.Store.APITokens(ctx)
	if err != nil {
		return nil, fmt.Errorf("read api tokens: %w", err)
	}
	for _, x := range sessions {
		s.addLocked(&session{Session: x})
		if ap, err := netip.ParseAddr(x.RemoteAddr); err == nil {
			s.throttle.remember(x.Username, ap)
		}
	}
	for _, t := range tokens {
		if len(t.TokenHash) == sha256.Size {
			s.tokens[[sha256.Size]byte(t.TokenHash)] = t
		}
	}
	if err := s.Reload(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Sealer returns the installation's sealer, for trunk passwords and the like.
func (s *Service) Sealer() *Sealer { return s.sealer }

// Run ends sessions whose time is over and writes when the others were used
// last. It returns when ctx ends, after a last write.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.flush(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			s.flush(last)
			cancel()
			return
		}
	}
}

func (s *Service) flush(ctx context.Context) {
	now := time.Now()
	var dirty []Session
	var dead []string
	s.mu.Lock()
	for id, x := range s.sessions {
		seen := x.seen.Load()
		switch {
		case s.expired(x, now):
			dead = append(dead, id)
		case seen != x.written:
			c := x.Session
			c.LastSeenAt = time.Unix(seen, 0).UTC()
			x.written = seen
			dirty = append(dirty, c)
		}
	}
	s.mu.Unlock()
	for _, id := range dead {
		if err := s.end(ctx, id, "expired"); err != nil {
			s.o.Log.WarnContext(ctx, "expired session not deleted", "session", id, "err", err)
		}
	}
	for _, x := range dirty {
		err := s.o.Store.TouchSession(ctx, x.ID, x.LastSeenAt, x.ExpiresAt)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.o.Log.WarnContext(ctx, "last use of session not written", "session", x.ID, "err", err)
		}
	}
}

func (s *Service) expired(x *session, now time.Time) bool {
	return !now.Before(x.ExpiresAt) || now.Sub(time.Unix(x.seen.Load(), 0)) >= s.o.SessionIdle
}

// Exclusive waits for the turn to change users and returns how to give it back.
// Who reads users in order to write them holds it meanwhile.
func (s *Service) Exclusive(ctx context.Context) (release func(), err error) {
	select {
	case s.turn <- struct{}{}:
		return sync.OnceFunc(func() { <-s.turn }), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Reload reads all users again after somebody else wrote them, and ends the
// sessions of users who are gone, no longer active, or named in changed (whose
// password is another).
func (s *Service) Reload(ctx context.Context, changed ...string) error {
	list, err := s.o.Store.Users(ctx)
	if err != nil {
		return fmt.Errorf("read users: %w", err)
	}
	users := make(map[string]User, len(list))
	devices := map[string]deviceRef{}
	for _, u := range list {
		users[u.Username] = u
		for _, d := range u.Devices {
			devices[DigestUser(u.Extension, d.Name)] = deviceRef{u.Username, d}
		}
	}
	ended := map[string]string{}
	s.mu.Lock()
	s.users, s.devices = users, devices
	for id, x := range s.sessions {
		switch u, ok := users[x.Username]; {
		case !ok:
			ended[id] = "user deleted"
		case u.State != UserActive:
			ended[id] = "user " + string(u.State)
		case slices.Contains(changed, x.Username):
			ended[id] = "password changed"
		}
	}
	for name := range s.wrong {
		if _, ok := users[name]; !ok {
			delete(s.wrong, name)
		}
	}
	s.mu.Unlock()
	var errs []error
	for id, reason := range ended {
		errs = append(errs, s.end(ctx, id, reason))
	}
	return errors.Join(errs...)
}

// User returns one user.
func (s *Service) User(username string) (User, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	u, ok := s.users[username]
	return u, ok
}

// Users returns all users by name.
func (s *Service) Users() []User {
	s.mu.RLock()
	out := slices.Collect(maps.Values(s.users))
	s.mu.RUnlock()
	slices.SortFunc(out, func(a, b User) int { return strings.Compare(a.Username, b.Username) })
	return out
}

// putUser writes a user; the caller holds the turn.
func (s *Service) putUser(ctx context.Context, u User) error {
	if err := s.o.Store.PutUser(ctx, u); err != nil {
		return fmt.Errorf("write user %s: %w", u.Username, err)
	}
	u.Rev++
	s.mu.Lock()
	s.users[u.Username] = u
	s.mu.Unlock()
	return nil
}

func (s *Service) addLocked(x *session) {
	if x.LastSeenAt.IsZero() {
		x.LastSeenAt = x.CreatedAt
	}
	x.seen.Store(x.LastSeenAt.Unix())
	x.written = x.LastSeenAt.Unix()
	s.sessions[x.ID] = x
	if len(x.TokenHash) == sha256.Size {
		s.byHash[[sha256.Size]byte(x.TokenHash)] = x
	}
	if x.SIPUser != "" {
		s.bySIP[x.SIPUser] = x
	}
	if x.TURNUser != "" {
		s.byTURN[x.TURNUser] = x
	}
}

// audit writes one row of AUDITORY (SEC-21).
func (s *Service) audit(ctx context.Context, user, host, action, object string) {
	if err := s.o.Journal.Append(ctx, time.Now(), event.Audit{User: user, Host: host, Action: action, Object: object}); err != nil {
		s.o.Log.ErrorContext(ctx, "audit fact not taken", "action", action, "err", err)
	}
}
