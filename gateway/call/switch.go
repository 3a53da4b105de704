package call

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/registrar"
	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/gateway/trunk"
)

// Errors of the package. The edges turn them into SIP statuses and problems.
var (
	ErrEnded       = errors.New("call has ended")
	ErrUnknown     = errors.New("no such call")
	ErrUnreachable = errors.New("no phone is registered")
	ErrBusy        = errors.New("agent is already in a call")
	ErrState       = errors.New("not possible in the call's state")
	ErrDraining    = errors.New("the gateway is stopping")
	ErrOverload    = errors.New("too many calls at once")
	ErrNoTrunk     = errors.New("no trunk takes the call")
	ErrNoCodec     = errors.New("no common codec")
	ErrOffer       = errors.New("session description cannot be read")
)

// Signalling starts dialogs; *sip.Endpoint satisfies it.
type Signalling interface {
	Invite(ctx context.Context, in sip.Invite, ev sip.Events) (*sip.Dialog, error)
}

// Locator finds the registered phones of an extension.
type Locator interface {
	Bindings(aor string) []registrar.Binding
}

// Carriers finds the trunks that may take a call out, the best first.
type Carriers interface {
	Route(preferred string) []*trunk.Line
}

// Owner routes calls and is told what happens to them. Its methods are called
// on the call's goroutine, in order, and must not block.
type Owner interface {
	// RingResult ends a Ring: exactly one for each agent that was rung.
	RingResult(callID, agent string, r RingResult)
	// Gone says that the call is over.
	Gone(callID string, by event.By, cause string)
	// AgentGone says that an agent was lost in the call and did not come back
	// in time; the customer is still there and hears comfort audio. It reports
	// whether the owner takes the call back; otherwise the call is ended.
	AgentGone(callID, agent string) bool
}

// Options make a Switch.
type Options struct {
	Log        *slog.Logger
	Journal    event.Journal
	Signalling Signalling
	Locator    Locator
	Carriers   Carriers
	Media      *media.Engine
	Sounds     *media.Library
	Recorder   *media.Recorder
	// Recordings is the folder under which dated folders of recordings are made.
	Recordings string
	// Endpoint is the phone that an agent is signed in with at the moment, which
	// after a restart of their app is not the one of before; nil = always that.
	Endpoint func(agent string) (Target, bool)
	// Prompt finds the sound of a prompt for a campaign's callers; nil = the
	// prompt's own name.
	Prompt func(name, campaign string) string
	// SessionExpires is the session timer of the calls that we make (RFC 4028).
	SessionExpires time.Duration
	// AgentCodecs orders the codecs offered to an agent's phone at an address.
	AgentCodecs func(f sip.Flow, customer string) []string
	// ReattachFor is how long a lost agent's call is kept for them (30 s).
	ReattachFor time.Duration
	// Alarm, if given, is told that a recording could not be written, and that
	// recordings can be written again.
	Alarm func(active bool, message string)
	// MaxCalls bounds the calls at once; 0 = no bound.
	MaxCalls int
	Now      func() time.Time
}

// Switch owns all calls of the process.
type Switch struct {
	o   Options
	ctx context.Context //nolint:containedctx // the life of the switch itself, ended by Close
	end context.CancelCauseFunc

	mu       sync.Mutex
	calls    map[string]*Call
	draining bool
	closing  bool
	empty    chan struct{} // closed once no call is left while draining

	recordingAlarm atomic.Bool

	wg sync.WaitGroup // calls and finishing recordings
}

// New makes a Switch whose calls live until they end or ctx does.
func New(ctx context.Context, o Options) (*Switch, error) {
	if o.Log == nil || o.Journal == nil || o.Signalling == nil || o.Media == nil {
		return nil, errors.New("call: log, journal, signalling and media are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Endpoint == nil {
		o.Endpoint = func(string) (Target, bool) { return Target{}, false }
	}
	if o.Prompt == nil {
		o.Prompt = func(name, _ string) string { return name }
	}
	if o.AgentCodecs == nil {
		o.AgentCodecs = func(sip.Flow, string) []string { return nil }
	}
	if o.ReattachFor <= 0 {
		o.ReattachFor = 30 * time.Second
	}
	s := &Switch{o: o, calls: map[string]*Call{}, empty: make(chan struct{})}
	s.ctx, s.end = context.WithCancelCause(context.WithoutCancel(ctx))
	return s, nil
}

// admit registers a new call, or says why there can be none.
func (s *Switch) admit(c *Call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.admitsLocked(c.Urgent); err != nil {
		return err
	}
	s.calls[c.ID] = c
	s.wg.Add(1) // Done by forget
	return nil
}

// admits reports why there can be no new call, before anything is made for it.
func (s *Switch) admits(urgent bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.admitsLocked(urgent)
}

func (s *Switch) admitsLocked(urgent bool) error {
	switch {
	case s.closing, s.draining && !urgent:
		return ErrDraining
	case s.o.MaxCalls > 0 && len(s.calls) >= s.o.MaxCalls && !urgent:
		return ErrOverload
	}
	return nil
}

func (s *Switch) forget(c *Call) {
	s.mu.Lock()
	delete(s.calls, c.ID)
	s.emptiedLocked()
	s.mu.Unlock()
	s.wg.Done()
}

// emptiedLocked tells who drains that no call is left.
func (s *Switch) emptiedLocked() {
	if !s.draining || len(s.calls) > 0 {
		return
	}
	select {
	case <-s.empty:
	default:
		close(s.empty)
	}
}

// find returns a live call or ErrUnknown.
func (s *Switch) find(id string) (*Call, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.calls[id]
	if !ok {
		return nil, ErrUnknown
	}
	return c, nil
}

// all returns the live calls in no order.
func (s *Switch) all() []*Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*Call, 0, len(s.calls))
	for _, c := range s.calls {
		out = append(out, c)
	}
	return out
}

// Alive reports whether a call is live.
func (s *Switch) Alive(id string) bool {
	_, err := s.find(id)
	return err == nil
}

// Draining reports whether new calls are refused.
func (s *Switch) Draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// Count returns how many calls are live.
func (s *Switch) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

// Drain refuses new calls from now on and returns when the last live call has
// ended, or with ctx's cause.
func (s *Switch) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	s.emptiedLocked()
	s.mu.Unlock()
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// DropAll ends all calls with a prompt: the time for draining is over.
func (s *Switch) DropAll(prompt, why string) {
	for _, c := range s.all() {
		c.post(func() { c.drop(prompt, why) })
	}
}

// Close ends the calls that are left and returns when all of them and their
// recordings are finished.
func (s *Switch) Close() error {
	s.mu.Lock()
	s.draining, s.closing = true, true
	s.emptiedLocked()
	s.mu.Unlock()
	for _, c := range s.all() {
		c.post(func() { c.finish(event.BySystem, "gateway stopped", sip.Cause{Code: 503, Text: "gateway stopped"}) })
	}
	s.wg.Wait()
	s.end(context.Canceled)
	return nil
}
