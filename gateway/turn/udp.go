package turn

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
)

const (
	// batchSize is how many datagrams one system call may bring.
	batchSize = 32

	// socketBuffer holds what arrives while the reader is not scheduled.
	socketBuffer = 4 << 20
)

// udpFront is the clients' UDP socket as the library sees it.
type udpFront struct {
	*net.UDPConn
	f      *front
	batch  *ipv4.PacketConn // recvmmsg; it reads IPv6 sockets as well
	msgs   []ipv4.Message
	n, pos int
}

func (s *Server) serveUDP(pc net.PacketConn) error {
	conn, ok := pc.(*net.UDPConn)
	if !ok {
		return fmt.Errorf("%w: %w, got %T", ErrOptions, errNotUDP, pc)
	}
	if err := conn.SetReadBuffer(socketBuffer); err != nil {
		s.log.Warn("turn receive buffer", "err", err)
	}
	if err := conn.SetWriteBuffer(socketBuffer); err != nil {
		s.log.Warn("turn send buffer", "err", err)
	}
	u := &udpFront{UDPConn: conn, batch: ipv4.NewPacketConn(conn), msgs: make([]ipv4.Message, batchSize)}
	for i := range u.msgs {
		u.msgs[i].Buffers = [][]byte{make([]byte, maxMessage)}
	}
	u.f = newFront(s, func(b []byte, to netip.AddrPort) error {
		_, err := conn.WriteToUDPAddrPort(b, to)
		return err //nolint:wrapcheck // only its presence matters
	})
	s.udp = u
	s.wg.Add(1) // done when ReadFrom ends
	if err := u.f.start(u); err != nil {
		s.wg.Done()
		return err
	}
	return nil
}

// ReadFrom gives the library one message at a time and passes channels'
// packets on by itself. It ends only when the socket is closed: the library
// would take any other error for the end as well.
func (u *udpFront) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		for u.pos < u.n {
			m := &u.msgs[u.pos]
			u.pos++
			a, ok := m.Addr.(*net.UDPAddr)
			if !ok || m.N >= maxMessage {
				u.f.s.stats.garbage.Add(1)
				continue
			}
			from, b := unmapped(a.AddrPort()), m.Buffers[0][:m.N]
			if u.f.fromClient(from, b) || !u.f.admit(from, b) {
				continue
			}
			return copy(p, b), a, nil
		}
		n, err := u.batch.ReadBatch(u.msgs, 0)
		if errors.Is(err, net.ErrClosed) {
			u.f.s.wg.Done()
			return 0, nil, net.ErrClosed
		}
		if err != nil {
			n = 0
		}
		u.n, u.pos = n, 0
	}
}

// WriteTo is the library's way to a client.
func (u *udpFront) WriteTo(b []byte, to net.Addr) (int, error) {
	a, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, errNotUDP
	}
	if err := u.f.send(u.f.outgoing(b), a.AddrPort()); err != nil {
		return 0, fmt.Errorf("turn answer: %w", err)
	}
	return len(b), nil
}
