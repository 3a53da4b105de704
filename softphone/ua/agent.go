package ua

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/cordboard/cordboard/gateway/sip"
)

// Errors of an Agent.
var (
	ErrConfig        = errors.New("configuration of the phone")
	ErrCredentials   = errors.New("wrong user or password")
	ErrNotRegistered = errors.New("not registered")
	ErrClosed        = errors.New("phone is closed")
)

// Config of an Agent.
type Config struct {
	Log *slog.Logger
	// Server is the WebSocket's URL: wss://host:port/path, or ws: for tests.
	Server string
	// User and Password answer challenges; AoR is the user part of the address of record (default User).
	User, Password, AoR string
	// Domain is the host part of addresses (default: the host of Server).
	Domain      string
	DisplayName string
	TLS         *tls.Config
	Expires     time.Duration // asked for; default 5 min
	UserAgent   string
	Backoff     Backoff
	// KeepAlive is how often an idle connection is pinged (default 15 s); a server silent for twice that
	// time is taken as gone.
	KeepAlive time.Duration
	// Answer is how long the server may take to answer a REGISTER (default 8 s).
	Answer time.Duration
}

// Events of an Agent. Registered and Unregistered come in order from its one goroutine; none may block for long.
type Events interface {
	// Registered: after a new connection; not told again for refreshes.
	Registered(expires time.Duration)
	// Unregistered: the connection or the registration is lost. retry 0 means that no further attempt is made.
	Unregistered(err error, retry time.Duration)
	// Incoming is a new call. It has a goroutine of its own and must call Accept or Reject.
	Incoming(d *sip.Dialog)
}

// Agent is a registered user agent.
type Agent struct {
	c        Config
	ev       Events
	log      *slog.Logger
	ep       *sip.Endpoint
	registry sip.URI
	aor      sip.Address
	contact  string
	callID   string
	cseq     uint32        // owned by run
	closed   chan sip.Flow // flows that ended
	check    chan struct{}
	done     chan struct{}
	stop     context.CancelFunc

	mu      sync.Mutex
	flow    *sip.Flow // registered
	dialogs map[*sip.Dialog]struct{}
	started bool
	ended   bool
}

// New checks the configuration and makes an agent that does nothing until Start.
func New(c Config, ev Events) (*Agent, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	u, err := url.Parse(c.Server)
	if err != nil || u.Hostname() == "" || (u.Scheme != "wss" && u.Scheme != "ws") {
		return nil, fmt.Errorf("server %q is no wss:// address: %w", c.Server, ErrConfig)
	}
	if c.User == "" {
		return nil, fmt.Errorf("no user: %w", ErrConfig)
	}
	if c.AoR == "" {
		c.AoR = c.User
	}
	if c.Domain == "" {
		c.Domain = u.Hostname()
	}
	if c.Expires <= 0 {
		c.Expires = 5 * time.Minute
	}
	if c.KeepAlive <= 0 {
		c.KeepAlive = 15 * time.Second
	}
	if c.Answer <= 0 {
		c.Answer = 8 * time.Second
	}
	if c.UserAgent == "" {
		c.UserAgent = "Cordboard"
	}
	registry, err := sip.ParseURI("sip:" + bracketed(c.Domain))
	if err != nil {
		return nil, fmt.Errorf("domain %q: %w", c.Domain, errors.Join(ErrConfig, err))
	}
	a := &Agent{
		c: c, ev: ev, log: c.Log, registry: registry, callID: uuid.NewString(), cseq: 1,
		closed: make(chan sip.Flow, 8), check: make(chan struct{}, 1), done: make(chan struct{}),
		dialogs: map[*sip.Dialog]struct{}{},
	}
	aor := registry
	aor.User = c.AoR
	a.aor = sip.Address{Name: c.DisplayName, URI: aor}
	// RFC 5626: the instance lets the registrar know this phone again on another connection.
	contact := sip.Address{
		URI: sip.URI{
			Scheme: "sip", User: c.AoR, Host: uuid.NewString()[:8] + ".invalid",
			Params: sip.Params{{Name: "transport", Value: "ws"}},
		},
	}
	a.contact = contact.String() + `;reg-id=1;+sip.instance="<urn:uuid:` + uuid.NewString() + `>"`
	a.ep, err = sip.New(sip.Options{
		Log: c.Log, UserAgent: c.UserAgent, Handler: handler{a}, ClientTLS: c.TLS, PingInterval: c.KeepAlive,
	})
	if err != nil {
		return nil, fmt.Errorf("sip endpoint: %w", err)
	}
	return a, nil
}

func bracketed(host string) string {
	for _, r := range host {
		if r == ':' {
			return "[" + host + "]"
		}
	}
	return host
}

// Start connects and registers in the background, until ctx ends or Close. It may be called once.
func (a *Agent) Start(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.started || a.ended {
		return ErrClosed
	}
	a.started = true
	ctx, a.stop = context.WithCancel(ctx)
	go func() {
		defer close(a.done)
		a.run(ctx)
	}()
	return nil
}

// Close unregisters, if that is quick, ends the connection and waits. It is idempotent.
func (a *Agent) Close() error {
	a.mu.Lock()
	a.ended = true
	stop := a.stop
	a.mu.Unlock()
	if stop != nil {
		stop()
		<-a.done
	}
	if err := a.ep.Close(); err != nil {
		return fmt.Errorf("close sip endpoint: %w", err)
	}
	return nil
}

// Check tests the connection now and makes it again if it does not live: the network may have changed.
func (a *Agent) Check() {
	select {
	case a.check <- struct{}{}:
	default:
	}
}

// Registered reports whether calls can be placed.
func (a *Agent) Registered() bool { return a.current() != nil }

func (a *Agent) current() *sip.Flow {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.flow
}

// Invite places a call to a number or a SIP URI. The dialog is followed across connections until Forget.
func (a *Agent) Invite(ctx context.Context, to string, sdp []byte, headers []sip.Header, ev sip.Events) (*sip.Dialog, error) {
	target, err := a.target(to)
	if err != nil {
		return nil, err
	}
	flow := a.current()
	if flow == nil {
		return nil, ErrNotRegistered
	}
	d, err := a.ep.Invite(ctx, sip.Invite{
		URI: target, From: a.aor, To: sip.Address{URI: target}, Flow: flow, Headers: headers, SDP: sdp,
		Credentials: a.credentials(),
	}, ev)
	if err != nil {
		return nil, fmt.Errorf("invite: %w", err)
	}
	a.Follow(d)
	return d, nil
}

func (a *Agent) target(to string) (sip.URI, error) {
	u, err := sip.ParseURI(to)
	if err == nil && (u.Scheme == "sip" || u.Scheme == "sips") && u.User != "" {
		return u, nil
	}
	if err == nil && u.Scheme == "tel" {
		to = u.Opaque
	}
	if to == "" || len(to) > 128 {
		return sip.URI{}, fmt.Errorf("number %q: %w", to, ErrConfig)
	}
	t := a.registry
	t.User = to
	return t, nil
}

// Follow keeps the dialog pointed at the present connection.
func (a *Agent) Follow(d *sip.Dialog) {
	a.mu.Lock()
	a.dialogs[d] = struct{}{}
	flow := a.flow
	a.mu.Unlock()
	if flow != nil && d.Flow() != *flow {
		d.UpdateFlow(*flow)
	}
}

// Forget ends Follow.
func (a *Agent) Forget(d *sip.Dialog) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.dialogs, d)
}

func (a *Agent) credentials() *sip.Credentials {
	return &sip.Credentials{Username: a.c.User, Password: a.c.Password}
}

// handler takes what arrives; it keeps these methods out of Agent's own.
type handler struct{ a *Agent }

// Invite implements sip.Handler.
func (h handler) Invite(d *sip.Dialog) { h.a.ev.Incoming(d) }

// Request implements sip.Handler.
func (h handler) Request(r *sip.Request) {
	var err error
	if r.Method() == "OPTIONS" {
		err = r.Respond(200, "OK",
			sip.Header{Name: "Allow", Value: "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE"},
			sip.Header{Name: "Accept", Value: "application/sdp, application/dtmf-relay"})
	} else {
		err = r.Respond(405, "Method Not Allowed",
			sip.Header{Name: "Allow", Value: "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE"})
	}
	if err != nil {
		h.a.log.Debug("request not answered", "method", r.Method(), "err", err)
	}
}

// FlowClosed implements sip.Handler.
func (h handler) FlowClosed(f sip.Flow) {
	select {
	case h.a.closed <- f:
	default: // run asks for the flow's state with its next REGISTER anyway
	}
}

// seconds reads a header of seconds; 0 if it is none.
func seconds(s string) time.Duration {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 24*3600 {
		return 0
	}
	return time.Duration(n) * time.Second
}
