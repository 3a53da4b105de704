package media

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/gateway/media/dtmf"
)

// reception is what negotiation tells the receiving side. It is never changed
// once published.
type reception struct {
	kinds     [128]kind
	clocks    [128]uint32
	cipher    *cipher
	secure    bool // nothing is taken without a cipher
	ice       bool // the source was proved by ICE; no latching
	expected  bool // the far side said that it sends
	signalled netip.AddrPort
	rtcpFrom  netip.AddrPort
	ssrc      uint32 // a=ssrc of the description; 0 = not said
	epoch     uint32 // goes up with a new signalled address: latch again
}

// inbound is the stream that a port receives.
type inbound struct {
	cfg   atomic.Pointer[reception]
	route atomic.Pointer[route]
	unit  atomic.Pointer[decodeUnit] // where the speech is decoded, if anyone needs it
	tap   atomic.Pointer[Track]
	muted atomic.Bool

	last      atomic.Int64 // when the last valid packet came
	strangers atomic.Uint64
	invalid   atomic.Uint64

	// Of the goroutine that reads RTP.
	latch    latch
	ssrc     uint32 // of the accepted stream
	ssrcSet  bool
	nextSSRC uint32 // on probation
	nextSeq  uint16
	pkt      rtpPacket
	recoded  [maxPayload]byte

	mu     sync.Mutex
	stats  streamStats
	remote senderInfo

	digits     *dtmf.Receiver
	digitClock uint32
}

// receive takes one datagram of the RTP socket.
func (p *Port) receive(b []byte, from netip.AddrPort, at time.Time) {
	if isRTCP(b) {
		p.receiveRTCP(b, from, at)
		return
	}
	in := &p.in
	cfg := in.cfg.Load()
	pkt := &in.pkt
	if cfg == nil || cfg.secure && cfg.cipher == nil || len(b) < rtpHeaderSize || b[0]>>6 != 2 {
		in.invalid.Add(1)
		return
	}
	if !cfg.ice && in.latch.stranger(cfg, from) {
		in.strangers.Add(1)
		return
	}
	if cfg.cipher != nil {
		var err error
		if b, err = cfg.cipher.open(b); err != nil {
			in.invalid.Add(1)
			return
		}
	}
	if !pkt.parse(b) || cfg.kinds[pkt.pt] == kindNone {
		in.invalid.Add(1)
		return
	}
	if !cfg.ice {
		ok, moved := in.latch.accept(cfg, from, pkt)
		if !ok {
			in.strangers.Add(1)
			return
		}
		if moved {
			p.latched(from)
		}
	}
	if !in.sameStream(pkt, cfg.cipher != nil) {
		in.strangers.Add(1)
		return
	}
	p.valid(p.e.nanos(at))
	p.take(cfg, pkt, at)
}

// sameStream reports whether the packet belongs to the accepted SSRC. Another
// SSRC takes over at once if it is authenticated, else with its second packet.
func (in *inbound) sameStream(pkt *rtpPacket, authenticated bool) bool {
	switch {
	case in.ssrcSet && pkt.ssrc == in.ssrc:
		return true
	case !in.ssrcSet, authenticated, pkt.ssrc == in.nextSSRC && pkt.seq == in.nextSeq:
		in.ssrc, in.ssrcSet = pkt.ssrc, true
		in.nextSSRC = 0
		return true
	}
	in.nextSSRC, in.nextSeq = pkt.ssrc, pkt.seq+1
	return false
}

// take counts a valid packet and gives it to all who hear it.
func (p *Port) take(cfg *reception, pkt *rtpPacket, at time.Time) {
	in := &p.in
	now := p.e.nanos(at)
	k, clock := cfg.kinds[pkt.pt], cfg.clocks[pkt.pt]
	in.mu.Lock()
	in.stats.packet(pkt.ssrc, clock, pkt.seq, pkt.ts, len(pkt.payload), now)
	if k == kindEvent {
		p.pressedLocked(pkt, clock, at)
	}
	in.mu.Unlock()
	if in.muted.Load() || len(pkt.payload) == 0 {
		return
	}
	r := in.route.Load()
	if k == kindEvent {
		if u := in.unit.Load(); u != nil {
			u.skip(pkt, at)
		}
		if r != nil {
			r.to.out.event(pkt, clock, now)
		}
		return
	}
	if t := in.tap.Load(); t != nil && k.g711() {
		t.Write(pkt.ts, at, k.law(), pkt.payload)
	}
	if u := in.unit.Load(); u != nil && u.kind == k {
		u.push(pkt, at)
	}
	if r == nil {
		return
	}
	switch {
	case k == r.kind:
		r.to.out.forward(pkt, r.id, now)
	case k.g711() && r.kind.g711() && len(pkt.payload) <= maxPayload:
		n := r.kind.law().Convert(in.recoded[:len(pkt.payload)], pkt.payload, k.law())
		pkt.payload = in.recoded[:n]
		r.to.out.forward(pkt, r.id, now)
	default: // the unit's tick sends it
		if u := in.unit.Load(); u == nil || u.kind != k {
			p.wantUnit(k)
		}
	}
}

// pressedLocked feeds a telephone event to the receiver of digits.
func (p *Port) pressedLocked(pkt *rtpPacket, clock uint32, at time.Time) {
	if p.in.digits == nil || p.in.digitClock != clock {
		p.in.digits, p.in.digitClock = dtmf.NewReceiver(int(clock), p.pressed), clock
	}
	if err := p.in.digits.Push(pkt.ts, pkt.marker, pkt.payload, at); err != nil {
		p.in.invalid.Add(1)
	}
}

// pressed tells of a digit, and lets a partner without telephone events hear
// it as a tone.
func (p *Port) pressed(digit byte, d time.Duration) {
	p.box.post(func() { p.ev.DTMF(digit, d) })
	if r := p.in.route.Load(); r != nil && !p.in.muted.Load() && !r.to.out.speaksEvents() {
		p.box.post(func() {
			if err := r.to.SendDTMF(string(rune(digit)), d); err != nil {
				p.e.log.Debug("digit not relayed", "label", p.label, "err", err)
			}
		})
	}
}

// valid notes that the far side is there.
func (p *Port) valid(now int64) {
	p.in.last.Store(now)
	if !p.connected.Load() && p.connected.CompareAndSwap(false, true) {
		p.box.post(p.ev.Connected)
	}
	if p.lost.Load() && p.lost.CompareAndSwap(true, false) {
		p.box.post(p.ev.Back)
	}
}

// latched sends to where the packets come from. RTCP goes beside it until the
// far side's own shows where it belongs.
func (p *Port) latched(from netip.AddrPort) {
	o := &p.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dest == from {
		return
	}
	mux := o.rtcpDest == o.dest
	o.dest = from
	switch {
	case p.rtcpSeen.Load():
	case mux:
		o.rtcpDest = from
	default:
		o.rtcpDest = netip.AddrPortFrom(from.Addr(), from.Port()+1)
	}
}

// latch is symmetric RTP by rule: the signalled address first; another one
// only until it has sent the first valid stream, then locked.
type latch struct {
	epoch     uint32
	locked    bool
	signalled bool // locked to the signalled address
	addr      netip.AddrPort
	ssrc      uint32

	// An address on probation: unauthenticated, it needs two packets in a row.
	from    netip.AddrPort
	maySSRC uint32
	maySeq  uint16
}

// stranger reports, before anything is spent on the packet, that it comes from
// an address that can not be ours.
func (l *latch) stranger(cfg *reception, from netip.AddrPort) bool {
	return l.locked && l.epoch == cfg.epoch && from != l.addr && from != cfg.signalled
}

// accept decides on a packet that is valid in itself. moved says that the
// address to send to is now from.
func (l *latch) accept(cfg *reception, from netip.AddrPort, pkt *rtpPacket) (ok, moved bool) {
	if l.epoch != cfg.epoch {
		*l = latch{epoch: cfg.epoch}
	}
	switch {
	case l.locked && from == l.addr:
		return true, false
	case from == cfg.signalled:
		l.locked, l.signalled, l.addr = true, true, from
		return true, true
	case l.locked || cfg.ssrc != 0 && pkt.ssrc != cfg.ssrc:
		return false, false
	case cfg.cipher != nil, l.from == from && l.maySSRC == pkt.ssrc && l.maySeq == pkt.seq:
		l.locked, l.signalled, l.addr, l.ssrc = true, false, from, pkt.ssrc
		return true, true
	}
	l.from, l.maySSRC, l.maySeq = from, pkt.ssrc, pkt.seq+1
	return false, false
}

// kindOf is the kind of a codec's name; kindNone for what we do not speak.
func kindOf(name string) kind {
	c, ok := codec.Lookup(name)
	if !ok {
		return kindNone
	}
	switch c.Name {
	case codec.PCMU:
		return kindPCMU
	case codec.PCMA:
		return kindPCMA
	case codec.Opus:
		return kindOpus
	case codec.TelephoneEvent:
		return kindEvent
	}
	return kindNone
}
