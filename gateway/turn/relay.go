package turn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// channelLife is how long a channel lasts without a refresh (RFC 8656
	// section 12). The library keeps it exactly as long; here it ends a little
	// earlier, and the library decides about the rest.
	channelLife = 10*time.Minute - 2*time.Second

	// maxChannels bounds the channels of one allocation. A call needs one.
	maxChannels = 32

	// relayQueue bounds the packets without channel that wait for the library.
	relayQueue = 32
)

// channel is a bound channel. Peer is as the client names it.
type channel struct {
	number uint16
	peer   netip.AddrPort
	until  time.Time
}

// relay is one allocation's socket. To the library it is the relay socket; it
// lets through only what goes to and comes from our own media, and takes the
// packets of bound channels for itself.
type relay struct {
	noDeadline
	sock   socket
	conn   *net.UDPConn  // read by the library's goroutine, or else
	in     chan packet   // what the loop read and has no channel yet
	done   chan struct{} // closed by Close
	f      *front
	client netip.AddrPort
	user   string
	key    []byte
	ended  atomic.Int64 // unix seconds when the credential was first seen ended
	buf    [maxMessage]byte

	mu    sync.Mutex // of writers of chans
	chans atomic.Pointer[[]channel]
	once  sync.Once
}

func newRelay(f *front, conn *net.UDPConn, c current) (*relay, error) {
	r := &relay{sock: netSocket{conn}, conn: conn, f: f, client: c.from, user: c.user, key: c.key, done: make(chan struct{})}
	if f.loop != nil {
		raw, err := f.loop.adopt(conn)
		if err != nil {
			return nil, fmt.Errorf("relay: %w", err)
		}
		r.sock, r.conn, r.in = raw, nil, make(chan packet, relayQueue)
		if err := f.loop.watch(raw, func() { r.readable(raw) }); err != nil {
			return nil, errors.Join(fmt.Errorf("relay: %w", err), raw.Close())
		}
	}
	f.s.wg.Add(1) // done in Close
	return r, nil
}

// publicAddr is the relayed transport address as the client is told.
func (r *relay) publicAddr() *net.UDPAddr {
	port := uint16(r.sock.localAddr().Port)
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.f.s.o.Public, port))
}

// outlasts reports whether the allocation may go on though its user's
// credential has ended.
func (r *relay) outlasts(now time.Time, most time.Duration) bool {
	r.ended.CompareAndSwap(0, now.Unix())
	return now.Sub(time.Unix(r.ended.Load(), 0)) < most
}

// bind adds or refreshes a channel.
func (r *relay) bind(number uint16, peer netip.AddrPort, now time.Time) {
	if _, ok := r.f.s.peers.target(peer); !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next := []channel{{number: number, peer: peer, until: now.Add(channelLife)}}
	if old := r.chans.Load(); old != nil {
		for _, c := range *old {
			if c.number != number && c.peer != peer {
				next = append(next, c)
			}
		}
	}
	r.chans.Store(&next)
}

// expire forgets channels whose time is over.
func (r *relay) expire(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.chans.Load()
	if old == nil {
		return
	}
	var next []channel
	for _, c := range *old {
		if now.Before(c.until) {
			next = append(next, c)
		}
	}
	if len(next) != len(*old) {
		r.chans.Store(&next)
	}
}

func (r *relay) channels() int {
	if p := r.chans.Load(); p != nil {
		return len(*p)
	}
	return 0
}

func (r *relay) peerOf(number uint16) (netip.AddrPort, bool) {
	if p := r.chans.Load(); p != nil {
		for i := range *p {
			if c := &(*p)[i]; c.number == number {
				return c.peer, true
			}
		}
	}
	return netip.AddrPort{}, false
}

func (r *relay) numberOf(peer netip.AddrPort) (uint16, bool) {
	if p := r.chans.Load(); p != nil {
		for i := range *p {
			if c := &(*p)[i]; c.peer == peer {
				return c.number, true
			}
		}
	}
	return 0, false
}

// toPeer sends data to a peer, if that is our own media. All that leaves a
// relay leaves here.
func (r *relay) toPeer(data []byte, peer netip.AddrPort) {
	s := r.f.s
	to, ok := s.peers.target(peer)
	if !ok {
		s.stats.peerRefused.Add(1)
		return
	}
	if err := r.sock.send(data, to); err != nil {
		return // a full buffer or a socket being closed: a lost datagram
	}
	s.stats.toPeer.Add(1)
	s.stats.toPeerBytes.Add(uint64(len(data)))
}

// WriteTo is the library's way to a peer: Send indications.
func (r *relay) WriteTo(b []byte, to net.Addr) (int, error) {
	if a, ok := to.(*net.UDPAddr); ok {
		r.toPeer(b, unmapped(a.AddrPort()))
	}
	return len(b), nil
}

// ReadFrom gives the library the packets of our own media that have no channel
// yet.
func (r *relay) ReadFrom(p []byte) (int, net.Addr, error) {
	if r.conn == nil {
		select {
		case m := <-r.in:
			return copy(p, m.data), net.UDPAddrFromAddrPort(m.from), nil
		case <-r.done:
			return 0, nil, net.ErrClosed
		}
	}
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(r.buf[channelHead:])
		if errors.Is(err, net.ErrClosed) {
			return 0, nil, net.ErrClosed
		}
		if err != nil {
			continue // such as an ICMP error: of no concern to the other peers
		}
		if peer, ok := r.fromPeer(n, from); ok {
			return copy(p, r.buf[channelHead:channelHead+n]), net.UDPAddrFromAddrPort(peer), nil
		}
	}
}

// readable reads one packet, on the loop's goroutine.
func (r *relay) readable(raw *rawSocket) {
	n, from, err := raw.recv(r.buf[channelHead:])
	if err != nil {
		return
	}
	if peer, ok := r.fromPeer(n, from); ok {
		select {
		case r.in <- packet{data: append([]byte(nil), r.buf[channelHead:channelHead+n]...), from: peer}:
		default: // the client is slower than its peer: a lost datagram
		}
	}
}

// fromPeer takes the n bytes in buf behind the place for a channel's header. It
// drops a stranger's, passes on a channel's, and leaves others to the library.
func (r *relay) fromPeer(n int, from netip.AddrPort) (peer netip.AddrPort, library bool) {
	s := r.f.s
	peer, ok := s.peers.origin(from)
	if !ok {
		s.stats.strangers.Add(1)
		return peer, false
	}
	number, bound := r.numberOf(peer)
	if !bound {
		return peer, true
	}
	binary.BigEndian.PutUint16(r.buf[0:], number)
	binary.BigEndian.PutUint16(r.buf[2:], uint16(n))
	end := channelHead + n
	for ; end%4 != 0 && end < len(r.buf); end++ {
		r.buf[end] = 0 // padding: needed over TCP, allowed over UDP
	}
	if err := r.f.send(r.buf[:end], r.client); err == nil {
		s.stats.toClient.Add(1)
		s.stats.toClientBytes.Add(uint64(n))
	}
	return peer, false
}

// LocalAddr implements net.PacketConn.
func (r *relay) LocalAddr() net.Addr { return r.sock.localAddr() }

// Close ends the allocation. It never returns an error: the library would stop
// closing the others.
func (r *relay) Close() error {
	r.once.Do(func() {
		f := r.f
		f.mu.Lock()
		if f.relays[r.client] == r {
			delete(f.relays, r.client)
		}
		f.mu.Unlock()
		f.s.mu.Lock()
		delete(f.s.relays, r)
		f.s.mu.Unlock()
		f.s.release(r.user)
		close(r.done)
		f.s.closeQuietly(r.sock)
		f.free()
		f.s.wg.Done()
	})
	return nil
}
