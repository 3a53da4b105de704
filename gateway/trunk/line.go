package trunk

import (
	"context"
	"crypto/rand"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
)

// config is a trunk as it is used.
type config struct {
	Trunk
	host     string // without brackets
	port     int    // 0 if not given
	password string
	ha1      string // of our realm
}

func (c *config) equal(o config) bool {
	return c.Name == o.Name && c.Address == o.Address && c.Transport == o.Transport &&
		slices.Equal(c.Allow, o.Allow) && c.Username == o.Username && c.password == o.password &&
		c.Register == o.Register && slices.Equal(c.Codecs, o.Codecs) && c.SRTP == o.SRTP &&
		c.MaxChannels == o.MaxChannels && c.Priority == o.Priority && c.Country == o.Country &&
		c.TestNumber == o.TestNumber
}

// Line is a trunk at work.
type Line struct {
	t        *Trunks
	cfg      config
	channels *channels
	run      *run

	mu     sync.Mutex
	status Status
	places []place // where the carrier is, the best first
	fails  int     // OPTIONS in a row without answer
	kick   chan struct{}
}

// place is where a carrier is reached: "host:port" and, for the sources that
// belong to it, the addresses of host.
type place struct {
	dest  string
	addrs []netip.Addr
}

// channels counts the calls over a trunk; it outlives a change of the trunk.
type channels struct {
	mu sync.Mutex
	n  int
}

// State says whether a trunk answers.
type State string

// The states of a trunk.
const (
	StateUnknown State = "unknown" // not asked yet
	StateUp      State = "up"
	StateDown    State = "down"
)

// Status is a trunk's state for metrics and people.
type Status struct {
	Name        string
	State       State
	Since       time.Time     // of State
	RTT         time.Duration // of the last OPTIONS answered
	Destination string
	Register    bool // whether it should be registered
	Registered  bool
	Until       time.Time // of the registration
	Channels    int
	MaxChannels int
	LastError   string // of keep-alive or registration, empty when all is well
}

func newLine(t *Trunks, c config, ch *channels) *Line {
	l := &Line{
		t: t, cfg: c, channels: ch, kick: make(chan struct{}, 1),
		status: Status{Name: c.Name, State: StateUnknown, Since: time.Now(), Register: c.Register},
	}
	l.run = newRun(l)
	return l
}

// Name returns the trunk's name.
func (l *Line) Name() string { return l.cfg.Name }

// Codecs returns the trunk's codecs in order of preference.
func (l *Line) Codecs() []string { return slices.Clone(l.cfg.Codecs) }

// SRTP returns how the trunk's media is protected.
func (l *Line) SRTP() SRTP { return l.cfg.SRTP }

// Config returns the trunk as configured.
func (l *Line) Config() Trunk { return l.cfg.Trunk }

// Status returns the trunk's present state.
func (l *Line) Status() Status {
	l.mu.Lock()
	s := l.status
	if len(l.places) > 0 {
		s.Destination = l.places[0].dest
	}
	l.mu.Unlock()
	l.channels.mu.Lock()
	s.Channels = l.channels.n
	l.channels.mu.Unlock()
	s.MaxChannels = l.cfg.MaxChannels
	return s
}

// Healthy reports whether a call may be expected to get through.
func (l *Line) Healthy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status.State != StateDown && (!l.cfg.Register || l.status.Registered)
}

// Acquire takes one of the trunk's channels, in either direction. release may
// be called more than once.
func (l *Line) Acquire() (release func(), err error) {
	c := l.channels
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.cfg.MaxChannels > 0 && c.n >= l.cfg.MaxChannels {
		return nil, ErrFull
	}
	c.n++
	var once sync.Once
	return func() {
		once.Do(func() {
			c.mu.Lock()
			c.n--
			c.mu.Unlock()
		})
	}, nil
}

// credentials answer the carrier's challenges; nil without a user name.
func (l *Line) credentials() *sip.Credentials {
	if l.cfg.Username == "" || l.cfg.password == "" {
		return nil
	}
	return &sip.Credentials{Username: l.cfg.Username, Password: l.cfg.password}
}

// destination is where requests to the carrier go now.
func (l *Line) destination() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.places) > 0 {
		return l.places[0].dest
	}
	return l.cfg.fallback()
}

// run is what works for a line from its beginning to its stop.
type run struct {
	line *Line
	quit chan struct{}
	done chan struct{}
	once sync.Once
	on   bool // of Set only: it was begun
}

func newRun(l *Line) *run {
	return &run{line: l, quit: make(chan struct{}), done: make(chan struct{})}
}

// begin hands the run to the supervisor, unless that has ended.
func (r *run) begin(t *Trunks) {
	select {
	case t.start <- r:
		r.on = true
	case <-t.ended:
	}
}

// signal makes the run end.
func (r *run) signal() { r.once.Do(func() { close(r.quit) }) }

// stop ends the run and waits for it.
func (r *run) stop() {
	r.signal()
	if r.on {
		<-r.done
	}
}

// work runs the line until ctx ends or stop.
func (r *run) work(ctx context.Context) {
	defer close(r.done)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-r.quit:
			cancel()
		case <-ctx.Done():
		}
	})
	r.line.work(ctx)
	cancel()
	wg.Wait()
}

// work runs the line until ctx ends.
func (l *Line) work(ctx context.Context) {
	l.resolve(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { l.keepAlive(ctx) })
	if l.cfg.Register {
		wg.Go(func() { l.register(ctx) })
	}
	wg.Wait()
}

// newSecret is 32 random bytes.
func newSecret() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails, it ends the program instead
	return b
}
