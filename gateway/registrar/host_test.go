package registrar

import (
	"net/netip"
	"testing"
)

// TestHostOfPhones: an address is known for as long as any phone is registered
// from it, over whatever transport, and wherever the phone moves.
func TestHostOfPhones(t *testing.T) {
	story(t, Options{}, func(g *Registrar, _ *recorder) {
		home, away := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.9")
		is := func(atHome, atAway bool) {
			t.Helper()
			if g.HasHost(home) != atHome || g.HasHost(away) != atAway {
				t.Fatalf("home %v, away %v", g.HasHost(home), g.HasHost(away))
			}
		}
		is(false, false)
		must(t, g, phone("2101-desk", "sip:2101@192.0.2.1:5060", 300, 1, udp(5060)))
		must(t, g, phone("2101-app", "sip:x@y.invalid;transport=ws", 300, 1, wss(1)))
		is(true, false)
		g.FlowClosed(wss(1))
		is(true, false)
		moved := udp(5060)
		moved.Remote = netip.AddrPortFrom(away, 5060)
		must(t, g, phone("2101-desk", "sip:2101@192.0.2.1:5060", 300, 2, moved))
		is(false, true)
		g.Unregister("2101-desk")
		is(false, false)
		if len(g.hosts) != 0 {
			t.Errorf("hosts left: %v", g.hosts)
		}
	})
}
