package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/cordboard/cordboard/gateway/trunk"
	"github.com/cordboard/cordboard/gateway/turn"
)

// Limits of the HTTP listeners.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 32 << 10
)

// sockets are what the gateway listens on; a nil one is turned off.
type sockets struct {
	webrtc net.PacketConn
	turn   *turn.Server
	http   string // address in force of the HTTP listener
}

// socketBuffer is asked of the kernel for sockets that many calls share.
const socketBuffer = 4 << 20

// udp opens a UDP socket with large buffers.
func udp(ctx context.Context, addr string) (*net.UDPConn, error) {
	pc, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", addr)
	if err != nil {
		return nil, err
	}
	c, ok := pc.(*net.UDPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s is no udp address", addr), pc.Close())
	}
	// The kernel gives smaller buffers than asked for without an error.
	if err := errors.Join(c.SetReadBuffer(socketBuffer), c.SetWriteBuffer(socketBuffer)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (s *Server) openWebRTC(ctx context.Context) error {
	addr := s.c.Media.WebRTCUDP
	if addr == "" {
		return nil
	}
	c, err := udp(ctx, addr)
	if err != nil {
		return fmt.Errorf("media.webrtc_udp: %w", err)
	}
	s.sockets.webrtc = c
	s.onClose(c.Close)
	return nil
}

// listen opens all listeners and serves them.
func (s *Server) listen(ctx context.Context) error {
	for _, l := range []struct {
		key, addr string
		open      func(ctx context.Context, addr string) error
	}{
		{"turn", "", s.listenTURN},
		{"sip.udp", s.c.SIP.UDP, s.listenSIPUDP},
		{"sip.tcp", s.c.SIP.TCP, s.listenSIPTCP},
		{"sip.tls", s.c.SIP.TLS, s.listenSIPTLS},
		{"sip.wss", s.c.SIP.WSS, s.listenWSS},
		{"http.listen", s.c.HTTP.Listen, s.listenHTTP},
	} {
		if l.addr == "" && l.key != "turn" {
			continue
		}
		err := l.open(ctx, l.addr)
		if err != nil && l.key != "turn" { // which names its own keys
			err = fmt.Errorf("%s: %w", l.key, err)
		}
		if err != nil {
			return err
		}
	}
	// Closed first: calls that are cut off say goodbye while the sockets are there.
	s.onClose(s.endCalls)
	return nil
}

// goodbye bounds how long a stop waits for far sides that were told so: a BYE
// may wait for an ACK, a CANCEL for a first response.
const goodbye = time.Second

// endCalls ends all calls and waits a little for their dialogs.
func (s *Server) endCalls() error {
	err := s.calls.Close()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(goodbye)
	defer limit.Stop()
	for s.endpoint.Dialogs() > 0 {
		select {
		case <-tick.C:
		case <-limit.C:
			return err
		}
	}
	return err
}

func (s *Server) listenSIPUDP(ctx context.Context, addr string) error {
	c, err := udp(ctx, addr)
	if err != nil {
		return err
	}
	s.background(ctx, "sip.udp", func(ctx context.Context) error { return s.endpoint.ServeUDP(ctx, c) })
	return nil
}

func (s *Server) listenSIPTCP(ctx context.Context, addr string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	s.background(ctx, "sip.tcp", func(ctx context.Context) error { return s.endpoint.ServeTCP(ctx, l) })
	return nil
}

func (s *Server) listenSIPTLS(ctx context.Context, addr string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	s.background(ctx, "sip.tls", func(ctx context.Context) error {
		return s.endpoint.ServeTLS(ctx, tls.NewListener(l, s.tls))
	})
	return nil
}

// listenWSS serves SIP over secure WebSocket on a port of its own (PHONE-34).
func (s *Server) listenWSS(ctx context.Context, addr string) error {
	mux := http.NewServeMux()
	mux.Handle("/ws", s.endpoint.WebSocket(s.originAllowed))
	return s.serveHTTP(ctx, "sip.wss", addr, true, mux)
}

func (s *Server) listenHTTP(ctx context.Context, _ string) error {
	addr, secure := s.c.HTTP.Addr()
	mux := http.NewServeMux()
	mux.Handle("/ws", s.endpoint.WebSocket(s.originAllowed))
	mux.Handle("/", s.api)
	return s.serveHTTP(ctx, "http.listen", addr, secure, mux)
}

// serveHTTP serves h; hijacked connections need HTTP/1.1, so HTTP/2 is off.
func (s *Server) serveHTTP(ctx context.Context, name, addr string, secure bool, h http.Handler) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		// Handshakes that fail are a scanner's daily bread: debug.
		ErrorLog:    slog.NewLogLogger(s.log.With("listener", name).Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	if secure {
		l = tls.NewListener(l, webTLS(s.tls))
	}
	if name == "http.listen" {
		s.sockets.http = l.Addr().String()
	}
	s.background(ctx, name, func(ctx context.Context) error {
		done := make(chan error, 1)
		go func() { done <- srv.Serve(l) }()
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
		}
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		var err error
		if srv.Shutdown(stop) != nil { // WebSockets and downloads do not end by themselves
			err = srv.Close()
		}
		if ended := <-done; !errors.Is(ended, http.ErrServerClosed) {
			err = errors.Join(err, ended)
		}
		return err
	})
	return nil
}

// webTLS is for HTTP/1.1, and for the authority's question whether the name is
// ours, which comes as a protocol of its own (RFC 8737).
func webTLS(c *tls.Config) *tls.Config {
	conf := c.Clone()
	conf.NextProtos = []string{"http/1.1"}
	if slices.Contains(c.NextProtos, acme.ALPNProto) {
		conf.NextProtos = append(conf.NextProtos, acme.ALPNProto)
	}
	return conf
}

// listenTURN serves STUN and TURN on what the configuration names. A client
// may reach the gateway's own media there and nothing else.
func (s *Server) listenTURN(ctx context.Context, _ string) error {
	t := s.c.TURN
	o := turn.Options{Log: s.log, Realm: t.Realm, Key: s.auth.TURNKey}
	if t.UDP != "" {
		c, err := udp(ctx, t.UDP)
		if err != nil {
			return fmt.Errorf("turn.udp: %w", err)
		}
		o.UDP = c
	}
	for _, l := range []struct {
		key, addr string
		secure    bool
		to        *net.Listener
	}{{"turn.tcp", t.TCP, false, &o.TCP}, {"turn.tls", t.TLS, true, &o.TLS}} {
		if l.addr == "" {
			continue
		}
		lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", l.addr)
		if err != nil {
			return fmt.Errorf("%s: %w", l.key, err)
		}
		if l.secure {
			lis = tls.NewListener(lis, s.tls)
		}
		*l.to = lis
	}
	if o.UDP == nil && o.TCP == nil && o.TLS == nil {
		return nil
	}
	media := s.publicIP()
	o.Relay, o.Public = media, t.PublicIP
	if !isLocal(media) { // behind an address translator
		o.Relay = localIP()
		o.PeerLocal = o.Relay
	}
	o.PeerAddr = media
	o.PeerPorts = s.mediaPorts()
	srv, err := turn.New(o) //nolint:contextcheck // it lives until Close
	if err != nil {
		return err
	}
	s.sockets.turn = srv
	s.onClose(srv.Close)
	return nil
}

// mediaPorts are the ports of the gateway's media.
func (s *Server) mediaPorts() []turn.PortRange {
	ports := []turn.PortRange{{First: s.c.Media.RTPPorts.First, Last: s.c.Media.RTPPorts.Last}}
	if s.sockets.webrtc != nil {
		if a, ok := s.sockets.webrtc.LocalAddr().(*net.UDPAddr); ok {
			p := uint16(a.Port)
			ports = append(ports, turn.PortRange{First: p, Last: p})
		}
	}
	return ports
}

// publicIP is the address that session descriptions name: the configured one,
// else the one that media is bound to, else this machine's first.
func (s *Server) publicIP() netip.Addr {
	if a := s.c.Media.PublicIP; a.IsValid() {
		return a
	}
	if host, _, err := net.SplitHostPort(s.c.Media.WebRTCUDP); err == nil {
		if a, err := netip.ParseAddr(host); err == nil && !a.IsUnspecified() {
			return a
		}
	}
	return localIP()
}

// localIP is this machine's first address that is neither loopback nor link
// local; loopback when there is none.
func localIP() netip.Addr {
	for _, a := range localAddrs() {
		if a.Is4() && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			return a
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

func localAddrs() []netip.Addr {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	out := make([]netip.Addr, 0, len(all))
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out
}

func isLocal(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	return slices.Contains(localAddrs(), a)
}

// sipHost is what Contact and Via name.
func (s *Server) sipHost() string { return s.publicIP().String() }

// contact is where carriers reach us over a transport.
func (s *Server) contact(t trunk.Transport) string {
	addr := s.c.SIP.UDP
	switch t {
	case trunk.TCP:
		addr = s.c.SIP.TCP
	case trunk.TLS:
		addr = s.c.SIP.TLS
	case trunk.UDP:
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return s.sipHost()
	}
	return net.JoinHostPort(s.sipHost(), port)
}
