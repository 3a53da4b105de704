package sip

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// Errors of the package.
var (
	// ErrFlowGone means that the connection a request had to use is closed.
	ErrFlowGone = errors.New("flow is gone")
	// ErrClosed means that the endpoint is closed.
	ErrClosed = errors.New("endpoint is closed")
	// ErrEnded means that the dialog has ended.
	ErrEnded = errors.New("dialog has ended")
	// ErrState means that the call is not possible in the dialog's state.
	ErrState = errors.New("not possible in this state of the dialog")
	// ErrAnswered means that the request has its final response already.
	ErrAnswered = errors.New("request is answered already")
	// ErrTimeout means that the peer did not answer within 64*T1.
	ErrTimeout = errors.New("no answer from the peer")
	// ErrSyntax is wrapped by every error about text that is not SIP.
	ErrSyntax = errors.New("not valid SIP")
	// ErrThrottled means that a user or address failed too often of late.
	ErrThrottled = errors.New("too many failures")
	// ErrTooLarge means that a message is larger than Options.MaxMessage.
	ErrTooLarge = errors.New("message is too large")
)

// StatusError is a final response that is not a 2xx.
type StatusError struct {
	Code       int
	Reason     string
	RetryAfter time.Duration // of a 503, 480…; 0 if it named none
}

// Error implements error.
func (e *StatusError) Error() string { return fmt.Sprintf("sip status %d %s", e.Code, e.Reason) }

// Options configure an Endpoint. Handler is required.
type Options struct {
	Log       *slog.Logger // default: discards
	UserAgent string       // User-Agent and Server header
	// Host is the IP address or name put into Contact and Via on UDP, TCP and
	// TLS; empty = the local address of the socket.
	Host      string
	Handler   Handler
	ClientTLS *tls.Config // for outgoing TLS; default: system roots
	// MaxMessage bounds one message, headers and body (default 64 KiB).
	MaxMessage int
	// MaxConns and MaxConnsPerIP bound accepted connections
	// (defaults 20,000 and 2,000).
	MaxConns, MaxConnsPerIP int
	// FirstMessageTimeout is how long an accepted connection may stay silent
	// (default 10 s); a started message must be whole within it, too.
	FirstMessageTimeout time.Duration
	// PingInterval is how often an idle WebSocket is pinged (default 30 s); a
	// peer silent for twice that time is disconnected.
	PingInterval time.Duration
	// T1 is the round-trip estimate that the dialog layer's timers derive from
	// (default 500 ms, RFC 3261 section 17.1.1.1).
	T1 time.Duration
	// SessionExpires is the session timer for incoming calls whose caller asks
	// for none; 0 = none. A caller that vanished is noticed by it.
	SessionExpires time.Duration
	// MinSE is the shortest session interval that we accept (default 90 s,
	// RFC 4028 section 5).
	MinSE time.Duration
	// Silenced, if given, tells of a source whose UDP packets are dropped
	// unread: a scanner that has had its refusals. It is asked for each packet
	// and must not block.
	Silenced func(source netip.Addr) bool
	// MaxRequests bounds requests being handled at once (default 4096); above
	// it new ones get 503.
	MaxRequests int
}

// Handler takes what arrives outside of dialogs. Its methods are called
// concurrently.
type Handler interface {
	// Invite is a new incoming call: a dialog in StateTrying whose 100 was
	// sent. It has a goroutine of its own and must call Accept or Reject.
	Invite(d *Dialog)
	// Request is a request outside of dialogs (REGISTER, OPTIONS, MESSAGE…).
	// It has a goroutine of its own and must call Respond.
	Request(r *Request)
	// FlowClosed says that a connection is gone. It must not block.
	FlowClosed(f Flow)
}

// Flow names the path that a message came by. Two flows of different
// connections are never equal, even from the same address and port.
type Flow struct {
	Transport string // udp, tcp, tls, ws, wss
	Local     netip.AddrPort
	Remote    netip.AddrPort
	ID        string // unique per connection; empty for UDP
	// TLSPeer is the first DNS name (else the common name) of the peer's
	// verified certificate; empty without one.
	TLSPeer string
}

// Reliable reports whether the flow is a connection.
func (f Flow) Reliable() bool { return f.Transport != transportUDP }

// Secure reports whether the flow is encrypted.
func (f Flow) Secure() bool { return f.Transport == transportTLS || f.Transport == transportWSS }

// Names of transports.
const (
	transportUDP = "udp"
	transportTCP = "tcp"
	transportTLS = "tls"
	transportWS  = "ws"
	transportWSS = "wss"
)

// Header is one header field.
type Header struct{ Name, Value string }

// Outgoing is a request outside of dialogs, for Endpoint.Send.
type Outgoing struct {
	Method   string
	URI      URI
	From, To Address
	// Flow sends over this flow only; else Destination (host[:port], default
	// that of URI) over Transport (default udp).
	Flow        *Flow
	Destination string
	Transport   string
	CallID      string // default: a new one
	CSeq        uint32 // default: 1; one more for each challenge answered
	Headers     []Header
	Body        []byte
	// Credentials answer 401 and 407.
	Credentials *Credentials
}

// Invite is an outgoing call, for Endpoint.Invite.
type Invite struct {
	URI      URI
	From, To Address
	// Flow, Destination and Transport as in Outgoing.
	Flow        *Flow
	Destination string
	Transport   string
	Headers     []Header
	SDP         []byte // offer; nil = the far side offers, Events.Offer makes the answer for the ACK
	Credentials *Credentials
	// SessionExpires asks for a session timer (RFC 4028); 0 = none of our own,
	// the far side may still ask for one.
	SessionExpires time.Duration
	MinSE          time.Duration
	CallID         string // default: a new one
}

// Credentials answer a challenge. HA1 (of realm Realm, algorithm MD5) may be
// given instead of Password.
type Credentials struct {
	Username string
	Password string
	HA1      string
	Realm    string
}

// Events takes what happens in a dialog. Its methods are called one at a time,
// in order, on a goroutine of the dialog; they may call the dialog's methods.
type Events interface {
	// Progress is a 1xx other than 100, as caller.
	Progress(code int, reason string, sdp []byte)
	// Answered, as caller: the 2xx came and was acknowledged; as called: the
	// ACK came (sdp only after a delayed offer).
	Answered(sdp []byte)
	// Offer is a re-INVITE or UPDATE with an offer, or a re-INVITE without
	// (offer nil: answer with an offer of ours). It returns the SDP for the
	// 200, or a code that refuses (488, 491…); code 0 or 200 accepts.
	Offer(offer []byte) (answer []byte, code int)
	// Info is an INFO; the dialog has answered 200.
	Info(contentType string, body []byte)
	// Request is another request in the dialog (REFER, NOTIFY, MESSAGE); the
	// result is the response's code.
	Request(method string, header func(name string) string, body []byte) (code int)
	// Ended is called exactly once and last.
	Ended(c Cause)
}

// NoEvents ignores everything; embed it and override what is of interest.
type NoEvents struct{}

// Progress implements Events.
func (NoEvents) Progress(int, string, []byte) {}

// Answered implements Events.
func (NoEvents) Answered([]byte) {}

// Offer implements Events: 488.
func (NoEvents) Offer([]byte) (answer []byte, code int) { return nil, 488 }

// Info implements Events.
func (NoEvents) Info(string, []byte) {}

// Request implements Events: 405.
func (NoEvents) Request(string, func(string) string, []byte) int { return 405 }

// Ended implements Events.
func (NoEvents) Ended(Cause) {}

// Kind is the class of a Cause.
type Kind int

// The kinds.
const (
	KindUnknown       Kind = iota
	KindNormal             // BYE after an answer
	KindCancelled          // cancelled before the answer
	KindRejected           // a final response 3xx to 6xx
	KindNoAck              // our 2xx was never acknowledged
	KindSessionTimer       // the session was not refreshed in time (RFC 4028)
	KindTransportLost      // the connection is gone and cannot be made again
	KindTimeout            // no answer from the peer
)

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case KindNormal:
		return "normal"
	case KindCancelled:
		return "cancelled"
	case KindRejected:
		return "rejected"
	case KindNoAck:
		return "noAck"
	case KindSessionTimer:
		return "sessionTimer"
	case KindTransportLost:
		return "transportLost"
	case KindTimeout:
		return "timeout"
	case KindUnknown:
	}
	return "unknown"
}

// Cause says why a dialog ended. Given to Hangup, Code, Q850 and Text make the
// response or the Reason header (RFC 3326).
type Cause struct {
	Kind   Kind
	Code   int // SIP status; 200 for a BYE
	Q850   int // 0 if unknown
	Reason string
	Text   string // for people
	Remote bool   // the far side ended it
	Err    error
}

// State is where a dialog stands.
type State int

// The states.
const (
	StateUnknown    State = iota
	StateTrying           // INVITE sent or received
	StateRinging          // a 1xx other than 100 was sent or received
	StateAnswered         // 2xx sent, ACK awaited (called side only)
	StateConfirmed        // 2xx and ACK exchanged
	StateTerminated       // over
)

// String returns the state's name.
func (s State) String() string {
	switch s {
	case StateTrying:
		return "trying"
	case StateRinging:
		return "ringing"
	case StateAnswered:
		return "answered"
	case StateConfirmed:
		return "confirmed"
	case StateTerminated:
		return "terminated"
	case StateUnknown:
	}
	return "unknown"
}
