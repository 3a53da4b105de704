package auth

import "slices"

// Scope is a coarse right: those of API tokens, and those that roles give.
type Scope string

// The scopes.
const (
	// ScopeSelf is an agent's own work: own state, own calls, own campaigns.
	ScopeSelf Scope = "self"
	// ScopeRead sees all agents, calls, queues and reports.
	ScopeRead Scope = "read"
	// ScopeCalls makes and ends calls and steers agents.
	ScopeCalls Scope = "calls"
	// ScopeWrite changes campaigns, members and dispositions.
	ScopeWrite Scope = "write"
	// ScopeRecordings hears recordings.
	ScopeRecordings Scope = "recordings"
	// ScopeAdmin changes users, trunks, tokens and the whole state.
	ScopeAdmin Scope = "admin"
)

// AllScopes lists every scope.
func AllScopes() []Scope {
	return []Scope{ScopeSelf, ScopeRead, ScopeCalls, ScopeWrite, ScopeRecordings, ScopeAdmin}
}

// TokenScopes lists the scopes that an API token may have.
func TokenScopes() []Scope {
	return []Scope{ScopeRead, ScopeCalls, ScopeWrite, ScopeRecordings, ScopeAdmin}
}

// Principal is who makes a request.
type Principal struct {
	Username  string // of a session; empty for tokens
	Extension string
	Roles     []Role
	Scopes    []Scope
	SessionID string
	// TokenID is an API token's ID, or AdminTokenID.
	TokenID string
	// MustChangePassword bars everything but changing the password.
	MustChangePassword bool
}

// AdminTokenID is the TokenID of the admin token.
const AdminTokenID = "admin-token"

// Can reports whether the principal has the scope; admin has all.
func (p Principal) Can(s Scope) bool {
	return slices.Contains(p.Scopes, s) || (slices.Contains(p.Scopes, ScopeAdmin) && (s != ScopeSelf || p.Username != ""))
}

// Name is what audit rows call the principal.
func (p Principal) Name() string {
	if p.Username != "" {
		return p.Username
	}
	return "token:" + p.TokenID
}

// ScopesOf returns what roles and extra permissions give a user.
func ScopesOf(u User) []Scope {
	var out []Scope
	add := func(ss ...Scope) {
		for _, s := range ss {
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	for _, r := range u.Roles {
		switch r {
		case RoleAgent:
			add(ScopeSelf)
		case RoleSupervisor:
			add(ScopeSelf, ScopeRead, ScopeCalls, ScopeWrite, ScopeRecordings)
		case RoleAdmin:
			add(AllScopes()...)
		}
	}
	for _, p := range u.Permissions {
		if s := Scope(p); slices.Contains(AllScopes(), s) {
			add(s)
		}
	}
	return out
}
