package registrar

import (
	"errors"
	"fmt"
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

// recorder keeps the changes in order.
type recorder struct {
	mu   sync.Mutex
	list []Change
}

func (r *recorder) add(c Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, c)
}

// take returns what happened since the last time, as words.
func (r *recorder) take() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, c := range r.list {
		s := c.Kind.String() + " " + c.Binding.User
		if c.Moved {
			s += " moved"
		}
		out = append(out, s)
	}
	r.list = nil
	return out
}

func contact(s string, expires int, params ...sip.Param) sip.Contact {
	u, err := sip.ParseURI(s)
	if err != nil {
		panic(err)
	}
	return sip.Contact{Address: sip.Address{URI: u, Params: params}, Expires: expires}
}

func wss(n int) sip.Flow {
	return sip.Flow{Transport: "wss", Remote: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(n)), ID: fmt.Sprint("c", n)}
}

func udp(n int) sip.Flow {
	return sip.Flow{Transport: "udp", Remote: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(n))}
}

// phone is a REGISTER of a user's phone.
func phone(user, uri string, expires int, cseq uint32, f sip.Flow, params ...sip.Param) registration {
	return registration{user: user, aor: "2101", contacts: []sip.Contact{contact(uri, expires, params...)}, callID: "id-" + user + uri, cseq: cseq, flow: f, agent: "test"}
}

func story(t *testing.T, o Options, tell func(g *Registrar, rec *recorder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		o.OnChange = rec.add
		g := New(o)
		defer func() {
			if err := errors.Join(g.Close(), g.Close()); err != nil {
				t.Error(err)
			}
		}()
		tell(g, rec)
	})
}

func must(t *testing.T, g *Registrar, r registration) []string {
	t.Helper()
	hs, err := g.register(r, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, h := range hs {
		out = append(out, h.Name+": "+h.Value)
	}
	return out
}

func refused(t *testing.T, g *Registrar, r registration, code int) []sip.Header {
	t.Helper()
	_, err := g.register(r, time.Now())
	var no *refusal
	if !errors.As(err, &no) || no.code != code {
		t.Fatalf("got %v, want %d", err, code)
	}
	return no.headers
}

func want(t *testing.T, rec *recorder, changes ...string) {
	t.Helper()
	if d := cmp.Diff(changes, rec.take()); d != "" {
		t.Fatalf("changes (-want +got):\n%s", d)
	}
}

// users of the live bindings, freshest first.
func users(g *Registrar) []string {
	var out []string
	for _, b := range g.Bindings("2101") {
		out = append(out, b.User)
	}
	return out
}

func TestBindingExpires(t *testing.T) {
	story(t, Options{}, func(g *Registrar, rec *recorder) {
		got := must(t, g, phone("2101-desk", "sip:2101@10.0.0.9:5062", 120, 1, udp(9)))
		if d := cmp.Diff([]string{"Contact: <sip:2101@10.0.0.9:5062>;expires=120"}, got); d != "" {
			t.Fatal(d)
		}
		must(t, g, phone("2101-app", "sip:x@y.invalid;transport=ws", 600, 1, wss(1)))
		want(t, rec, "registered 2101-desk", "registered 2101-app")
		time.Sleep(60 * time.Second)
		must(t, g, phone("2101-desk", "sip:2101@10.0.0.9:5062", 120, 2, udp(9)))
		want(t, rec, "refreshed 2101-desk")
		if d := cmp.Diff([]string{"2101-desk", "2101-app"}, users(g)); d != "" {
			t.Fatal(d)
		}
		time.Sleep(120*time.Second - time.Nanosecond)
		if d := cmp.Diff([]string{"2101-desk", "2101-app"}, users(g)); d != "" {
			t.Fatal("gone too early", d)
		}
		time.Sleep(time.Nanosecond)
		if d := cmp.Diff([]string{"2101-app"}, users(g)); d != "" {
			t.Fatal("still there", d)
		}
		want(t, rec, "expired 2101-desk")
		if n := g.Count(); n != 1 {
			t.Fatalf("%d bindings", n)
		}
	})
}

// TestFlowCloses: a phone whose connection is gone cannot be called, at once.
func TestFlowCloses(t *testing.T) {
	story(t, Options{}, func(g *Registrar, rec *recorder) {
		must(t, g, phone("2101-app", "sip:a@y.invalid", 600, 1, wss(1)))
		must(t, g, phone("2101-tab", "sip:b@y.invalid", 600, 1, wss(2)))
		rec.take()
		g.FlowClosed(wss(3))
		g.FlowClosed(wss(1))
		if d := cmp.Diff([]string{"2101-tab"}, users(g)); d != "" {
			t.Fatal(d)
		}
		want(t, rec, "flowLost 2101-app")
		if len(g.flows) != 1 || len(g.next) != 1 {
			t.Fatalf("left: %d flows, %d expiries", len(g.flows), len(g.next))
		}
	})
}

// TestPhoneMoves: the same instance over a new connection replaces its binding,
// and the end of the old connection takes nothing away.
func TestPhoneMoves(t *testing.T) {
	id := sip.Param{Name: "+sip.instance", Value: "<urn:uuid:1>"}
	story(t, Options{}, func(g *Registrar, rec *recorder) {
		must(t, g, phone("2101-app", "sip:a@y.invalid", 600, 1, wss(1), id, sip.Param{Name: "reg-id", Value: "1"}))
		got := must(t, g, phone("2101-app", "sip:other@z.invalid", 600, 1, wss(2), id, sip.Param{Name: "reg-id", Value: "1"}))
		if d := cmp.Diff([]string{`Contact: <sip:other@z.invalid>;expires=600;+sip.instance="<urn:uuid:1>";reg-id=1`}, got); d != "" {
			t.Fatal(d)
		}
		g.FlowClosed(wss(1))
		b := g.Bindings("2101")
		if len(b) != 1 || b[0].Flow != wss(2) || b[0].Contact.User != "other" || b[0].InstanceID != "urn:uuid:1" || b[0].RegID != 1 {
			t.Fatalf("bindings %+v", b)
		}
		want(t, rec, "registered 2101-app", "refreshed 2101-app moved")
	})
}

func TestRemoves(t *testing.T) {
	star := sip.Contact{Star: true, Expires: -1}
	story(t, Options{}, func(g *Registrar, rec *recorder) {
		must(t, g, phone("2101-a", "sip:a@1.2.3.4", 600, 1, udp(1)))
		must(t, g, phone("2101-a", "sip:b@1.2.3.4", 600, 1, udp(1)))
		must(t, g, phone("2101-b", "sip:c@1.2.3.4", 600, 1, udp(1)))
		must(t, g, phone("2101-a", "sip:a@1.2.3.4", 0, 2, udp(1)))
		must(t, g, phone("2101-a", "sip:never@1.2.3.4", 0, 2, udp(1)))
		_ = refused(t, g, registration{user: "2101-a", aor: "2101", contacts: []sip.Contact{star}, expires: "60", callID: "x"}, 400)
		_ = refused(t, g, registration{user: "2101-a", aor: "2101", contacts: []sip.Contact{star, contact("sip:a@b", 0)}, expires: "0", callID: "x"}, 400)
		if d := cmp.Diff([]string{"2101-b", "2101-a"}, users(g)); d != "" {
			t.Fatal(d)
		}
		must(t, g, registration{user: "2101-a", aor: "2101", contacts: []sip.Contact{star}, expires: "0", callID: "x"})
		if d := cmp.Diff([]string{"2101-b"}, users(g)); d != "" {
			t.Fatal("a device removed another's binding", d)
		}
		g.Unregister("2101-b")
		want(t, rec, "registered 2101-a", "registered 2101-a", "registered 2101-b", "unregistered 2101-a", "unregistered 2101-a", "unregistered 2101-b")
		if g.Count() != 0 || len(g.aors) != 0 {
			t.Fatal("something is left")
		}
	})
}

// TestOrder: RFC 3261 section 10.3, step 7.
func TestOrder(t *testing.T) {
	story(t, Options{}, func(g *Registrar, rec *recorder) {
		must(t, g, phone("2101-a", "sip:a@1.2.3.4", 600, 5, udp(1)))
		_ = refused(t, g, phone("2101-a", "sip:a@1.2.3.4", 0, 5, udp(1)), 500)
		_ = refused(t, g, phone("2101-a", "sip:a@1.2.3.4", 600, 4, udp(1)), 500)
		// All or nothing: the new contact of a refused request is not kept.
		r := phone("2101-a", "sip:new@1.2.3.4", 600, 4, udp(1))
		r.callID = "id-2101-asip:a@1.2.3.4"
		r.contacts = append(r.contacts, contact("sip:a@1.2.3.4", 600))
		_ = refused(t, g, r, 500)
		other := phone("2101-a", "sip:a@1.2.3.4", 600, 1, udp(1))
		other.callID = "after a restart"
		must(t, g, other)
		want(t, rec, "registered 2101-a", "refreshed 2101-a")
	})
}

func TestIntervals(t *testing.T) {
	story(t, Options{MinExpires: time.Minute, MaxExpires: time.Hour, DefaultExpires: 10 * time.Minute}, func(g *Registrar, _ *recorder) {
		headers := refused(t, g, phone("2101-a", "sip:a@1.2.3.4", 59, 1, udp(1)), 423)
		if d := cmp.Diff([]sip.Header{{Name: "Min-Expires", Value: "60"}}, headers); d != "" {
			t.Fatal(d)
		}
		for i, c := range []struct {
			param  int
			header string
			want   string
		}{
			{60, "", "60"},
			{-1, "90", "90"},
			{120, "90", "120"},
			{-1, "", "600"},
			{-1, "rubbish", "600"},
			{1 << 40, "", "3600"},
			{-1, "4294967295", "3600"},
			{7200, "", "3600"},
		} {
			r := phone("2101-a", "sip:a@1.2.3.4", c.param, uint32(i+1), udp(1))
			r.expires = c.header
			if got := must(t, g, r); !strings.HasSuffix(got[0], "expires="+c.want) {
				t.Errorf("%d/%q: %s, want %s", c.param, c.header, got, c.want)
			}
		}
	})
}

func TestBoundOfBindings(t *testing.T) {
	story(t, Options{MaxBindings: 3}, func(g *Registrar, rec *recorder) {
		must(t, g, phone("2101-a", "sip:a1@1.2.3.4", 600, 1, udp(1)))
		must(t, g, phone("2101-a", "sip:a2@1.2.3.4", 600, 1, udp(1)))
		must(t, g, phone("2101-b", "sip:b@1.2.3.4", 600, 1, udp(1)))
		_ = refused(t, g, phone("2101-c", "sip:c@1.2.3.4", 600, 1, udp(1)), 403)
		rec.take()
		must(t, g, phone("2101-a", "sip:a3@1.2.3.4", 600, 1, udp(1)))
		want(t, rec, "unregistered 2101-a", "registered 2101-a")
		var at []string
		for _, b := range g.Bindings("2101") {
			at = append(at, b.Contact.User)
		}
		if d := cmp.Diff([]string{"a3", "b", "a2"}, at); d != "" {
			t.Fatal(d)
		}
		r := phone("2101-a", "sip:x@1.2.3.4", 600, 1, udp(1))
		for i := range 4 {
			r.contacts = append(r.contacts, contact(fmt.Sprintf("sip:y%d@1.2.3.4", i), 600))
		}
		_ = refused(t, g, r, 403)
	})
}

func TestBadContacts(t *testing.T) {
	story(t, Options{}, func(g *Registrar, rec *recorder) {
		for _, c := range []sip.Contact{
			contact("tel:+59825550111", 600),
			contact("mailto:a@b", 600),
			contact("sip:a@b", 600, sip.Param{Name: "reg-id", Value: "x"}),
			contact("sip:a@b", 600, sip.Param{Name: "reg-id", Value: "-1"}),
			contact("sip:a@b", 600, sip.Param{Name: "+sip.instance", Value: "<a\r\nX: y>"}),
		} {
			_ = refused(t, g, registration{user: "2101-a", aor: "2101", contacts: []sip.Contact{c}, callID: "x", cseq: 1, flow: udp(1)}, 400)
		}
		twice := phone("2101-a", "sip:a@b", 600, 1, udp(1))
		twice.contacts = append(twice.contacts, contact("sip:a@B", 900))
		_ = refused(t, g, twice, 400)
		want(t, rec)
	})
}

func TestSlowConsumerIsToldToReadAgain(t *testing.T) {
	var got []Kind
	o := newOutbox(func(c Change) { got = append(got, c.Kind) })
	for range outboxSize + 10 {
		o.post(Change{Kind: Refreshed})
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { o.run(done) })
	for range 1000 {
		o.mu.Lock()
		n := len(o.list)
		o.mu.Unlock()
		if n == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	close(done)
	wg.Wait()
	if len(got) != 11 || got[0] != Resync || slices.Contains(got[1:], Resync) {
		t.Fatalf("%d changes, first %v", len(got), got[:1])
	}
}

// BenchmarkRegister is the registrar's own share of a refresh among 10,000.
func BenchmarkRegister(b *testing.B) {
	g := New(Options{})
	defer func() { _ = g.Close() }()
	r := make([]registration, 10000)
	for i := range r {
		r[i] = phone(fmt.Sprint("u", i), fmt.Sprintf("sip:%d@x.invalid", i), 600, 0, wss(i))
		r[i].aor = fmt.Sprint(i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		x := &r[i%len(r)]
		x.cseq++
		if _, err := g.register(*x, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
