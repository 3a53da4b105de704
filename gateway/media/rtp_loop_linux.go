package media

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The RTP sockets of trunks and desk phones are read by one goroutine a core
// that sleeps in epoll itself. With a goroutine for each socket a third of the
// CPU of a bridged packet went into waking it: futex, epoll and the scheduler.

const (
	// loopEvents is how many ready sockets one system call may bring.
	loopEvents = 128
	// loopNap is how long a busy loop gathers packets: they leave up to that much
	// later, and several are served by one wake-up.
	loopNap = 250 * time.Microsecond

	tablePages = 1 << 12
	tablePage  = 1 << 6
)

type page [tablePage]atomic.Pointer[loopSocket]

// loop reads sockets. Which socket a file descriptor is stands in a table of
// pages that only grows, so that packets of different calls share no lock.
type loop struct {
	ep, stop int // epoll, eventfd
	pages    [tablePages]atomic.Pointer[page]

	mu     sync.Mutex
	closed bool
	load   atomic.Int32 // sockets
}

// loopSocket is a UDP socket outside of Go's poller, which would be woken for
// each of its packets as well.
type loopSocket struct {
	l    *loop
	fd   int
	v6   bool
	take func(b []byte, from netip.AddrPort, at time.Time)

	serving sync.Mutex   // held while take runs
	mu      sync.RWMutex // held while fd is in use, so that nobody else's is used
	closed  bool
}

func newLoop() (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("eventfd: %w", err), unix.Close(ep))
	}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, stop, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(stop)}); err != nil {
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), unix.Close(ep), unix.Close(stop))
	}
	return &loop{ep: ep, stop: stop}, nil
}

// run reads until end.
func (l *loop) run() {
	events := make([]unix.EpollEvent, loopEvents)
	buf := make([]byte, maxPacket)
	nap := unix.NsecToTimespec(int64(loopNap))
	for {
		n := l.poll(events)
		if n == 0 {
			var err error
			if n, err = unix.EpollWait(l.ep, events, -1); err != nil && !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if n > 0 && !l.serve(events[:n], buf) {
			break
		}
		_ = unix.Nanosleep(&nap, nil) // ends early at a signal, which does no harm
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	_, _ = unix.Close(l.ep), unix.Close(l.stop)
}

// poll asks for ready sockets without waiting; the scheduler need not know.
func (l *loop) poll(events []unix.EpollEvent) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.ep), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0) //nolint:gosec // system call
	if errno != 0 {
		return 0
	}
	return int(n)
}

func (l *loop) serve(events []unix.EpollEvent, buf []byte) bool {
	at := time.Now()
	for i := range events {
		fd := int(events[i].Fd)
		if fd == l.stop {
			return false
		}
		p := l.pages[fd/tablePage].Load()
		if p == nil {
			continue
		}
		if s := p[fd%tablePage].Load(); s != nil {
			s.serve(buf, at)
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

// sockets is how many the loop reads.
func (l *loop) sockets() int { return int(l.load.Load()) }

// adopt takes a socket out of Go's poller and reads it from now on. conn is
// closed in any case.
func (l *loop) adopt(conn *net.UDPConn, take func([]byte, netip.AddrPort, time.Time)) (rtpSocket, error) {
	defer func() { _ = conn.Close() }()
	s := &loopSocket{l: l, fd: -1, take: take}
	if a, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		s.v6 = a.IP.To4() == nil
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("rtp socket: %w", err)
	}
	var dupErr error
	if err := errors.Join(raw.Control(func(fd uintptr) { s.fd, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }), dupErr); err != nil {
		return nil, fmt.Errorf("rtp socket: %w", err)
	}
	if err := l.watch(s); err != nil {
		return nil, errors.Join(err, unix.Close(s.fd))
	}
	return s, nil
}

func (l *loop) watch(s *loopSocket) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if s.fd >= tablePages*tablePage {
		return fmt.Errorf("descriptor %d: %w", s.fd, syscall.EMFILE)
	}
	p := l.pages[s.fd/tablePage].Load()
	if p == nil {
		p = new(page)
		l.pages[s.fd/tablePage].Store(p)
	}
	p[s.fd%tablePage].Store(s)
	l.load.Add(1)
	if err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.fd)}); err != nil {
		p[s.fd%tablePage].Store(nil)
		l.load.Add(-1)
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// Close returns when take runs no more. It must not be called from take.
func (s *loopSocket) Close() error {
	s.serving.Lock()
	defer s.serving.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.closed = true
	s.l.load.Add(-1)
	s.l.pages[s.fd/tablePage].Load()[s.fd%tablePage].Store(nil)
	if err := unix.Close(s.fd); err != nil { // leaves epoll by itself
		return fmt.Errorf("close rtp socket: %w", err)
	}
	return nil
}

// serve takes one datagram; epoll tells again if there are more.
func (s *loopSocket) serve(buf []byte, at time.Time) {
	s.serving.Lock()
	defer s.serving.Unlock()
	if s.closed { // written under both locks
		return
	}
	var sa unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(sa))
	// Never blocks, so the scheduler need not know of it.
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), //nolint:gosec // system call
		unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size))) //nolint:gosec // system call
	if errno != 0 {
		return
	}
	s.take(buf[:n], addrOf(&sa), at)
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
func (s *loopSocket) send(b []byte, to netip.AddrPort) error {
	var sa unix.RawSockaddrInet6
	size := unsafe.Sizeof(sa)
	addr := to.Addr().Unmap()
	if s.v6 {
		sa.Family, sa.Port, sa.Addr = unix.AF_INET6, hostOrder(to.Port()), to.Addr().As16()
	} else {
		if !addr.Is4() {
			return syscall.EAFNOSUPPORT
		}
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sa)) //nolint:gosec // the kernel's union
		v4.Family, v4.Port, v4.Addr = unix.AF_INET, hostOrder(to.Port()), addr.As4()
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
