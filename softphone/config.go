package softphone

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/cordboard/cordboard/softphone/audio"
)

// Errors of a Phone.
var (
	ErrClosed        = errors.New("phone is closed")
	ErrNoCall        = errors.New("no such call")
	ErrState         = errors.New("not possible in this state of the call")
	ErrTooMany       = errors.New("too many calls")
	ErrNotRegistered = errors.New("not registered")
	ErrCredentials   = errors.New("wrong user or password")
	ErrConfig        = errors.New("configuration")
)

// Server is a STUN or TURN server; URLs as in RFC 7064 and 7065.
type Server struct {
	URLs     []string
	Username string
	Password string
}

// Config of a Phone. Server, User and Password are needed.
type Config struct {
	// Log gets what a person should see; default: discards.
	Log *slog.Logger
	// Server is the WebSocket's URL, wss://host:8089/ws.
	Server string
	// User is the digest user; AoR the user part of the address of record (default User); Domain its host
	// (default that of Server).
	User, AoR, Domain string
	Password          string
	DisplayName       string
	// TLS is used for the WebSocket and for TURN over TLS; default: the system's roots.
	TLS *tls.Config
	// Servers are used for calls that begin from now on; see Phone.SetServers.
	Servers []Server
	// RelayOnly sends media through TURN only.
	RelayOnly bool
	// Codecs by name in order of preference: "opus", "PCMA", "PCMU" (the default, in this order).
	Codecs []string
	// Device is where sound comes from and goes to; default audio.Null.
	Device audio.Device
	// Expires is the registration time asked for (default 5 min).
	Expires time.Duration
	// MaxCalls bounds calls at once (default 8); more are refused with 486.
	MaxCalls int
	// HoldOthers puts other calls on hold when one is answered, dialled or taken from hold.
	HoldOthers bool
	// StatsEvery is the time between Stats of a call (default 5 s).
	StatsEvery time.Duration
	// OnEvent is called for each event, in order, from one goroutine. It may call any method of the phone
	// but Close. If it is slow, Stats and Digit events are left out, never others.
	OnEvent   func(Event)
	UserAgent string // default "Cordboard"
}
