package turn

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

var errFrame = errors.New("neither STUN nor channel data")

// streamFront is one TCP or TLS connection as the library sees it: a socket
// with a single client.
type streamFront struct {
	net.Conn
	f      *front
	remote netip.AddrPort
	r      *bufio.Reader
	frame  [maxMessage]byte

	// writeUntil is the write deadline that was set last, in Unix
	// nanoseconds: it is moved at most once a second.
	writeUntil atomic.Int64
	once       sync.Once
}

// accept takes connections until the listener is closed.
func (s *Server) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err == nil {
			s.serveStream(conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		// Such as no file descriptor left: try again when some may be free.
		s.log.Warn("turn accept", "err", err)
		t := time.NewTimer(100 * time.Millisecond)
		select {
		case <-s.done:
			t.Stop()
			return
		case <-t.C:
		}
	}
}

func (s *Server) serveStream(conn net.Conn) {
	a, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		s.closeQuietly(conn)
		return
	}
	c := &streamFront{Conn: conn, remote: unmapped(a.AddrPort()), r: bufio.NewReaderSize(conn, 4096)}
	c.f = newFront(s, func(b []byte, _ netip.AddrPort) error { return c.write(b) })
	c.f.free = c.released
	if !s.addConn(c) {
		s.stats.conn.Add(1)
		s.closeQuietly(conn)
		return
	}
	if err := conn.SetReadDeadline(time.Now().Add(s.o.Limits.Idle)); err != nil {
		s.closeQuietly(c)
		return
	}
	if err := c.f.start(c); err != nil {
		s.log.Warn("turn connection", "err", err)
		s.closeQuietly(c)
	}
}

// addConn registers a connection within the bounds; it is removed by Close.
func (s *Server) addConn(c *streamFront) bool {
	src := source(c.remote.Addr())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= s.o.Limits.Conns || s.perAddr[src] >= s.o.Limits.ConnsPerAddr {
		return false
	}
	s.conns[c] = struct{}{}
	s.perAddr[src]++
	s.wg.Add(1)
	return true
}

// Close ends the connection. Its allocation ends with it.
func (c *streamFront) Close() error {
	c.once.Do(func() {
		s, src := c.f.s, source(c.remote.Addr())
		s.closeQuietly(c.Conn)
		s.mu.Lock()
		delete(s.conns, c)
		if s.perAddr[src]--; s.perAddr[src] <= 0 {
			delete(s.perAddr, src)
		}
		s.mu.Unlock()
		s.wg.Done()
	})
	return nil
}

// ReadFrom gives the library one message at a time; an error ends the
// connection.
func (c *streamFront) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		b, err := c.next()
		if err != nil {
			if errors.Is(err, errFrame) {
				c.f.s.stats.garbage.Add(1)
			}
			c.f.s.closeQuietly(c)
			return 0, nil, err
		}
		if c.f.fromClient(c.remote, b) || !c.f.admit(c.remote, b) {
			continue
		}
		c.f.begin(c.remote, b)
		return copy(p, b), c.RemoteAddr(), nil
	}
}

// next reads one message (RFC 8656 section 12.5 pads channel data on streams).
// Without an allocation the connection has Limits.Idle in all to make one;
// with one it may be silent, but a message begun has to be finished.
func (c *streamFront) next() ([]byte, error) {
	held := c.f.relay(c.remote) != nil
	if held {
		if err := c.SetReadDeadline(time.Time{}); err != nil {
			return nil, fmt.Errorf("read deadline: %w", err)
		}
	}
	if _, err := c.r.Peek(1); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if held && c.r.Buffered() < channelHead {
		if err := c.SetReadDeadline(time.Now().Add(c.f.s.o.Limits.Frame)); err != nil {
			return nil, fmt.Errorf("read deadline: %w", err)
		}
	}
	head, err := c.r.Peek(channelHead)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	n := int(binary.BigEndian.Uint16(head[2:]))
	switch {
	case head[0]&0xC0 == 0 && n%4 == 0:
		n += headerLen
	case channelNumber(binary.BigEndian.Uint16(head)):
		n = channelHead + (n+3)&^3
	default:
		return nil, errFrame
	}
	if n >= maxMessage {
		return nil, errFrame
	}
	if held && c.r.Buffered() < n {
		if err := c.SetReadDeadline(time.Now().Add(c.f.s.o.Limits.Frame)); err != nil {
			return nil, fmt.Errorf("read deadline: %w", err)
		}
	}
	if _, err := io.ReadFull(c.r, c.frame[:n]); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return c.frame[:n], nil
}

// WriteTo is the library's way to the client.
func (c *streamFront) WriteTo(b []byte, _ net.Addr) (int, error) {
	if err := c.write(c.f.outgoing(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// write sends one message whole. A client that does not take it in time is
// closed: its relay must not wait for it.
func (c *streamFront) write(b []byte) error {
	limit := c.f.s.o.Limits.Frame
	now := time.Now()
	if until := c.writeUntil.Load(); until-now.UnixNano() < int64(limit)/2 {
		if c.writeUntil.CompareAndSwap(until, now.Add(limit).UnixNano()) {
			if err := c.SetWriteDeadline(now.Add(limit)); err != nil {
				return fmt.Errorf("write deadline: %w", err)
			}
		}
	}
	if _, err := c.Write(b); err != nil {
		c.f.s.closeQuietly(c)
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// released starts the time that a connection without allocation has.
func (c *streamFront) released() {
	if err := c.SetReadDeadline(time.Now().Add(c.f.s.o.Limits.Idle)); err != nil {
		c.f.s.closeQuietly(c)
	}
}
