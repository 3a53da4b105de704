package sip

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"
)

var errSkeleton = errors.New("not built yet")

// Endpoint sends and receives SIP over any number of sockets.
type Endpoint struct{}

// New makes an endpoint without sockets.
func New(Options) (*Endpoint, error) { return nil, errSkeleton }

// ServeUDP serves pc until ctx ends or Close; it closes pc.
func (e *Endpoint) ServeUDP(ctx context.Context, pc net.PacketConn) error { return errSkeleton }

// ServeTCP serves l until ctx ends or Close; it closes l.
func (e *Endpoint) ServeTCP(ctx context.Context, l net.Listener) error { return errSkeleton }

// ServeTLS is ServeTCP for a listener that does TLS.
func (e *Endpoint) ServeTLS(ctx context.Context, l net.Listener) error { return errSkeleton }

// WebSocket upgrades requests to SIP over WebSocket (RFC 7118). origins says
// whether a page of that origin may connect ("" if the client sent none).
func (e *Endpoint) WebSocket(origins func(origin string, r *http.Request) bool) http.Handler {
	return nil
}

// DialWebSocket connects as a client; requests arrive over the same flow.
func (e *Endpoint) DialWebSocket(ctx context.Context, url string, conf *tls.Config) (Flow, error) {
	return Flow{}, errSkeleton
}

// CloseFlow closes a connection; unknown flows are ignored.
func (e *Endpoint) CloseFlow(Flow) {}

// Close ends everything and waits; idempotent.
func (e *Endpoint) Close() error { return nil }

// Send sends a request outside of dialogs and waits for its final response.
func (e *Endpoint) Send(ctx context.Context, o Outgoing) (Response, error) {
	return Response{}, errSkeleton
}

// Invite starts a call. It returns when the INVITE was handed to the
// transport; ctx bounds only that.
func (e *Endpoint) Invite(ctx context.Context, i Invite, ev Events) (*Dialog, error) {
	return nil, errSkeleton
}

// Request is a request that arrived.
type Request struct{}

// Method returns the method.
func (r *Request) Method() string { return "" }

// URI returns the Request-URI.
func (r *Request) URI() URI { return URI{} }

// From returns the From header.
func (r *Request) From() Address { return Address{} }

// To returns the To header.
func (r *Request) To() Address { return Address{} }

// CallID returns the Call-ID.
func (r *Request) CallID() string { return "" }

// CSeq returns the sequence number.
func (r *Request) CSeq() uint32 { return 0 }

// Contacts returns all contacts of all Contact headers.
func (r *Request) Contacts() []Contact { return nil }

// Header returns the first value of a header, "" if there is none.
func (r *Request) Header(name string) string { return "" }

// Headers returns all values of a header, one per line of the message.
func (r *Request) Headers(name string) []string { return nil }

// Body returns the body.
func (r *Request) Body() []byte { return nil }

// Flow returns the path that it came by.
func (r *Request) Flow() Flow { return Flow{} }

// Respond sends a response. Only the first final one is sent.
func (r *Request) Respond(code int, reason string, headers ...Header) error { return errSkeleton }

// RespondBody is Respond with a body.
func (r *Request) RespondBody(code int, reason, contentType string, body []byte, headers ...Header) error {
	return errSkeleton
}

// Response is a final response.
type Response struct {
	Code   int
	Reason string
	Flow   Flow // the path that it came by
	Body   []byte
}

// Header returns the first value of a header, "" if there is none.
func (r Response) Header(name string) string { return "" }

// Headers returns all values of a header.
func (r Response) Headers(name string) []string { return nil }

// Contacts returns all contacts of all Contact headers.
func (r Response) Contacts() []Contact { return nil }

// Param is a parameter of a URI or header; Value is unquoted and unescaped.
type Param struct{ Name, Value string }

// Params are parameters in their order.
type Params []Param

// Get returns a parameter's value; names are compared without case.
func (p Params) Get(name string) (string, bool) { return "", false }

// URI is a SIP, SIPS or TEL URI; Raw holds all of a URI of another scheme.
type URI struct {
	Scheme   string // lower case
	User     string // unescaped
	Password string
	Host     string // lower case; IPv6 in brackets
	Port     int    // 0 if not given
	Params   Params
	Headers  Params
	Opaque   string
}

// ParseURI parses a URI without angle brackets.
func ParseURI(s string) (URI, error) { return URI{}, errSkeleton }

// String returns the URI's text.
func (u URI) String() string { return "" }

// Address is a name-addr; Params are the header's (tag, expires…).
type Address struct {
	Name   string
	URI    URI
	Params Params
}

// ParseAddress parses a From, To or Contact value.
func ParseAddress(s string) (Address, error) { return Address{}, errSkeleton }

// String returns the address's text.
func (a Address) String() string { return "" }

// Contact is one contact; Star is "*".
type Contact struct {
	Address
	Star    bool
	Expires int // -1 if not given
	Q       float64
}

// Dialog is one INVITE dialog. Its methods are safe for concurrent use.
type Dialog struct{}

// Accept sets the consumer of an incoming dialog; before it only Reject is allowed.
func (d *Dialog) Accept(ev Events) {}

// Provisional sends a 1xx.
func (d *Dialog) Provisional(code int, sdp []byte, h ...Header) error { return errSkeleton }

// Answer sends a 200 until its ACK comes; without one in 64*T1 it sends BYE.
func (d *Dialog) Answer(sdp []byte, h ...Header) error { return errSkeleton }

// Reject sends a final response of 300 or more.
func (d *Dialog) Reject(code int, reason string, h ...Header) error { return errSkeleton }

// Hangup ends the dialog by CANCEL, BYE or a final response as the state asks.
func (d *Dialog) Hangup(c Cause) error { return errSkeleton }

// Reinvite sends a re-INVITE and returns the answer. A 491 is retried.
func (d *Dialog) Reinvite(ctx context.Context, sdp []byte) (answer []byte, err error) {
	return nil, errSkeleton
}

// Info sends an INFO.
func (d *Dialog) Info(ctx context.Context, contentType string, body []byte) error {
	return errSkeleton
}

// Do sends any request in the dialog and waits for its final response.
func (d *Dialog) Do(ctx context.Context, method string, h []Header, body []byte) (Response, error) {
	return Response{}, errSkeleton
}

// ID returns the dialog's identity, unique in the process.
func (d *Dialog) ID() string { return "" }

// CallID returns the Call-ID.
func (d *Dialog) CallID() string { return "" }

// Flow returns the path of the dialog.
func (d *Dialog) Flow() Flow { return Flow{} }

// UpdateFlow re-points the dialog after its peer registered by another flow.
func (d *Dialog) UpdateFlow(f Flow) {}

// Request returns the INVITE of an incoming dialog, else nil.
func (d *Dialog) Request() *Request { return nil }

// Offer returns the SDP of the INVITE of an incoming dialog.
func (d *Dialog) Offer() []byte { return nil }

// State returns where the dialog stands.
func (d *Dialog) State() State { return StateUnknown }

// LocalTag returns our tag.
func (d *Dialog) LocalTag() string { return "" }

// RemoteTag returns the peer's tag, "" before it is known.
func (d *Dialog) RemoteTag() string { return "" }

// Authenticator checks digests. Safe for concurrent use.
type Authenticator struct{}

// AuthOptions configure an Authenticator.
type AuthOptions struct {
	NonceTTL time.Duration // default 5 min
	Now      func() time.Time
	Proxy    bool // 407 and Proxy-Authorization instead of 401
}

// NewAuthenticator makes one. secret signs the nonces; lookup returns a user's
// HA1 for the realm in lower-case hex (MD5).
func NewAuthenticator(realm string, secret []byte, lookup func(ctx context.Context, user string) (ha1 string, ok bool), o AuthOptions) *Authenticator {
	return &Authenticator{}
}

// ChallengeError asks the client to authenticate: respond with Code and Header.
type ChallengeError struct {
	Code    int
	Headers []Header
	Stale   bool
}

// Error implements error.
func (e *ChallengeError) Error() string { return "authentication needed" }

// Check returns the authenticated user, or *ChallengeError or ErrThrottled.
func (a *Authenticator) Check(ctx context.Context, r *Request) (user string, err error) {
	return "", errSkeleton
}
