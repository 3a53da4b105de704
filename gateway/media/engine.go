package media

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of the engine and its ports.
var (
	// ErrClosed says that the port or engine is closed.
	ErrClosed = errors.New("media is closed")
	// ErrNoCommonCodec says that the far side speaks no codec that we may use: SIP 488.
	ErrNoCommonCodec = errors.New("no common codec")
	// ErrNoPorts says that every port of the configured range is in use.
	ErrNoPorts = errors.New("no free rtp port")
	// ErrNotEncrypted says that one side wants SRTP and the other does not: SIP 488.
	ErrNotEncrypted = errors.New("media encryption does not match")
	// ErrDescription says that a description lacks what its kind of leg needs: SIP 488.
	ErrDescription = errors.New("unusable media description")
	// ErrInterrupted says that a source was replaced before its end.
	ErrInterrupted = errors.New("playing was interrupted")
	// ErrDTLS says that the DTLS handshake of a WebRTC leg failed.
	ErrDTLS = errors.New("dtls failed")
	// ErrState says that the call does not fit the state of the offer and answer exchange.
	ErrState = errors.New("no offer is pending")
	// ErrNoWebRTC says that the engine was made without a WebRTC socket.
	ErrNoWebRTC = errors.New("webrtc is not configured")
	// ErrNoDTMF says that digits cannot be sent on this port.
	ErrNoDTMF = errors.New("no way to send digits was negotiated")
)

// Options of an Engine.
type Options struct {
	// Log gets what a person should see; packets are never logged.
	Log *slog.Logger
	// Host is the address that descriptions and candidates name.
	Host netip.Addr
	// Hosts are further addresses offered as ICE candidates only (a private beside a public one).
	Hosts []netip.Addr
	// Bind is the address that RTP sockets are bound to; zero is every address.
	Bind netip.Addr
	// RTPPorts bounds the ports of RTP legs, both ends included (10000 to 20000 when zero).
	RTPPorts [2]uint16
	// WebRTC is the one UDP socket of all WebRTC legs; nil turns WebRTC off. Close does not close it.
	WebRTC net.PacketConn
	// WebRTCPort is the advertised port when it is not the socket's own (port forwarding).
	WebRTCPort uint16
	// Certificate is used for DTLS; made by New when nil.
	Certificate *tls.Certificate
}

// firstSource is the first number of a route or player; those below are ours.
const firstSource = 16

// Engine owns the sockets, ports and shards of a gateway's media.
type Engine struct {
	o      Options
	log    *slog.Logger
	start  time.Time // zero of nanos
	pool   *portPool
	mux    *webrtcMux
	shards []*shard
	loops  []*loop // none where a goroutine reads each socket
	done   chan struct{}
	wg     sync.WaitGroup
	source atomic.Uint64

	// routing guards who hears whom: partner and playing of every port.
	routing sync.Mutex

	mu     sync.Mutex
	ports  map[*Port]struct{}
	made   int
	closed bool
}

// New starts an engine.
func New(o Options) (*Engine, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if !o.Host.IsValid() {
		return nil, fmt.Errorf("media host: %w", ErrDescription)
	}
	pool, err := newPortPool(o.Bind, o.Host, o.RTPPorts)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		o: o, log: o.Log, pool: pool,
		start: time.Now().Add(-time.Second), // nanos of a packet are never 0
		done:  make(chan struct{}),
		ports: make(map[*Port]struct{}),
	}
	e.source.Store(firstSource)
	if o.WebRTC != nil {
		if e.mux, err = newWebRTCMux(e, o); err != nil {
			return nil, err
		}
		e.wg.Go(e.mux.run)
	}
	for range runtime.GOMAXPROCS(0) {
		l, err := newLoop()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("rtp sockets: %w", err), e.Close())
		}
		if l != nil {
			e.loops = append(e.loops, l)
			e.wg.Go(l.run)
		}
		s := &shard{e: e, wake: make(chan struct{}, 1)}
		e.shards = append(e.shards, s)
		e.wg.Go(s.run)
	}
	return e, nil
}

// Close closes every port and waits for the goroutines of the engine. It must
// not be called from an event of a port.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		e.wg.Wait()
		return nil
	}
	e.closed = true
	ports := make([]*Port, 0, len(e.ports))
	for p := range e.ports {
		ports = append(ports, p)
	}
	e.mu.Unlock()

	for _, p := range ports {
		p.Close()
	}
	close(e.done)
	for _, l := range e.loops {
		l.end()
	}
	if e.mux != nil {
		e.mux.close()
	}
	e.wg.Wait()
	return nil
}

// Ports is how many ports are open.
func (e *Engine) Ports() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.ports)
}

// nanos is a time on the engine's clock; never 0 and never going back.
func (e *Engine) nanos(t time.Time) int64 { return int64(t.Sub(e.start)) }

func (e *Engine) now() int64 { return e.nanos(time.Now()) }

// add takes a new port into the engine and onto a shard.
func (e *Engine) add(p *Port) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrClosed
	}
	e.ports[p] = struct{}{}
	p.shard = e.shards[e.made%len(e.shards)]
	e.made++
	p.shard.add(p)
	return nil
}

func (e *Engine) remove(p *Port) {
	e.mu.Lock()
	delete(e.ports, p)
	e.mu.Unlock()
	p.shard.remove(p)
}
