package auth

import (
	"context"
	"crypto/md5" //nolint:gosec // HA1 of RFC 2617 and the key of RFC 8489 section 9.2.2 are MD5
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Prefixes tell the kinds of tokens apart for people and secret scanners.
const (
	sessionPrefix = "cbs_"
	tokenPrefix   = "cbt_"
	adminPrefix   = "cba_"
	setUpPrefix   = "cbl_"
	tokenBytes    = 32
)

// SignIn is a request to sign in.
type SignIn struct {
	Username  string
	Password  string
	Remote    netip.Addr
	UserAgent string
}

// SignedIn is a new session with the secrets that only its client gets.
type SignedIn struct {
	Session Session
	User    User
	Token   string
	// SIPPassword and TURNPassword are empty when the user has no extension or
	// must change the password first.
	SIPPassword  string
	TURNPassword string
	// PreviousSignInAt is that of the session before (SEC-02).
	PreviousSignInAt time.Time
}

// SignIn checks a password and opens a session. Errors: ErrCredentials,
// *ThrottledError, ErrBusy, and for the right password ErrBlocked, ErrInactive.
func (s *Service) SignIn(ctx context.Context, in SignIn) (SignedIn, error) {
	name := foldUsername(in.Username)
	u, err := s.check(ctx, name, in.Password, in.Remote)
	if err != nil {
		return SignedIn{}, err
	}
	switch u.State {
	case UserActive:
	case UserBlocked:
		s.audit(ctx, name, host(in.Remote), "sign-in refused", "blocked")
		return SignedIn{}, ErrBlocked
	case UserInactive:
		s.audit(ctx, name, host(in.Remote), "sign-in refused", "inactive")
		return SignedIn{}, ErrInactive
	default:
		return SignedIn{}, ErrInactive
	}
	return s.open(ctx, u, in)
}

// check verifies one password under the throttle.
func (s *Service) check(ctx context.Context, name, password string, remote netip.Addr) (User, error) {
	if len(name) > 64 {
		name = name[:64] // cannot exist; still one key of the throttle
	}
	try, err := s.throttle.begin(time.Now(), name, remote)
	if err != nil {
		return User{}, err
	}
	u, known := s.User(name)
	if len(password) > maxPassword {
		password = "" // no password is that long, nor empty
	}
	ok, err := s.hasher.verify(ctx, u.PasswordHash, password)
	if err != nil {
		return User{}, fmt.Errorf("check password: %w", err)
	}
	if !ok {
		who := "?" // what was typed may be a password
		if known {
			who = name
		}
		s.audit(ctx, who, host(remote), "sign-in failed", "")
		if known {
			s.countWrong(ctx, name)
		}
		return User{}, ErrCredentials
	}
	s.throttle.succeeded(try)
	s.mu.Lock()
	delete(s.wrong, name)
	s.mu.Unlock()
	return u, nil
}

// countWrong blocks the account after LockAfter wrong passwords in a row.
func (s *Service) countWrong(ctx context.Context, name string) {
	if s.o.LockAfter <= 0 {
		return
	}
	s.mu.Lock()
	s.wrong[name]++
	lock := s.wrong[name] >= s.o.LockAfter
	s.mu.Unlock()
	if !lock {
		return
	}
	release, err := s.Exclusive(ctx)
	if err != nil {
		return
	}
	defer release()
	u, ok := s.User(name)
	if !ok || u.State != UserActive {
		return
	}
	u.State = UserBlocked
	if err := s.putUser(ctx, u); err != nil {
		s.o.Log.ErrorContext(ctx, "account not blocked", "user", name, "err", err)
		return
	}
	s.mu.Lock()
	delete(s.wrong, name)
	s.mu.Unlock()
	s.audit(ctx, name, "", "account blocked", "too many wrong passwords")
	s.endAll(ctx, name, "", "user blocked")
}

// open makes the session of a user who proved to be who they say.
func (s *Service) open(ctx context.Context, u User, in SignIn) (SignedIn, error) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	id, err := uuid.NewV7()
	if err != nil {
		return SignedIn{}, fmt.Errorf("session id: %w", err)
	}
	token, hash := newToken(sessionPrefix)
	out := SignedIn{Token: token, PreviousSignInAt: u.LastSignInAt, Session: Session{
		ID: id.String(), Username: u.Username, TokenHash: hash[:],
		CreatedAt: now, ExpiresAt: now.Add(s.o.SessionMax), LastSeenAt: now,
		RemoteAddr: host(in.Remote), UserAgent: clip(in.UserAgent, 200),
	}}
	if !u.MustChangePassword {
		s.addCredentials(&out, u)
	}
	u, err = s.noteSignIn(ctx, u, now)
	if err != nil {
		return SignedIn{}, err
	}
	out.User = u
	if err := s.o.Store.PutSession(ctx, out.Session); err != nil {
		return SignedIn{}, fmt.Errorf("write session: %w", err)
	}
	s.mu.Lock()
	s.addLocked(&session{Session: out.Session})
	mine := s.ofUserLocked(u.Username)
	s.mu.Unlock()
	for _, old := range mine[:max(0, len(mine)-maxSessions)] {
		if err := s.end(ctx, old.ID, "too many sessions"); err != nil {
			s.o.Log.WarnContext(ctx, "old session not ended", "session", old.ID, "err", err)
		}
	}
	s.audit(ctx, u.Username, out.Session.RemoteAddr, "sign-in", out.Session.ID)
	return out, nil
}

// addCredentials makes the SIP and TURN secrets of a session.
func (s *Service) addCredentials(out *SignedIn, u User) {
	x := &out.Session
	if u.Extension != "" {
		// a device's name has no dot, so the two cannot meet
		x.SIPUser = u.Extension + "." + strings.ToLower(rand.Text()[:12])
		out.SIPPassword = rand.Text()
		x.SealedHA1 = s.sealer.Seal(sessionPurpose(x.ID, "sip"), []byte(HA1(x.SIPUser, s.o.Realm, out.SIPPassword)))
	}
	x.TURNUser = strings.ToLower(rand.Text()[:16])
	out.TURNPassword = rand.Text()
	key := md5.Sum([]byte(x.TURNUser + ":" + s.o.TURNRealm + ":" + out.TURNPassword)) //nolint:gosec // RFC 8489 section 9.2.2
	x.SealedTURNKey = s.sealer.Seal(sessionPurpose(x.ID, "turn"), key[:])
}

func (s *Service) noteSignIn(ctx context.Context, u User, now time.Time) (User, error) {
	release, err := s.Exclusive(ctx)
	if err != nil {
		return User{}, err
	}
	defer release()
	fresh, ok := s.User(u.Username)
	if !ok || fresh.State != UserActive || fresh.PasswordHash != u.PasswordHash {
		return User{}, ErrCredentials // changed while the password was checked
	}
	if err := s.o.Store.SignedIn(ctx, fresh.Username, now); err != nil {
		return User{}, fmt.Errorf("note sign-in: %w", err)
	}
	fresh.LastSignInAt = now
	s.mu.Lock()
	s.users[fresh.Username] = fresh
	s.mu.Unlock()
	return fresh, nil
}

// ChangePassword sets a user's own new password after checking the old one. All
// other sessions of the user end; the one in keep goes on.
func (s *Service) ChangePassword(ctx context.Context, username, old, password string, remote netip.Addr, keep string) error {
	if _, err := s.check(ctx, username, old, remote); err != nil {
		return err
	}
	if old == password {
		return &RuleError{Field: "password", Reason: "must differ from the old one"}
	}
	if err := s.o.Rules.Check(username, password); err != nil {
		return err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	release, err := s.Exclusive(ctx)
	if err != nil {
		return err
	}
	defer release()
	u, ok := s.User(username)
	if !ok {
		return ErrNotFound
	}
	u.PasswordHash, u.MustChangePassword = hash, false
	if err := s.putUser(ctx, u); err != nil {
		return err
	}
	s.audit(ctx, username, host(remote), "password changed", username)
	s.endAll(ctx, username, keep, "password changed")
	return nil
}

// Credentials makes new SIP and TURN secrets for a session that has none yet,
// because its user had to change the password first, or has lost them.
func (s *Service) Credentials(ctx context.Context, id string) (SignedIn, error) {
	s.mu.RLock()
	x, ok := s.sessions[id]
	var out SignedIn
	if ok {
		out.Session = x.Session
		out.User = s.users[x.Username]
	}
	s.mu.RUnlock()
	if !ok {
		return SignedIn{}, ErrNotFound
	}
	if out.User.MustChangePassword {
		return SignedIn{}, ErrMustChange
	}
	s.addCredentials(&out, out.User)
	if err := s.o.Store.PutSession(ctx, out.Session); err != nil {
		return SignedIn{}, fmt.Errorf("write session: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.sessions[id]; ok {
		s.removeLocked(old)
		s.addLocked(&session{Session: out.Session})
		return out, nil
	}
	return SignedIn{}, ErrNotFound
}

// HA1 is the digest secret of RFC 2617 with MD5, in hexadecimal.
func HA1(user, realm, password string) string {
	sum := md5.Sum([]byte(user + ":" + realm + ":" + password)) //nolint:gosec // the algorithm of SIP digest
	return hex.EncodeToString(sum[:])
}

// newToken returns 256 random bits as text and their SHA-256.
func newToken(prefix string) (token string, hash [sha256.Size]byte) {
	raw := make([]byte, tokenBytes)
	_, _ = rand.Read(raw)
	token = prefix + base64.RawURLEncoding.EncodeToString(raw)
	return token, sha256.Sum256([]byte(token))
}

func (s *Service) ofUserLocked(username string) []*session {
	var mine []*session
	for _, x := range s.sessions {
		if x.Username == username {
			mine = append(mine, x)
		}
	}
	slices.SortFunc(mine, func(a, b *session) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return mine
}

func (s *Service) endAll(ctx context.Context, username, keep, reason string) {
	s.mu.RLock()
	mine := s.ofUserLocked(username)
	s.mu.RUnlock()
	for _, x := range mine {
		if x.ID == keep {
			continue
		}
		if err := s.end(ctx, x.ID, reason); err != nil && !errors.Is(err, ErrNotFound) {
			s.o.Log.WarnContext(ctx, "session not ended", "session", x.ID, "err", err)
		}
	}
}

func sessionPurpose(id, kind string) string { return "session:" + id + ":" + kind }

func foldUsername(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

func host(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().WithZone("").String()
}

func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
