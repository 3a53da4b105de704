package auth

import "time"

// Role is what a user may do at the coarsest; see Permissions for finer sets.
type Role string

// The roles.
const (
	RoleAgent      Role = "agent"
	RoleSupervisor Role = "supervisor"
	RoleAdmin      Role = "admin"
)

// UserState follows SEC-07.
type UserState string

// The states of an account.
const (
	UserActive   UserState = "active"
	UserInactive UserState = "inactive"
	UserBlocked  UserState = "blocked"
)

// User is a person who may sign in.
type User struct {
	Username           string // unique, lower case
	FullName           string
	Extension          string // digits, unique, may be empty
	Email              string
	Mobile             string
	Language           string // en, es, pt, it
	Roles              []Role
	Permissions        []string
	State              UserState
	PasswordHash       string // argon2id, PHC string
	MustChangePassword bool
	LastSignInAt       time.Time
	Devices            []Device
	Rev                uint64 // grows with every change
}

// Device is a SIP phone of a user. Its digest user name is EXTENSION-NAME.
type Device struct {
	Name string
	// SealedHA1 is MD5(user:realm:secret), encrypted with the installation's
	// key: HA1 is a password's equal.
	SealedHA1 []byte
}

// Session is one signed-in client. Its secrets are kept only as hashes or
// sealed; they live exactly as long as the session.
type Session struct {
	ID        string
	Username  string
	TokenHash []byte // SHA-256 of the bearer token
	// SIPUser is the digest user of this session's phone, SealedHA1 its secret.
	SIPUser   string
	SealedHA1 []byte
	// TURNUser and SealedTURNKey are the long-term credential of RFC 8489.
	TURNUser      string
	SealedTURNKey []byte
	CreatedAt     time.Time
	ExpiresAt     time.Time
	LastSeenAt    time.Time
	RemoteAddr    string
	UserAgent     string
}

// APIToken is a scoped token for programs.
type APIToken struct {
	ID        string
	Name      string
	TokenHash []byte
	Scopes    []string // read, write, calls, admin
	CreatedBy string
	CreatedAt time.Time
	ExpiresAt time.Time // zero = never
}
