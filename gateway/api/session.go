package api

import "time"

// SignIn asks for a session.
type SignIn struct {
	Username string `json:"username" minLength:"1" maxLength:"200"`
	Password string `json:"password" minLength:"1" maxLength:"512" writeOnly:"true"`
	// Phone says that the client has a phone of its own, so that signing in
	// makes the agent available once it registers. Device names a desk phone
	// instead.
	Phone  bool   `json:"phone,omitempty" doc:"the client brings its own phone: sign in as agent with it"`
	Device string `json:"device,omitempty" maxLength:"32" doc:"sign in as agent with this registered device"`
}

// Session is the answer to a sign-in. Token, SIP and TURN secrets are told once
// and live as long as the session.
type Session struct {
	ID        string    `json:"id"`
	Token     string    `json:"token,omitempty"`
	ExpiresAt time.Time `json:"expiresAt"`
	User      Me        `json:"user"`
	// PreviousSignInAt is when the user signed in before (SEC-02).
	PreviousSignInAt *time.Time `json:"previousSignInAt,omitempty"`
	SIP              *SIP       `json:"sip,omitempty"`
	ICEServers       []ICE      `json:"iceServers,omitempty"`
}

// Me is the signed-in user.
type Me struct {
	Username           string   `json:"username"`
	FullName           string   `json:"fullName"`
	Extension          string   `json:"extension,omitempty"`
	Language           string   `json:"language"`
	Roles              []string `json:"roles"`
	Scopes             []string `json:"scopes"`
	MustChangePassword bool     `json:"mustChangePassword"`
	Devices            []string `json:"devices,omitempty"`
	Campaigns          []string `json:"campaigns,omitempty"`
	Breaks             []string `json:"breaks,omitempty"`
}

// SIP is how the client's phone registers.
type SIP struct {
	// URLs are the WebSockets that take the phone, the best first.
	URLs     []string `json:"urls"`
	AOR      string   `json:"aor" doc:"sip:EXTENSION@REALM"`
	Username string   `json:"username" doc:"digest user"`
	Password string   `json:"password,omitempty"`
	Realm    string   `json:"realm"`
}

// ICE is one STUN or TURN server, in the form of RTCIceServer.
type ICE struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// SessionView is a live session as an administrator sees it.
type SessionView struct {
	ID         string    `json:"id"`
	Username   string    `json:"username"`
	CreatedAt  time.Time `json:"createdAt"`
	ExpiresAt  time.Time `json:"expiresAt"`
	LastSeenAt time.Time `json:"lastSeenAt"`
	RemoteAddr string    `json:"remoteAddr"`
	UserAgent  string    `json:"userAgent"`
}

// PasswordChange sets the user's own password.
type PasswordChange struct {
	OldPassword string `json:"oldPassword" minLength:"1" maxLength:"512" writeOnly:"true"`
	NewPassword string `json:"newPassword" minLength:"1" maxLength:"512" writeOnly:"true"`
}

// SetUp makes the first administrator with the token of the set-up link.
type SetUp struct {
	Token    string `json:"token" minLength:"1" maxLength:"200" writeOnly:"true"`
	Username string `json:"username" minLength:"1" maxLength:"64"`
	FullName string `json:"fullName,omitempty" maxLength:"200"`
	Password string `json:"password" minLength:"1" maxLength:"512" writeOnly:"true"`
}

// TokenRequest asks for an API token.
type TokenRequest struct {
	Name      string     `json:"name" minLength:"1" maxLength:"100"`
	Scopes    []string   `json:"scopes" minItems:"1" maxItems:"10" nullable:"false" enum:"read,calls,write,recordings,admin"`
	ExpiresAt *time.Time `json:"expiresAt,omitempty" doc:"absent = never"`
}

// Token is an API token; Token itself is told once.
type Token struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Scopes    []string   `json:"scopes"`
	CreatedBy string     `json:"createdBy"`
	CreatedAt time.Time  `json:"createdAt"`
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
	Token     string     `json:"token,omitempty"`
}
