package trunk

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/gateway/sip/siptest"
)

// edge is a SIP endpoint with trunks behind it, over loopback UDP.
type edge struct {
	*sip.Endpoint
	trunks *Trunks
	addr   *net.UDPAddr

	mu   sync.Mutex
	seen []string // whose request it was
}

func (e *edge) Invite(d *sip.Dialog) { _ = d.Reject(e.answer(d.Request())) }
func (e *edge) FlowClosed(sip.Flow)  {}
func (e *edge) Request(r *sip.Request) {
	code, reason, headers := e.answer3(r)
	_ = r.Respond(code, reason, headers...)
}

func (e *edge) answer(r *sip.Request) (int, string) {
	code, reason, _ := e.answer3(r)
	return code, reason
}

func (e *edge) answer3(r *sip.Request) (int, string, []sip.Header) {
	l, err := e.trunks.Identify(context.Background(), r)
	who, code, reason := "", 486, "Busy Here"
	var headers []sip.Header
	var challenge *sip.ChallengeError
	switch {
	case err == nil:
		who = l.Name()
	case errors.As(err, &challenge):
		who, code, reason, headers = "challenge", challenge.Code, "Unauthorized", challenge.Headers
	case errors.Is(err, ErrSilence):
		who, code, reason = "silence", 403, "Forbidden"
	case errors.Is(err, ErrUnknown):
		who, code, reason = "unknown", 403, "Forbidden"
	default:
		who, code, reason = err.Error(), 500, "Error"
	}
	e.mu.Lock()
	e.seen = append(e.seen, who)
	e.mu.Unlock()
	return code, reason, headers
}

func (e *edge) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := e.seen
	e.seen = nil
	return out
}

func newEdge(tb testing.TB, timing Timing) *edge {
	tb.Helper()
	e := &edge{}
	var err error
	if e.Endpoint, err = sip.New(sip.Options{Host: "127.0.0.1", Handler: e}); err != nil {
		tb.Fatal(err)
	}
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	var ok bool
	if e.addr, ok = pc.LocalAddr().(*net.UDPAddr); !ok {
		tb.Fatal("no address")
	}
	e.trunks, err = New(context.Background(), Options{
		Endpoint: e.Endpoint, Unseal: func(b []byte) ([]byte, error) { return b, nil }, Timing: timing,
		Contact: func(Transport) string { return e.addr.String() },
	})
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = e.ServeUDP(context.Background(), pc) })
	tb.Cleanup(func() {
		_ = e.trunks.Close()
		_ = e.Close()
		wg.Wait()
	})
	return e
}

func (e *edge) set(tb testing.TB, trunks ...Trunk) {
	tb.Helper()
	if err := e.trunks.Set(trunks); err != nil {
		tb.Fatal(err)
	}
}

// options sends an OPTIONS from another endpoint and returns the answer's code.
func (e *edge) options(tb testing.TB, from *edge, c *sip.Credentials) int {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 5*time.Second)
	defer cancel()
	uri := sip.URI{Scheme: "sip", User: "1", Host: "127.0.0.1"}
	out := sip.Outgoing{Method: "OPTIONS", URI: uri, From: sip.Address{URI: uri}, To: sip.Address{URI: uri}, Destination: e.addr.String(), Credentials: c}
	res, err := from.Send(ctx, out)
	for errors.Is(err, sip.ErrState) { // it does not listen yet
		res, err = from.Send(ctx, out)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return res.Code
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if ok() {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	tb.Fatal(what)
}

func noLeak(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

// TestIdentifiesOverTheWire: by address, by digest, and a scanner gets a few
// refusals and then silence.
func TestIdentifiesOverTheWire(t *testing.T) {
	noLeak(t)
	e, far := newEdge(t, Timing{}), newEdge(t, Timing{})
	roaming := Trunk{Name: "roaming", Address: "192.0.2.1:5060", Username: "acct", SealedPassword: []byte("secret"), Priority: 1}
	elsewhere := Trunk{Name: "elsewhere", Address: "192.0.2.2:5060", Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}

	e.set(t, elsewhere)
	for range 8 {
		if code := e.options(t, far, nil); code != 403 {
			t.Fatalf("stranger got %d", code)
		}
	}
	if got := strings.Join(e.take(), " "); got != "unknown unknown unknown unknown unknown silence silence silence" {
		t.Fatal(got)
	}
	if !e.trunks.Silenced(netip.MustParseAddr("127.0.0.1")) {
		t.Error("source is not silenced")
	}

	e.set(t, elsewhere, Trunk{Name: "local", Address: "192.0.2.3:5060", Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if code := e.options(t, far, nil); code != 486 || e.take()[0] != "local" || e.trunks.Silenced(netip.MustParseAddr("127.0.0.1")) {
		t.Fatalf("trunk by address got %d", code)
	}

	e = newEdge(t, Timing{})
	e.set(t, elsewhere, roaming)
	if code := e.options(t, far, &sip.Credentials{Username: "acct", Password: "secret"}); code != 486 {
		t.Fatalf("trunk by digest got %d", code)
	}
	if got := strings.Join(e.take(), " "); got != "challenge roaming" {
		t.Fatal(got)
	}
	if code := e.options(t, far, &sip.Credentials{Username: "acct", Password: "guess"}); code == 486 {
		t.Fatal("a wrong password is a trunk")
	}
}

// TestRegistersOverTheWire: a challenge, then an interval that is too brief,
// then what the carrier grants is what counts; and calls of the registered
// contact belong to the trunk.
func TestRegistersOverTheWire(t *testing.T) {
	noLeak(t)
	e := newEdge(t, Timing{})
	carrier := siptest.UDP(t, e.addr)
	host := carrier.Addr()
	e.set(t, Trunk{Name: "a", Address: host, Username: "acct", SealedPassword: []byte("secret"), Register: true})
	var said []string
	for !e.trunks.Status()[0].Registered {
		m, ok := carrier.Try(100 * time.Millisecond)
		if !ok {
			continue
		}
		if m.Method() == "OPTIONS" {
			carrier.Reply(m, "200 OK", "t", nil, "")
			continue
		}
		expires := m.Get("Expires")
		switch {
		case m.Get("Authorization") == "":
			said = append(said, "challenge")
			carrier.Reply(m, "401 Unauthorized", "t", []string{`WWW-Authenticate: Digest realm="c", nonce="n", qop="auth"`}, "")
		case expires == "600":
			said = append(said, "brief")
			carrier.Reply(m, "423 Interval Too Brief", "t", []string{"Min-Expires: 1200"}, "")
		default:
			said = append(said, expires)
			if !strings.Contains(m.Get("Authorization"), `username="acct"`) || !strings.Contains(m.Get("To"), "acct@") {
				t.Errorf("REGISTER as %s for %s", m.Get("Authorization"), m.Get("To"))
			}
			contact, _, _ := strings.Cut(m.Get("Contact"), ";")
			carrier.Reply(m, "200 OK", "t", []string{"Contact: <sip:other@192.0.2.1>;expires=33, " + contact + ";expires=900"}, "")
		}
	}
	if got := strings.Join(said, " "); got != "challenge brief challenge 1200" && got != "challenge brief 1200" {
		t.Errorf("carrier saw %s", got)
	}
	if d := time.Until(e.trunks.Status()[0].Until); d < 890*time.Second || d > 900*time.Second {
		t.Errorf("registered for %v", d)
	}
	go func() { // the good-bye
		if m, ok := carrier.Try(5 * time.Second); ok {
			carrier.Reply(m, "200 OK", "t", nil, "")
		}
	}()
}
