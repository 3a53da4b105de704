package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Authenticate tells whose a bearer token is. The admin token is taken only
// from this machine: local says that the request came over loopback and was not
// forwarded by a proxy.
func (s *Service) Authenticate(token string, local bool) (Principal, error) {
	if len(token) > 256 {
		return Principal{}, ErrToken
	}
	hash := sha256.Sum256([]byte(token))
	now := time.Now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if x, ok := s.byHash[hash]; ok {
		u, ok := s.users[x.Username]
		if !ok || u.State != UserActive || s.expired(x, now) {
			return Principal{}, ErrToken
		}
		x.seen.Store(now.Unix())
		return Principal{
			Username: u.Username, Extension: u.Extension, Roles: slices.Clone(u.Roles), Scopes: ScopesOf(u),
			SessionID: x.ID, MustChangePassword: u.MustChangePassword,
		}, nil
	}
	if t, ok := s.tokens[hash]; ok && (t.ExpiresAt.IsZero() || now.Before(t.ExpiresAt)) {
		p := Principal{TokenID: t.ID}
		for _, sc := range t.Scopes {
			p.Scopes = append(p.Scopes, Scope(sc))
		}
		return p, nil
	}
	if s.admin != nil && *s.admin == hash && local {
		return Principal{TokenID: AdminTokenID, Scopes: []Scope{ScopeAdmin}, Roles: []Role{RoleAdmin}}, nil
	}
	return Principal{}, ErrToken
}

// Touch keeps a session alive that is in use without requests, such as an open
// event connection, and reports whether it still exists.
func (s *Service) Touch(id string) bool {
	now := time.Now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	x, ok := s.sessions[id]
	if !ok || s.expired(x, now) {
		return false
	}
	x.seen.Store(now.Unix())
	return true
}

// Session returns one live session without its secrets.
func (s *Service) Session(id string) (Session, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	x, ok := s.sessions[id]
	if !ok {
		return Session{}, false
	}
	return x.public(), true
}

// Sessions returns the live sessions, of one user or (empty) of all, oldest
// first and without secrets.
func (s *Service) Sessions(username string) []Session {
	s.mu.RLock()
	var out []Session
	for _, x := range s.sessions {
		if username == "" || x.Username == username {
			out = append(out, x.public())
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(out, func(a, b Session) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return out
}

func (x *session) public() Session {
	c := x.Session
	c.TokenHash, c.SealedHA1, c.SealedTURNKey = nil, nil, nil
	c.LastSeenAt = time.Unix(x.seen.Load(), 0).UTC()
	return c
}

// End ends a session: its token, SIP and TURN credentials are worth nothing
// from now on. by and remote go to the audit.
func (s *Service) End(ctx context.Context, id, by string, remote netip.Addr) error {
	if err := s.end(ctx, id, "ended"); err != nil {
		return err
	}
	s.audit(ctx, by, host(remote), "session ended", id)
	return nil
}

func (s *Service) end(ctx context.Context, id, reason string) error {
	s.mu.Lock()
	x, ok := s.sessions[id]
	if ok {
		s.removeLocked(x)
	}
	s.mu.Unlock()
	if !ok {
		return ErrNotFound
	}
	s.o.SessionEnded(x.public(), reason)
	if err := s.o.Store.DeleteSession(ctx, id); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete session: %w", err)
	}
	return nil
}

func (s *Service) removeLocked(x *session) {
	delete(s.sessions, x.ID)
	if len(x.TokenHash) == sha256.Size {
		delete(s.byHash, [sha256.Size]byte(x.TokenHash))
	}
	delete(s.bySIP, x.SIPUser)
	delete(s.byTURN, x.TURNUser)
}

// SIPIdentity says whose a digest user is.
type SIPIdentity struct {
	Username string
	AoR      string // the extension
	// Device is the device's name, SessionID the session: one of the two.
	Device    string
	SessionID string
	// Probe marks the phone of a test, which has no user and may call nobody
	// else.
	Probe bool
}

// SIP returns the identity behind a digest user of a live session or a device.
func (s *Service) SIP(sipUser string) (SIPIdentity, bool) {
	if p, ok := s.probeBySIP(sipUser); ok {
		return SIPIdentity{AoR: p.sipUser, Probe: true}, true
	}
	now := time.Now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if x, ok := s.bySIP[sipUser]; ok && !s.expired(x, now) {
		u, ok := s.users[x.Username]
		return SIPIdentity{Username: u.Username, AoR: u.Extension, SessionID: x.ID}, ok && u.State == UserActive && u.Extension != ""
	}
	if d, ok := s.devices[sipUser]; ok {
		u := s.users[d.username]
		return SIPIdentity{Username: u.Username, AoR: u.Extension, Device: d.device.Name}, u.State == UserActive
	}
	return SIPIdentity{}, false
}

// AoR returns the address of record of a digest user: the extension.
func (s *Service) AoR(_ context.Context, sipUser string) (aor string, ok bool) {
	id, ok := s.SIP(sipUser)
	return id.AoR, ok
}

// HA1 returns the digest secret of a session's or a device's digest user.
func (s *Service) HA1(ctx context.Context, sipUser string) (ha1 string, ok bool) {
	if p, ok := s.probeBySIP(sipUser); ok {
		return p.ha1, true
	}
	id, ok := s.SIP(sipUser)
	if !ok {
		return "", false
	}
	var purpose string
	var sealed []byte
	s.mu.RLock()
	if id.SessionID != "" {
		if x, ok := s.bySIP[sipUser]; ok {
			purpose, sealed = sessionPurpose(x.ID, "sip"), x.SealedHA1
		}
	} else if d, ok := s.devices[sipUser]; ok {
		purpose, sealed = devicePurpose(d.username, d.device.Name), d.device.SealedHA1
	}
	s.mu.RUnlock()
	plain, err := s.sealer.Unseal(purpose, sealed)
	if err != nil {
		s.o.Log.ErrorContext(ctx, "sip secret cannot be opened", "sip_user", sipUser, "err", err)
		return "", false
	}
	return string(plain), true
}

// TURNKey returns the long-term key of a TURN user (RFC 8489 section 9.2.2).
func (s *Service) TURNKey(user string) (key []byte, ok bool) {
	now := time.Now()
	s.mu.RLock()
	x, ok := s.byTURN[user]
	ok = ok && !s.expired(x, now)
	s.mu.RUnlock()
	if !ok {
		p, ok := s.probeByTURN(user)
		return p.turnKey, ok
	}
	key, err := s.sealer.Unseal(sessionPurpose(x.ID, "turn"), x.SealedTURNKey)
	return key, err == nil
}

// DigestUser is the SIP user name of a device: EXTENSION-NAME.
func DigestUser(extension, device string) string { return extension + "-" + device }

func devicePurpose(username, device string) string {
	return "device:" + username + ":" + strings.ToLower(device)
}
