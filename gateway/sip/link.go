package sip

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
	"github.com/gorilla/websocket"
)

const (
	// maxQueued bounds the bytes waiting for one slow reader.
	maxQueued = 512 << 10
	// writeTimeout is how long one write may take before the peer is given up.
	writeTimeout = 10 * time.Second
	dialTimeout  = 10 * time.Second
)

var errSlowReader = errors.New("peer reads too slowly")

// link is one connection: TCP, TLS or WebSocket.
type link struct {
	e       *Endpoint
	flow    Flow
	nc      net.Conn
	ws      *websocket.Conn // nil on TCP and TLS
	dialKey string          // of a connection that we made and may reuse
	client  string          // .invalid host of our Contact, on a WebSocket that we dialled
	counted bool            // accepted, counts towards the limits…
	source  netip.Addr      // …of this address

	mu      sync.Mutex
	queue   [][]byte // nil element: a ping
	queued  int
	writing bool
	closed  bool
	txs     map[*clientTx]struct{}
	pinged  time.Time
}

func (l *link) flowOf() Flow           { return l.flow }
func (l *link) LocalAddr() net.Addr    { return l.nc.LocalAddr() }
func (l *link) Ref(int) int            { return 1 }
func (l *link) TryClose() (int, error) { return 1, nil }

// Close implements sipgo's Connection.
func (l *link) Close() error {
	l.close(nil)
	return nil
}

// WriteMsg implements sipgo's Connection. It never waits for the peer.
func (l *link) WriteMsg(m sipmsg.Message) error { return l.write([]byte(m.String())) }

func (l *link) write(b []byte) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return fmt.Errorf("%s %s: %w", l.flow.Transport, l.flow.Remote, ErrFlowGone)
	}
	if l.queued+len(b) > maxQueued {
		l.mu.Unlock()
		l.close(errSlowReader)
		return fmt.Errorf("%s %s: %w", l.flow.Transport, l.flow.Remote, errSlowReader)
	}
	l.queued += len(b)
	l.queue = append(l.queue, b)
	start := !l.writing
	l.writing = true
	l.mu.Unlock()
	if start && !l.e.spawn(l.drain) {
		return ErrClosed
	}
	return nil
}

// drain writes until the queue is empty; then its goroutine ends.
func (l *link) drain() {
	for {
		l.mu.Lock()
		if len(l.queue) == 0 || l.closed {
			l.queue, l.writing = nil, false
			l.mu.Unlock()
			return
		}
		b := l.queue[0]
		l.queue = l.queue[1:]
		l.queued -= len(b)
		l.mu.Unlock()
		var err error
		deadline := time.Now().Add(writeTimeout)
		switch {
		case l.ws == nil:
			_ = l.nc.SetWriteDeadline(deadline)
			_, err = l.nc.Write(b)
		case b == nil:
			err = l.ws.WriteControl(websocket.PingMessage, nil, deadline)
		default:
			_ = l.ws.SetWriteDeadline(deadline)
			err = l.ws.WriteMessage(websocket.TextMessage, b)
		}
		if err != nil {
			l.close(err)
		}
	}
}

func (l *link) pingIfIdle(now time.Time, interval time.Duration) {
	if l.ws == nil {
		return
	}
	l.mu.Lock()
	due := !l.closed && now.Sub(l.pinged) >= interval
	if due {
		l.pinged = now
		l.queue = append(l.queue, nil)
	}
	start := due && !l.writing
	l.writing = l.writing || start
	l.mu.Unlock()
	if start {
		l.e.spawn(l.drain)
	}
}

func (l *link) attach(t *clientTx) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("%s %s: %w", l.flow.Transport, l.flow.Remote, ErrFlowGone)
	}
	if l.txs == nil {
		l.txs = make(map[*clientTx]struct{})
	}
	l.txs[t] = struct{}{}
	return nil
}

func (l *link) detach(t *clientTx) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.txs, t)
	if len(l.txs) == 0 {
		l.txs = nil
	}
}

// close closes the connection and fails what waits for it. why nil is a normal
// end.
func (l *link) close(why error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	txs := l.txs
	l.txs = nil
	l.mu.Unlock()
	if why != nil && !errors.Is(why, ErrClosed) {
		l.e.log.Debug("connection closed", "transport", l.flow.Transport, "remote", l.flow.Remote, "err", why)
	}
	l.e.net.remove(l)
	_ = l.nc.Close()
	for t := range txs {
		t.fail(ErrFlowGone)
	}
}

// serve reads until the connection ends and then says so. The caller has added
// the link to the network.
func (l *link) serve() {
	var err error
	if l.ws != nil {
		err = l.readWebSocket()
	} else {
		err = l.readStream()
	}
	l.close(err)
	if l.counted {
		l.e.net.leave(l.source)
	}
	l.e.flowClosed(l.flow)
}

// readStream reads TCP and TLS. A silent new connection and a message begun
// but not ended are bounded in time; silence between messages is not.
func (l *link) readStream() error {
	timeout := l.e.o.FirstMessageTimeout
	_ = l.nc.SetReadDeadline(time.Now().Add(timeout))
	var buf []byte
	chunk := make([]byte, 2048)
	partial := true
	for {
		n, err := l.nc.Read(chunk)
		if err != nil {
			return err //nolint:wrapcheck // only logged by close
		}
		buf = append(buf, chunk[:n]...)
		for len(buf) > 0 {
			skip, size, bad := nextFrame(buf, l.e.o.MaxMessage)
			if skip >= 4 && size == 0 { // RFC 5626 section 3.5.1
				_ = l.write([]byte("\r\n"))
			}
			buf = buf[skip:]
			if bad != nil {
				l.e.refuse(buf, bad, l)
				l.lastWords()
				return ErrSyntax
			}
			if size == 0 {
				break
			}
			l.e.input(buf[:size], l)
			buf = buf[size:]
			partial = false
			_ = l.nc.SetReadDeadline(time.Time{})
		}
		switch {
		case len(buf) == 0:
			buf = nil
			if partial && !l.counted { // our own connection waits as long as it likes
				_ = l.nc.SetReadDeadline(time.Time{})
			}
		case !partial:
			partial = true
			_ = l.nc.SetReadDeadline(time.Now().Add(timeout))
		}
	}
}

// lastWords lets a queued answer out before the connection is closed.
func (l *link) lastWords() {
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for range 40 {
		l.mu.Lock()
		busy := l.writing
		l.mu.Unlock()
		if !busy {
			return
		}
		<-t.C
	}
}

// ServeTCP serves ln until ctx ends or Close; it closes ln.
func (e *Endpoint) ServeTCP(ctx context.Context, ln net.Listener) error {
	return e.serveStream(ctx, ln, transportTCP)
}

// ServeTLS is ServeTCP for a listener that does TLS (tls.NewListener).
func (e *Endpoint) ServeTLS(ctx context.Context, ln net.Listener) error {
	return e.serveStream(ctx, ln, transportTLS)
}

func (e *Endpoint) serveStream(ctx context.Context, ln net.Listener, transport string) error {
	if !e.register(ln) {
		_ = ln.Close()
		return ErrClosed
	}
	defer e.unregister(ln)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	defer func() { _ = ln.Close() }()
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil || e.isClosing() || errors.Is(err, net.ErrClosed) {
				return nil
			}
			if _, ok := errors.AsType[net.Error](err); ok { // out of descriptors, peer gone: both pass
				select {
				case <-time.After(10 * time.Millisecond):
					continue
				case <-ctx.Done():
					return nil
				}
			}
			return fmt.Errorf("accept %s: %w", transport, err)
		}
		remote := addrPort(nc.RemoteAddr())
		if !e.net.admit(remote.Addr(), e.o.MaxConns, e.o.MaxConnsPerIP) {
			_ = nc.Close()
			continue
		}
		l := &link{e: e, nc: nc, counted: true, source: remote.Addr(), flow: e.newFlow(transport, nc)}
		if !e.spawn(l.accept) {
			e.net.leave(remote.Addr())
			_ = nc.Close()
		}
	}
}

func (e *Endpoint) newFlow(transport string, nc net.Conn) Flow {
	return Flow{Transport: transport, Local: addrPort(nc.LocalAddr()), Remote: addrPort(nc.RemoteAddr()), ID: e.nextID()}
}

// accept does the TLS handshake, if any, and serves.
func (l *link) accept() {
	if tc, ok := l.nc.(*tls.Conn); ok {
		ctx, cancel := context.WithTimeout(l.e.ctx, l.e.o.FirstMessageTimeout)
		err := tc.HandshakeContext(ctx)
		cancel()
		if err != nil {
			_ = l.nc.Close()
			l.e.net.leave(l.source)
			return
		}
		cs := tc.ConnectionState()
		l.flow.TLSPeer = tlsPeer(&cs)
	}
	if !l.e.addLink(l) {
		_ = l.nc.Close()
		l.e.net.leave(l.source)
		return
	}
	l.serve()
}

// addLink adds a link unless the endpoint closes.
func (e *Endpoint) addLink(l *link) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing {
		return false
	}
	e.net.add(l)
	return true
}

func tlsPeer(cs *tls.ConnectionState) string {
	if cs == nil || len(cs.VerifiedChains) == 0 {
		return ""
	}
	cert := cs.VerifiedChains[0][0]
	if len(cert.DNSNames) > 0 {
		return cert.DNSNames[0]
	}
	return cert.Subject.CommonName
}

// dial returns a connection of ours to an address, a used one if there is one.
// Accepted connections are never taken for this.
func (e *Endpoint) dial(ctx context.Context, transport, host string, to netip.AddrPort) (*link, error) {
	key := transport + "|" + host + "|" + to.String()
	e.net.mu.Lock()
	l := e.net.dialed[key]
	e.net.mu.Unlock()
	if l != nil {
		return l, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, fmt.Errorf("dial %s %s: %w", transport, to, err)
	}
	l = &link{e: e, dialKey: key}
	if transport == transportTLS {
		conf := e.o.ClientTLS.Clone()
		if conf.ServerName == "" {
			conf.ServerName = host
		}
		tc := tls.Client(nc, conf)
		if err := tc.HandshakeContext(ctx); err != nil {
			_ = nc.Close()
			return nil, fmt.Errorf("tls with %s: %w", host, err)
		}
		cs := tc.ConnectionState()
		l.nc, l.flow = tc, e.newFlow(transport, tc)
		l.flow.TLSPeer = tlsPeer(&cs)
	} else {
		l.nc, l.flow = nc, e.newFlow(transport, nc)
	}
	if !e.addLink(l) || !e.spawn(l.serve) {
		_ = l.nc.Close()
		return nil, ErrClosed
	}
	return l, nil
}
