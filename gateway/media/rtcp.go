package media

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
)

const (
	rtcpFirst    = time.Second     // a first report early: quality shows soon
	rtcpInterval = 5 * time.Second // RFC 3550 section 6.2
	ntpEpoch     = 2208988800      // seconds from 1900 to 1970
)

// Packet types of RTCP (RFC 3550 section 12.1).
const (
	rtcpSR   = 200
	rtcpRR   = 201
	rtcpSDES = 202
	rtcpBYE  = 203
)

// senderInfo is what the far side's sender reports say.
type senderInfo struct {
	lsr uint32 // middle of its NTP time
	at  time.Time
}

// rtcpState is what a port knows by RTCP.
type rtcpState struct {
	next  time.Time // of the shard
	cname string

	// What the far side reports of our stream.
	reported atomic.Bool
	lost     atomic.Uint32
	fraction atomic.Uint32 // lost lately, in 1/256
	jitter   atomic.Uint32 // ticks
	rtt      atomic.Int64  // nanoseconds
}

func (s *rtcpState) init() {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, 16)
	for i := range b {
		b[i] = letters[rand.IntN(len(letters))] //nolint:gosec // a CNAME must be unlike others, not secret (RFC 7022)
	}
	s.cname = string(b)
}

// ntp is a time in the 64 bits of NTP.
func ntp(t time.Time) uint64 {
	nanos := uint64(t.UnixNano())
	return (nanos/1e9+ntpEpoch)<<32 | (nanos%1e9)<<32/1e9
}

// rtcpTick sends a report when it is time.
func (p *Port) rtcpTick(at time.Time) {
	s := &p.rtcp
	switch {
	case s.next.IsZero():
		if p.connected.Load() {
			s.next = at.Add(rtcpFirst)
		}
		return
	case at.Before(s.next):
		return
	}
	// Half to one and a half of the interval, so that ports do not march in step.
	s.next = at.Add(rtcpInterval/2 + rand.N(rtcpInterval)) //nolint:gosec // timing, not secrecy
	p.sendRTCP(p.report(nil, at))
}

// sayBye ends our stream for the far side (RFC 3550 section 6.6).
func (p *Port) sayBye() {
	p.out.mu.Lock()
	sent, ssrc := p.out.packets > 0, p.out.ssrc
	p.out.mu.Unlock()
	if !sent {
		return
	}
	b := p.report(nil, time.Now())
	b = append(b, 0x81, rtcpBYE, 0, 1)
	p.sendRTCP(binary.BigEndian.AppendUint32(b, ssrc))
}

// report appends a sender or receiver report with the description of the source.
func (p *Port) report(b []byte, at time.Time) []byte {
	block, reporting := p.reportBlock(at)
	now := p.e.nanos(at)
	o := &p.out
	o.mu.Lock()
	sending := o.packets > 0 && now-o.sent < int64(2*rtcpInterval)
	count := byte(0)
	if reporting {
		count = 1
	}
	if sending {
		ts := o.ts + uint32(uint64(max(0, now-o.at))/1000*uint64(o.clock)/1_000_000)
		b = append(b, 0x80|count, rtcpSR, 0, 6+6*count)
		b = binary.BigEndian.AppendUint32(b, o.ssrc)
		b = binary.BigEndian.AppendUint64(b, ntp(at))
		b = binary.BigEndian.AppendUint32(b, ts)
		b = binary.BigEndian.AppendUint32(b, o.packets)
		b = binary.BigEndian.AppendUint32(b, o.octets)
	} else {
		b = append(b, 0x80|count, rtcpRR, 0, 1+6*count)
		b = binary.BigEndian.AppendUint32(b, o.ssrc)
	}
	ssrc := o.ssrc
	o.mu.Unlock()
	if reporting {
		b = append(b, block[:]...)
	}
	return appendSDES(b, ssrc, p.rtcp.cname)
}

// appendSDES appends a source description with the CNAME (RFC 3550 section 6.5).
func appendSDES(b []byte, ssrc uint32, cname string) []byte {
	from := len(b)
	b = append(b, 0x81, rtcpSDES, 0, 0)
	b = binary.BigEndian.AppendUint32(b, ssrc)
	b = append(b, 1, byte(len(cname)))
	b = append(b, cname...)
	b = append(b, 0)
	for (len(b)-from)%4 != 0 {
		b = append(b, 0)
	}
	binary.BigEndian.PutUint16(b[from+2:], uint16((len(b)-from)/4-1))
	return b
}

// reportBlock says how we receive the far side (RFC 3550 section 6.4.1).
func (p *Port) reportBlock(at time.Time) (b [24]byte, ok bool) {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	s := &p.in.stats
	if !s.started {
		return b, false
	}
	binary.BigEndian.PutUint32(b[0:], s.ssrc)
	binary.BigEndian.PutUint32(b[4:], min(s.lostHere(), 0x7FFFFF))
	b[4] = s.fraction()
	binary.BigEndian.PutUint32(b[8:], s.maxSeq)
	binary.BigEndian.PutUint32(b[12:], uint32(s.jitter))
	if r := &p.in.remote; r.lsr != 0 {
		binary.BigEndian.PutUint32(b[16:], r.lsr)
		binary.BigEndian.PutUint32(b[20:], uint32(max(0, at.Sub(r.at))*65536/time.Second))
	}
	return b, true
}

func (p *Port) sendRTCP(b []byte) {
	o := &p.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.rtcpDest.IsValid() || o.ctrl == nil || o.secure && o.cipher == nil {
		return
	}
	if o.cipher != nil {
		sealed, err := o.cipher.sealRTCP(b)
		if err != nil {
			o.errors++
			return
		}
		b = sealed
	}
	if err := o.ctrl(b, o.rtcpDest); err != nil {
		o.errors++
	}
}

// receiveRTCP takes one datagram of RTCP.
func (p *Port) receiveRTCP(b []byte, from netip.AddrPort, at time.Time) {
	in := &p.in
	cfg := in.cfg.Load()
	if cfg == nil || cfg.secure && cfg.cipher == nil {
		in.invalid.Add(1)
		return
	}
	if cfg.cipher != nil {
		opened, err := cfg.cipher.openRTCP(b)
		if err != nil {
			in.invalid.Add(1)
			return
		}
		b = opened
	} else if !p.rtcpKnown(cfg, from) {
		in.strangers.Add(1)
		return
	}
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		in.invalid.Add(1)
		return
	}
	if !cfg.ice && p.rtcpSeen.CompareAndSwap(false, true) {
		p.out.mu.Lock()
		p.out.rtcpDest = from
		p.out.mu.Unlock()
	}
	in.last.Store(p.e.nanos(at))
	for _, packet := range packets {
		switch r := packet.(type) {
		case *rtcp.SenderReport:
			in.mu.Lock()
			if in.stats.started && r.SSRC == in.stats.ssrc {
				in.remote = senderInfo{lsr: uint32(r.NTPTime >> 16), at: at}
			}
			in.mu.Unlock()
			p.reports(r.Reports, at)
		case *rtcp.ReceiverReport:
			p.reports(r.Reports, at)
		}
	}
}

// rtcpKnown reports whether plain RTCP may come from that address: the far
// side's host, as signalled or as latched.
func (p *Port) rtcpKnown(cfg *reception, from netip.AddrPort) bool {
	if from.Addr() == cfg.rtcpFrom.Addr() || from.Addr() == cfg.signalled.Addr() {
		return true
	}
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	return from.Addr() == p.out.dest.Addr()
}

// reports takes what the far side says of our stream.
func (p *Port) reports(list []rtcp.ReceptionReport, at time.Time) {
	p.out.mu.Lock()
	ssrc := p.out.ssrc
	p.out.mu.Unlock()
	for i := range list {
		r := &list[i]
		if r.SSRC != ssrc {
			continue
		}
		p.rtcp.reported.Store(true)
		lost := r.TotalLost
		if lost >= 0x800000 { // a negative count: packets came twice
			lost = 0
		}
		p.rtcp.lost.Store(lost)
		p.rtcp.fraction.Store(uint32(r.FractionLost))
		p.rtcp.jitter.Store(r.Jitter)
		if r.LastSenderReport == 0 {
			continue
		}
		rtt := uint32(ntp(at)>>16) - r.LastSenderReport - r.Delay
		if rtt < 1<<22 { // under a minute; anything else is a wrong clock
			p.rtcp.rtt.Store(int64(rtt) * int64(time.Second) / 65536)
		}
	}
}

// Quality is what the media of the port is like: live, or final after Close.
func (p *Port) Quality() Quality {
	q := Quality{Codec: p.Codec(), RTT: time.Duration(p.rtcp.rtt.Load())}

	p.in.mu.Lock()
	s := &p.in.stats
	started, clock := s.started, s.clock
	q.Received = StreamQuality{
		Packets: s.packets, Bytes: s.octets,
		Lost:   uint64(s.lost()),
		Jitter: ticksToDuration(uint32(s.jitter), clock),
	}
	p.in.mu.Unlock()

	p.out.mu.Lock()
	q.Sent = StreamQuality{
		Packets: uint64(p.out.packets), Bytes: uint64(p.out.octets),
		Lost:   uint64(p.rtcp.lost.Load()),
		Jitter: ticksToDuration(p.rtcp.jitter.Load(), p.out.clock),
	}
	p.out.mu.Unlock()
	if started {
		q.Received.MOS = q.Received.score(q)
	}
	if p.rtcp.reported.Load() {
		sent := q.Sent // its packets include those lost
		sent.Packets -= min(sent.Packets, sent.Lost)
		q.Sent.MOS = sent.score(q)
	}
	return q
}

func (s StreamQuality) score(q Quality) float64 {
	return MOS(Impairment{Codec: q.Codec, LossPercent: s.LossPercent(), RTT: q.RTT, Jitter: s.Jitter})
}

func ticksToDuration(ticks, clock uint32) time.Duration {
	if clock == 0 {
		return 0
	}
	return time.Duration(ticks) * time.Second / time.Duration(clock)
}
