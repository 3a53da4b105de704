package turn

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The sockets of UDP clients and their relays are read by one goroutine that
// sleeps in epoll itself. With a goroutine for each, as the library has it, a
// quarter of the CPU went into waking them (futex, epoll and the scheduler)
// for a few hundred bytes each time.

// loopEvents is how many ready sockets one system call may bring.
const loopEvents = 64

// loop reads raw sockets. Its fields but the map are set once.
type loop struct {
	ep, stop int // epoll, eventfd

	mu       sync.Mutex
	readable map[int32]func()
	closed   bool
}

// rawSocket is a UDP socket outside of Go's poller, which would be woken for
// each of its packets as well.
type rawSocket struct {
	l     *loop
	fd    int
	v6    bool
	local net.UDPAddr

	mu     sync.RWMutex // held while fd is in use, so that nobody else's is used
	closed bool
}

func newLoop() (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, stop, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(stop)})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("eventfd: %w", err), unix.Close(ep))
	}
	return &loop{ep: ep, stop: stop, readable: make(map[int32]func())}, nil
}

// run reads until end.
func (l *loop) run() {
	events := make([]unix.EpollEvent, loopEvents)
	for {
		n, err := unix.EpollWait(l.ep, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			break
		}
		if n > 0 && !l.serve(events[:n]) {
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	_ = unix.Close(l.ep)
	_ = unix.Close(l.stop)
}

func (l *loop) serve(events []unix.EpollEvent) bool {
	for i := range events {
		if int(events[i].Fd) == l.stop {
			return false
		}
		l.mu.Lock()
		fn := l.readable[events[i].Fd]
		l.mu.Unlock()
		if fn != nil {
			fn()
		}
	}
	return true
}

// end makes run return.
func (l *loop) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		_, _ = unix.Write(l.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// watch calls fn on the loop's goroutine whenever there is something to read.
func (l *loop) watch(s *rawSocket, fn func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.readable[int32(s.fd)] = fn
	err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.fd)})
	if err != nil {
		delete(l.readable, int32(s.fd))
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// adopt takes a socket out of Go's poller. conn is closed in any case.
func (l *loop) adopt(conn *net.UDPConn) (*rawSocket, error) {
	defer func() { _ = conn.Close() }()
	s := &rawSocket{l: l, fd: -1}
	if a, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		s.local = *a
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	var dupErr error
	err = raw.Control(func(fd uintptr) {
		if s.fd, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); dupErr != nil {
			return
		}
		var domain int
		domain, dupErr = unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		s.v6 = domain == unix.AF_INET6
	})
	if err = errors.Join(err, dupErr); err != nil {
		if s.fd >= 0 {
			_ = unix.Close(s.fd)
		}
		return nil, fmt.Errorf("socket: %w", err)
	}
	return s, nil
}

// Close implements net.PacketConn.
func (s *rawSocket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.closed = true
	s.l.mu.Lock()
	delete(s.l.readable, int32(s.fd))
	s.l.mu.Unlock()
	if err := unix.Close(s.fd); err != nil { // leaves epoll by itself
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// localAddr is the address that the socket is bound to.
func (s *rawSocket) localAddr() *net.UDPAddr {
	a := s.local
	return &a
}

// recv reads one datagram without waiting.
func (s *rawSocket) recv(b []byte) (int, netip.AddrPort, error) {
	var from unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(from))
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, netip.AddrPort{}, net.ErrClosed
	}
	// Never blocks, so the scheduler need not know of it.
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), //nolint:gosec // system call
		unix.MSG_DONTWAIT|unix.MSG_TRUNC, uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size))) //nolint:gosec // system call
	if errno != 0 {
		return 0, netip.AddrPort{}, errno
	}
	if int(n) > len(b) {
		return len(b), netip.AddrPort{}, errFrame
	}
	return int(n), addrOf(&from), nil
}

func addrOf(sa *unix.RawSockaddrInet6) netip.AddrPort {
	switch sa.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa)) //nolint:gosec // the kernel's union
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), hostOrder(v4.Port))
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), hostOrder(sa.Port))
	}
	return netip.AddrPort{}
}

// hostOrder turns a port in network byte order into a number, and back.
func hostOrder(p uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&p)) //nolint:gosec // two bytes
	return uint16(b[0])<<8 | uint16(b[1])
}

// send sends one datagram without waiting.
func (s *rawSocket) send(b []byte, to netip.AddrPort) error {
	if len(b) == 0 {
		b = []byte{0}[:0:1]
	}
	var sa unix.RawSockaddrInet6
	size := unsafe.Sizeof(sa)
	if s.v6 {
		sa.Family, sa.Port, sa.Addr = unix.AF_INET6, hostOrder(to.Port()), to.Addr().As16()
	} else {
		if !to.Addr().Unmap().Is4() {
			return syscall.EAFNOSUPPORT
		}
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sa)) //nolint:gosec // the kernel's union
		v4.Family, v4.Port, v4.Addr = unix.AF_INET, hostOrder(to.Port()), to.Addr().Unmap().As4()
		size = unix.SizeofSockaddrInet4
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return net.ErrClosed
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), //nolint:gosec // system call
		unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&sa)), size) //nolint:gosec // system call
	if errno != 0 {
		return errno
	}
	return nil
}
