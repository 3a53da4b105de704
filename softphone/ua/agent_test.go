package ua_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/softphone/ua"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// registrar is a server that takes every REGISTER, without a password.
type registrar struct {
	t    *testing.T
	ep   *sip.Endpoint
	web  *httptest.Server
	seen atomic.Int32
	last atomic.Pointer[sip.Request]
	on   atomic.Pointer[func(r *sip.Request) bool] // answers instead
}

func newRegistrar(t *testing.T) *registrar {
	t.Helper()
	g := &registrar{t: t}
	var err error
	if g.ep, err = sip.New(sip.Options{Handler: g}); err != nil {
		t.Fatal(err)
	}
	g.web = httptest.NewServer(g.ep.WebSocket(func(string, *http.Request) bool { return true }))
	t.Cleanup(func() {
		g.web.Close()
		if err := g.ep.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func (g *registrar) Invite(d *sip.Dialog) { _ = d.Reject(486, "") }

func (g *registrar) FlowClosed(sip.Flow) {}

func (g *registrar) Request(r *sip.Request) {
	if on := g.on.Load(); on != nil && (*on)(r) {
		return
	}
	g.last.Store(r)
	g.seen.Add(1)
	_ = r.Respond(200, "OK", sip.Header{Name: "Expires", Value: "300"})
}

func (g *registrar) url() string { return "ws" + strings.TrimPrefix(g.web.URL, "http") + "/ws" }

// heard keeps what an agent tells.
type heard struct {
	up   chan time.Duration
	down chan error
	in   chan *sip.Dialog
}

func (h heard) Registered(d time.Duration)              { h.up <- d }
func (h heard) Unregistered(err error, _ time.Duration) { h.down <- err }
func (h heard) Incoming(d *sip.Dialog)                  { h.in <- d }

func newAgent(t *testing.T, c ua.Config) (*ua.Agent, heard) {
	t.Helper()
	h := heard{make(chan time.Duration, 100), make(chan error, 100), make(chan *sip.Dialog, 100)}
	if c.User == "" {
		c.User = "2101"
	}
	c.Backoff = ua.Backoff{First: 10 * time.Millisecond, Max: 50 * time.Millisecond}
	a, err := ua.New(c, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(a.Close(), a.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return a, h
}

func wait[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing within 10 s")
		panic("unreachable")
	}
}

func TestBackoff(t *testing.T) {
	var b ua.Backoff
	tests := []struct {
		n      int
		chance float64
		want   time.Duration
	}{
		{0, 0, 0},
		{0, 1, 500 * time.Millisecond},
		{1, 0, time.Second},
		{1, 1, 500 * time.Millisecond},
		{3, 0, 4 * time.Second},
		{6, 0, 30 * time.Second},
		{6, 1, 15 * time.Second},
		{100, 0, 30 * time.Second},
	}
	for _, tt := range tests {
		if got := b.After(tt.n, tt.chance); got != tt.want {
			t.Errorf("attempt %d, chance %v: %v, want %v", tt.n, tt.chance, got, tt.want)
		}
	}
}

// A server that is down is tried again until it is there.
func TestComesBackAfterAnOutage(t *testing.T) {
	g := newRegistrar(t)
	front := newFront(t, g)
	a, h := newAgent(t, ua.Config{Server: front.url()})
	_ = wait(t, h.up)
	front.refuse(true)
	_ = wait(t, h.down)
	for range 3 {
		_ = wait(t, h.down)
	}
	if a.Registered() {
		t.Error("registered with nobody")
	}
	if _, err := a.Invite(t.Context(), "1", nil, nil, sip.NoEvents{}); !errors.Is(err, ua.ErrNotRegistered) {
		t.Errorf("invite: %v", err)
	}
	front.refuse(false)
	_ = wait(t, h.up)
	if !a.Registered() {
		t.Error("not registered")
	}
}

// A connection that is silently dead (no FIN, no packets) is found by its missing pongs.
func TestFindsADeadConnection(t *testing.T) {
	g := newRegistrar(t)
	front := newFront(t, g)
	_, h := newAgent(t, ua.Config{Server: front.url(), KeepAlive: 100 * time.Millisecond})
	_ = wait(t, h.up)
	front.stall()
	start := time.Now()
	_ = wait(t, h.down)
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("found after %v", d)
	}
	_ = wait(t, h.up)
}

// After a change of the network a dead connection is found at once, and a living one is kept.
func TestCheck(t *testing.T) {
	g := newRegistrar(t)
	front := newFront(t, g)
	a, h := newAgent(t, ua.Config{Server: front.url(), Answer: 200 * time.Millisecond, KeepAlive: time.Hour})
	_ = wait(t, h.up)
	flow := g.last.Load().Flow()
	a.Check()
	deadline := time.Now().Add(5 * time.Second)
	for g.seen.Load() < 2 {
		if time.Now().After(deadline) {
			t.Fatal("no refresh")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if g.last.Load().Flow() != flow {
		t.Error("a living connection was given up")
	}
	front.stall()
	a.Check()
	_ = wait(t, h.down)
	_ = wait(t, h.up)
}

func TestAsksForLongerIfTooBrief(t *testing.T) {
	g := newRegistrar(t)
	on := func(r *sip.Request) bool {
		if r.Header("Expires") == "10" {
			_ = r.Respond(423, "Interval Too Brief", sip.Header{Name: "Min-Expires", Value: "60"})
			return true
		}
		return false
	}
	g.on.Store(&on)
	_, h := newAgent(t, ua.Config{Server: g.url(), Expires: 10 * time.Second})
	_ = wait(t, h.up)
	if got := g.last.Load().Header("Expires"); got != "60" {
		t.Errorf("asked for %s", got)
	}
}

// Whatever a server sends, the phone neither stops nor grows: it reports and tries again.
func TestGarbageFromTheServer(t *testing.T) {
	garbage := []string{
		"", "\x00\xff\xfe", "SIP/2.0", "SIP/2.0 200 OK\r\n\r\n", strings.Repeat("A", 200<<10),
		"INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/WS x;branch=z9hG4bK1\r\nContent-Length: 99999\r\n\r\n",
		"INVITE sip:2101@x SIP/2.0\r\nVia: SIP/2.0/WS x;branch=z9hG4bK2\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n" +
			"Call-ID: 1\r\nCSeq: 99999999999 INVITE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
		"REGISTER sip:x SIP/2.0\r\n: :\r\n\r\n",
	}
	var up websocket.Upgrader
	up.Subprotocols = []string{"sip"}
	var conns sync.WaitGroup
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conns.Add(1)
		defer conns.Done()
		ws, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = ws.Close() }()
		for i, s := range garbage {
			if err := ws.WriteMessage(websocket.TextMessage+i%2, []byte(s)); err != nil {
				return
			}
		}
		for {
			if _, _, err := ws.ReadMessage(); err != nil {
				return
			}
			if err := ws.WriteMessage(websocket.TextMessage, []byte("SIP/2.0 999 \r\n\r\n")); err != nil {
				return
			}
		}
	}))
	defer conns.Wait()
	defer web.Close()
	a, h := newAgent(t, ua.Config{Server: "ws" + strings.TrimPrefix(web.URL, "http"), Answer: 100 * time.Millisecond})
	for range 3 {
		_ = wait(t, h.down)
	}
	if a.Registered() {
		t.Error("registered by garbage")
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// front is a TCP proxy that can refuse and stall.
type front struct {
	ln   net.Listener
	to   string
	mu   sync.Mutex
	no   bool
	live []*stalled
	wg   sync.WaitGroup
}

type stalled struct {
	a, b net.Conn
	dead atomic.Bool
}

func newFront(t *testing.T, g *registrar) *front {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{ln: ln, to: g.web.Listener.Addr().String()}
	f.wg.Go(f.run)
	t.Cleanup(func() {
		_ = ln.Close()
		f.refuse(true)
		f.wg.Wait()
	})
	return f
}

func (f *front) url() string { return "ws://" + f.ln.Addr().String() + "/ws" }

// refuse ends every connection, and all to come.
func (f *front) refuse(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.no = on
	if on {
		for _, c := range f.live {
			_ = c.a.Close()
			_ = c.b.Close()
		}
		f.live = nil
	}
}

// stall passes nothing more of the present connections, and does not end them.
func (f *front) stall() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.live {
		c.dead.Store(true)
	}
}

func (f *front) run() {
	for {
		a, err := f.ln.Accept()
		if err != nil {
			return
		}
		var d net.Dialer
		b, err := d.DialContext(context.Background(), "tcp4", f.to)
		f.mu.Lock()
		if err != nil || f.no {
			_ = a.Close()
			if b != nil {
				_ = b.Close()
			}
			f.mu.Unlock()
			continue
		}
		c := &stalled{a: a, b: b}
		f.live = append(f.live, c)
		f.mu.Unlock()
		f.wg.Go(func() { c.pass(a, b) })
		f.wg.Go(func() { c.pass(b, a) })
	}
}

func (c *stalled) pass(from, to net.Conn) {
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		if err != nil {
			if !c.dead.Load() {
				_ = to.Close()
			}
			if !errors.Is(err, io.EOF) {
				_ = from.Close()
			}
			return
		}
		if c.dead.Load() {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}
