package media

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pion/transport/v4/packetio"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/gateway/media/sdp"
)

// NewWebRTC makes a port for a WebRTC phone.
func (e *Engine) NewWebRTC(o WebRTCOptions, ev PortEvents) (*Port, error) {
	if e.mux == nil {
		return nil, ErrNoWebRTC
	}
	if len(o.Codecs) == 0 {
		o.Codecs = []string{codec.Opus, codec.PCMU, codec.PCMA}
	}
	p := e.newPort(o.Label, ev)
	if err := newNegotiation(&p.neg, e.o.Host, o.Codecs, offerEvents); err != nil {
		return nil, err
	}
	l := &webrtcLeg{p: p, mux: e.mux, early: newDTLSBuffer(), reached: make(chan struct{})}
	p.tr, p.neg.sec, p.neg.prefer = l, l, true
	p.out.secure = true
	p.out.send = l.send
	p.out.ctrl = l.send
	if err := e.add(p); err != nil {
		return nil, err
	}
	l.restart()
	return p, nil
}

// webrtcLeg is the transport of a WebRTC phone: ICE-lite (RFC 8445 section
// 2.5) and DTLS-SRTP (RFC 5764) on the engine's one socket.
type webrtcLeg struct {
	p      *Port
	mux    *webrtcMux
	closed atomic.Bool

	addresses []netip.AddrPort // of the mux's reader
	session   atomic.Pointer[dtlsSession]

	reached chan struct{} // closed by the first good check
	reach   sync.Once

	mu        sync.Mutex
	creds     []credentials    // newest last; the one before stays good until the far side moved
	nominated int              // generation of the pair in use
	early     *packetio.Buffer // DTLS that came before the agreement
	cipher    *cipher          // for receiving

	// Guarded by the negotiation's mutex.
	farUfrag, farPwd string
	farPrints        []sdp.Fingerprint
	client           bool
	pending          pendingDTLS
}

// pendingDTLS is what a description says, until apply.
type pendingDTLS struct {
	ufrag, pwd string
	prints     []sdp.Fingerprint
	client     bool
}

func (l *webrtcLeg) send(b []byte, to netip.AddrPort) error {
	_, err := l.mux.conn.WriteToUDPAddrPort(b, to)
	return err // counted only; the packet path formats nothing
}

// sendRaw sends DTLS to the present address; without one it is lost, and DTLS repeats it.
func (l *webrtcLeg) sendRaw(b []byte) (int, error) {
	l.p.out.mu.Lock()
	to := l.p.out.dest
	l.p.out.mu.Unlock()
	if !to.IsValid() {
		return len(b), nil
	}
	return l.mux.conn.WriteToUDPAddrPort(b, to) // dtls looks at it
}

// dtlsPacket gives a packet to the association; one too many is lost and
// repeated. A phone that was called begins before its answer reaches us: what
// it says then waits, else it would repeat itself only after a second.
func (l *webrtcLeg) dtlsPacket(b []byte) {
	in := l.early
	if s := l.session.Load(); s != nil {
		in = s.in
	}
	if _, err := in.Write(b); err != nil {
		l.p.in.invalid.Add(1)
	}
}

// restart makes a new generation of credentials and keeps the one before.
func (l *webrtcLeg) restart() credentials {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := 1
	if n := len(l.creds); n > 0 {
		next = l.creds[n-1].generation + 1
	}
	c := newCredentials(next)
	l.creds = append(l.creds, c)
	if len(l.creds) > 2 {
		l.mux.unregister(l.creds[0].ufrag)
		l.creds = slices.Delete(l.creds, 0, 1)
	}
	l.mux.register(c.ufrag, l)
	return c
}

// present are the newest credentials.
func (l *webrtcLeg) present() credentials {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.creds[len(l.creds)-1]
}

func (l *webrtcLeg) credentials(ufrag string) (credentials, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.creds {
		if c.ufrag == ufrag {
			return c, true
		}
	}
	return credentials{}, false
}

// checked is told of a good ICE check. The first address is used at once, so
// that DTLS can begin, and so is the first after an ICE restart, because the
// old path may be gone; then the one that the far side nominates.
func (l *webrtcLeg) checked(from netip.AddrPort, generation int, nominated bool) {
	l.mu.Lock()
	use := nominated && generation >= l.nominated || generation > l.nominated
	if use {
		l.nominated = generation
	}
	l.mu.Unlock()
	if !use {
		return
	}
	o := &l.p.out
	o.mu.Lock()
	o.dest, o.rtcpDest = from, from
	o.mu.Unlock()
	l.reach.Do(func() { close(l.reached) })
}

// secured takes the keys of DTLS into use.
func (l *webrtcLeg) secured(send, recv *cipher) {
	l.mu.Lock()
	l.cipher = recv
	if old := l.p.in.cfg.Load(); old != nil {
		next := *old
		next.cipher = recv
		l.p.in.cfg.Store(&next)
	}
	l.mu.Unlock()
	l.p.out.mu.Lock()
	l.p.out.cipher = send
	l.p.out.mu.Unlock()
}

// start is called with each agreement. DTLS may have been quicker.
func (l *webrtcLeg) start(bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cfg := l.p.in.cfg.Load(); cfg.cipher != l.cipher {
		next := *cfg
		next.cipher = l.cipher
		l.p.in.cfg.Store(&next)
	}
}

func (l *webrtcLeg) close() {
	if l.closed.Swap(true) {
		return
	}
	l.mu.Lock()
	for _, c := range l.creds {
		l.mux.unregister(c.ufrag)
	}
	l.mu.Unlock()
	if s := l.session.Swap(nil); s != nil {
		s.stop()
	}
	l.mux.leave(l)
}

// describe fills in what offer and answer have in common.
func (l *webrtcLeg) describe(s *sdp.Session, m *sdp.Media, c credentials, setup string) {
	s.ICELite = true
	if m.MID != "" {
		s.Bundle = []string{m.MID}
	}
	m.Port = l.mux.port
	m.RTCP = sdp.RTCP{Mux: true}
	m.ICE = sdp.ICE{Ufrag: c.ufrag, Pwd: c.pwd, Candidates: l.mux.candidates(), EndOfCandidates: true}
	m.DTLS = sdp.DTLS{Fingerprints: []sdp.Fingerprint{{Hash: "sha-256", Value: l.mux.fingerprint}}, Setup: setup}
	m.Attributes = append(m.Attributes,
		sdp.Attribute{Name: "msid", Value: "cordboard audio"},
		sdp.Attribute{Name: "ssrc", Value: fmt.Sprintf("%d cname:%s", l.p.out.ssrc, l.p.rtcp.cname)},
	)
}

func (l *webrtcLeg) offer(s *sdp.Session, m *sdp.Media) error {
	m.Proto, m.MID = "UDP/TLS/RTP/SAVPF", "0"
	l.describe(s, m, l.present(), "actpass")
	return nil
}

func (l *webrtcLeg) check(answer *sdp.Media) error { return l.look(answer) }

func (l *webrtcLeg) answer(offer, answer *sdp.Media, s *sdp.Session) error {
	if err := l.look(offer); err != nil {
		return err
	}
	if !offer.RTCP.Mux {
		return fmt.Errorf("rtcp-mux is required: %w", ErrDescription)
	}
	c := l.present()
	if l.farUfrag != "" && (l.pending.ufrag != l.farUfrag || l.pending.pwd != l.farPwd) {
		c = l.restart() // RFC 8445 section 9: both sides change theirs
	}
	setup := "passive"
	if l.pending.client {
		setup = "active"
	}
	l.describe(s, answer, c, setup)
	return nil
}

// look checks that a description has what WebRTC needs, and keeps it for apply.
func (l *webrtcLeg) look(far *sdp.Media) error {
	if !strings.HasPrefix(strings.ToUpper(far.Proto), "UDP/TLS/") || len(far.DTLS.Fingerprints) == 0 {
		return ErrNotEncrypted
	}
	if far.ICE.Ufrag == "" || far.ICE.Pwd == "" {
		return fmt.Errorf("ice credentials: %w", ErrDescription)
	}
	l.pending = pendingDTLS{
		ufrag: far.ICE.Ufrag, pwd: far.ICE.Pwd, prints: far.DTLS.Fingerprints,
		// We are the server unless the far side insists on being one (RFC 8842 section 5).
		client: far.DTLS.Setup == "passive",
	}
	return nil
}

// apply starts DTLS with the first agreement, and again when the far side
// comes with another certificate (its app was restarted).
func (l *webrtcLeg) apply(_ *sdp.Media, recv *reception) error {
	n := l.pending
	l.farUfrag, l.farPwd = n.ufrag, n.pwd
	recv.ice, recv.secure = true, true
	old := l.session.Load()
	if old == nil || !slices.Equal(n.prints, l.farPrints) {
		l.farPrints, l.client = n.prints, n.client
		if old != nil {
			old.stop()
			l.mu.Lock()
			l.cipher = nil
			l.mu.Unlock()
			l.p.out.mu.Lock()
			l.p.out.cipher = nil
			l.p.out.mu.Unlock()
		}
		if !l.closed.Load() {
			in := l.early
			if old != nil {
				in = newDTLSBuffer()
			}
			l.session.Store(newDTLSSession(l, in, n.prints, n.client))
		}
	}
	l.mu.Lock()
	recv.cipher = l.cipher
	l.mu.Unlock()
	return nil
}
