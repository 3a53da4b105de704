package media

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/srtp/v3"
	"github.com/pion/transport/v4/packetio"

	"github.com/cordboard/cordboard/gateway/media/sdp"
)

const (
	// dtlsTimeout bounds the time from the agreement to the keys.
	dtlsTimeout = 30 * time.Second
	// dtlsBuffer bounds the handshake packets of a leg that wait, in bytes.
	dtlsBuffer = 32 << 10
	// dtlsRepeat is how soon a lost flight is sent again; the second of RFC 6347
	// would be a second of silence.
	dtlsRepeat = 200 * time.Millisecond
	// dtlsRecord is the most one record may carry of what we drop.
	dtlsRecord = 2 << 10
)

var errFingerprint = errors.New("certificate does not match the signalled fingerprint")

// dtlsSession is one DTLS association of a leg, from handshake to close.
type dtlsSession struct {
	leg    *webrtcLeg
	far    []sdp.Fingerprint
	client bool
	in     *packetio.Buffer
	wg     sync.WaitGroup

	mu      sync.Mutex
	conn    *dtls.Conn
	stopped bool
	done    chan struct{} // closed by stop
}

// newDTLSSession starts an association.
func newDTLSSession(l *webrtcLeg, in *packetio.Buffer, far []sdp.Fingerprint, client bool) *dtlsSession {
	s := &dtlsSession{leg: l, far: far, client: client, in: in, done: make(chan struct{})}
	s.wg.Go(s.run)
	return s
}

// newDTLSBuffer is where the packets of an association wait.
func newDTLSBuffer() *packetio.Buffer {
	b := packetio.NewBuffer()
	b.SetLimitSize(dtlsBuffer)
	return b
}

// stop ends the association and waits for its goroutines.
func (s *dtlsSession) stop() {
	s.mu.Lock()
	if !s.stopped {
		s.stopped = true
		close(s.done)
	}
	conn := s.conn
	s.mu.Unlock()
	s.end(conn)
	s.wg.Wait()
}

// end closes the connection and what it reads from.
func (s *dtlsSession) end(conn *dtls.Conn) {
	var err error
	if conn != nil {
		err = conn.Close()
	}
	if err = errors.Join(err, s.in.Close()); err != nil {
		s.leg.p.e.log.Debug("close dtls", "label", s.leg.p.label, "err", err)
	}
}

// run shakes hands, gives the keys to the leg and then keeps the association
// alive: the far side may ask for the last flight again, or say goodbye.
func (s *dtlsSession) run() {
	p := s.leg.p
	if s.client && !s.reachable() {
		return
	}
	conn, err := s.connect()
	if err == nil {
		timer := time.AfterFunc(dtlsTimeout, func() { s.end(conn) })
		err = conn.Handshake()
		if !timer.Stop() && err == nil {
			err = ErrDTLS
		}
	}
	if err == nil {
		err = s.useKeys(conn)
	}
	if err != nil {
		s.end(conn)
		s.mu.Lock()
		stopped := s.stopped
		s.mu.Unlock()
		if !stopped {
			p.e.log.Warn("dtls handshake", "label", p.label, "err", err)
			p.box.must(func() { p.ev.Failed(fmt.Errorf("%w: %w", ErrDTLS, err)) })
		}
		return
	}
	buf := make([]byte, dtlsRecord) // nothing but alerts is expected; application data is dropped
	for {
		if _, err := conn.Read(buf); err != nil {
			break
		}
	}
	s.end(conn)
}

// reachable waits until ICE knows where to send the first flight; false when
// the association ends before.
func (s *dtlsSession) reachable() bool {
	timer := time.NewTimer(dtlsTimeout)
	defer timer.Stop()
	select {
	case <-s.leg.reached:
		return true
	case <-s.done:
		return false
	case <-timer.C: // the handshake will say that nobody answers
		return true
	}
}

// connect makes the connection without sending anything yet.
func (s *dtlsSession) connect() (conn *dtls.Conn, err error) {
	m := s.leg.mux
	shared := []dtls.Option{
		dtls.WithCertificates(m.cert),
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80),
		dtls.WithVerifyPeerCertificate(s.verify),
		dtls.WithInsecureSkipVerify(true), // the fingerprint is what counts
		dtls.WithFlightInterval(dtlsRepeat),
	}
	peer := &net.UDPAddr{}
	if s.client {
		opts := make([]dtls.ClientOption, 0, len(shared))
		for _, o := range shared {
			opts = append(opts, o)
		}
		conn, err = dtls.ClientWithOptions(s, peer, opts...)
	} else {
		opts := []dtls.ServerOption{
			dtls.WithClientAuth(dtls.RequireAnyClientCert),
			dtls.WithInsecureSkipVerifyHello(true), // ICE has proved the address; a cookie would cost a round trip
		}
		for _, o := range shared {
			opts = append(opts, o)
		}
		conn, err = dtls.ServerWithOptions(s, peer, opts...)
	}
	if err != nil {
		return nil, fmt.Errorf("make dtls connection: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return conn, ErrClosed
	}
	s.conn = conn
	return conn, nil
}

// useKeys derives the SRTP keys (RFC 5764 section 4.2).
func (s *dtlsSession) useKeys(conn *dtls.Conn) error {
	chosen, ok := conn.SelectedSRTPProtectionProfile()
	if !ok {
		return fmt.Errorf("no srtp profile: %w", ErrNotEncrypted)
	}
	var profile srtp.ProtectionProfile
	switch chosen {
	case dtls.SRTP_AEAD_AES_128_GCM:
		profile = srtp.ProtectionProfileAeadAes128Gcm
	case dtls.SRTP_AES128_CM_HMAC_SHA1_80:
		profile = srtp.ProtectionProfileAes128CmHmacSha1_80
	default:
		return fmt.Errorf("srtp profile %d: %w", chosen, ErrNotEncrypted)
	}
	state, ok := conn.ConnectionState()
	if !ok {
		return fmt.Errorf("no dtls state: %w", ErrDTLS)
	}
	c := srtp.Config{Profile: profile}
	if err := c.ExtractSessionKeysFromDTLS(&state, s.client); err != nil {
		return fmt.Errorf("derive srtp keys: %w", err)
	}
	send, err := newCipher(c.Keys.LocalMasterKey, c.Keys.LocalMasterSalt, profile)
	if err != nil {
		return err
	}
	recv, err := newCipher(c.Keys.RemoteMasterKey, c.Keys.RemoteMasterSalt, profile)
	if err != nil {
		return err
	}
	s.leg.secured(send, recv)
	return nil
}

// verify compares the far side's certificate with its fingerprints (RFC 8122).
func (s *dtlsSession) verify(raw [][]byte, _ [][]*x509.Certificate) error {
	if len(raw) == 0 {
		return errFingerprint
	}
	for _, f := range s.far {
		var sum []byte
		switch strings.ToLower(f.Hash) {
		case "sha-256":
			h := sha256.Sum256(raw[0])
			sum = h[:]
		case "sha-384":
			h := sha512.Sum384(raw[0])
			sum = h[:]
		case "sha-512":
			h := sha512.Sum512(raw[0])
			sum = h[:]
		default: // SHA-1 and older prove nothing
			continue
		}
		if strings.EqualFold(strings.ReplaceAll(f.Value, ":", ""), hex.EncodeToString(sum)) {
			return nil
		}
	}
	return errFingerprint
}

// A dtlsSession is the net.PacketConn under its dtls.Conn.

// ReadFrom gives the next DTLS packet of the leg.
func (s *dtlsSession) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := s.in.Read(b)
	return n, &net.UDPAddr{}, err // dtls looks at it
}

// WriteTo sends to where ICE says.
func (s *dtlsSession) WriteTo(b []byte, _ net.Addr) (int, error) { return s.leg.sendRaw(b) }

// Close ends reading.
func (s *dtlsSession) Close() error { return s.in.Close() } // a wrapper

// LocalAddr means nothing here.
func (s *dtlsSession) LocalAddr() net.Addr { return &net.UDPAddr{} }

// SetDeadline sets that of reading.
func (s *dtlsSession) SetDeadline(t time.Time) error { return s.in.SetReadDeadline(t) } // a wrapper

// SetReadDeadline sets that of reading.
func (s *dtlsSession) SetReadDeadline(t time.Time) error { return s.in.SetReadDeadline(t) } // a wrapper

// SetWriteDeadline does nothing: a datagram is sent at once.
func (s *dtlsSession) SetWriteDeadline(time.Time) error { return nil }
