package softphone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/softphone/audio"
	"github.com/cordboard/cordboard/softphone/rtc"
	"github.com/cordboard/cordboard/softphone/ua"
)

const (
	defaultCalls = 8
	defaultStats = 5 * time.Second
)

// Phone is one registered phone. Its methods are safe for concurrent use.
type Phone struct {
	c      Config
	log    *slog.Logger
	agent  *ua.Agent
	media  *rtc.Engine
	events *queue
	begin  chan *call // calls to be run, taken by the phone's goroutine
	look   func() ([]netip.Addr, error)
	every  time.Duration
	done   chan struct{}
	told   chan struct{}

	mu      sync.Mutex
	calls   map[CallID]*call
	started bool
	closed  bool
	stop    context.CancelFunc
}

// DialOptions of one call.
type DialOptions struct {
	// Headers are added to the INVITE.
	Headers map[string]string
}

// New checks the configuration and makes a phone that does nothing until Start.
func New(c Config) (*Phone, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Device == nil {
		c.Device = audio.Null{}
	}
	if c.MaxCalls <= 0 {
		c.MaxCalls = defaultCalls
	}
	if c.StatsEvery <= 0 {
		c.StatsEvery = defaultStats
	}
	if c.OnEvent == nil {
		c.OnEvent = func(Event) {}
	}
	media, err := rtc.NewEngine(rtc.Options{
		Log: c.Log, Codecs: c.Codecs, RelayOnly: c.RelayOnly, Loopback: isLoopback(c.Server), TLS: c.TLS,
	})
	if err != nil {
		return nil, fmt.Errorf("media: %w", errors.Join(ErrConfig, err))
	}
	p := &Phone{
		c: c, log: c.Log, media: media, events: newQueue(), begin: make(chan *call), look: addresses,
		every: watchEvery, done: make(chan struct{}), told: make(chan struct{}), calls: map[CallID]*call{},
	}
	if err := p.SetServers(c.Servers); err != nil {
		return nil, err
	}
	p.agent, err = ua.New(ua.Config{
		Log: c.Log, Server: c.Server, User: c.User, Password: c.Password, AoR: c.AoR, Domain: c.Domain,
		DisplayName: c.DisplayName, TLS: c.TLS, Expires: c.Expires, UserAgent: c.UserAgent,
	}, signalling{p})
	if err != nil {
		return nil, fmt.Errorf("signalling: %w", errors.Join(ErrConfig, err))
	}
	return p, nil
}

func isLoopback(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(u.Hostname())
	return strings.EqualFold(u.Hostname(), "localhost") || err == nil && a.IsLoopback()
}

// SetServers sets the STUN and TURN servers of calls that begin from now on, and of new paths of those that live.
func (p *Phone) SetServers(servers []Server) error {
	out := make([]rtc.Server, len(servers))
	for i, s := range servers {
		out[i] = rtc.Server{URLs: s.URLs, Username: s.Username, Password: s.Password}
	}
	if err := p.media.SetServers(out); err != nil {
		return fmt.Errorf("ice servers: %w", errors.Join(ErrConfig, err))
	}
	return nil
}

// Start connects and registers in the background. The phone works until Close; the end of ctx hangs up all calls.
func (p *Phone) Start(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started || p.closed {
		return ErrClosed
	}
	p.started = true
	ctx, p.stop = context.WithCancel(ctx)
	go func() {
		defer close(p.told)
		p.events.run(p.c.OnEvent)
	}()
	go func() {
		defer close(p.done)
		p.run(ctx)
	}()
	return nil
}

// run owns the goroutines of the phone.
func (p *Phone) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { watch(ctx, p.every, p.look, p.networkChanged) })
	// Signalling outlives ctx, so that calls can say goodbye.
	if err := p.agent.Start(context.WithoutCancel(ctx)); err != nil {
		p.events.put(Problem{Err: err})
	}
	for {
		select {
		case c := <-p.begin:
			wg.Go(func() { c.run(ctx) })
			continue
		case <-ctx.Done():
		}
		break
	}
	wg.Wait()
	if err := p.agent.Close(); err != nil {
		p.log.WarnContext(ctx, "phone not closed cleanly", "err", err)
	}
}

// Close hangs up all calls, unregisters and waits. It is idempotent; it must not be called from OnEvent.
func (p *Phone) Close() error {
	p.mu.Lock()
	p.closed = true
	started, stop := p.started, p.stop
	p.mu.Unlock()
	if !started {
		if err := p.agent.Close(); err != nil {
			return fmt.Errorf("close phone: %w", err)
		}
		return nil
	}
	stop()
	<-p.done
	p.events.close()
	<-p.told
	return nil
}

// Registered reports whether calls can be placed.
func (p *Phone) Registered() bool { return p.agent.Registered() }

// Dial calls a number or SIP URI. It returns at once; what becomes of the call is told by events.
func (p *Phone) Dial(to string, o DialOptions) (CallID, error) {
	if !p.agent.Registered() {
		return "", ErrNotRegistered
	}
	c := newCall(p, CallID(uuid.NewString()))
	c.dialled = true
	if err := p.add(c, nil); err != nil {
		return "", err
	}
	if p.c.HoldOthers {
		p.holdOthers(c.id)
	}
	headers := make([]sip.Header, 0, len(o.Headers))
	for k, v := range o.Headers {
		headers = append(headers, sip.Header{Name: k, Value: v})
	}
	slices.SortFunc(headers, func(a, b sip.Header) int { return cmp.Compare(a.Name, b.Name) })
	c.post(func(ctx context.Context) { c.dial(ctx, to, headers) })
	return c.id, nil
}

// Answer takes an incoming call.
func (p *Phone) Answer(id CallID) error {
	c, err := p.call(id)
	if err != nil {
		return err
	}
	if !c.answerable() {
		return ErrState
	}
	if p.c.HoldOthers {
		p.holdOthers(id)
	}
	c.post(c.answer)
	return nil
}

// Reject refuses an incoming call: with 486 (busy here) if code is 0.
func (p *Phone) Reject(id CallID, code int) error {
	c, err := p.call(id)
	if err != nil {
		return err
	}
	if !c.answerable() {
		return ErrState
	}
	if code < 400 || code > 699 {
		code = 486
	}
	c.end(outcome{cause: CauseRejected, code: code, normal: true, local: true})
	return nil
}

// Hangup ends a call in any state, at once.
func (p *Phone) Hangup(id CallID) error {
	c, err := p.call(id)
	if err != nil {
		return err
	}
	c.end(outcome{cause: CauseHangup, normal: true, local: true})
	return nil
}

// Hold puts a call on hold: the microphone is silent at once, the far side is told.
func (p *Phone) Hold(id CallID) error { return p.setHold(id, true) }

// Unhold goes on with a call.
func (p *Phone) Unhold(id CallID) error {
	if p.c.HoldOthers {
		p.holdOthers(id)
	}
	return p.setHold(id, false)
}

func (p *Phone) setHold(id CallID, on bool) error {
	c, err := p.call(id)
	if err != nil {
		return err
	}
	if !c.talking() {
		return ErrState
	}
	c.wantHold.Store(on)
	c.post(c.hold)
	return nil
}

func (p *Phone) holdOthers(id CallID) {
	p.mu.Lock()
	others := make([]CallID, 0, len(p.calls))
	for other, c := range p.calls {
		if other != id && c.talking() {
			others = append(others, other)
		}
	}
	p.mu.Unlock()
	for _, other := range others {
		if err := p.setHold(other, true); err != nil {
			p.log.Debug("other call not held", "call_id", string(other), "err", err)
		}
	}
}

// Mute silences the microphone of a call, at once; the far side is not told.
func (p *Phone) Mute(id CallID, on bool) error {
	c, err := p.call(id)
	if err != nil {
		return err
	}
	c.muted.Store(on)
	return nil
}

// SendDTMF presses keys (0-9 * # A-D; a comma waits half a second). It does not wait for their end.
func (p *Phone) SendDTMF(id CallID, digits string) error {
	c, err := p.call(id)
	if err != nil {
		return err
	}
	return c.press(digits)
}

// Quality returns the figures of a call in progress.
func (p *Phone) Quality(id CallID) (Quality, error) {
	c, err := p.call(id)
	if err != nil {
		return Quality{}, err
	}
	return c.quality(), nil
}

// add starts a call. first, if any, is the first event of the call.
func (p *Phone) add(c *call, first Event) error {
	p.mu.Lock()
	if p.closed || !p.started {
		p.mu.Unlock()
		return ErrClosed
	}
	if len(p.calls) >= p.c.MaxCalls {
		p.mu.Unlock()
		return ErrTooMany
	}
	p.calls[c.id] = c
	p.mu.Unlock()
	if first != nil {
		p.events.put(first)
	}
	select {
	case p.begin <- c:
		return nil
	case <-p.done:
		p.remove(c.id)
		return ErrClosed
	}
}

func (p *Phone) remove(id CallID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, id)
}

func (p *Phone) call(id CallID) (*call, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.calls[id]
	if !ok {
		return nil, ErrNoCall
	}
	return c, nil
}

func (p *Phone) each(fn func(*call)) {
	p.mu.Lock()
	all := make([]*call, 0, len(p.calls))
	for _, c := range p.calls {
		all = append(all, c)
	}
	p.mu.Unlock()
	for _, c := range all {
		fn(c)
	}
}

// networkChanged looks whether the gateway is still reached, and for new paths of all calls.
func (p *Phone) networkChanged() {
	p.log.Info("network of this machine changed")
	p.agent.Check()
	p.each(func(c *call) { c.post(c.repath) })
}

// signalling is how the phone hears of its agent.
type signalling struct{ p *Phone }

// Registered implements ua.Events.
func (s signalling) Registered(expires time.Duration) {
	s.p.events.put(Registered{Expires: expires})
	s.p.each(func(c *call) { c.post(c.reachable) })
}

// Unregistered implements ua.Events.
func (s signalling) Unregistered(err error, retry time.Duration) {
	if errors.Is(err, ua.ErrCredentials) {
		err = errors.Join(ErrCredentials, err)
	}
	s.p.events.put(Unregistered{Err: err, RetryIn: retry})
	s.p.each(func(c *call) { c.post(c.unreachable) })
}

// Incoming implements ua.Events.
func (s signalling) Incoming(d *sip.Dialog) { s.p.incoming(d) }
