package trunk

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordboard/cordboard/gateway/sip"
)

var errDead = errors.New("no route")

// carriers answers what is sent, by destination.
type carriers struct {
	mu    sync.Mutex
	codes map[string]int // destination → status, 0 = no answer
	sent  []sip.Outgoing
}

func (c *carriers) set(dest string, code int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.codes[dest] = code
}

// take returns what was sent since the last time, as METHOD destination.
func (c *carriers) take() []string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	out := []string{}
	for _, o := range c.sent {
		out = append(out, o.Method+" "+o.Destination)
	}
	c.sent = nil
	return out
}

func (c *carriers) Send(ctx context.Context, o sip.Outgoing) (sip.Response, error) {
	c.mu.Lock()
	c.sent = append(c.sent, o)
	code := c.codes[o.Destination]
	c.mu.Unlock()
	if code == 0 {
		<-ctx.Done()
		return sip.Response{}, context.Cause(ctx)
	}
	if code < 0 {
		return sip.Response{}, errDead
	}
	return sip.Response{Code: code}, nil
}

// names is a resolver of a few names.
type names map[string][]string

func (n names) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	var out []*net.SRV
	for _, t := range n["_"+service+"._"+proto+"."+name] {
		out = append(out, &net.SRV{Target: t + ".", Port: 5070})
	}
	if out == nil {
		return "", nil, &net.DNSError{IsNotFound: true}
	}
	return "", out, nil
}

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, a := range n[host] {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, nil
}

type world struct {
	*Trunks
	net *carriers
	dns names

	mu     sync.Mutex
	states []string
}

func (w *world) changes() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.states
	w.states = nil
	return out
}

// story runs with virtual time; every carrier answers 200 until told otherwise.
func story(t *testing.T, trunks []Trunk, tell func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{net: &carriers{codes: make(map[string]int)}, dns: names{}}
		for _, c := range trunks {
			w.net.codes[c.Address] = 200
		}
		var err error
		w.Trunks, err = New(t.Context(), Options{
			Endpoint: w.net, Resolver: w.dns, Unseal: func(b []byte) ([]byte, error) { return b, nil },
			Contact: func(Transport) string { return "192.0.2.9:5060" },
			OnState: func(s Status) {
				w.mu.Lock()
				defer w.mu.Unlock()
				line := s.Name + " " + string(s.State)
				if s.Registered {
					line += " registered"
				}
				w.states = append(w.states, line)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := errors.Join(w.Close(), w.Close()); err != nil {
				t.Error(err)
			}
		}()
		if err := w.Set(trunks); err != nil {
			t.Fatal(err)
		}
		tell(w)
	})
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

func routed(w *world, preferred string) []string {
	var out []string
	for _, l := range w.Route(preferred) {
		out = append(out, l.Name())
	}
	return out
}

func TestKeepAlive(t *testing.T) {
	story(t, []Trunk{{Name: "a", Address: "192.0.2.1:5080"}}, func(w *world) {
		equal(t, "at once", w.net.take(), []string{"OPTIONS 192.0.2.1:5080"})
		equal(t, "changes", w.changes(), []string{"a up"})
		time.Sleep(24 * time.Second)
		equal(t, "too early", w.net.take(), []string{})
		time.Sleep(9 * time.Second)
		equal(t, "again", w.net.take(), []string{"OPTIONS 192.0.2.1:5080"})

		w.net.set("192.0.2.1:5080", 0)
		time.Sleep(39 * time.Second) // one question without answer: still up
		if !w.Route("")[0].Healthy() {
			t.Fatal("down after one lost OPTIONS")
		}
		time.Sleep(25 * time.Second)
		equal(t, "changes", w.changes(), []string{"a down"})
		s := w.Status()[0]
		if s.State != StateDown || s.LastError == "" || s.RTT < 0 {
			t.Fatalf("status %+v", s)
		}
		w.net.set("192.0.2.1:5080", 405) // any answer is a life sign
		time.Sleep(40 * time.Second)
		equal(t, "changes", w.changes(), []string{"a up"})
		w.net.set("192.0.2.1:5080", 503) // but not this one
		time.Sleep(90 * time.Second)
		equal(t, "changes", w.changes(), []string{"a down"})
		if s := w.Status()[0]; s.LastError == "" || s.Destination != "192.0.2.1:5080" {
			t.Fatalf("status %+v", s)
		}
	})
}

func TestRoute(t *testing.T) {
	trunks := []Trunk{
		{Name: "c", Address: "192.0.2.3:5060", Priority: 3},
		{Name: "a", Address: "192.0.2.1:5060", Priority: 1},
		{Name: "b", Address: "192.0.2.2:5060", Priority: 2},
	}
	story(t, trunks, func(w *world) {
		synctest.Wait()
		equal(t, "by priority", routed(w, ""), []string{"a", "b", "c"})
		equal(t, "preferred", routed(w, "c"), []string{"c", "a", "b"})
		w.net.set("192.0.2.1:5060", -1)
		time.Sleep(2 * time.Minute)
		equal(t, "a is down", routed(w, ""), []string{"b", "c", "a"})
		equal(t, "the preferred is down", routed(w, "a"), []string{"b", "c", "a"})
		w.net.set("192.0.2.1:5060", 200)
		time.Sleep(2 * time.Minute)
		equal(t, "a is back", routed(w, ""), []string{"a", "b", "c"})
	})
}

func TestChannelLimit(t *testing.T) {
	trunks := []Trunk{{Name: "a", Address: "192.0.2.1:5060", MaxChannels: 2}}
	story(t, trunks, func(w *world) {
		l, ok := w.Line("a")
		if !ok {
			t.Fatal("no line")
		}
		one, err1 := l.Acquire()
		_, err2 := l.Acquire()
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Acquire(); !errors.Is(err, ErrFull) {
			t.Fatalf("third channel: %v", err)
		}
		one()
		one() // gives back only once
		if n := w.Status()[0].Channels; n != 1 {
			t.Fatalf("%d channels", n)
		}
		// Calls survive a change of the trunk.
		changed := slices.Clone(trunks)
		changed[0].Priority = 9
		if err := w.Set(changed); err != nil {
			t.Fatal(err)
		}
		if n := w.Status()[0].Channels; n != 1 {
			t.Fatalf("%d channels after a change", n)
		}
	})
}

func TestRegisters(t *testing.T) {
	trunks := []Trunk{{Name: "a", Address: "192.0.2.1:5060", Username: "u", SealedPassword: []byte("p"), Register: true}}
	story(t, trunks, func(w *world) {
		got := w.net.take()
		slices.Sort(got)
		equal(t, "at once", got, []string{"OPTIONS 192.0.2.1:5060", "REGISTER 192.0.2.1:5060"})
		s := w.Status()[0]
		if !s.Registered || time.Until(s.Until) != 10*time.Minute || !w.Route("")[0].Healthy() {
			t.Fatalf("status %+v", s)
		}
		time.Sleep(9 * time.Minute)
		if n := strings.Count(strings.Join(w.net.take(), " "), "REGISTER"); n != 1 {
			t.Fatalf("%d refreshes", n)
		}
		if time.Until(w.Status()[0].Until) < 8*time.Minute {
			t.Fatal("not refreshed")
		}
		// The network fails: registered until the time is over, then not.
		w.net.set("192.0.2.1:5060", -1)
		time.Sleep(20 * time.Minute)
		if s := w.Status()[0]; s.Registered || s.State != StateDown || w.Route("")[0].Healthy() {
			t.Fatalf("status %+v", s)
		}
		n := strings.Count(strings.Join(w.net.take(), " "), "REGISTER")
		if n < 3 || n > 12 {
			t.Fatalf("%d attempts in 20 minutes", n)
		}
		// Back again: it is told at once that we are here.
		w.net.set("192.0.2.1:5060", 200)
		time.Sleep(40 * time.Second)
		if s := w.Status()[0]; !s.Registered || s.State != StateUp || s.LastError != "" {
			t.Fatalf("status %+v", s)
		}
		// A trunk that is taken away says good-bye.
		w.net.take()
		if err := w.Set(nil); err != nil {
			t.Fatal(err)
		}
		equal(t, "good-bye", w.net.take(), []string{"REGISTER 192.0.2.1:5060"})
	})
}

// TestWrongPassword: a refusal is not repeated in a hurry.
func TestWrongPassword(t *testing.T) {
	trunks := []Trunk{{Name: "a", Address: "192.0.2.1:5060", Username: "u", SealedPassword: []byte("p"), Register: true}}
	synctest.Test(t, func(t *testing.T) {
		net := &carriers{codes: map[string]int{"192.0.2.1:5060": 403}}
		w, err := New(t.Context(), Options{Endpoint: net, Unseal: func(b []byte) ([]byte, error) { return b, nil }})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = w.Close() }()
		if err := w.Set(trunks); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		n := strings.Count(strings.Join(net.take(), " "), "REGISTER")
		if n < 2 || n > 12 {
			t.Fatalf("%d attempts in 10 minutes", n)
		}
		if s := w.Status()[0]; s.Registered || !strings.Contains(s.LastError, "403") {
			t.Fatalf("status %+v", s)
		}
	})
}

func TestServiceRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &carriers{codes: map[string]int{"one.example:5070": 200, "two.example:5070": 200, "plain.example:5061": 200}}
		dns := names{
			"_sip._tcp.carrier.example": {"one.example", "two.example"},
			"one.example":               {"192.0.2.11"}, "two.example": {"192.0.2.12"},
			"plain.example": {"192.0.2.13"},
		}
		w, err := New(t.Context(), Options{Endpoint: net, Resolver: dns})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = w.Close() }()
		err = w.Set([]Trunk{
			{Name: "srv", Address: "carrier.example", Transport: TCP},
			{Name: "tls", Address: "plain.example", Transport: TLS, Priority: 1},
		})
		if err != nil {
			t.Fatal(err)
		}
		got := net.take()
		slices.Sort(got)
		equal(t, "sent", got, []string{"OPTIONS one.example:5070", "OPTIONS plain.example:5061"})
		inv := w.Route("")[0].Invite("+59825550111", "")
		if inv.Destination != "one.example:5070" || inv.Transport != "tcp" || inv.URI.String() != "sip:+59825550111@carrier.example" {
			t.Fatalf("invite %s to %s %s", inv.URI, inv.Transport, inv.Destination)
		}
		for addr, name := range map[string]string{"192.0.2.12": "srv", "192.0.2.13": "tls", "192.0.2.14": ""} {
			l := pick(w.at(netip.MustParseAddr(addr)), incoming{})
			if (l == nil) != (name == "") || (l != nil && l.Name() != name) {
				t.Errorf("%s is taken for %v", addr, l)
			}
		}
		// The first target dies: the second takes over.
		net.set("one.example:5070", -1)
		time.Sleep(time.Minute)
		if s := w.Status()[0]; s.State != StateUp || s.Destination != "two.example:5070" {
			t.Fatalf("status %+v", s)
		}
	})
}

func TestSetKeepsWhatDidNotChange(t *testing.T) {
	trunks := []Trunk{{Name: "a", Address: "192.0.2.1:5060"}, {Name: "b", Address: "192.0.2.2:5060"}}
	story(t, trunks, func(w *world) {
		w.net.take()
		a, _ := w.Line("a")
		b, _ := w.Line("b")
		changed := slices.Clone(trunks)
		changed[1].Address = "192.0.2.3:5060"
		changed[0].Rev = 7
		if err := w.Set(changed); err != nil {
			t.Fatal(err)
		}
		equal(t, "asked", w.net.take(), []string{"OPTIONS 192.0.2.3:5060"})
		if x, _ := w.Line("a"); x != a {
			t.Fatal("a was made anew")
		}
		if x, _ := w.Line("b"); x == b {
			t.Fatal("b is the old one")
		}
		time.Sleep(time.Minute)
		if got := w.net.take(); slices.Contains(got, "OPTIONS 192.0.2.2:5060") {
			t.Fatalf("the old b is still asked: %v", got)
		}
	})
}

func TestSetRefuses(t *testing.T) {
	story(t, []Trunk{{Name: "good", Address: "192.0.2.1:5060"}}, func(w *world) {
		for name, list := range map[string][]Trunk{
			"no name":              {{Address: "x"}},
			"no address":           {{Name: "x"}},
			"bad port":             {{Name: "x", Address: "h:99999"}},
			"twice":                {{Name: "x", Address: "h"}, {Name: "x", Address: "h"}},
			"cannot register":      {{Name: "x", Address: "h", Register: true}},
			"user name of another": {{Name: "x", Address: "h", Username: "u", SealedPassword: []byte("p")}, {Name: "y", Address: "h", Username: "u", SealedPassword: []byte("q")}},
		} {
			if err := w.Set(list); !errors.Is(err, ErrOptions) {
				t.Errorf("%s: %v", name, err)
			}
		}
		equal(t, "kept", routed(w, ""), []string{"good"})
	})
}

func TestFailsOver(t *testing.T) {
	for code, want := range map[int]bool{
		408: true, 500: true, 502: true, 503: true, 504: true, 401: true, 407: true,
		403: false, 404: false, 480: false, 484: false, 486: false, 487: false, 488: false, 580: false, 600: false, 603: false, 200: false,
	} {
		if FailsOver(code) != want {
			t.Errorf("%d: %v", code, !want)
		}
	}
}
