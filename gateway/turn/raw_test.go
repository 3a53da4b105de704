package turn

import (
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/pion/stun/v2"
)

// raw speaks TURN by hand, to do what a proper client would not.
type raw struct {
	tb    testing.TB
	w     *world
	conn  net.Conn
	nonce stun.Nonce
}

func newRaw(tb testing.TB, w *world) *raw {
	tb.Helper()
	conn, err := net.Dial("udp", w.udp.LocalAddr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return &raw{tb: tb, w: w, conn: conn}
}

type attribute struct {
	t stun.AttrType
	v []byte
}

func (a attribute) AddTo(m *stun.Message) error {
	m.Add(a.t, a.v)
	return nil
}

func lifetime(seconds uint32) stun.Setter {
	return attribute{stun.AttrLifetime, binary.BigEndian.AppendUint32(nil, seconds)}
}

func binding() []byte {
	return stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
}

// exchange sends a message and returns the response.
func (c *raw) exchange(m *stun.Message) *stun.Message {
	c.tb.Helper()
	if _, err := c.conn.Write(m.Raw); err != nil {
		c.tb.Fatal(err)
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	res := &stun.Message{Raw: make([]byte, 0, 2048)}
	var b []byte
	if _, ok := c.conn.(*net.TCPConn); ok {
		head := make([]byte, headerLen)
		if _, err := io.ReadFull(c.conn, head); err != nil {
			c.tb.Fatal(err)
		}
		b = slices.Concat(head, make([]byte, binary.BigEndian.Uint16(head[2:])))
		if _, err := io.ReadFull(c.conn, b[headerLen:]); err != nil {
			c.tb.Fatal(err)
		}
	} else {
		b = make([]byte, 2048)
		n, err := c.conn.Read(b)
		if err != nil {
			c.tb.Fatal(err)
		}
		b = b[:n]
	}
	res.Raw = append(res.Raw, b...)
	if err := res.Decode(); err != nil {
		c.tb.Fatal(err)
	}
	if res.TransactionID != m.TransactionID {
		c.tb.Fatal("answer to something else")
	}
	return res
}

// do sends an authenticated request, after a first one for the nonce.
func (c *raw) do(method uint16, user string, attrs ...stun.Setter) *stun.Message {
	c.tb.Helper()
	t := stun.NewType(stun.Method(method), stun.ClassRequest)
	if c.nonce == nil {
		first := stun.MustBuild(append([]stun.Setter{stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest)}, attrs...)...)
		if err := c.nonce.GetFrom(c.exchange(first)); err != nil {
			c.tb.Fatal(err)
		}
	}
	all := append([]stun.Setter{stun.TransactionID, t}, attrs...)
	all = append(all, stun.NewUsername(user), stun.NewRealm(testRealm), c.nonce, stun.MessageIntegrity(Key(user, testRealm, testPass)))
	return c.exchange(stun.MustBuild(all...))
}

// request returns the error code of the answer, 0 for success.
func (c *raw) request(method uint16, user string, attrs ...stun.Setter) int {
	c.tb.Helper()
	return codeOf(c.do(method, user, attrs...))
}

func codeOf(m *stun.Message) int {
	if m.Type.Class == stun.ClassSuccessResponse {
		return 0
	}
	var e stun.ErrorCodeAttribute
	if err := e.GetFrom(m); err != nil {
		return -1
	}
	return int(e.Code)
}

var udpTransport = attribute{stun.AttrRequestedTransport, []byte{protoUDP, 0, 0, 0}}

func (c *raw) tryAllocate(user string, more ...stun.Setter) int {
	c.tb.Helper()
	return c.request(methodAllocate, user, append([]stun.Setter{udpTransport}, more...)...)
}

// allocate makes an allocation and returns its lifetime in seconds.
func (c *raw) allocate(user string, seconds uint32) uint32 {
	c.tb.Helper()
	attrs := []stun.Setter{udpTransport}
	if seconds > 0 {
		attrs = append(attrs, lifetime(seconds))
	}
	m := c.do(methodAllocate, user, attrs...)
	if code := codeOf(m); code != 0 {
		c.tb.Fatalf("allocate: %d", code)
	}
	v, err := m.Get(stun.AttrLifetime)
	if err != nil || len(v) != 4 {
		c.tb.Fatalf("lifetime %x, %v", v, err)
	}
	return binary.BigEndian.Uint32(v)
}

// peerAddress is an XOR-PEER-ADDRESS.
type peerAddress struct{ *net.UDPAddr }

func (p peerAddress) AddTo(m *stun.Message) error {
	return stun.XORMappedAddress{IP: p.IP, Port: p.Port}.AddToAs(m, stun.AttrXORPeerAddress)
}

func channelNo(n uint16) stun.Setter {
	return attribute{stun.AttrChannelNumber, []byte{byte(n >> 8), byte(n), 0, 0}}
}

// TestForbiddenBindings: what is refused is refused with the RFC's code.
func TestForbiddenBindings(t *testing.T) {
	w := newWorld(t, nil)
	c := newRaw(t, w)
	if code := c.request(methodRefresh, testUser, lifetime(60)); code != codeMismatch {
		t.Errorf("refresh of nothing: %d", code)
	}
	if code := c.tryAllocate(testUser, attribute{stun.AttrRequestedAddressFamily, []byte{familyIPv6, 0, 0, 0}}); code != codeWrongFamily {
		t.Errorf("IPv6 relay: %d", code)
	}
	if code := c.request(methodAllocate, testUser, attribute{stun.AttrRequestedTransport, []byte{6, 0, 0, 0}}); code != codeUnsupported {
		t.Errorf("TCP relay: %d", code)
	}
	c.allocate(testUser, 0)
	media := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port(w.peer.LocalAddr()))}
	other := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: media.Port + 1}
	away := &net.UDPAddr{IP: net.IPv4(10, 1, 1, 1), Port: media.Port}
	if code := c.request(methodChannelBind, testUser, channelNo(0x4001), peerAddress{other}); code != codeForbidden {
		t.Errorf("channel to another port: %d", code)
	}
	if code := c.request(methodChannelBind, testUser, channelNo(0x4001), peerAddress{away}); code != codeForbidden {
		t.Errorf("channel to another address: %d", code)
	}
	if code := c.request(methodCreatePermission, testUser, peerAddress{away}); code != codeForbidden {
		t.Errorf("permission for another address: %d", code)
	}
	if code := c.request(methodChannelBind, testUser, channelNo(0x4001), peerAddress{media}); code != 0 {
		t.Errorf("channel to our media: %d", code)
	}
	if code := c.request(methodChannelBind, testUser, channelNo(0x4001), peerAddress{media}); code != 0 {
		t.Errorf("refresh of the channel: %d", code)
	}
	if code := c.request(methodChannelBind, testUser, channelNo(0x4002), peerAddress{media}); code != 400 {
		t.Errorf("second channel to one peer: %d", code)
	}
	before := w.Stats().ToPeerPackets
	if _, err := c.conn.Write([]byte{0x40, 0x01, 0, 2, 'h', 'i', 0, 0}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "channel data is not relayed", func() bool { return w.Stats().ToPeerPackets == before+1 })
	for _, b := range [][]byte{{0x40, 0x02, 0, 2, 'h', 'i'}, {0x40, 0x01, 0, 9, 'h', 'i'}, {0x40}} {
		if _, err := c.conn.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if code := c.request(methodRefresh, testUser, lifetime(60)); code != 0 {
		t.Errorf("refresh: %d", code)
	}
	if n := w.Stats().ToPeerPackets; n != before+1 {
		t.Errorf("%d packets relayed", n-before)
	}
}
