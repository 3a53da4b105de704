package sip_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/gateway/sip/siptest"
)

func mustAddr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func mustURI(s string) sip.URI {
	u, err := sip.ParseURI(s)
	if err != nil {
		panic(err)
	}
	return u
}

// endpoint is one with real sockets on 127.0.0.1.
type endpoint struct{ *sip.Endpoint }

func newEndpoint(t testing.TB, h sip.Handler, set ...func(o *sip.Options)) *endpoint {
	t.Helper()
	o := sip.Options{Handler: h}
	for _, f := range set {
		f(&o)
	}
	ep, err := sip.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ep.Close(); err != nil {
			t.Error(err)
		}
	})
	return &endpoint{ep}
}

func (e *endpoint) udp(t testing.TB) netip.AddrPort {
	t.Helper()
	pc, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, func() error { return e.ServeUDP(t.Context(), pc) })
	addr := netip.MustParseAddrPort(pc.LocalAddr().String())
	p := siptest.UDP(t, pc.LocalAddr())
	for range 100 { // until it serves
		p.Send("OPTIONS sip:x@y SIP/2.0\nVia: SIP/2.0/UDP h;branch=z9hG4bKready;rport\nFrom: <sip:a@b>;tag=1\nTo: <sip:x@y>\nCall-ID: ready\nCSeq: 1 OPTIONS\nRequire: nothing\nContent-Length: 0\n\n")
		if _, ok := p.Try(50 * time.Millisecond); ok {
			return addr
		}
	}
	t.Fatal("the endpoint does not answer")
	return addr
}

func (e *endpoint) tcp(t testing.TB) netip.AddrPort {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, func() error { return e.ServeTCP(t.Context(), ln) })
	return netip.MustParseAddrPort(ln.Addr().String())
}

func serve(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
