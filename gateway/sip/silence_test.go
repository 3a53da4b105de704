package sip_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
)

// TestSilencedSourceGetsNothing: not even a 100, while others are served.
func TestSilencedSourceGetsNothing(t *testing.T) {
	scanner := netip.MustParseAddr("10.0.0.2")
	inBubble(t, sip.Options{Silenced: func(a netip.Addr) bool { return a == scanner }}, func(b *bubble) {
		for _, m := range []string{invite(1, ""), request("OPTIONS", 2, "<sip:alice@10.0.0.1>", nil, "")} {
			b.peer.Send(m)
			if got, ok := b.peer.Try(2 * time.Second); ok {
				t.Fatalf("a silenced source got %+v", got)
			}
		}
		other := b.newPeer("10.0.0.3:5060")
		other.Send(request("OPTIONS", 3, "<sip:alice@10.0.0.1>", nil, ""))
		if _, ok := other.Try(2 * time.Second); !ok {
			t.Fatal("another source got nothing")
		}
	})
}
