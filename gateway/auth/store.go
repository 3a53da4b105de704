package auth

import (
	"context"
	"errors"
	"time"
)

// Store keeps what the package owns. The service reads everything once at New
// and answers from memory; it writes through.
type Store interface {
	Users(ctx context.Context) ([]User, error)
	// PutUser makes a user (Rev 0) or changes the one that has this Rev, which
	// grows by one.
	PutUser(ctx context.Context, u User) error
	// SignedIn notes a sign-in; the user's Rev stays.
	SignedIn(ctx context.Context, username string, at time.Time) error
	Sessions(ctx context.Context) ([]Session, error)
	// PutSession inserts or replaces the session of that ID.
	PutSession(ctx context.Context, s Session) error
	// TouchSession notes the last use of a session that still exists.
	TouchSession(ctx context.Context, id string, seen, expires time.Time) error
	// DeleteSession deletes a session; one that is gone is fs.ErrNotExist.
	DeleteSession(ctx context.Context, id string) error
	APITokens(ctx context.Context) ([]APIToken, error)
	PutAPIToken(ctx context.Context, t APIToken) error
	DeleteAPIToken(ctx context.Context, id string) error
}

// Errors of the package. None of them says whether a user name exists.
var (
	// ErrCredentials is the one answer to an unknown user and a wrong password.
	ErrCredentials = errors.New("user name or password is wrong")
	// ErrBlocked and ErrInactive are told only to who gave the right password.
	ErrBlocked  = errors.New("the account is blocked")
	ErrInactive = errors.New("the account is inactive")
	// ErrToken says that a token is unknown, ended or expired.
	ErrToken = errors.New("the token is not valid")
	// ErrBusy says that too many passwords are being checked.
	ErrBusy = errors.New("too many sign-ins at once")
	// ErrNotFound says that there is no such user, session or token.
	ErrNotFound = errors.New("not found")
	// ErrSetUp says that the set-up link was used or is wrong.
	ErrSetUp = errors.New("the set-up link is not valid")
	// ErrUnseal says that sealed data was made with another key or for another
	// purpose, or was changed.
	ErrUnseal = errors.New("sealed data cannot be opened with this installation's key")
	// ErrMustChange says that the password must be changed before anything else.
	ErrMustChange = errors.New("the password must be changed first")
)

// RuleError says which rule a value breaks; it is safe to show.
type RuleError struct {
	Field  string // password, username, extension, devices…
	Reason string
}

// Error implements error.
func (e *RuleError) Error() string { return e.Field + " " + e.Reason }
