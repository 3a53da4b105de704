package turn

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

const (
	// socketBuffer holds what arrives while the reader is not scheduled.
	socketBuffer = 4 << 20

	// udpQueue bounds the control messages that wait for the library.
	udpQueue = 512

	// loopBurst is how many datagrams are read from the clients' socket before
	// the relays get their turn again.
	loopBurst = 32
)

// udpFront is the clients' UDP socket as the library sees it.
type udpFront struct {
	noDeadline
	f    *front
	sock socket
	addr *net.UDPAddr
	in   chan packet
	done chan struct{}
	once sync.Once
	buf  [maxMessage]byte // of the reader
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
	u := &udpFront{in: make(chan packet, udpQueue), done: make(chan struct{})}
	u.f = newFront(s, func(b []byte, to netip.AddrPort) error { return u.sock.send(b, to) })
	l, err := newLoop()
	if err != nil {
		return fmt.Errorf("turn: %w", err)
	}
	s.udp, s.loop, u.f.loop = u, l, l
	if l == nil {
		u.sock = netSocket{conn}
		u.addr = u.sock.localAddr()
		s.wg.Go(func() { u.pump(conn) })
	} else {
		s.wg.Go(l.run)
		raw, err := l.adopt(conn)
		if err != nil {
			return fmt.Errorf("turn: %w", err)
		}
		u.sock, u.addr = raw, raw.localAddr()
		if err := l.watch(raw, func() { u.drain(raw) }); err != nil {
			return fmt.Errorf("turn: %w", err)
		}
	}
	s.wg.Add(1) // done when ReadFrom ends
	if err := u.f.start(u); err != nil {
		s.wg.Done()
		return err
	}
	return nil
}

// pump reads the socket until it is closed, where there is no loop.
func (u *udpFront) pump(conn *net.UDPConn) {
	for {
		n, from, err := conn.ReadFromUDPAddrPort(u.buf[:])
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err == nil:
			u.handle(u.buf[:n], unmapped(from))
		}
	}
}

// drain reads what has come, on the loop's goroutine.
func (u *udpFront) drain(raw *rawSocket) {
	for range loopBurst {
		n, from, err := raw.recv(u.buf[:])
		if errors.Is(err, errFrame) {
			u.f.s.stats.garbage.Add(1)
			continue
		}
		if err != nil {
			return
		}
		u.handle(u.buf[:n], from)
	}
}

// handle passes channels' packets on and gives the library what is for it.
// It never waits.
func (u *udpFront) handle(b []byte, from netip.AddrPort) {
	if len(b) >= maxMessage {
		u.f.s.stats.garbage.Add(1)
		return
	}
	if u.f.fromClient(from, b) || !u.f.admit(from, b) {
		return
	}
	select {
	case u.in <- packet{data: append([]byte(nil), b...), from: from}:
	default:
		u.f.s.stats.limited.Add(1)
	}
}

// ReadFrom gives the library one message at a time. It ends only when the
// socket is closed: the library takes any error for the end.
func (u *udpFront) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case m := <-u.in:
		u.f.begin(m.from, m.data)
		return copy(p, m.data), net.UDPAddrFromAddrPort(m.from), nil
	case <-u.done:
		u.f.s.wg.Done()
		return 0, nil, net.ErrClosed
	}
}

// WriteTo is the library's way to a client.
func (u *udpFront) WriteTo(b []byte, to net.Addr) (int, error) {
	a, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, errNotUDP
	}
	if err := u.sock.send(u.f.outgoing(b), unmapped(a.AddrPort())); err != nil {
		return 0, fmt.Errorf("turn answer: %w", err)
	}
	return len(b), nil
}

// LocalAddr implements net.PacketConn.
func (u *udpFront) LocalAddr() net.Addr { return u.addr }

// Close implements net.PacketConn.
func (u *udpFront) Close() error {
	var err error
	u.once.Do(func() {
		close(u.done)
		if u.sock != nil {
			err = u.sock.Close()
		}
	})
	return err
}
