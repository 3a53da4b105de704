package sip_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/gateway/sip/siptest"
)

// No goroutine outlives its endpoint.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func newEndpoint(tb testing.TB, h sip.Handler, set ...func(o *sip.Options)) *endpoint {
	tb.Helper()
	o := sip.Options{Handler: h}
	for _, f := range set {
		f(&o)
	}
	ep, err := sip.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := ep.Close(); err != nil {
			tb.Error(err)
		}
	})
	return &endpoint{ep}
}

func (e *endpoint) udp(tb testing.TB) netip.AddrPort {
	tb.Helper()
	pc, err := (&net.ListenConfig{}).ListenPacket(tb.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	serve(tb, func() error { return e.ServeUDP(tb.Context(), pc) })
	addr := netip.MustParseAddrPort(pc.LocalAddr().String())
	p := siptest.UDP(tb, pc.LocalAddr())
	for range 100 { // until it serves
		p.Send("OPTIONS sip:x@y SIP/2.0\nVia: SIP/2.0/UDP h;branch=z9hG4bKready;rport\nFrom: <sip:a@b>;tag=1\nTo: <sip:x@y>\nCall-ID: ready\nCSeq: 1 OPTIONS\nRequire: nothing\nContent-Length: 0\n\n")
		if _, ok := p.Try(50 * time.Millisecond); ok {
			return addr
		}
	}
	tb.Fatal("the endpoint does not answer")
	return addr
}

func (e *endpoint) tcp(tb testing.TB) netip.AddrPort {
	tb.Helper()
	ln, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	serve(tb, func() error { return e.ServeTCP(tb.Context(), ln) })
	return netip.MustParseAddrPort(ln.Addr().String())
}

func serve(tb testing.TB, f func() error) {
	tb.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	tb.Cleanup(func() {
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
}
