package media

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// socketBuffer is asked for on the one socket that carries every WebRTC leg.
const socketBuffer = 4 << 20

// maxAddresses bounds the addresses of one leg that passed an ICE check.
const maxAddresses = 16

// udpSocket is what the mux needs of a socket; *net.UDPConn has it.
type udpSocket interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	SetReadDeadline(t time.Time) error
}

// webrtcMux is the one UDP socket of all WebRTC legs. One goroutine reads it
// and alone owns the table of addresses, so that packets of different calls
// meet no lock; control reaches that goroutine by a wake-up.
type webrtcMux struct {
	e           *Engine
	conn        udpSocket
	hosts       []netip.Addr
	port        uint16
	cert        tls.Certificate
	fingerprint string
	unknown     atomic.Uint64 // packets of no leg
	closed      atomic.Bool

	byAddr map[netip.AddrPort]*webrtcLeg // of the reader

	mu     sync.Mutex
	ufrags map[string]*webrtcLeg
	gone   []*webrtcLeg // closed, still in byAddr
}

func newWebRTCMux(e *Engine, o Options) (*webrtcMux, error) {
	m := &webrtcMux{
		e: e, byAddr: make(map[netip.AddrPort]*webrtcLeg), ufrags: make(map[string]*webrtcLeg),
		hosts: slices.Concat([]netip.Addr{o.Host}, o.Hosts), port: o.WebRTCPort,
	}
	if c, ok := o.WebRTC.(*net.UDPConn); ok {
		m.conn = c
		if err := errors.Join(c.SetReadBuffer(socketBuffer), c.SetWriteBuffer(socketBuffer)); err != nil {
			e.log.Warn("webrtc socket buffers", "err", err)
		}
	} else {
		m.conn = anySocket{o.WebRTC}
	}
	if m.port == 0 {
		a, err := netip.ParseAddrPort(o.WebRTC.LocalAddr().String())
		if err != nil {
			return nil, fmt.Errorf("webrtc socket: %w", err)
		}
		m.port = a.Port()
	}
	if o.Certificate != nil {
		m.cert = *o.Certificate
	} else {
		cert, err := newCertificate()
		if err != nil {
			return nil, err
		}
		m.cert = cert
	}
	m.fingerprint = fingerprintOf(m.cert.Certificate[0])
	return m, nil
}

// newCertificate makes the self-signed certificate of DTLS; its fingerprint in
// the signalling is what proves it.
func newCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make dtls key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make dtls serial: %w", err)
	}
	now := time.Now()
	template := x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "cordboard"},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make dtls certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// fingerprintOf is the SHA-256 of a certificate as SDP writes it (RFC 8122).
func fingerprintOf(der []byte) string {
	sum := sha256.Sum256(der)
	var b strings.Builder
	for i, c := range sum {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(strings.ToUpper(hex.EncodeToString([]byte{c})))
	}
	return b.String()
}

// run reads until close.
func (m *webrtcMux) run() {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := m.conn.ReadFromUDPAddrPort(buf)
		switch {
		case m.closed.Load():
			return
		case err == nil:
			m.packet(buf[:n], unmap(from), time.Now())
		case errors.Is(err, os.ErrDeadlineExceeded):
			if err := m.conn.SetReadDeadline(time.Time{}); err != nil {
				m.e.log.Error("webrtc socket", "err", err)
				return
			}
			m.forget()
		case errors.Is(err, net.ErrClosed):
			m.e.log.Error("webrtc socket closed under us")
			return
		}
	}
}

// packet tells the protocols of one socket apart by their first byte (RFC 7983).
func (m *webrtcMux) packet(b []byte, from netip.AddrPort, at time.Time) {
	if len(b) == 0 {
		return
	}
	if b[0] <= 3 {
		m.stun(b, from)
		return
	}
	l := m.byAddr[from]
	switch {
	case l == nil || l.closed.Load():
		m.unknown.Add(1)
	case b[0] >= 128 && b[0] <= 191:
		l.p.receive(b, from, at)
	case b[0] >= 20 && b[0] <= 63:
		l.dtlsPacket(b)
	default:
		m.unknown.Add(1)
	}
}

// learn notes that packets from an address belong to a leg: it proved so by ICE.
func (m *webrtcMux) learn(from netip.AddrPort, l *webrtcLeg) {
	old := m.byAddr[from]
	if old == l {
		return
	}
	if old != nil {
		old.addresses = slices.DeleteFunc(old.addresses, func(a netip.AddrPort) bool { return a == from })
	}
	if len(l.addresses) >= maxAddresses {
		delete(m.byAddr, l.addresses[0])
		l.addresses = slices.Delete(l.addresses, 0, 1)
	}
	m.byAddr[from] = l
	l.addresses = append(l.addresses, from)
}

// forget drops the addresses of closed legs.
func (m *webrtcMux) forget() {
	m.mu.Lock()
	gone := m.gone
	m.gone = nil
	m.mu.Unlock()
	for _, l := range gone {
		for _, a := range l.addresses {
			if m.byAddr[a] == l {
				delete(m.byAddr, a)
			}
		}
		l.addresses = nil
	}
}

func (m *webrtcMux) register(ufrag string, l *webrtcLeg) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ufrags[ufrag] = l
}

func (m *webrtcMux) unregister(ufrags ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, u := range ufrags {
		delete(m.ufrags, u)
	}
}

func (m *webrtcMux) byUfrag(ufrag string) *webrtcLeg {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ufrags[ufrag]
}

// leave forgets a closed leg; the reader is woken to do so.
func (m *webrtcMux) leave(l *webrtcLeg) {
	m.mu.Lock()
	m.gone = append(m.gone, l)
	m.mu.Unlock()
	m.wake()
}

func (m *webrtcMux) wake() {
	if err := m.conn.SetReadDeadline(time.Unix(1, 0)); err != nil && !errors.Is(err, net.ErrClosed) {
		m.e.log.Warn("wake webrtc reader", "err", err)
	}
}

func (m *webrtcMux) close() {
	m.closed.Store(true)
	m.wake()
}

// anySocket adapts a socket that is no *net.UDPConn.
type anySocket struct{ c net.PacketConn }

func (s anySocket) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, from, err := s.c.ReadFrom(b)
	if err != nil {
		return n, netip.AddrPort{}, err // as the socket says it
	}
	if u, ok := from.(*net.UDPAddr); ok {
		return n, u.AddrPort(), nil
	}
	return n, netip.AddrPort{}, nil
}

func (s anySocket) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return s.c.WriteTo(b, net.UDPAddrFromAddrPort(to)) // as the socket says it
}

func (s anySocket) SetReadDeadline(t time.Time) error {
	return s.c.SetReadDeadline(t) // as the socket says it
}
