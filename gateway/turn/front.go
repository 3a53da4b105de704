package turn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/logging"
	pion "github.com/pion/turn/v3"
)

var (
	errRefused  = errors.New("allocation refused")
	errNoTCP    = errors.New("relayed TCP is not offered")
	errNotUDP   = errors.New("UDP socket expected")
	errMediaUse = errors.New("no relay port outside the media ports")
)

// front is what stands before one library server: the UDP socket's, or that of
// a single TCP or TLS connection. The library reads, handles and answers a
// message on one goroutine, so the message at hand can be remembered between
// its ReadFrom, its questions to us and its WriteTo.
type front struct {
	s    *Server
	send func(b []byte, to netip.AddrPort) error // to a client
	cur  current                                 // of the reading goroutine only
	free func()                                  // after an allocation has ended
	loop *loop                                   // reads the relays, nil if they are read one by one

	mu     sync.RWMutex
	relays map[netip.AddrPort]*relay // by client
}

// current is the request being handled.
type current struct {
	message
	from     netip.AddrPort
	user     string
	key      []byte
	override int // this error code instead of the library's
}

func newFront(s *Server, send func([]byte, netip.AddrPort) error) *front {
	return &front{s: s, send: send, free: func() {}, relays: make(map[netip.AddrPort]*relay)}
}

// start makes the library serve pc.
func (f *front) start(pc net.PacketConn) error {
	_, err := pion.NewServer(pion.ServerConfig{
		Realm:         f.s.o.Realm,
		AuthHandler:   f.auth,
		LoggerFactory: logs{f.s},
		InboundMTU:    maxMessage + 1,
		PacketConnConfigs: []pion.PacketConnConfig{{
			PacketConn:            pc,
			RelayAddressGenerator: generator{f},
			PermissionHandler:     f.permit,
		}},
	})
	if err != nil {
		return fmt.Errorf("turn: %w", err)
	}
	return nil
}

func (f *front) relay(client netip.AddrPort) *relay {
	f.mu.RLock()
	r := f.relays[client]
	f.mu.RUnlock()
	return r
}

// fromClient passes a channel's packet on, or reports that it is none.
func (f *front) fromClient(from netip.AddrPort, b []byte) bool {
	if len(b) == 0 || b[0]&0xC0 != 0x40 {
		return false
	}
	r := f.relay(from)
	number, data, ok := channelData(b)
	if r == nil || !ok {
		f.s.stats.garbage.Add(1)
		return true
	}
	if peer, bound := r.peerOf(number); bound {
		r.toPeer(data, peer)
	}
	return true
}

// admit decides whether the library sees a message that is no channel's packet.
// It may run on another goroutine than begin.
func (f *front) admit(from netip.AddrPort, b []byte) bool {
	m, ok := parseMessage(b)
	r := f.relay(from)
	if ok && m.class == classIndication && r != nil {
		return m.method == methodSend
	}
	if !f.s.lim.allow(from.Addr(), time.Now()) {
		f.s.stats.limited.Add(1)
		return false
	}
	if !ok || m.class != classRequest {
		f.s.stats.garbage.Add(1)
		return false
	}
	if r == nil {
		switch m.method {
		case methodRefresh, methodCreatePermission, methodChannelBind:
			// The library says nothing here, and the client would wait.
			f.answer(errorMessage(m.method, m.id, codeMismatch, nil), from)
			return false
		}
	}
	return true
}

// begin makes an admitted message the one at hand. The library works on it from
// now until it reads again.
func (f *front) begin(from netip.AddrPort, b []byte) {
	m, _ := parseMessage(b)
	f.cur = current{message: m, from: from}
}

func (f *front) answer(b []byte, to netip.AddrPort) {
	if err := f.send(b, to); err != nil && f.s.debugEnabled() {
		f.s.log.Debug("turn answer", "err", err)
	}
}

// outgoing looks at a message of the library on its way to a client and may
// replace it.
func (f *front) outgoing(b []byte) []byte {
	if len(b) < headerLen || b[0]&0xC0 != 0 {
		return b
	}
	t := binary.BigEndian.Uint16(b)
	switch t & classMask {
	case classError:
		if c := &f.cur; c.override != 0 && [12]byte(b[8:headerLen]) == c.id {
			return errorMessage(c.method, c.id, c.override, c.key)
		}
	case classSuccess:
		if c := &f.cur; methodOf(t) == methodChannelBind && c.method == methodChannelBind {
			f.bound()
		}
	}
	return b
}

// bound notes the channel that the library has just bound.
func (f *front) bound() {
	r := f.relay(f.cur.from)
	number, ok := f.cur.channel()
	peer, hasPeer := f.cur.peer()
	if r != nil && ok && hasPeer {
		r.bind(number, peer, time.Now())
	}
}

// auth is the library's question for a user's key.
func (f *front) auth(user, _ string, _ net.Addr) ([]byte, bool) {
	key, alive := f.s.o.Key(user)
	if r := f.relay(f.cur.from); r != nil {
		if r.user != user {
			f.cur.override = codeWrongUser
			return nil, false
		}
		if !alive && r.outlasts(time.Now(), f.s.o.Limits.EndedFor) {
			key, alive = r.key, true
		}
	}
	if !alive {
		f.s.stats.unauthorized.Add(1)
		return f.s.noKey, true // never matches, and takes as long
	}
	f.cur.user, f.cur.key = user, key
	return key, true
}

// permit is the library's question whether a client may reach a peer. The
// port it does not know is in the message at hand.
func (f *front) permit(_ net.Addr, ip net.IP) bool {
	a, ok := netip.AddrFromSlice(ip)
	if ok && a.Unmap() == f.s.peers.addr {
		if f.cur.method != methodChannelBind {
			return true
		}
		peer, has := f.cur.peer()
		if has && f.s.peers.port(peer.Port()) && !f.full() {
			return true
		}
	}
	f.s.stats.peerRefused.Add(1)
	f.cur.override = codeForbidden
	return false
}

// full reports whether the client's allocation has all its channels.
func (f *front) full() bool {
	r := f.relay(f.cur.from)
	number, _ := f.cur.channel()
	if r == nil {
		return false
	}
	_, known := r.peerOf(number)
	return !known && r.channels() >= maxChannels
}

// generator opens relay sockets for the library.
type generator struct{ f *front }

func (g generator) Validate() error { return nil }

func (g generator) AllocateConn(string, int) (net.Conn, net.Addr, error) { return nil, nil, errNoTCP }

func (g generator) AllocatePacketConn(string, int) (net.PacketConn, net.Addr, error) {
	f := g.f
	c, s := &f.cur, f.s
	if v, ok := c.attr(attrRequestedTransport); ok && (len(v) != 4 || v[0] != protoUDP) {
		c.override = codeUnsupported
		return nil, nil, errNoTCP
	}
	want := byte(familyIPv4)
	if s.o.Public.Is6() {
		want = familyIPv6
	}
	if v, ok := c.attr(attrRequestedFamily); ok && (len(v) != 4 || v[0] != want) {
		c.override = codeWrongFamily
		return nil, nil, errRefused
	}
	if err := s.reserve(c.user); err != nil {
		c.override = codeQuota
		return nil, nil, err
	}
	conn, err := s.openRelay()
	if err != nil {
		s.release(c.user)
		c.override = codeInsufficientCap
		return nil, nil, err
	}
	r, err := newRelay(f, conn, *c)
	if err != nil {
		s.release(c.user)
		c.override = codeInsufficientCap
		return nil, nil, err
	}
	if !s.add(r) {
		s.closeQuietly(r)
		return nil, nil, net.ErrClosed
	}
	f.mu.Lock()
	f.relays[r.client] = r
	f.mu.Unlock()
	s.stats.allocs.Add(1)
	return r, r.publicAddr(), nil
}

// reserve counts an allocation of a user against the bounds.
func (s *Server) reserve(user string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byUser[user] >= s.o.Limits.Quota || s.allocs >= s.o.Limits.Allocations {
		s.stats.quota.Add(1)
		return fmt.Errorf("%w: quota", errRefused)
	}
	s.byUser[user]++
	s.allocs++
	return nil
}

func (s *Server) release(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allocs--
	if s.byUser[user]--; s.byUser[user] <= 0 {
		delete(s.byUser, user)
	}
}

// add registers a relay; false once the server closes.
func (s *Server) add(r *relay) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.relays[r] = struct{}{}
	return true
}

// openRelay opens a relay socket outside the media ports: one inside them
// would be a peer to every other relay.
func (s *Server) openRelay() (*net.UDPConn, error) {
	for range 32 {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.o.Relay, 0)))
		if err != nil {
			return nil, fmt.Errorf("open relay: %w", err)
		}
		a, ok := conn.LocalAddr().(*net.UDPAddr)
		if ok && !s.peers.port(uint16(a.Port)) {
			return conn, nil
		}
		s.closeQuietly(conn)
	}
	return nil, errMediaUse
}

// logs gives the library's lines to slog, at debug: what it calls an error is
// a peer's bad message.
type logs struct{ s *Server }

func (l logs) NewLogger(string) logging.LeveledLogger { return l }

func (l logs) Trace(string)          {}
func (l logs) Tracef(string, ...any) {}
func (l logs) Debug(string)          {}
func (l logs) Debugf(string, ...any) {}
func (l logs) Info(string)           {}
func (l logs) Infof(string, ...any)  {}

func (l logs) Warn(msg string)             { l.line(msg) }
func (l logs) Warnf(f string, args ...any) { l.linef(f, args) }

func (l logs) Error(msg string)             { l.line(msg) }
func (l logs) Errorf(f string, args ...any) { l.linef(f, args) }

func (l logs) linef(f string, args []any) {
	if l.s.debugEnabled() {
		l.line(fmt.Sprintf(f, args...))
	}
}

func (l logs) line(msg string) { l.s.log.Debug("turn library", "text", msg) }
