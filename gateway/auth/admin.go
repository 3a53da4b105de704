package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Names of the private files in the data folder.
const (
	AdminTokenFile = "admin.token"
	SetUpLinkFile  = "setup-link"
)

// RotateAdminToken makes the admin token of this start and writes it to
// AdminTokenFile (0600): who can read the data folder may use the API from this
// machine.
func (s *Service) RotateAdminToken() error {
	token, hash := newToken(adminPrefix)
	if err := writePrivate(filepath.Join(s.o.Dir, AdminTokenFile), []byte(token+"\n")); err != nil {
		return err
	}
	s.mu.Lock()
	s.admin = &hash
	s.mu.Unlock()
	return nil
}

// DropAdminToken ends the admin token at the gateway's stop.
func (s *Service) DropAdminToken() error {
	s.mu.Lock()
	s.admin = nil
	s.mu.Unlock()
	if err := os.Remove(filepath.Join(s.o.Dir, AdminTokenFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove admin token: %w", err)
	}
	return nil
}

// SetUpLink makes the one-time link for the first administrator as long as
// there is none, writes it to SetUpLinkFile and returns it; empty when there is
// an administrator. base is the address that a browser uses.
func (s *Service) SetUpLink(base string) (string, error) {
	file := filepath.Join(s.o.Dir, SetUpLinkFile)
	if s.hasAdmin() {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("remove set-up link: %w", err)
		}
		return "", nil
	}
	token, hash := newToken(setUpPrefix)
	// in the fragment, so that no log of a request ever has it
	link := strings.TrimSuffix(base, "/") + "/#/setup?token=" + token
	if err := writePrivate(file, []byte(link+"\n")); err != nil {
		return "", err
	}
	s.mu.Lock()
	s.setUp = &hash
	s.mu.Unlock()
	return link, nil
}

func (s *Service) hasAdmin() bool {
	for _, u := range s.Users() {
		if u.State == UserActive && slices.Contains(u.Roles, RoleAdmin) {
			return true
		}
	}
	return false
}

// SetUp makes the first administrator with the token of the set-up link, which
// is worth nothing afterwards.
func (s *Service) SetUp(ctx context.Context, token string, spec UserSpec, remote netip.Addr) (User, error) {
	hash := sha256.Sum256([]byte(token))
	s.mu.RLock()
	ok := s.setUp != nil && subtle.ConstantTimeCompare(s.setUp[:], hash[:]) == 1
	s.mu.RUnlock()
	if !ok {
		return User{}, ErrSetUp
	}
	release, err := s.Exclusive(ctx)
	if err != nil {
		return User{}, err
	}
	defer release()
	if s.hasAdmin() {
		return User{}, ErrSetUp
	}
	spec.Roles, spec.State, spec.Permissions = []Role{RoleAdmin}, UserActive, nil
	if spec.Password == "" {
		return User{}, &RuleError{Field: "password", Reason: "is needed"}
	}
	if _, exists := s.User(foldUsername(spec.Username)); exists {
		return User{}, &RuleError{Field: "username", Reason: "is taken"}
	}
	made, err := s.MakeUser(ctx, nil, spec)
	if err != nil {
		return User{}, err
	}
	u := made.User
	if err := s.putUser(ctx, u); err != nil {
		return User{}, err
	}
	s.mu.Lock()
	s.setUp = nil
	s.mu.Unlock()
	s.audit(ctx, u.Username, host(remote), "first administrator made", u.Username)
	if err := os.Remove(filepath.Join(s.o.Dir, SetUpLinkFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.o.Log.WarnContext(ctx, "set-up link not removed", "err", err)
	}
	return u, nil
}
