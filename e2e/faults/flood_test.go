//go:build e2e && linux

package faults

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/cordboard/cordboard/e2e/harness"
	"github.com/cordboard/cordboard/gateway/api"
)

// moreFiles raises the limit of open files as far as it goes.
func moreFiles(t *testing.T, want uint64) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	if l.Cur = l.Max; l.Max < want {
		l.Cur, l.Max = want, want // root may
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Skipf("%d open files are needed: %v", want, err)
	}
}

// TestHalfOpenConnections: 10,000 connections that say nothing or stop in the
// middle, on every TCP port and from many addresses, and a real call and a real
// phone still get through; the gateway gets rid of them by itself.
func TestHalfOpenConnections(t *testing.T) {
	t.Parallel()
	moreFiles(t, 16_000)
	r := newRig(t, 2, nil)
	before := r.idle()
	line := newStation(t, "127.0.0.1", nil)
	a := r.newDesk(t, 1)

	var open []net.Conn
	var mu sync.Mutex
	var failed atomic.Int64
	t.Cleanup(func() {
		for _, c := range open {
			_ = c.Close()
		}
	})
	conns := func(n int, to string, begin func(net.Conn) net.Conn) func() {
		return func() {
			for i := range n {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(1+i%40))}, Timeout: 10 * time.Second}
				c, err := d.Dial("tcp", to)
				if err != nil {
					failed.Add(1)
					continue
				}
				if begin != nil {
					c = begin(c)
				}
				mu.Lock()
				open = append(open, c)
				mu.Unlock()
			}
		}
	}
	half := func(text string) func(net.Conn) net.Conn {
		return func(c net.Conn) net.Conn {
			_, _ = io.WriteString(c, text)
			return c
		}
	}
	webSocket := func(c net.Conn) net.Conn {
		d := websocket.Dialer{
			NetDialTLSContext: nil, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Subprotocols: []string{"sip"}, HandshakeTimeout: 20 * time.Second,
			NetDial: func(string, string) (net.Conn, error) { return c, nil },
		}
		ws, res, err := d.DialContext(t.Context(), "wss://"+r.WSS+"/ws", nil)
		if res != nil {
			_ = res.Body.Close()
		}
		if err != nil {
			failed.Add(1)
			return c
		}
		return ws.NetConn()
	}
	began := time.Now()
	var wg sync.WaitGroup
	for _, work := range []func(){
		conns(1500, r.WSS, nil), conns(1500, r.HTTP, nil), conns(1500, r.WSS, half("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")),
		conns(1000, r.TCP, nil), conns(1000, r.TCP, half("INVITE sip:1@x SIP/2.0\r\nVia: ")), conns(1000, r.TLS, nil),
		conns(1000, r.TURNTCP, nil), conns(500, r.TURNTCP, half("\x00\x03\x00\x08")), conns(500, r.TURNTLS, nil),
		conns(500, r.WSS, webSocket),
	} {
		wg.Go(work)
	}
	wg.Wait()
	m := r.metrics()
	t.Logf("%d connections in %v, %d refused; the gateway has %d files, %v MB, %v goroutines", len(open), time.Since(began).Round(time.Millisecond), failed.Load(),
		r.openFiles(), int(m["process_resident_memory_bytes"])>>20, m["go_goroutines"])
	if len(open)+int(failed.Load()) != 10_000 || len(open) < 9_000 {
		t.Errorf("%d connections only", len(open))
	}

	at := time.Now()
	c := r.talk(t, a, line, "59899000001")
	t.Logf("a call was up and heard after %v", time.Since(at).Round(time.Millisecond))
	if d := time.Since(at); d > 5*time.Second {
		t.Errorf("the call took %v", d)
	}
	at = time.Now()
	app := r.app(t, 2, 0)
	t.Logf("an app signed in and registered after %v", time.Since(at).Round(time.Millisecond))

	harness.Until(t, 60*time.Second, "the gateway has closed the half-open connections", func() bool {
		return r.openFiles() < before.files+40
	})
	t.Logf("all were closed %v after the first", time.Since(began).Round(time.Second))
	c.sounds(t)
	c.end(t)
	if code := app.Close(t); code != 0 {
		t.Errorf("the app ended with %d", code)
	}
	mu.Lock()
	for _, c := range open {
		_ = c.Close()
	}
	open = nil
	mu.Unlock()
	r.nothingLeft(before)
}

// TestSlowViewer: an event client that does not read is told and dropped; its
// neighbours and the calls do not notice.
func TestSlowViewer(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, nil)
	facts := r.Facts(t)
	// Slow ones: they open the stream from its beginning and never read.
	token := r.token(t)
	var slow []*websocket.Conn
	for range 5 {
		d := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, HandshakeTimeout: 10 * time.Second, NetDial: func(_, addr string) (net.Conn, error) {
			c, err := net.Dial("tcp", addr)
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetReadBuffer(2048)
			}
			return c, err
		}}
		ws, res, err := d.DialContext(t.Context(), "wss://"+r.HTTP+"/api/v1/events?since=0", http.Header{"Authorization": {"Bearer " + token}})
		if res != nil {
			_ = res.Body.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ws.Close() }()
		slow = append(slow, ws)
	}
	line := newStation(t, "127.0.0.1", nil)
	a := r.newDesk(t, 1)
	c := r.talk(t, a, line, "59899000001")
	// Facts in plenty: an agent on and off a break.
	sess := r.SignIn(t, api.SignIn{Username: user(2), Password: password, Device: "desk"})
	var worst time.Duration
	for n := range 5000 {
		at := time.Now()
		if n%2 == 0 {
			sess.Do(t, http.MethodPost, "/agents/me/break", api.Break{Motive: fmt.Sprintf("Break %d", n), Comment: strings.Repeat("a long story ", 38)}, nil)
		} else {
			sess.Do(t, http.MethodPost, "/agents/me/unbreak", nil, nil)
		}
		worst = max(worst, time.Since(at))
	}
	last := r.metrics()["cordboard_facts_total"]
	harness.Until(t, harness.Patience, "a quick viewer has seen everything", func() bool { return float64(facts.Last()) >= last })
	t.Logf("the slowest of 5000 requests beside slow viewers took %v", worst)
	if worst > 2*time.Second {
		t.Errorf("a request took %v", worst)
	}
	c.sounds(t)
	c.end(t)
	// The slow ones are cut off: a write may take 10 s.
	harness.Until(t, harness.Patience, "the viewers that do not read are dropped", func() bool {
		for _, ws := range slow {
			if r.holds(t, ws.LocalAddr()) {
				return false
			}
		}
		return true
	})
}

// holds reports whether the gateway's HTTP port has an established connection
// with a client, as the kernel sees it.
func (r *rig) holds(t *testing.T, client net.Addr) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	port := func(addr string) string {
		_, p, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(p)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(":%04X", n)
	}
	const established = "01"
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) > 3 && strings.HasSuffix(f[1], port(r.HTTP)) && strings.HasSuffix(f[2], port(client.String())) {
			return f[3] == established
		}
	}
	return false
}

// TestManyAtOnce: 480 calls arrive in the same moment; each gets an answer, the
// queue takes those that there is room for, and all of it is gone afterwards.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4, nil)
	before := r.idle()
	line := newStation(t, "127.0.0.1", nil)
	a := r.newDesk(t, 1)
	const calls = 480
	var up, busy, other atomic.Int64
	var slowest atomic.Int64
	var wg sync.WaitGroup
	parties := make([]*party, calls)
	for n := range calls {
		wg.Go(func() {
			at := time.Now()
			p, err := line.call(r.UDP, fmt.Sprintf("5989930%04d", n), did, nil)
			if err != nil {
				t.Error(err)
				return
			}
			parties[n] = p
			select {
			case <-p.answered:
				up.Add(1)
			case <-p.ended:
				if p.cause.Code == 503 {
					busy.Add(1)
				} else {
					other.Add(1)
				}
			case <-time.After(30 * time.Second):
				t.Errorf("call %d got no answer in 30 s", n)
				return
			}
			if d := int64(time.Since(at)); d > slowest.Load() {
				slowest.Store(d)
			}
		})
	}
	wg.Wait()
	t.Logf("%d calls at once: %d answered, %d told 503, %d else; the slowest took %v", calls, up.Load(), busy.Load(), other.Load(), time.Duration(slowest.Load()))
	if other.Load() > 0 || up.Load() < 20 {
		t.Errorf("%d calls got something else than an answer or a 503; %d were answered", other.Load(), up.Load())
	}
	// The one agent still gets a call and talks.
	g := a.next(t, 15*time.Second)
	p := g.mustAnswer(t, nil)
	p.hangUp()
	for _, p := range parties {
		if p != nil && !p.over() {
			wg.Go(func() {
				p.hangUp()
				within(t, p.ended, 40*time.Second, "a call ends")
			})
		}
	}
	wg.Wait()
	r.nothingLeft(before)
	r.Stop(t)
	c := count(t, r)
	if len(c.entered) != int(up.Load()) {
		t.Errorf("%d entries for %d answered calls", len(c.entered), up.Load())
	}
}
