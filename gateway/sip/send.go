package sip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Send sends a request outside of dialogs and waits for its final response,
// whatever its code. Errors are those of sending and waiting.
func (e *Endpoint) Send(ctx context.Context, o Outgoing) (Response, error) {
	if o.Method == methodInvite || o.Method == methodAck || o.Method == methodCancel || !isToken(o.Method) {
		return Response{}, fmt.Errorf("send %q: %w", o.Method, ErrState)
	}
	c, err := e.route(ctx, o.Flow, o.Destination, o.Transport, o.URI)
	if err != nil {
		return Response{}, err
	}
	if o.From.Tag() == "" {
		o.From.Params = o.From.Params.With("tag", randomHex(8))
	}
	if o.CallID == "" {
		o.CallID = randomHex(16)
	}
	if o.CSeq == 0 {
		o.CSeq = 1
	}
	var auth clientAuth
	for try := 0; ; try++ {
		r := &outRequest{
			method: o.Method, uri: o.URI.String(), body: o.Body,
			headers: append([]Header{
				{"From", o.From.String()},
				{"To", o.To.String()},
				{"Call-ID", o.CallID},
				{"CSeq", strconv.FormatUint(uint64(o.CSeq), 10) + " " + o.Method},
			}, o.Headers...),
		}
		r.headers = append(r.headers, auth.headers(o.Credentials, o.Method, r.uri)...)
		m, err := e.exchange(ctx, c, r)
		if err != nil {
			return Response{}, fmt.Errorf("%s: %w", o.Method, err)
		}
		if (m.code == 401 || m.code == 407) && auth.learn(o.Credentials, m, try) {
			o.CSeq++
			continue
		}
		return responseOf(m), nil
	}
}

// exchange sends a non-INVITE request and waits for its final response.
func (e *Endpoint) exchange(ctx context.Context, c conn, r *outRequest) (*message, error) {
	type result struct {
		m   *message
		err error
	}
	done := make(chan result, 1)
	t, err := e.start(c, r, func(m *message, err error) {
		if err == nil && m.code < 200 {
			return
		}
		select {
		case done <- result{m, err}:
		default:
		}
	})
	if err != nil {
		return nil, err
	}
	select {
	case res := <-done:
		return res.m, res.err
	case <-ctx.Done():
		t.fail(context.Cause(ctx))
		return nil, context.Cause(ctx)
	}
}

// route finds the connection for a request: the named flow, or a destination
// that is resolved and dialled.
func (e *Endpoint) route(ctx context.Context, flow *Flow, dest, transport string, uri URI) (conn, error) {
	if flow != nil {
		return e.connOf(*flow)
	}
	transport = strings.ToLower(transport)
	if transport == "" {
		if t, ok := uri.Params.Get("transport"); ok {
			transport = strings.ToLower(t)
		}
		if uri.Scheme == schemeSIPS {
			transport = transportTLS
		}
	}
	if dest == "" {
		dest = uri.Host
		if uri.Port > 0 {
			dest += ":" + strconv.Itoa(uri.Port)
		}
	}
	host, port, ok := parseHostPort(dest)
	if !ok {
		return nil, syntaxErr("destination", dest)
	}
	host = strings.Trim(host, "[]")
	switch transport {
	case "":
		transport = transportUDP
	case transportUDP, transportTCP, transportTLS:
	default: // a WebSocket client cannot be dialled
		return nil, fmt.Errorf("%s to %s: %w", transport, dest, ErrFlowGone)
	}
	addrs, err := resolve(ctx, transport, host, port)
	if err != nil {
		return nil, err
	}
	if transport == transportUDP {
		s := e.net.udpFor(netip.AddrPort{}, addrs[0].Addr())
		if s == nil {
			return nil, fmt.Errorf("no udp socket for %s: %w", addrs[0], ErrState)
		}
		return &udpPeer{sock: s, remote: addrs[0]}, nil
	}
	var last error
	for _, a := range addrs {
		l, err := e.dial(ctx, transport, host, a)
		if err == nil {
			return l, nil
		}
		last = err
	}
	return nil, last
}

// resolve finds the addresses of a SIP server (RFC 3263 without NAPTR): SRV if
// no port is named, else A and AAAA, IPv4 first.
func resolve(ctx context.Context, transport, host string, port int) ([]netip.AddrPort, error) {
	def, service, proto := 5060, "sip", transport
	if transport == transportTLS {
		def, service, proto = 5061, "sips", transportTCP
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if port == 0 {
			port = def
		}
		return []netip.AddrPort{netipPort(a.Unmap(), port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var r net.Resolver
	var out []netip.AddrPort
	if port == 0 {
		port = def
		if _, srv, err := r.LookupSRV(ctx, service, proto, host); err == nil {
			for _, s := range srv[:min(len(srv), 4)] {
				out = appendHost(ctx, &r, out, s.Target, int(s.Port))
			}
		}
	}
	if len(out) == 0 {
		out = appendHost(ctx, &r, out, host, port)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no address of %q: %w", host, ErrTimeout)
	}
	return out, nil
}

func appendHost(ctx context.Context, r *net.Resolver, out []netip.AddrPort, host string, port int) []netip.AddrPort {
	ips, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return out
	}
	var six []netip.AddrPort
	for _, ip := range ips {
		if ip = ip.Unmap(); ip.Is4() {
			out = append(out, netipPort(ip, port))
		} else {
			six = append(six, netipPort(ip, port))
		}
	}
	return append(out, six...)
}

// localAddrTo guesses our address towards a peer, for a socket bound to all
// addresses and no Options.Host: one of the peer's network, else the first
// public or private one.
func localAddrTo(to netip.AddrPort) netip.Addr {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.IPv4Unspecified()
	}
	best := netip.IPv4Unspecified()
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().Is4() != to.Addr().Is4() {
			continue
		}
		if p.Contains(to.Addr()) {
			return p.Addr()
		}
		if best.IsUnspecified() && p.Addr().IsGlobalUnicast() {
			best = p.Addr()
		}
	}
	return best
}
