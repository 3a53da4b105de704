package registrar

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
)

const testRealm = "cordboard"

func ha1(user, pass string) string {
	h := md5.Sum([]byte(user + ":" + testRealm + ":" + pass))
	return hex.EncodeToString(h[:])
}

// edge is a SIP endpoint with a registrar behind it, over loopback.
type edge struct {
	*Registrar
	addr string

	mu      sync.Mutex
	changes []Change
}

func (e *edge) Invite(d *sip.Dialog)   { _ = d.Reject(480, "Temporarily Unavailable") }
func (e *edge) Request(r *sip.Request) { e.Handle(context.Background(), r) }
func (e *edge) FlowClosed(f sip.Flow)  { e.Registrar.FlowClosed(f) }
func (e *edge) took(k Kind) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.changes {
		if c.Kind == k {
			n++
		}
	}
	return n
}

// newEdge knows the users u0, u1… with password "secret", each with the AoR of
// its number, over UDP and TCP on one port.
func newEdge(tb testing.TB) *edge {
	tb.Helper()
	e := &edge{}
	auth := sip.NewAuthenticator(testRealm, []byte("0123456789abcdef"), func(_ context.Context, user string) (string, bool) {
		return ha1(user, "secret"), strings.HasPrefix(user, "u")
	}, sip.AuthOptions{})
	e.Registrar = New(Options{
		Auth: auth,
		AoR: func(_ context.Context, user string) (string, bool) {
			return strings.TrimPrefix(user, "u"), user != "u-no-phone"
		},
		OnChange: func(c Change) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.changes = append(e.changes, c)
		},
	})
	tb.Cleanup(func() { _ = e.Close() })
	ep, err := sip.New(sip.Options{Host: "127.0.0.1", Handler: e})
	if err != nil {
		tb.Fatal(err)
	}
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	_ = pc.SetReadBuffer(4 << 20)
	e.addr = pc.LocalAddr().String()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp4", e.addr)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = ep.ServeUDP(ctx, pc) })
	wg.Go(func() { _ = ep.ServeTCP(ctx, l) })
	tb.Cleanup(func() {
		cancel()
		_ = ep.Close()
		wg.Wait()
	})
	return e
}

// newPhone is a SIP endpoint of a client.
func newPhone(tb testing.TB) *sip.Endpoint {
	tb.Helper()
	ep, err := sip.New(sip.Options{Host: "127.0.0.1", Handler: &edge{}})
	if err != nil {
		tb.Fatal(err)
	}
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = ep.ServeUDP(context.Background(), pc) })
	tb.Cleanup(func() {
		_ = ep.Close()
		wg.Wait()
	})
	return ep
}

func (e *edge) register(tb testing.TB, ep *sip.Endpoint, transport, to, user, pass string) sip.Response {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 5*time.Second)
	defer cancel()
	uri := sip.URI{Scheme: "sip", User: to, Host: "127.0.0.1"}
	out := sip.Outgoing{
		Method: "REGISTER", URI: sip.URI{Scheme: "sip", Host: "127.0.0.1"}, From: sip.Address{URI: uri}, To: sip.Address{URI: uri},
		Destination: e.addr, Transport: transport, Credentials: &sip.Credentials{Username: user, Password: pass},
		Headers: []sip.Header{{Name: "Contact", Value: "<sip:" + to + "@10.9.9.9:5070>"}, {Name: "Expires", Value: "300"}},
	}
	res, err := ep.Send(ctx, out)
	for errors.Is(err, sip.ErrState) { // the phone does not listen yet
		res, err = ep.Send(ctx, out)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return res
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		if ok() {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	tb.Fatal(what)
}

// TestRegistersOverTheWire: with the right digest, for oneself only, and the
// answer to a wrong password is that to an unknown user.
func TestRegistersOverTheWire(t *testing.T) {
	e, ep := newEdge(t), newPhone(t)
	res := e.register(t, ep, "udp", "7", "u7", "secret")
	if cs := res.Contacts(); res.Code != 200 || len(cs) != 1 || cs[0].Expires != 300 || cs[0].URI.Host != "10.9.9.9" {
		t.Fatalf("%d, contacts %+v", res.Code, res.Contacts())
	}
	// Behind a translator: requests go to the source, not to the contact.
	b := e.Bindings("7")
	if len(b) != 1 || b[0].Flow.Remote.Addr().String() != "127.0.0.1" || b[0].Flow.Transport != "udp" {
		t.Fatalf("bindings %+v", b)
	}
	if res := e.register(t, ep, "udp", "u7", "u7", "secret"); res.Code != 200 {
		t.Errorf("by the digest user's name: %d", res.Code)
	}
	if res := e.register(t, ep, "udp", "8", "u7", "secret"); res.Code != 403 || len(e.Bindings("8")) != 0 {
		t.Errorf("for somebody else: %d", res.Code)
	}
	if res := e.register(t, ep, "udp", "-no-phone", "u-no-phone", "secret"); res.Code != 403 {
		t.Errorf("user without phone: %d", res.Code)
	}
	wrong, unknown := e.register(t, ep, "udp", "7", "u7", "wrong"), e.register(t, ep, "udp", "7", "nobody", "x")
	if wrong.Code != unknown.Code || wrong.Reason != unknown.Reason || wrong.Code < 400 {
		t.Errorf("wrong password %d %s, unknown user %d %s", wrong.Code, wrong.Reason, unknown.Code, unknown.Reason)
	}
}

func TestConnectionEndsBinding(t *testing.T) {
	e, ep := newEdge(t), newPhone(t)
	if res := e.register(t, ep, "tcp", "7", "u7", "secret"); res.Code != 200 {
		t.Fatalf("%d", res.Code)
	}
	if b := e.Bindings("7"); len(b) != 1 || b[0].Flow.Transport != "tcp" {
		t.Fatalf("bindings %+v", b)
	}
	_ = ep.Close()
	eventually(t, "binding outlives its connection", func() bool { return len(e.Bindings("7")) == 0 })
	eventually(t, "nobody was told", func() bool { return e.took(FlowLost) == 1 })
}
