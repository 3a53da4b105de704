package turn

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v2"
)

func FuzzMessage(f *testing.F) {
	f.Add(binding())
	f.Add(stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodChannelBind, stun.ClassRequest), channelNo(0x4000),
		peerAddress{&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}}).Raw)
	f.Add(stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodChannelBind, stun.ClassRequest),
		peerAddress{&net.UDPAddr{IP: net.ParseIP("2001:db8::1"), Port: 9}}).Raw)
	f.Add(errorMessage(methodAllocate, [12]byte{1}, codeQuota, []byte("key")))
	f.Add([]byte{0x40, 0, 0, 1, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, data, ok := channelData(b); ok && (!channelNumber(n) || len(data) > len(b)-channelHead) {
			t.Fatalf("channel %x with %d bytes", n, len(data))
		}
		m, ok := parseMessage(b)
		if !ok {
			return
		}
		for _, a := range []uint16{attrErrorCode, attrRequestedFamily, attrRequestedTransport} {
			m.attr(a)
		}
		m.channel()
		// What we and the library's parser both read has to be the same.
		ref := &stun.Message{Raw: bytes.Clone(b)}
		if ref.Decode() != nil {
			return
		}
		if uint16(ref.Type.Method) != m.method {
			t.Fatalf("method %x, want %x", m.method, ref.Type.Method)
		}
		if typeOf(m.method, m.class) != ref.Type.Value() {
			t.Fatalf("type %x, want %x", typeOf(m.method, m.class), ref.Type.Value())
		}
		var x stun.XORMappedAddress
		if a, ok := m.peer(); ok && x.GetFromAs(ref, stun.AttrXORPeerAddress) == nil {
			if want, _ := netip.AddrFromSlice(x.IP); want.Unmap() != a.Addr() || int(a.Port()) != x.Port {
				t.Fatalf("peer %s, want %s", a, x.String())
			}
		}
		// Round trip of what we write.
		e, ok := parseMessage(errorMessage(m.method, m.id, codeForbidden, b))
		if !ok || e.class != classError || e.method != m.method || e.id != m.id {
			t.Fatalf("error message %+v", e)
		}
	})
}

func TestErrorMessageIsSigned(t *testing.T) {
	key := Key(testUser, testRealm, testPass)
	m := &stun.Message{Raw: errorMessage(methodChannelBind, [12]byte{7}, codeForbidden, key)}
	if err := m.Decode(); err != nil {
		t.Fatal(err)
	}
	if err := stun.MessageIntegrity(key).Check(m); err != nil {
		t.Fatal(err)
	}
	if codeOf(m) != codeForbidden {
		t.Fatalf("code %d", codeOf(m))
	}
}

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(2, 3, 2)
		a := netip.MustParseAddr("192.0.2.1")
		take := func(a netip.Addr) (n int) {
			for l.allow(a, time.Now()) {
				n++
			}
			return n
		}
		if n := take(a); n != 3 {
			t.Errorf("burst %d", n)
		}
		time.Sleep(time.Second)
		if n := take(netip.MustParseAddr("::ffff:192.0.2.1")); n != 2 {
			t.Errorf("after a second %d", n)
		}
		// One network is one source, and sources beyond the bound share.
		if n := take(netip.MustParseAddr("2001:db8::1")) + take(netip.MustParseAddr("2001:db8::2")); n != 3 {
			t.Errorf("one /64 took %d", n)
		}
		if n := take(netip.MustParseAddr("192.0.2.3")) + take(netip.MustParseAddr("192.0.2.4")); n != 3 {
			t.Errorf("beyond the bound %d", n)
		}
		if len(l.bucket) != 2 {
			t.Errorf("%d sources", len(l.bucket))
		}
		time.Sleep(time.Minute)
		l.sweep(time.Now())
		if len(l.bucket) != 0 {
			t.Errorf("%d sources after a sweep", len(l.bucket))
		}
	})
}

func TestPeersTranslate(t *testing.T) {
	p := peers{addr: netip.MustParseAddr("203.0.113.5"), local: netip.MustParseAddr("10.0.0.5"), ports: []PortRange{{10000, 20000}, {7882, 7882}}}
	for _, c := range []struct {
		in, out string
	}{
		{"203.0.113.5:7882", "10.0.0.5:7882"},
		{"203.0.113.5:10000", "10.0.0.5:10000"},
		{"203.0.113.5:20000", "10.0.0.5:20000"},
		{"203.0.113.5:20001", ""},
		{"203.0.113.5:9999", ""},
		{"203.0.113.6:7882", ""},
		{"10.0.0.5:7882", ""},
		{"[::1]:7882", ""},
	} {
		got, ok := p.target(netip.MustParseAddrPort(c.in))
		if ok != (c.out != "") || (ok && got.String() != c.out) {
			t.Errorf("%s → %s, %v", c.in, got, ok)
		}
		if ok {
			if back, ok := p.origin(got); !ok || back.String() != c.in {
				t.Errorf("%s ← %s, %v", got, back, ok)
			}
		}
	}
}
