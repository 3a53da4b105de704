package sip

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Endpoint sends and receives SIP over any number of sockets. Safe for
// concurrent use.
type Endpoint struct {
	o     Options
	log   *slog.Logger
	stamp string // makes flow IDs unique beyond this endpoint
	seq   atomic.Uint64

	mu      sync.Mutex
	closing bool // nothing new is taken
	closed  bool // no goroutine is started any more
	sockets map[io.Closer]struct{}
	wg      sync.WaitGroup
	ctx     context.Context //nolint:containedctx // the endpoint's own lifetime, ended by Close
	cancel  context.CancelFunc

	net     network
	txs     transactions
	dialogs dialogTable
	slots   chan struct{} // one for each request being handled
}

// New makes an endpoint without sockets.
func New(o Options) (*Endpoint, error) {
	if o.Handler == nil {
		return nil, errors.New("sip endpoint: no handler")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	setDefault(&o.MaxMessage, 64<<10)
	setDefault(&o.MaxConns, 20_000)
	setDefault(&o.MaxConnsPerIP, 2_000)
	setDefault(&o.FirstMessageTimeout, 10*time.Second)
	setDefault(&o.PingInterval, 30*time.Second)
	setDefault(&o.T1, 500*time.Millisecond)
	setDefault(&o.MinSE, 90*time.Second)
	setDefault(&o.MaxRequests, 4096)
	if o.ClientTLS == nil {
		o.ClientTLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	e := &Endpoint{
		o:       o,
		log:     o.Log,
		stamp:   randomHex(4),
		sockets: make(map[io.Closer]struct{}),
		slots:   make(chan struct{}, o.MaxRequests),
	}
	e.net.init()
	e.txs.init()
	e.dialogs.init()
	e.ctx, e.cancel = context.WithCancel(context.Background()) //nolint:forbidigo // ends with Close, not with a caller
	e.wg.Add(1)                                                // held until Close, so that Add never races Wait
	if !e.spawn(e.ping) {
		return nil, ErrClosed
	}
	return e, nil
}

func setDefault[T ~int | ~int64](p *T, v T) {
	if *p <= 0 {
		*p = v
	}
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// spawn runs fn on a goroutine that Close waits for.
func (e *Endpoint) spawn(fn func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.wg.Go(fn)
	return true
}

// register keeps a socket for Close, which waits until unregister. It reports
// false when it is too late.
func (e *Endpoint) register(c io.Closer) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing {
		return false
	}
	e.sockets[c] = struct{}{}
	e.wg.Add(1)
	return true
}

func (e *Endpoint) unregister(c io.Closer) {
	e.mu.Lock()
	delete(e.sockets, c)
	e.mu.Unlock()
	e.wg.Done()
}

func (e *Endpoint) isClosing() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closing
}

func (e *Endpoint) nextID() string {
	return e.stamp + "-" + strconv.FormatUint(e.seq.Add(1), 36)
}

// Close ends all dialogs (their Events get Ended), closes all sockets and
// waits for everything. It must not be called from a callback. Idempotent.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if e.closing {
		e.mu.Unlock()
		e.wg.Wait()
		return nil
	}
	e.closing = true
	socks := make([]io.Closer, 0, len(e.sockets))
	for s := range e.sockets {
		socks = append(socks, s)
	}
	e.mu.Unlock()

	e.cancel()
	for _, d := range e.dialogs.list() {
		d.post(func() { d.end(Cause{Kind: KindTransportLost, Err: ErrClosed}) })
		<-d.done
	}
	for _, s := range socks {
		_ = s.Close()
	}
	for _, l := range e.net.list() {
		l.close(ErrClosed)
	}
	e.txs.closeAll()
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.wg.Done()
	e.wg.Wait()
	return nil
}

// CloseFlow closes a connection; unknown flows are ignored.
func (e *Endpoint) CloseFlow(f Flow) {
	if l := e.net.link(f.ID); l != nil {
		l.close(nil)
	}
}

// Connections returns how many connections are open.
func (e *Endpoint) Connections() int { return e.net.count() }

// ping pings idle WebSockets: a peer that vanished without closing would keep
// its registration otherwise.
func (e *Endpoint) ping() {
	t := time.NewTicker(max(e.o.PingInterval/8, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case now := <-t.C:
			for _, l := range e.net.list() {
				l.pingIfIdle(now, e.o.PingInterval)
			}
		}
	}
}

// network knows the open connections and UDP sockets.
type network struct {
	mu     sync.Mutex
	links  map[string]*link // by flow ID
	perIP  map[netip.Addr]int
	total  int              // accepted ones
	dialed map[string]*link // ours, by transport and destination
	udp    []*udpSocket
}

func (n *network) init() {
	n.links = make(map[string]*link)
	n.perIP = make(map[netip.Addr]int)
	n.dialed = make(map[string]*link)
}

func (n *network) link(id string) *link {
	if id == "" {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.links[id]
}

func (n *network) list() []*link {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]*link, 0, len(n.links))
	for _, l := range n.links {
		out = append(out, l)
	}
	return out
}

func (n *network) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.links)
}

// admit counts an accepted connection of an address; false means too many.
func (n *network) admit(a netip.Addr, total, perIP int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.total >= total || n.perIP[a] >= perIP {
		return false
	}
	n.total++
	n.perIP[a]++
	return true
}

func (n *network) leave(a netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.total--
	if n.perIP[a]--; n.perIP[a] <= 0 {
		delete(n.perIP, a)
	}
}

func (n *network) add(l *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[l.flow.ID] = l
	if l.dialKey != "" {
		n.dialed[l.dialKey] = l
	}
}

func (n *network) remove(l *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.links, l.flow.ID)
	if n.dialed[l.dialKey] == l {
		delete(n.dialed, l.dialKey)
	}
}

// udpFor returns the UDP socket of a local address, else one of the family.
func (n *network) udpFor(local netip.AddrPort, remote netip.Addr) *udpSocket {
	n.mu.Lock()
	defer n.mu.Unlock()
	var fit *udpSocket
	for _, s := range n.udp {
		if local.IsValid() && s.local == local {
			return s
		}
		if fit == nil && (s.local.Addr().Is4() == remote.Is4() || s.local.Addr() == netip.IPv6Unspecified()) {
			fit = s
		}
	}
	if local.IsValid() {
		return nil
	}
	return fit
}

// connOf returns the connection that a flow names, or ErrFlowGone: never
// another, and never a new one.
func (e *Endpoint) connOf(f Flow) (conn, error) {
	if f.Transport == transportUDP {
		s := e.net.udpFor(f.Local, f.Remote.Addr())
		if s == nil {
			return nil, fmt.Errorf("udp %s: %w", f.Local, ErrFlowGone)
		}
		return &udpPeer{sock: s, remote: f.Remote}, nil
	}
	if l := e.net.link(f.ID); l != nil {
		return l, nil
	}
	return nil, fmt.Errorf("%s %s: %w", f.Transport, f.Remote, ErrFlowGone)
}
