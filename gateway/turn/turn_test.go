package turn

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/logging"
	pion "github.com/pion/turn/v3"
	"go.uber.org/goleak"
)

const (
	testRealm = "cordboard"
	testUser  = "session-1"
	testPass  = "b5c1e0"
)

// world is a server with a media peer, the only thing that may be reached.
type world struct {
	*Server
	peer *net.UDPConn // stands for the gateway's media

	mu   sync.Mutex
	keys map[string][]byte
}

func (w *world) key(user string) ([]byte, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k, ok := w.keys[user]
	return k, ok
}

// end ends a user's credential.
func (w *world) end(user string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.keys, user)
}

func loopback(tb testing.TB) *net.UDPConn {
	tb.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

func port(a net.Addr) uint16 {
	switch a := a.(type) {
	case *net.UDPAddr:
		return uint16(a.Port)
	case *net.TCPAddr:
		return uint16(a.Port)
	}
	return 0
}

func newWorld(tb testing.TB, change func(*Options)) *world {
	tb.Helper()
	w := &world{peer: loopback(tb), keys: map[string][]byte{testUser: Key(testUser, testRealm, testPass)}}
	tcp, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := port(w.peer.LocalAddr())
	o := Options{
		Log: slog.New(slog.DiscardHandler), Realm: testRealm,
		UDP: loopback(tb), TCP: tcp, Key: w.key,
		Relay: netip.MustParseAddr("127.0.0.1"), PeerAddr: netip.MustParseAddr("127.0.0.1"),
		PeerPorts: []PortRange{{p, p}},
	}
	if change != nil {
		change(&o)
	}
	if w.Server, err = New(o); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = w.Close() })
	return w
}

// noLeak checks, after all other clean-up, that no goroutine is left.
func noLeak(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

// client is a TURN client over UDP or TCP.
func (w *world) client(tb testing.TB, network, user, pass string) *pion.Client {
	tb.Helper()
	var conn net.PacketConn
	server := w.udp.LocalAddr().String()
	if network == "tcp" {
		server = w.o.TCP.Addr().String()
		c, err := net.Dial("tcp", server)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = c.Close() })
		conn = pion.NewSTUNConn(c)
	} else {
		conn = loopback(tb)
	}
	f := logging.NewDefaultLoggerFactory()
	f.DefaultLogLevel = logging.LogLevelDisabled
	c, err := pion.NewClient(&pion.ClientConfig{
		STUNServerAddr: server, TURNServerAddr: server, Conn: conn, LoggerFactory: f,
		Username: user, Password: pass, Realm: testRealm, RTO: 100 * time.Millisecond,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	if err := c.Listen(); err != nil {
		tb.Fatal(err)
	}
	return c
}

func (w *world) allocate(tb testing.TB, network string) net.PacketConn {
	tb.Helper()
	c, err := w.client(tb, network, testUser, testPass).Allocate()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// eventually polls until ok.
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

// roundTrip sends through the relay to the peer and back until both got it.
func (w *world) roundTrip(tb testing.TB, relay net.PacketConn, text string) {
	tb.Helper()
	buf := make([]byte, 2000)
	if _, err := relay.WriteTo([]byte(text), w.peer.LocalAddr()); err != nil {
		tb.Fatal(err)
	}
	_ = w.peer.SetReadDeadline(time.Now().Add(3 * time.Second))
	n, from, err := w.peer.ReadFrom(buf)
	if err != nil || string(buf[:n]) != text {
		tb.Fatalf("peer got %q, %v", buf[:n], err)
	}
	if from.String() != relay.LocalAddr().String() {
		tb.Fatalf("peer saw %s, the relayed address is %s", from, relay.LocalAddr())
	}
	if _, err := w.peer.WriteTo([]byte("re "+text), from); err != nil {
		tb.Fatal(err)
	}
	_ = relay.SetReadDeadline(time.Now().Add(3 * time.Second))
	n, from, err = relay.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "re "+text || from.String() != w.peer.LocalAddr().String() {
		tb.Fatalf("client got %q from %v, %v", buf[:n], from, err)
	}
}

// TestRelaysToOurMedia: data reaches our media and comes back, first as
// indications, then over a channel that the library does not see any more.
func TestRelaysToOurMedia(t *testing.T) {
	noLeak(t)
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			w := newWorld(t, nil)
			relay := w.allocate(t, network)
			before := w.Stats().ToPeerPackets
			// At least nine bytes: the client's framing waits for more otherwise.
			for i := range 50 {
				w.roundTrip(t, relay, strings.Repeat("x", i*7+9))
			}
			eventually(t, "packets are not counted", func() bool {
				s := w.Stats()
				return s.Allocations == 1 && s.ToPeerPackets-before == 50
			})
			eventually(t, "no channel was taken over", func() bool {
				w.roundTrip(t, relay, "more of it")
				return w.Stats().ToClientPackets > 5
			})
			if err := relay.Close(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "allocation outlives its end", func() bool { return w.Stats().Allocations == 0 })
		})
	}
}

// TestRefusesOtherPeers: nothing but our own media address and ports can be
// reached, whatever the client does (contract: rules of safety 1).
func TestRefusesOtherPeers(t *testing.T) {
	w := newWorld(t, nil)
	other := loopback(t) // same address, another port
	relay := w.allocate(t, "udp")
	w.roundTrip(t, relay, "hello") // the permission for the address is there

	heard := make(chan string, 16)
	go func() {
		buf := make([]byte, 2000)
		for {
			n, _, err := other.ReadFrom(buf)
			if err != nil {
				close(heard)
				return
			}
			heard <- string(buf[:n])
		}
	}()
	for range 5 {
		_, _ = relay.WriteTo([]byte("to another port"), other.LocalAddr())
	}
	eventually(t, "packets to another port are not counted", func() bool { return w.Stats().PeerRefused >= 5 })
	for _, addr := range []string{"10.0.0.1:80", "127.0.0.2:7882", "169.254.169.254:80", "8.8.8.8:53", "255.255.255.255:9", "0.0.0.0:80"} {
		before := w.Stats().PeerRefused
		a, err := net.ResolveUDPAddr("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := relay.WriteTo([]byte("out"), a); err == nil {
			t.Errorf("%s: permission was granted", addr)
		}
		if w.Stats().PeerRefused == before {
			t.Errorf("%s: refusal was not counted", addr)
		}
	}
	// A stranger's packet to the relay is dropped, too.
	if _, err := other.WriteTo([]byte("knock"), relay.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "stranger is not counted", func() bool { return w.Stats().Strangers == 1 })
	w.roundTrip(t, relay, "still works")
	_ = other.Close()
	if got, ok := <-heard; ok {
		t.Fatalf("another port heard %q", got)
	}
}

func TestRefusesUnknownUser(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct{ user, pass string }{{"nobody", "x"}, {testUser, "wrong"}} {
		if _, err := w.client(t, "udp", c.user, c.pass).Allocate(); err == nil {
			t.Errorf("%s got an allocation", c.user)
		}
	}
	if s := w.Stats(); s.Allocations != 0 || s.Unauthorized != 1 {
		t.Fatalf("stats %+v", s)
	}
}

// TestEndedCredential: no new allocation, the live one goes on (contract: rules
// of safety 1).
func TestEndedCredential(t *testing.T) {
	w := newWorld(t, nil)
	c := newRaw(t, w)
	c.allocate(testUser, 0)
	w.end(testUser)
	if code := c.request(methodRefresh, testUser, lifetime(300)); code != 0 {
		t.Fatalf("refresh of a live allocation: %d", code)
	}
	if code := newRaw(t, w).tryAllocate(testUser); code == 0 {
		t.Fatal("an ended user got a new allocation")
	}
	w.mu.Lock()
	w.keys["other"] = Key("other", testRealm, testPass)
	w.mu.Unlock()
	if code := c.request(methodRefresh, "other", lifetime(300)); code != codeWrongUser {
		t.Fatalf("another user refreshes it: %d", code)
	}
}

func TestQuota(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Limits.Quota = 2 })
	a, b := newRaw(t, w), newRaw(t, w)
	a.allocate(testUser, 0)
	b.allocate(testUser, 0)
	c := newRaw(t, w)
	if code := c.tryAllocate(testUser); code != codeQuota {
		t.Fatalf("third allocation: %d", code)
	}
	if s := w.Stats(); s.QuotaRefused != 1 || s.Allocations != 2 {
		t.Fatalf("stats %+v", s)
	}
	if code := a.request(methodRefresh, testUser, lifetime(0)); code != 0 {
		t.Fatalf("give back: %d", code)
	}
	if code := c.tryAllocate(testUser); code != 0 {
		t.Fatalf("after one was given back: %d", code)
	}
}

func TestTotalOfAllocations(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Limits.Allocations = 1 })
	newRaw(t, w).allocate(testUser, 0)
	if code := newRaw(t, w).tryAllocate(testUser); code != codeQuota {
		t.Fatalf("second allocation: %d", code)
	}
}

func TestRateLimitPerAddress(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Limits.RatePerAddr, o.Limits.Burst = 1, 5 })
	c := loopback(t)
	for range 50 {
		if _, err := c.WriteTo(binding(), w.udp.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "nothing was dropped", func() bool { return w.Stats().RateLimited >= 44 })
	answers := 0
	buf := make([]byte, 2000)
	for {
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, _, err := c.ReadFrom(buf); err != nil {
			break
		}
		answers++
	}
	if answers < 5 || answers > 6 {
		t.Fatalf("%d answers", answers)
	}
}

// TestBinding: STUN is answered on the same ports, without credentials.
func TestBinding(t *testing.T) {
	w := newWorld(t, nil)
	for _, network := range []string{"udp", "tcp"} {
		addr, err := w.client(t, network, "", "").SendBindingRequest()
		if err != nil {
			t.Fatalf("%s: %v", network, err)
		}
		if !strings.HasPrefix(addr.String(), "127.0.0.1:") {
			t.Errorf("%s: we are %s", network, addr)
		}
	}
}

func TestGarbage(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Limits.Idle, o.Limits.Frame = 300*time.Millisecond, 200*time.Millisecond })
	c := loopback(t)
	junk := [][]byte{
		{0},
		[]byte("GET / HTTP/1.1\r\n\r\n"), bytes.Repeat([]byte{0xff}, 1500), bytes.Repeat([]byte{0}, 20),
		{0x40, 0, 0xff, 0xff},
		binding()[:19], append([]byte{0, 1, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...), bytes.Repeat([]byte{0x40}, 9000),
	}
	for _, b := range junk {
		if _, err := c.WriteTo(b, w.udp.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "garbage is not counted", func() bool { return w.Stats().Garbage >= uint64(len(junk)) })
	w.roundTrip(t, w.allocate(t, "udp"), "still serving")

	// On a stream each of them ends the connection, at once or when its time is over.
	for _, b := range append(junk, nil) {
		conn, err := net.Dial("tcp", w.o.TCP.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(3 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Errorf("connection with %.10q stays open", b)
		}
		_ = conn.Close()
	}
	eventually(t, "connections stay", func() bool { return w.Stats().Connections == 0 })
	w.roundTrip(t, w.allocate(t, "tcp"), "still serving")
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// TestSlowConnection: a byte now and then does not keep a connection without
// allocation, and a message begun has to be finished.
func TestSlowConnection(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Limits.Idle, o.Limits.Frame = 200*time.Millisecond, 200*time.Millisecond })
	conn, err := net.Dial("tcp", w.o.TCP.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	eventually(t, "not connected", func() bool { return w.Stats().Connections == 1 })
	began := time.Now()
	for _, b := range binding() {
		if _, err := conn.Write([]byte{b}); err != nil {
			break
		}
		time.Sleep(30 * time.Millisecond)
	}
	eventually(t, "slow connection stays", func() bool { return w.Stats().Connections == 0 })
	if d := time.Since(began); d > 2*time.Second {
		t.Fatalf("it took %v", d)
	}
}

func TestConnectionBounds(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Limits.ConnsPerAddr = 10 })
	for range 30 {
		conn, err := net.Dial("tcp", w.o.TCP.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
	}
	eventually(t, "nothing was refused", func() bool { return w.Stats().ConnsRefused == 20 })
	if n := w.Stats().Connections; n != 10 {
		t.Fatalf("%d connections", n)
	}
}

// TestAllocationEndsWithConnection: what a TCP client held is free at once.
func TestAllocationEndsWithConnection(t *testing.T) {
	w := newWorld(t, nil)
	conn, err := net.Dial("tcp", w.o.TCP.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := &raw{tb: t, w: w, conn: conn}
	c.allocate(testUser, 0)
	if n := w.Stats().Allocations; n != 1 {
		t.Fatalf("%d allocations", n)
	}
	_ = conn.Close()
	eventually(t, "allocation stays", func() bool { return w.Stats().Allocations == 0 })
}

// TestLifetimeIsBounded: an hour at most, ten minutes for who wants more.
func TestLifetimeIsBounded(t *testing.T) {
	w := newWorld(t, nil)
	c := newRaw(t, w)
	if got := c.allocate(testUser, 1<<31); got > 3600 {
		t.Fatalf("lifetime %d s", got)
	}
}

func TestOptions(t *testing.T) {
	w := newWorld(t, nil)
	base := w.o
	base.UDP = loopback(t)
	base.TCP = nil
	for name, change := range map[string]func(*Options){
		"no listener":         func(o *Options) { o.UDP = nil },
		"no realm":            func(o *Options) { o.Realm = "" },
		"no key":              func(o *Options) { o.Key = nil },
		"no relay":            func(o *Options) { o.Relay = netip.Addr{} },
		"any peer":            func(o *Options) { o.PeerAddr = netip.IPv4Unspecified() },
		"no ports":            func(o *Options) { o.PeerPorts = nil },
		"ports in disorder":   func(o *Options) { o.PeerPorts = []PortRange{{9, 1}} },
		"families do not fit": func(o *Options) { o.PeerLocal = netip.IPv6Loopback() },
		"not a UDP socket":    func(o *Options) { o.UDP = struct{ net.PacketConn }{} },
	} {
		o := base
		change(&o)
		if _, err := New(o); !errors.Is(err, ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCloseTwice(t *testing.T) {
	noLeak(t)
	w := newWorld(t, nil)
	relay := w.allocate(t, "udp")
	w.roundTrip(t, relay, "x")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if s := w.Stats(); s.Allocations != 0 || s.Connections != 0 {
		t.Fatalf("left: %+v", s)
	}
}
