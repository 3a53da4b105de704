package media

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/gateway/media/sdp"
)

// maxReadErrors in a row end the reading of a socket that is broken for good.
const maxReadErrors = 100

// NewRTP makes a port for a trunk or a desk phone, on a UDP port of its own.
func (e *Engine) NewRTP(o RTPOptions, ev PortEvents) (*Port, error) {
	if len(o.Codecs) == 0 {
		o.Codecs = []string{codec.PCMA, codec.PCMU}
	}
	if o.DTMFPayload == 0 {
		o.DTMFPayload = offerEvents
	}
	p := e.newPort(o.Label, ev)
	if err := newNegotiation(&p.neg, e.o.Host, o.Codecs, o.DTMFPayload); err != nil {
		return nil, err
	}
	rtp, rtcp, port, err := e.pool.open()
	if err != nil {
		return nil, err
	}
	l := &rtpLeg{p: p, rtcp: rtcp, port: port}
	if l.rtp, err = e.rtpSocket(rtp, p.receive, l); err != nil {
		e.pool.release(port)
		return nil, errors.Join(err, rtcp.Close())
	}
	p.tr = l
	p.neg.sec = &sdes{required: o.SDES, port: l.port, p: p}
	p.out.secure = o.SDES
	p.out.send = l.rtp.send
	p.out.ctrl = l.sendControl
	if err := e.add(p); err != nil {
		l.closeSockets()
		return nil, err
	}
	return p, nil
}

// rtpSocket sends and reads the RTP of one leg. Close returns when its reader
// is done with it.
type rtpSocket interface {
	send(b []byte, to netip.AddrPort) error
	Close() error
}

// rtpSocket lets one of the engine's loops read conn, or a goroutine of the
// leg where there are none.
func (e *Engine) rtpSocket(conn *net.UDPConn, take func([]byte, netip.AddrPort, time.Time), leg *rtpLeg) (rtpSocket, error) {
	if l := e.loop(); l != nil {
		return l.adopt(conn, take)
	}
	leg.wg.Go(func() { leg.read(conn, take) })
	return netSocket{conn}, nil
}

// fullLoop is how many sockets one loop reads before the next one gets any:
// the more share a wake-up the better, and these are a quarter of a core.
const fullLoop = 256

// loop picks the loop of a new socket: the first that is not full, else the
// one with the fewest. It is nil where there are none.
func (e *Engine) loop() (best *loop) {
	for _, l := range e.loops {
		n := l.sockets()
		if n < fullLoop {
			return l
		}
		if best == nil || n < best.sockets() {
			best = l
		}
	}
	return best
}

// netSocket is a socket of Go's poller.
type netSocket struct{ *net.UDPConn }

func (c netSocket) send(b []byte, to netip.AddrPort) error { return writeTo(c.UDPConn, b, to) }

func writeTo(c *net.UDPConn, b []byte, to netip.AddrPort) error {
	_, err := c.WriteToUDPAddrPort(b, to)
	return err // counted only; the packet path formats nothing
}

// rtpLeg is the transport of a trunk or desk phone: a socket pair of its own.
// A loop of the engine reads RTP, a goroutine the rare RTCP.
type rtpLeg struct {
	p    *Port
	rtp  rtpSocket
	rtcp *net.UDPConn
	port uint16
	wg   sync.WaitGroup

	mu      sync.Mutex
	control bool // RTCP is read on its own socket
	mux     bool
	closed  bool
}

// start reads RTCP where the negotiation says it comes.
func (l *rtpLeg) start(mux bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mux = mux
	if mux || l.control || l.closed {
		return
	}
	l.control = true
	l.wg.Go(func() {
		l.read(l.rtcp, func(b []byte, from netip.AddrPort, at time.Time) {
			if isRTCP(b) {
				l.p.receiveRTCP(b, from, at)
			}
		})
	})
}

func (l *rtpLeg) sendControl(b []byte, to netip.AddrPort) error {
	l.mu.Lock()
	mux := l.mux
	l.mu.Unlock()
	if mux {
		return l.rtp.send(b, to)
	}
	return writeTo(l.rtcp, b, to)
}

func (l *rtpLeg) read(c *net.UDPConn, take func([]byte, netip.AddrPort, time.Time)) {
	buf := make([]byte, maxPacket)
	failed := 0
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			if failed++; errors.Is(err, net.ErrClosed) || failed > maxReadErrors {
				return
			}
			continue
		}
		failed = 0
		take(buf[:n], unmap(from), time.Now())
	}
}

func (l *rtpLeg) closeSockets() {
	if err := errors.Join(l.rtp.Close(), l.rtcp.Close()); err != nil {
		l.p.e.log.Debug("close rtp sockets", "label", l.p.label, "err", err)
	}
	l.p.e.pool.release(l.port)
}

// close waits for the readers, then gives the port back.
func (l *rtpLeg) close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	l.mu.Unlock()
	l.closeSockets()
	l.wg.Wait()
}

// sdes is the security of an RTP leg: none, or SDES-SRTP (RFC 4568). Guarded by
// the negotiation's mutex.
type sdes struct {
	p        *Port
	required bool
	port     uint16

	local  []sdp.Crypto // of our pending offer, or the one line agreed
	agreed [2]sdp.Crypto
	now    [2]*cipher // send, receive, of the lines agreed

	// Chosen by answer or check, for apply.
	send, recv sdp.Crypto
}

func (s *sdes) suites() []string {
	return []string{sdp.AES128SHA1Tag80, sdp.AEADAES128GCM, sdp.AES128SHA1Tag32}
}

func (s *sdes) offer(_ *sdp.Session, m *sdp.Media) error {
	m.Port, m.Proto = s.port, "RTP/AVP"
	if !s.required {
		return nil
	}
	m.Proto = "RTP/SAVP"
	s.local = nil
	if s.now[0] != nil { // the keys of a call stay: a new offer is no new stream
		s.local = []sdp.Crypto{s.agreed[0]}
	} else {
		for i, suite := range s.suites() {
			c, err := sdp.NewCrypto(i+1, suite)
			if err != nil {
				return fmt.Errorf("offer srtp: %w", err)
			}
			s.local = append(s.local, c)
		}
	}
	m.Crypto = s.local
	return nil
}

func (s *sdes) check(answer *sdp.Media) error {
	if err := s.fits(answer); err != nil || !s.required {
		return err
	}
	for _, theirs := range answer.Crypto {
		for _, ours := range s.local {
			if ours.Tag == theirs.Tag && ours.Suite == theirs.Suite {
				s.send, s.recv = ours, theirs
				return nil
			}
		}
	}
	return ErrNotEncrypted
}

func (s *sdes) answer(offer, answer *sdp.Media, _ *sdp.Session) error {
	answer.Port = s.port
	if err := s.fits(offer); err != nil || !s.required {
		return err
	}
	theirs, ok := sdp.ChooseCrypto(offer.Crypto)
	if !ok {
		return ErrNotEncrypted
	}
	ours := s.agreed[0]
	if s.now[0] == nil || ours.Suite != theirs.Suite {
		var err error
		if ours, err = sdp.NewCrypto(theirs.Tag, theirs.Suite); err != nil {
			return fmt.Errorf("answer srtp: %w", err)
		}
	}
	ours.Tag = theirs.Tag
	s.send, s.recv = ours, theirs
	answer.Crypto = []sdp.Crypto{ours}
	return nil
}

// fits refuses SRTP on a plain leg and plain RTP on an SRTP leg: keys travel
// only where they were asked for, and speech never in clear where they were.
func (s *sdes) fits(m *sdp.Media) error {
	proto := strings.ToUpper(m.Proto)
	switch {
	case strings.HasPrefix(proto, "UDP/TLS/"):
		return ErrNotEncrypted
	case s.required != strings.HasPrefix(proto, "RTP/SAVP"):
		return ErrNotEncrypted
	}
	return nil
}

func (s *sdes) apply(_ *sdp.Media, recv *reception) error {
	if !s.required {
		return nil
	}
	lines := [2]sdp.Crypto{s.send, s.recv}
	for i := range lines {
		if s.now[i] != nil && lines[i].Suite == s.agreed[i].Suite && lines[i].Params == s.agreed[i].Params {
			continue // the same key goes on counting where it is
		}
		c, err := sdesCipher(lines[i])
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotEncrypted, err)
		}
		s.now[i] = c
	}
	s.agreed = lines
	recv.secure, recv.cipher = true, s.now[1]
	s.p.out.mu.Lock()
	s.p.out.cipher = s.now[0]
	s.p.out.mu.Unlock()
	return nil
}
