// Package siptest owns small scriptable SIP peers for tests: a packet network
// in memory, which works in a synctest bubble and can lose packets, and peers
// that send and read raw messages over it, over UDP and over WebSocket.
package siptest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// Net is a packet network in memory.
type Net struct {
	mu    sync.Mutex
	conns map[string]*packetConn
	drop  func(from, to netip.AddrPort, b []byte) bool
}

// NewNet makes an empty network.
func NewNet() *Net { return &Net{conns: make(map[string]*packetConn)} }

// Drop sets a function that says which packets are lost; nil loses none.
func (n *Net) Drop(f func(from, to netip.AddrPort, b []byte) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop = f
}

// Listen opens a socket at an address like "10.0.0.1:5060".
func (n *Net) Listen(addr string) net.PacketConn {
	c := &packetConn{n: n, addr: netip.MustParseAddrPort(addr), in: make(chan packet, 1024), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[addr] = c
	return c
}

type packet struct {
	from netip.AddrPort
	data []byte
}

type packetConn struct {
	n      *Net
	addr   netip.AddrPort
	in     chan packet
	once   sync.Once
	closed chan struct{}

	mu       sync.Mutex
	deadline time.Time
}

func (c *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	c.mu.Lock()
	deadline := c.deadline
	c.mu.Unlock()
	var expired <-chan time.Time
	if !deadline.IsZero() {
		t := time.NewTimer(time.Until(deadline))
		defer t.Stop()
		expired = t.C
	}
	select {
	case p := <-c.in:
		return copy(b, p.data), net.UDPAddrFromAddrPort(p.from), nil
	case <-c.closed:
		return 0, nil, net.ErrClosed
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (c *packetConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.n.mu.Lock()
	peer, drop := c.n.conns[to.String()], c.n.drop
	c.n.mu.Unlock()
	ap, err := netip.ParseAddrPort(to.String())
	if err != nil {
		return 0, fmt.Errorf("address %s: %w", to, err)
	}
	if peer == nil || drop != nil && drop(c.addr, ap, b) {
		return len(b), nil
	}
	select {
	case peer.in <- packet{c.addr, append([]byte(nil), b...)}:
	default: // full, as a socket's buffer may be
	}
	return len(b), nil
}

func (c *packetConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *packetConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.addr) }

func (c *packetConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *packetConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return nil
}

func (c *packetConn) SetWriteDeadline(time.Time) error { return nil }

// Message is a message as it came, hardly parsed.
type Message struct {
	Start   string
	Headers [][2]string
	Body    string
	From    net.Addr
}

// Parse cuts a message up.
func Parse(raw string) Message {
	head, body, _ := strings.Cut(raw, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	m := Message{Start: lines[0], Body: body}
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ":")
		m.Headers = append(m.Headers, [2]string{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	return m
}

// Method returns a request's method, "" of a response.
func (m Message) Method() string {
	if strings.HasPrefix(m.Start, "SIP/") {
		return ""
	}
	method, _, _ := strings.Cut(m.Start, " ")
	return method
}

// URI returns a request's URI.
func (m Message) URI() string {
	f := strings.Fields(m.Start)
	if len(f) < 2 {
		return ""
	}
	return f[1]
}

// Status returns a response's code, 0 of a request.
func (m Message) Status() int {
	f := strings.Fields(m.Start)
	if len(f) < 2 || !strings.HasPrefix(m.Start, "SIP/") {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return n
}

// Get returns a header's first value.
func (m Message) Get(name string) string {
	for _, h := range m.Headers {
		if strings.EqualFold(h[0], name) {
			return h[1]
		}
	}
	return ""
}

// Param returns a parameter of a header, like the tag of To.
func (m Message) Param(header, name string) string {
	_, params, _ := strings.Cut(strings.ToLower(m.Get(header)), name+"=")
	end := strings.IndexAny(params, ";>, ")
	if end >= 0 {
		params = params[:end]
	}
	return strings.Trim(params, `"`)
}

// Peer sends and reads raw messages.
type Peer struct {
	t    testing.TB
	pc   net.PacketConn
	ws   *websocket.Conn
	to   net.Addr
	wait time.Duration
}

// New makes a peer of a packet socket that talks to one address; the test
// closes the socket at its end.
func New(tb testing.TB, pc net.PacketConn, to net.Addr) *Peer {
	tb.Helper()
	tb.Cleanup(func() { _ = pc.Close() })
	return &Peer{t: tb, pc: pc, to: to, wait: 5 * time.Second}
}

// UDP makes a peer with a UDP socket of its own on 127.0.0.1.
func UDP(tb testing.TB, to net.Addr) *Peer {
	tb.Helper()
	var lc net.ListenConfig
	pc, err := lc.ListenPacket(tb.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return New(tb, pc, to)
}

// WebSocket dials a peer over WebSocket.
func WebSocket(tb testing.TB, url string, d *websocket.Dialer) *Peer {
	tb.Helper()
	if d == nil {
		d = &websocket.Dialer{}
	}
	d.Subprotocols = []string{"sip"}
	ctx, cancel := context.WithTimeout(tb.Context(), 5*time.Second)
	defer cancel()
	ws, resp, err := d.DialContext(ctx, url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	_ = resp.Body.Close()
	tb.Cleanup(func() { _ = ws.Close() })
	return &Peer{t: tb, ws: ws, wait: 5 * time.Second}
}

// Wait sets how long Read waits (default 5 s).
func (p *Peer) Wait(d time.Duration) { p.wait = d }

// Addr returns the peer's own address, of a WebSocket a name nobody has.
func (p *Peer) Addr() string {
	if p.ws != nil {
		return "peer.invalid"
	}
	return p.pc.LocalAddr().String()
}

// Conn returns the WebSocket of a WebSocket peer.
func (p *Peer) Conn() *websocket.Conn { return p.ws }

// Send sends a message; lines may end in \n alone.
func (p *Peer) Send(raw string) {
	p.t.Helper()
	raw = strings.ReplaceAll(strings.ReplaceAll(raw, "\r\n", "\n"), "\n", "\r\n")
	var err error
	if p.ws != nil {
		err = p.ws.WriteMessage(websocket.TextMessage, []byte(raw))
	} else {
		_, err = p.pc.WriteTo([]byte(raw), p.to)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// Try reads the next message; false if none came within d.
func (p *Peer) Try(d time.Duration) (Message, bool) {
	if p.ws != nil {
		_ = p.ws.SetReadDeadline(time.Now().Add(d))
		_, b, err := p.ws.ReadMessage()
		return Parse(string(b)), err == nil
	}
	_ = p.pc.SetReadDeadline(time.Now().Add(d))
	b := make([]byte, 65536)
	n, from, err := p.pc.ReadFrom(b)
	if err != nil {
		return Message{}, false
	}
	m := Parse(string(b[:n]))
	m.From = from
	return m, true
}

// Read reads the next message.
func (p *Peer) Read() Message {
	p.t.Helper()
	m, ok := p.Try(p.wait)
	if !ok {
		p.t.Fatal("no message came")
	}
	return m
}

// Expect reads until a request of the method or a response of the status
// comes.
func (p *Peer) Expect(what string) Message {
	p.t.Helper()
	for range 200 {
		m := p.Read()
		if m.Method() == what || m.Status() != 0 && strconv.Itoa(m.Status()) == what {
			return m
		}
	}
	p.t.Fatalf("no %s came", what)
	return Message{}
}

// Reply answers a request: status like "180 Ringing", extra headers as lines.
// Tag is the To tag of ours, "" for none.
func (p *Peer) Reply(req Message, status, tag string, headers []string, body string) {
	p.t.Helper()
	var b strings.Builder
	b.WriteString("SIP/2.0 " + status + "\r\n")
	for _, h := range req.Headers {
		switch strings.ToLower(h[0]) {
		case "to":
			if tag != "" && !strings.Contains(h[1], "tag=") {
				h[1] += ";tag=" + tag
			}
		case "via", "from", "call-id", "cseq", "record-route":
		default:
			continue
		}
		b.WriteString(h[0] + ": " + h[1] + "\r\n")
	}
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
	p.Send(b.String())
}
