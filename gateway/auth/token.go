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

	"github.com/google/uuid"
)

// maxTokens bounds the API tokens of an installation.
const maxTokens = 1000

// NewAPIToken makes a scoped token for a program and returns its text, which
// nobody can read again. expires zero = never.
func (s *Service) NewAPIToken(ctx context.Context, name string, scopes []Scope, expires time.Time, by Principal, remote netip.Addr) (APIToken, string, error) {
	name = strings.TrimSpace(name)
	switch {
	case name == "" || len(name) > 100:
		return APIToken{}, "", &RuleError{Field: "name", Reason: "must be 1 to 100 bytes"}
	case len(scopes) == 0:
		return APIToken{}, "", &RuleError{Field: "scopes", Reason: "must name one scope at least"}
	case !expires.IsZero() && !expires.After(time.Now()):
		return APIToken{}, "", &RuleError{Field: "expiresAt", Reason: "must be in the future"}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return APIToken{}, "", fmt.Errorf("token id: %w", err)
	}
	text, hash := newToken(tokenPrefix)
	t := APIToken{ID: id.String(), Name: name, TokenHash: hash[:], CreatedBy: by.Name(), CreatedAt: time.Now().UTC().Truncate(time.Microsecond), ExpiresAt: expires.UTC()}
	if expires.IsZero() {
		t.ExpiresAt = time.Time{}
	}
	for _, sc := range scopes {
		if !slices.Contains(TokenScopes(), sc) {
			return APIToken{}, "", &RuleError{Field: "scopes", Reason: fmt.Sprintf("%q is not one of %v", sc, TokenScopes())}
		}
		if !slices.Contains(t.Scopes, string(sc)) {
			t.Scopes = append(t.Scopes, string(sc))
		}
	}
	s.mu.RLock()
	full := len(s.tokens) >= maxTokens
	s.mu.RUnlock()
	if full {
		return APIToken{}, "", &RuleError{Field: "name", Reason: fmt.Sprintf("cannot be added: there are %d tokens already", maxTokens)}
	}
	if err := s.o.Store.PutAPIToken(ctx, t); err != nil {
		return APIToken{}, "", fmt.Errorf("write api token: %w", err)
	}
	s.mu.Lock()
	s.tokens[hash] = t
	s.mu.Unlock()
	s.audit(ctx, by.Name(), host(remote), "api token made", t.Name+" "+t.ID)
	t.TokenHash = nil
	return t, text, nil
}

// APITokens lists the tokens, oldest first and without their hashes.
func (s *Service) APITokens() []APIToken {
	s.mu.RLock()
	out := make([]APIToken, 0, len(s.tokens))
	for _, t := range s.tokens {
		t.TokenHash = nil
		out = append(out, t)
	}
	s.mu.RUnlock()
	slices.SortFunc(out, func(a, b APIToken) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// EndAPIToken ends a token.
func (s *Service) EndAPIToken(ctx context.Context, id string, by Principal, remote netip.Addr) error {
	s.mu.Lock()
	var hash [sha256.Size]byte
	found := false
	for h, t := range s.tokens {
		if t.ID == id {
			hash, found = h, true
		}
	}
	delete(s.tokens, hash)
	s.mu.Unlock()
	if !found {
		return ErrNotFound
	}
	if err := s.o.Store.DeleteAPIToken(ctx, id); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete api token: %w", err)
	}
	s.audit(ctx, by.Name(), host(remote), "api token ended", id)
	return nil
}

// TokenAlive reports whether an API token or the admin token still opens doors,
// for connections that outlive a request.
func (s *Service) TokenAlive(id string) bool {
	now := time.Now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if id == AdminTokenID {
		return s.admin != nil
	}
	for _, t := range s.tokens {
		if t.ID == id {
			return t.ExpiresAt.IsZero() || now.Before(t.ExpiresAt)
		}
	}
	return false
}
