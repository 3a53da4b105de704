package turn

import (
	"context"
	"crypto/md5" //nolint:gosec // the long-term key of RFC 8489 section 9.2.2 is an MD5
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Options configure a Server. At least one of UDP, TCP and TLS is needed; the
// server owns them from then on and closes them.
type Options struct {
	Log   *slog.Logger
	Realm string

	UDP net.PacketConn // must be a *net.UDPConn
	TCP net.Listener
	TLS net.Listener // yields TLS connections already

	// Key returns the long-term key of a user whose credential is alive, see
	// Key. It is called on the packet-reading goroutine: it must not block.
	// Once it says no, the user makes no new allocation; a live one goes on
	// to its end, at most Limits.EndedFor.
	Key func(user string) (key []byte, ok bool)

	// Relay is the local address on which relay sockets are opened. Public is
	// what clients are told instead of it (default: Relay).
	Relay  netip.Addr
	Public netip.Addr

	// PeerAddr and PeerPorts are all that a client may reach: the gateway's
	// own media as clients see it. PeerLocal is where its packets are really
	// sent to, for a gateway behind an address translator (default: PeerAddr).
	PeerAddr  netip.Addr
	PeerLocal netip.Addr
	PeerPorts []PortRange

	Limits Limits
}

// PortRange is a range of UDP ports, both ends included.
type PortRange struct{ First, Last uint16 }

// Limits bound what clients may use. Zero means the default named with each.
type Limits struct {
	Quota        int           // allocations of one user: 8
	Allocations  int           // in all: 4000
	RatePerAddr  float64       // requests per second from one address before they are dropped: 100
	Burst        int           // requests at once from one address: 400
	Sources      int           // source addresses remembered by the rate limiter: 65536
	Conns        int           // TCP and TLS connections in all: 4000
	ConnsPerAddr int           // TCP and TLS connections of one address: 200
	Idle         time.Duration // a connection without allocation ends after: 15 s
	Frame        time.Duration // a message begun must be complete within, and a write be taken within: 5 s
	EndedFor     time.Duration // how long a live allocation outlasts its credential: 4 h
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	dur := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Quota, 8)
	def(&l.Allocations, 4000)
	def(&l.Burst, 400)
	def(&l.Sources, 65536)
	def(&l.Conns, 4000)
	def(&l.ConnsPerAddr, 200)
	if l.RatePerAddr <= 0 {
		l.RatePerAddr = 100
	}
	dur(&l.Idle, 15*time.Second)
	dur(&l.Frame, 5*time.Second)
	dur(&l.EndedFor, 4*time.Hour)
	return l
}

// ErrOptions is wrapped by the errors of New that come from wrong options.
var ErrOptions = errors.New("turn options")

// Key computes the long-term key of a user (RFC 8489 section 9.2.2).
func Key(user, realm, password string) []byte {
	h := md5.Sum([]byte(user + ":" + realm + ":" + password)) //nolint:gosec // named by the RFC
	return h[:]
}

// Server is a running STUN and TURN server.
type Server struct {
	o       Options
	log     *slog.Logger
	peers   peers
	lim     *limiter
	stats   counters
	noKey   []byte // checked against for unknown users, so that they cost and answer the same
	udp     *udpFront
	loop    *loop // nil where there is none
	done    chan struct{}
	wg      sync.WaitGroup
	closing sync.Once

	mu      sync.Mutex
	byUser  map[string]int
	allocs  int
	conns   map[*streamFront]struct{}
	perAddr map[netip.Addr]int
	relays  map[*relay]struct{}
	closed  bool
}

// New starts a server on the sockets it was given.
func New(o Options) (*Server, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := &Server{
		o:       o,
		log:     o.Log.With("component", "turn"),
		peers:   peers{addr: o.PeerAddr, local: o.PeerLocal, ports: o.PeerPorts},
		lim:     newLimiter(o.Limits.RatePerAddr, o.Limits.Burst, o.Limits.Sources),
		noKey:   make([]byte, md5.Size),
		done:    make(chan struct{}),
		byUser:  make(map[string]int),
		conns:   make(map[*streamFront]struct{}),
		perAddr: make(map[netip.Addr]int),
		relays:  make(map[*relay]struct{}),
	}
	if _, err := rand.Read(s.noKey); err != nil {
		return nil, fmt.Errorf("turn: random key: %w", err)
	}
	if o.UDP != nil {
		if err := s.serveUDP(o.UDP); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	for _, l := range []net.Listener{o.TCP, o.TLS} {
		if l != nil {
			s.wg.Go(func() { s.accept(l) })
		}
	}
	s.wg.Go(s.tick)
	return s, nil
}

func (o *Options) complete() error {
	o.Limits = o.Limits.withDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.UDP == nil && o.TCP == nil && o.TLS == nil {
		return fmt.Errorf("%w: no listener", ErrOptions)
	}
	if o.Realm == "" || o.Key == nil {
		return fmt.Errorf("%w: realm and key are needed", ErrOptions)
	}
	if !o.Relay.IsValid() || !o.PeerAddr.IsValid() {
		return fmt.Errorf("%w: relay and peer address are needed", ErrOptions)
	}
	if !o.Public.IsValid() {
		o.Public = o.Relay
	}
	if !o.PeerLocal.IsValid() {
		o.PeerLocal = o.PeerAddr
	}
	for _, a := range []*netip.Addr{&o.Relay, &o.Public, &o.PeerAddr, &o.PeerLocal} {
		*a = a.Unmap()
		if a.IsUnspecified() {
			return fmt.Errorf("%w: an address is unspecified", ErrOptions)
		}
	}
	if o.Relay.Is4() != o.PeerLocal.Is4() || o.Public.Is4() != o.PeerAddr.Is4() {
		return fmt.Errorf("%w: relay %s cannot reach peer %s", ErrOptions, o.Relay, o.PeerLocal)
	}
	if len(o.PeerPorts) == 0 {
		return fmt.Errorf("%w: no peer port", ErrOptions)
	}
	for _, r := range o.PeerPorts {
		if r.First == 0 || r.Last < r.First {
			return fmt.Errorf("%w: peer ports %d-%d", ErrOptions, r.First, r.Last)
		}
	}
	return nil
}

// Close ends all allocations and connections and waits for them. It may be
// called more than once.
func (s *Server) Close() error {
	s.closing.Do(func() {
		close(s.done)
		s.mu.Lock()
		s.closed = true
		conns := make([]*streamFront, 0, len(s.conns))
		for c := range s.conns {
			conns = append(conns, c)
		}
		s.mu.Unlock()
		for _, l := range []net.Listener{s.o.TCP, s.o.TLS} {
			if l != nil {
				s.closeQuietly(l)
			}
		}
		if s.udp != nil {
			s.closeQuietly(s.udp)
		}
		for _, c := range conns {
			s.closeQuietly(c)
		}
		if s.loop != nil {
			s.loop.end()
		}
	})
	s.wg.Wait()
	return nil
}

func (s *Server) closeQuietly(c interface{ Close() error }) {
	if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Debug("turn close", "err", err)
	}
}

// tick forgets channels that were not refreshed and sources that went quiet.
func (s *Server) tick() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-s.done:
			return
		case now := <-t.C:
			s.mu.Lock()
			relays := make([]*relay, 0, len(s.relays))
			for r := range s.relays {
				relays = append(relays, r)
			}
			s.mu.Unlock()
			for _, r := range relays {
				r.expire(now)
			}
			s.lim.sweep(now)
		}
	}
}

// debugEnabled spares the packet path the making of arguments.
func (s *Server) debugEnabled() bool {
	return s.log.Enabled(context.TODO(), slog.LevelDebug) //nolint:forbidigo // asks for the level only; pion's logger has no context
}
