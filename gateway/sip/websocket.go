package sip

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	wsProtocol   = "sip" // RFC 7118 section 4.1
	wsReadBuffer = 1024
	wsSendBuffer = 4096
)

// WebSocket upgrades requests to SIP over WebSocket (RFC 7118): wss if the
// request came by TLS, else ws. origins says whether a page of that origin may
// connect ("" if the client sent none); nil allows only clients that send none
// and pages of the same host. The HTTP server must not offer HTTP/2 and must
// have a ReadHeaderTimeout.
func (e *Endpoint) WebSocket(origins func(origin string, r *http.Request) bool) http.Handler {
	up := websocket.Upgrader{
		HandshakeTimeout: e.o.FirstMessageTimeout,
		ReadBufferSize:   wsReadBuffer,
		WriteBufferSize:  wsSendBuffer,
		WriteBufferPool:  &sync.Pool{},
		Subprotocols:     []string{wsProtocol},
	}
	if origins != nil {
		up.CheckOrigin = func(r *http.Request) bool { return origins(r.Header.Get("Origin"), r) }
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ok := false
		for _, p := range websocket.Subprotocols(r) {
			ok = ok || strings.EqualFold(p, wsProtocol)
		}
		if websocket.IsWebSocketUpgrade(r) && !ok {
			http.Error(w, "subprotocol sip is required", http.StatusBadRequest)
			return
		}
		e.upgrade(&up, w, r)
	})
}

func (e *Endpoint) upgrade(up *websocket.Upgrader, w http.ResponseWriter, r *http.Request) {
	if e.isClosing() {
		http.Error(w, "closing", http.StatusServiceUnavailable)
		return
	}
	source := netip.Addr{}
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		source = ap.Addr().Unmap()
	}
	if !e.net.admit(source, e.o.MaxConns, e.o.MaxConnsPerIP) {
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many connections", http.StatusServiceUnavailable)
		return
	}
	ws, err := up.Upgrade(w, r, nil) // answers the client itself
	if err != nil {
		e.net.leave(source)
		return
	}
	transport := transportWS
	if r.TLS != nil {
		transport = transportWSS
	}
	l := &link{e: e, nc: ws.NetConn(), ws: ws, counted: true, source: source, pinged: time.Now()}
	l.flow = e.newFlow(transport, l.nc)
	l.flow.TLSPeer = tlsPeer(r.TLS)
	if !e.addLink(l) || !e.spawn(l.serve) {
		e.net.leave(source)
		e.net.remove(l)
		_ = l.nc.Close()
	}
}

// DialWebSocket connects as a client; requests arrive over the same flow.
func (e *Endpoint) DialWebSocket(ctx context.Context, url string, conf *tls.Config) (Flow, error) {
	if conf == nil {
		conf = e.o.ClientTLS
	}
	d := websocket.Dialer{
		HandshakeTimeout: dialTimeout,
		ReadBufferSize:   wsReadBuffer,
		WriteBufferSize:  wsSendBuffer,
		TLSClientConfig:  conf,
		Subprotocols:     []string{wsProtocol},
	}
	ws, resp, err := d.DialContext(ctx, url, nil)
	if err != nil {
		if resp != nil {
			_ = resp.Body.Close()
			return Flow{}, fmt.Errorf("dial %s: %w: %s", url, err, resp.Status)
		}
		return Flow{}, fmt.Errorf("dial %s: %w", url, err)
	}
	_ = resp.Body.Close()
	if ws.Subprotocol() != wsProtocol {
		_ = ws.Close()
		return Flow{}, fmt.Errorf("dial %s: server does not speak sip", url)
	}
	l := &link{e: e, nc: ws.NetConn(), ws: ws, pinged: time.Now(), client: randomHex(8) + ".invalid"}
	transport := transportWS
	if tc, ok := l.nc.(*tls.Conn); ok {
		transport = transportWSS
		l.flow = e.newFlow(transport, l.nc)
		cs := tc.ConnectionState()
		l.flow.TLSPeer = tlsPeer(&cs)
	} else {
		l.flow = e.newFlow(transport, l.nc)
	}
	if !e.addLink(l) || !e.spawn(l.serve) {
		_ = ws.Close()
		return Flow{}, ErrClosed
	}
	return l.flow, nil
}

// readWebSocket reads messages, one per WebSocket message; gorilla joins
// fragments and answers pings.
func (l *link) readWebSocket() error {
	o := &l.e.o
	l.ws.SetReadLimit(int64(o.MaxMessage))
	alive := func() { _ = l.ws.SetReadDeadline(time.Now().Add(2*o.PingInterval + time.Second)) }
	started := !l.counted
	if started {
		alive()
	} else {
		_ = l.ws.SetReadDeadline(time.Now().Add(o.FirstMessageTimeout))
	}
	// Until the first message neither pings nor pongs prolong: a connection
	// must say what it is for.
	l.ws.SetPongHandler(func(string) error {
		if started {
			alive()
		}
		return nil
	})
	pong := l.ws.PingHandler()
	l.ws.SetPingHandler(func(data string) error {
		if started {
			alive()
		}
		return pong(data)
	})
	for {
		_, b, err := l.ws.ReadMessage()
		if err != nil {
			if _, ok := errors.AsType[*websocket.CloseError](err); ok {
				return nil
			}
			return err //nolint:wrapcheck // only logged by close
		}
		if len(bytes.Trim(b, "\r\n")) == 0 { // RFC 5626 section 3.5.1
			if len(b) >= 4 {
				_ = l.write([]byte("\r\n"))
			}
			if started {
				alive()
			}
			continue
		}
		if l.e.input(b, l) {
			started = true
		}
		if started {
			alive()
		}
	}
}
