package trunk

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordboard/cordboard/gateway/sip"
)

// incoming is what a request says.
type incoming struct {
	uri, from, to string
	headers       map[string][]string
	src           string
}

func address(s string) sip.Address {
	if s == "" {
		return sip.Address{}
	}
	a, err := sip.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func (r incoming) URI() sip.URI                 { return address("<" + orSIP(r.uri) + ">").URI }
func (r incoming) From() sip.Address            { return address(r.from) }
func (r incoming) To() sip.Address              { return address(r.to) }
func (r incoming) Headers(name string) []string { return r.headers[name] }
func (r incoming) Flow() sip.Flow {
	return sip.Flow{Transport: "udp", Remote: netip.MustParseAddrPort(r.src)}
}

func (r incoming) Header(name string) string {
	if h := r.headers[name]; len(h) > 0 {
		return h[0]
	}
	return ""
}

func orSIP(s string) string {
	if s == "" {
		return "sip:gw"
	}
	return s
}

func TestPicksTrunkByAddress(t *testing.T) {
	net := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	trunks := []Trunk{
		{Name: "wide", Address: "192.0.2.1:5060", Allow: net("10.0.0.0/8")},
		{Name: "narrow", Address: "192.0.2.2:5060", Allow: net("10.1.0.0/16"), Priority: 5},
		{Name: "six", Address: "[2001:db8::1]:5060", Allow: net("2001:db8::/32")},
		{Name: "twin1", Address: "192.0.2.3:5060", Allow: net("172.16.0.1/32"), Username: "acct1", SealedPassword: []byte("p")},
		{Name: "twin2", Address: "carrier.example:5060", Allow: net("172.16.0.1/32"), Username: "acct2", SealedPassword: []byte("p"), Priority: 1},
	}
	story(t, trunks, func(w *world) {
		twin2, _ := w.Line("twin2")
		for _, c := range []struct {
			src  string
			req  incoming
			want string
		}{
			{"10.2.3.4", incoming{}, "wide"},
			{"10.1.3.4", incoming{}, "narrow"},
			{"2001:db8::7", incoming{}, "six"},
			{"192.0.2.1", incoming{}, ""}, // named sources are all there are
			{"11.0.0.1", incoming{}, ""},
			{"172.16.0.1", incoming{}, "twin1"},
			{"172.16.0.1", incoming{uri: "sip:acct2@gw"}, "twin2"},
			{"172.16.0.1", incoming{uri: "sip:1@gw", to: "<sip:acct2@carrier.example>"}, "twin2"},
			{"172.16.0.1", incoming{uri: "sip:1@gw", from: "<sip:5@carrier.example>"}, "twin2"},
			{"172.16.0.1", incoming{uri: "sip:" + twin2.token() + "@gw"}, "twin2"},
		} {
			got := ""
			if l := pick(w.at(netip.MustParseAddr(c.src)), c.req); l != nil {
				got = l.Name()
			}
			if got != c.want {
				t.Errorf("%s %+v: %q, want %q", c.src, c.req, got, c.want)
			}
		}
	})
}

// TestNumbers: contract, "numbers".
func TestNumbers(t *testing.T) {
	trunks := []Trunk{{Name: "a", Address: "192.0.2.1:5060", Username: "acct", SealedPassword: []byte("p")}}
	story(t, trunks, func(w *world) {
		l, _ := w.Line("a")
		pai := func(v ...string) map[string][]string { return map[string][]string{"P-Asserted-Identity": v} }
		for _, c := range []struct {
			name string
			req  incoming
			did  string
			who  Caller
		}{
			{"plain", incoming{uri: "sip:+59825550111@gw", from: `"Ana" <sip:+59899123456@c>`, to: "<sip:9@c>"}, "59825550111", Caller{Number: "59899123456", Name: "Ana"}},
			{"DID in To", incoming{uri: "sip:" + l.token() + "@gw", from: "<sip:1@c>", to: "<sip:59825550111@c>"}, "59825550111", Caller{Number: "1"}},
			{"account in Request-URI", incoming{uri: "sip:acct@gw", from: "<sip:1@c>", to: "<sip:59825550111@c>"}, "59825550111", Caller{Number: "1"}},
			{"no user in Request-URI", incoming{uri: "sip:gw", from: "<sip:1@c>", to: "<sip:7@c>"}, "7", Caller{Number: "1"}},
			{"tel URI", incoming{uri: "tel:+59825550111;phone-context=x", from: "<tel:+1555>", to: "<sip:7@c>"}, "59825550111", Caller{Number: "1555"}},
			{"user parameters", incoming{uri: "sip:25550111;npdi@gw", from: "<sip:1;cpc=ordinary@c>", to: "<sip:7@c>"}, "25550111", Caller{Number: "1"}},
			{"asserted", incoming{uri: "sip:7@gw", from: `"Shop" <sip:000@c>`, headers: pai(`<sip:gone@c>, "Real, Name" <tel:+59899123456>`)}, "7", Caller{Number: "gone", Name: "Shop"}},
			{"asserted tel", incoming{uri: "sip:7@gw", from: "<sip:000@c>", headers: pai(`"Real, Name" <sip:+59899123456@c>`)}, "7", Caller{Number: "59899123456", Name: "Real, Name"}},
			{"name is the number", incoming{uri: "sip:7@gw", from: `"+1555" <sip:1555@c>`}, "7", Caller{Number: "1555"}},
			{"anonymous From", incoming{uri: "sip:7@gw", from: `"Anonymous" <sip:anonymous@anonymous.invalid>`, headers: pai("<sip:1555@c>")}, "7", Caller{Anonymous: true}},
			{"privacy", incoming{uri: "sip:7@gw", from: "<sip:1555@c>", headers: map[string][]string{"Privacy": {"user;id"}}}, "7", Caller{Anonymous: true}},
			{"privacy none", incoming{uri: "sip:7@gw", from: "<sip:1555@c>", headers: map[string][]string{"Privacy": {"none"}}}, "7", Caller{Number: "1555"}},
			{"no number at all", incoming{uri: "sip:7@gw", from: "<sip:c>"}, "7", Caller{Anonymous: true}},
			{"rubbish asserted", incoming{uri: "sip:7@gw", from: "<sip:1555@c>", headers: pai(`"<,;`, "")}, "7", Caller{Number: "1555"}},
		} {
			if got := l.did(c.req); got != c.did {
				t.Errorf("%s: DID %q, want %q", c.name, got, c.did)
			}
			if d := cmp.Diff(c.who, l.caller(c.req)); d != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, d)
			}
		}
	})
}

func TestInvite(t *testing.T) {
	trunks := []Trunk{
		{Name: "a", Address: "192.0.2.1:5080"},
		{Name: "b", Address: "sip.carrier.example:5061", Transport: TLS, Username: "acct", SealedPassword: []byte("p"), Priority: 1},
	}
	story(t, trunks, func(w *world) {
		a, _ := w.Line("a")
		b, _ := w.Line("b")
		head := func(i sip.Invite, name string) string {
			for _, h := range i.Headers {
				if h.Name == name {
					return h.Value
				}
			}
			return ""
		}
		i := a.Invite("18885550100", "59825550111")
		equal(t, "by address", []string{i.URI.String(), i.From.URI.String(), i.To.URI.String(), head(i, "P-Asserted-Identity"), head(i, "Privacy"), i.Destination, i.Transport},
			[]string{"sip:18885550100@192.0.2.1:5080", "sip:59825550111@192.0.2.9", "sip:18885550100@192.0.2.1:5080", "<sip:59825550111@192.0.2.9>", "", "192.0.2.1:5080", "udp"})
		if i.Credentials != nil {
			t.Error("credentials for a trunk that has none")
		}
		i = b.Invite("+1 (888) 555-0100", "+598 2")
		equal(t, "by account", []string{i.URI.User, i.From.URI.String(), i.Destination, i.Transport, i.Credentials.Username, i.Credentials.Password},
			[]string{"+18885550100", "sip:+5982@sip.carrier.example", "sip.carrier.example:5061", "tls", "acct", "p"})
		for _, id := range []string{"", "anonymous", "Anonymous"} {
			i = a.Invite("911", id)
			equal(t, "anonymous", []string{i.URI.User, i.From.URI.String(), head(i, "P-Asserted-Identity"), head(i, "Privacy")},
				[]string{"911", "sip:anonymous@anonymous.invalid", "", "id"})
		}
		if u := a.Invite("*31#911", "1").URI.User; u != "*31#911" {
			t.Errorf("service code is sent as %s", u)
		}
		i = a.InviteAs("911", Caller{Number: "2101", Name: "Ana", Anonymous: true})
		equal(t, "hidden", []string{i.From.URI.String(), head(i, "P-Asserted-Identity"), head(i, "Privacy")},
			[]string{"sip:anonymous@anonymous.invalid", `"Ana" <sip:2101@192.0.2.9>`, "id"})
	})
}

// TestStrangersGetSilence: a scanner gets a few answers and then none, and it
// cannot make us remember without bound.
func TestStrangersGetSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStrangers(3, time.Minute)
		a := netip.MustParseAddr("198.51.100.1")
		count := func(a netip.Addr) (n int) {
			for range 100 {
				if s.answer(a) {
					n++
				}
			}
			return n
		}
		if s.silenced(a) {
			t.Error("silenced before it said a word")
		}
		if n := count(a); n != 3 || !s.silenced(a) {
			t.Errorf("%d answers", n)
		}
		time.Sleep(2 * time.Minute)
		if n := count(a); n != 2 {
			t.Errorf("%d answers after two minutes", n)
		}
		s.trust(a)
		if n := count(a); n != 100 || s.silenced(a) {
			t.Errorf("%d answers to a source that proved itself", n)
		}
		time.Sleep(trustFor)
		if n := count(a); n != 3 {
			t.Errorf("%d answers when the trust is over", n)
		}
		if n := count(netip.MustParseAddr("2001:db8::1")) + count(netip.MustParseAddr("2001:db8::2")); n != 3 {
			t.Errorf("%d answers to one network", n)
		}
		for i := range maxStrangers + 1000 {
			s.answer(netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)}))
		}
		if len(s.known) > maxStrangers {
			t.Errorf("%d sources remembered", len(s.known))
		}
		time.Sleep(time.Hour)
		s.answer(netip.MustParseAddr("203.0.113.1"))
		if len(s.known) > 1 {
			t.Errorf("%d sources after an hour", len(s.known))
		}
	})
}

func FuzzAsserted(f *testing.F) {
	for _, s := range []string{`"a, b" <sip:1@c>, <tel:+2>`, `<sip:1@c`, `"\"`, `,,`, `<sip:a,b@c>,x`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := 0
		for _, v := range splitList(s) {
			n += len(v)
		}
		if n > len(s) {
			t.Fatal("more than there was")
		}
		l := asserted(incoming{headers: map[string][]string{"P-Asserted-Identity": {s}}})
		for _, a := range l {
			// What was understood is understood again from what we would write.
			again := asserted(incoming{headers: map[string][]string{"P-Asserted-Identity": {a.String()}}})
			if len(again) != 1 || again[0].URI.String() != a.URI.String() {
				t.Fatalf("%q → %q", a.String(), fmt.Sprint(again))
			}
		}
	})
}
