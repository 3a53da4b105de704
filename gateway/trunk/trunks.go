package trunk

import (
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // HA1 of RFC 7616 with MD5
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
)

// Errors of the package.
var (
	// ErrUnknown means that a request's source is no trunk: respond 403.
	ErrUnknown = errors.New("source is no trunk")
	// ErrSilence wraps ErrUnknown once a source has had its few answers: it
	// deserves none any more.
	ErrSilence = fmt.Errorf("no answer: %w", ErrUnknown)
	// ErrFull means that all channels of a trunk are taken.
	ErrFull = errors.New("all channels of the trunk are taken")
	// ErrOptions is wrapped by the errors of New and Set about wrong values.
	ErrOptions = errors.New("trunk options")
)

// Sender sends requests outside of dialogs; *sip.Endpoint does.
type Sender interface {
	Send(ctx context.Context, o sip.Outgoing) (sip.Response, error)
}

// Resolver looks names up; *net.Resolver does.
type Resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options configure Trunks. Endpoint is required.
type Options struct {
	Log      *slog.Logger
	Endpoint Sender
	Resolver Resolver // default: the system's
	// Realm and Secret are those of our challenges to trunks without a fixed
	// address (default realm cordboard, random secret).
	Realm  string
	Secret []byte
	// Unseal opens Trunk.SealedPassword; required if a trunk has one.
	Unseal func(sealed []byte) ([]byte, error)
	// Contact is the host[:port] at which carriers reach us over a transport,
	// for registrations and From.
	Contact func(t Transport) string
	// Normalize makes a number comparable (campaign.Normalize); default: its
	// digits.
	Normalize func(country, number string) string
	// Country is that of trunks without one.
	Country string
	// OnState is told when a trunk comes up or goes down. It must not block.
	OnState func(Status)
	Timing  Timing
}

// Timing bounds how often and how long things are tried. Zero means the
// default named with each.
type Timing struct {
	KeepAlive   time.Duration // between OPTIONS: 30 s
	Timeout     time.Duration // of one OPTIONS: 5 s
	Failures    int           // OPTIONS in a row without answer until down: 3
	Expires     time.Duration // asked for in REGISTER: 10 min
	RetryFirst  time.Duration // first wait after a failed REGISTER: 5 s
	RetryMost   time.Duration // longest wait: 5 min
	Strangers   int           // answers to an unknown source at once: 5
	StrangerGap time.Duration // until it gets one more: 1 min
}

func (t Timing) withDefaults() Timing {
	return Timing{
		KeepAlive:   cmp.Or(t.KeepAlive, 30*time.Second),
		Timeout:     cmp.Or(t.Timeout, 5*time.Second),
		Failures:    cmp.Or(t.Failures, 3),
		Expires:     cmp.Or(t.Expires, 10*time.Minute),
		RetryFirst:  cmp.Or(t.RetryFirst, 5*time.Second),
		RetryMost:   cmp.Or(t.RetryMost, 5*time.Minute),
		Strangers:   cmp.Or(t.Strangers, 5),
		StrangerGap: cmp.Or(t.StrangerGap, time.Minute),
	}
}

// Trunks are all carriers. Safe for concurrent use.
type Trunks struct {
	o         Options
	log       *slog.Logger
	auth      *sip.Authenticator
	strangers *strangers
	start     chan *run
	ended     chan struct{} // the supervisor takes no more
	cancel    context.CancelFunc
	wg        sync.WaitGroup

	setting sync.Mutex // of Set, held while runs stop
	mu      sync.RWMutex
	lines   map[string]*Line
	sorted  []*Line           // by priority, then name
	ha1     map[string]string // by digest user
}

// New makes Trunks without any. They work until ctx ends or Close.
func New(ctx context.Context, o Options) (*Trunks, error) {
	if o.Endpoint == nil {
		return nil, fmt.Errorf("%w: no endpoint", ErrOptions)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Resolver == nil {
		o.Resolver = &net.Resolver{}
	}
	if o.Normalize == nil {
		o.Normalize = plainDigits
	}
	if o.Contact == nil {
		o.Contact = func(Transport) string { return "localhost" }
	}
	if o.OnState == nil {
		o.OnState = func(Status) {}
	}
	o.Realm = cmp.Or(o.Realm, "cordboard")
	o.Timing = o.Timing.withDefaults()
	if o.Secret == nil {
		o.Secret = newSecret()
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &Trunks{
		o: o, log: o.Log.With("component", "trunk"), cancel: cancel,
		strangers: newStrangers(o.Timing.Strangers, o.Timing.StrangerGap),
		start:     make(chan *run),
		ended:     make(chan struct{}),
		lines:     make(map[string]*Line),
		ha1:       make(map[string]string),
	}
	t.auth = sip.NewAuthenticator(o.Realm, o.Secret, t.lookup, sip.AuthOptions{})
	t.wg.Go(func() { t.supervise(ctx) })
	return t, nil
}

// Close ends registrations and keep-alives and waits for them.
func (t *Trunks) Close() error {
	t.cancel()
	t.wg.Wait()
	return nil
}

// supervise starts what works for each trunk, under one context.
func (t *Trunks) supervise(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(t.ended)
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-t.start:
			wg.Go(func() { r.work(ctx) })
		}
	}
}

// Set makes the trunks be exactly those given. A trunk that did not change
// keeps its state, registration and channels; one that did keeps its channels.
func (t *Trunks) Set(trunks []Trunk) error {
	t.setting.Lock()
	defer t.setting.Unlock()
	next := make(map[string]*Line, len(trunks))
	ha1 := make(map[string]string)
	var old, fresh []*Line
	for _, c := range trunks {
		cfg, err := t.config(c)
		if err != nil {
			return err
		}
		if next[c.Name] != nil {
			return fmt.Errorf("%w: trunk %q given twice", ErrOptions, c.Name)
		}
		if cfg.ha1 != "" && len(c.Allow) == 0 {
			if _, twice := ha1[c.Username]; twice {
				return fmt.Errorf("%w: user name of trunk %q is another's", ErrOptions, c.Name)
			}
			ha1[c.Username] = cfg.ha1
		}
		l := t.line(c.Name)
		switch {
		case l == nil:
			l = newLine(t, cfg, &channels{})
			fresh = append(fresh, l)
		case !cfg.equal(l.cfg):
			old = append(old, l)
			l = newLine(t, cfg, l.channels)
			fresh = append(fresh, l)
		}
		next[c.Name] = l
	}
	t.mu.Lock()
	for name, l := range t.lines {
		if next[name] == nil {
			old = append(old, l)
		}
	}
	t.lines, t.ha1 = next, ha1
	t.sorted = t.sorted[:0:0]
	for _, l := range next {
		t.sorted = append(t.sorted, l)
	}
	slices.SortFunc(t.sorted, func(a, b *Line) int {
		return cmp.Or(cmp.Compare(a.cfg.Priority, b.cfg.Priority), cmp.Compare(a.cfg.Name, b.cfg.Name))
	})
	t.mu.Unlock()
	for _, l := range old {
		l.run.signal()
	}
	for _, l := range old {
		l.run.stop()
	}
	for _, l := range fresh {
		l.run.begin(t)
	}
	return nil
}

// line returns a trunk by name, nil if there is none.
func (t *Trunks) line(name string) *Line {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.lines[name]
}

// all returns the trunks by priority.
func (t *Trunks) all() []*Line {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.sorted
}

// Line returns a trunk by name.
func (t *Trunks) Line(name string) (*Line, bool) {
	l := t.line(name)
	return l, l != nil
}

// Route returns the trunks that may take a call out, the best first: healthy
// ones before others, among them the preferred, then by priority.
func (t *Trunks) Route(preferred string) []*Line {
	lines := slices.Clone(t.all())
	rank := func(l *Line) int {
		n := 0
		if !l.Healthy() {
			n += 2
		}
		if l.cfg.Name != preferred {
			n++
		}
		return n
	}
	ranks := make(map[*Line]int, len(lines))
	for _, l := range lines {
		ranks[l] = rank(l)
	}
	slices.SortStableFunc(lines, func(a, b *Line) int { return cmp.Compare(ranks[a], ranks[b]) })
	return lines
}

// Status returns the state of every trunk, by priority.
func (t *Trunks) Status() []Status {
	lines := t.all()
	out := make([]Status, len(lines))
	for i, l := range lines {
		out[i] = l.Status()
	}
	return out
}

// lookup returns the HA1 that a trunk without fixed address proves itself with.
func (t *Trunks) lookup(_ context.Context, user string) (string, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	h, ok := t.ha1[user]
	return h, ok
}

// config checks a trunk and opens its password.
func (t *Trunks) config(c Trunk) (config, error) {
	cfg := config{Trunk: c}
	if c.Name == "" || c.Address == "" {
		return cfg, fmt.Errorf("%w: trunk %q needs a name and an address", ErrOptions, c.Name)
	}
	cfg.Transport = cmp.Or(c.Transport, UDP)
	cfg.Country = cmp.Or(c.Country, t.o.Country)
	var err error
	if cfg.host, cfg.port, err = splitAddress(c.Address); err != nil {
		return cfg, fmt.Errorf("trunk %s: %w", c.Name, err)
	}
	if len(c.SealedPassword) > 0 {
		if t.o.Unseal == nil {
			return cfg, fmt.Errorf("%w: trunk %s has a password and nothing opens it", ErrOptions, c.Name)
		}
		p, err := t.o.Unseal(c.SealedPassword)
		if err != nil {
			return cfg, fmt.Errorf("trunk %s: open password: %w", c.Name, err)
		}
		cfg.password = string(p)
	}
	if c.Username != "" && cfg.password != "" {
		h := md5.Sum([]byte(c.Username + ":" + t.o.Realm + ":" + cfg.password)) //nolint:gosec // named by the RFC
		cfg.ha1 = hex.EncodeToString(h[:])
	}
	if c.Register && cfg.ha1 == "" {
		return cfg, fmt.Errorf("%w: trunk %s cannot register without user name and password", ErrOptions, c.Name)
	}
	return cfg, nil
}
