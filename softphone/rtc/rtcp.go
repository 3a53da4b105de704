package rtc

import (
	"time"

	"github.com/pion/rtcp"
)

// ntpEpoch is the time of 1970 in NTP's seconds.
const ntpEpoch = 2208988800

// ntp is a time as 32.32 bit seconds since 1900.
func ntp(t time.Time) uint64 {
	sec := uint64(t.Unix()+ntpEpoch) << 32
	return sec | uint64(t.Nanosecond())<<32/uint64(time.Second)
}

// report sends a compound RTCP packet: what was sent, what was received, and our name.
func (s *Session) report(now time.Time) {
	ssrc, ts, packets, octets := s.out.report(now)
	if ssrc == 0 {
		return
	}
	var blocks []rtcp.ReceptionReport
	if b, ok := s.in.reportBlock(now); ok {
		blocks = []rtcp.ReceptionReport{b}
	}
	var first rtcp.Packet
	if packets > 0 {
		first = &rtcp.SenderReport{
			SSRC: ssrc, NTPTime: ntp(now), RTPTime: ts, PacketCount: packets, OctetCount: octets, Reports: blocks,
		}
	} else {
		first = &rtcp.ReceiverReport{SSRC: ssrc, Reports: blocks}
	}
	// Before DTLS is done and after the end there is nobody to tell; the next one comes in a second.
	_ = s.pc.WriteRTCP([]rtcp.Packet{first, rtcp.NewCNAMESourceDescription(ssrc, s.cname)})
}

// control takes a compound RTCP packet of the far side.
func (s *Session) control(b []byte, now time.Time) {
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		return
	}
	for _, p := range packets {
		switch r := p.(type) {
		case *rtcp.SenderReport:
			s.in.senderReport(r.NTPTime, now)
			s.blocks(r.Reports, now)
		case *rtcp.ReceiverReport:
			s.blocks(r.Reports, now)
		}
	}
}

func (s *Session) blocks(reports []rtcp.ReceptionReport, now time.Time) {
	ssrc, _, _, _ := s.out.report(now) //nolint:dogsled // only the SSRC is needed
	for _, r := range reports {
		if r.SSRC != ssrc {
			continue
		}
		loss := float64(r.FractionLost) / 256
		s.out.loss(loss)
		s.mu.Lock()
		s.far.loss = loss
		s.far.jitter = r.Jitter
		if r.LastSenderReport != 0 {
			// In units of 1/65536 s; may be slightly negative by rounding.
			d := int32(uint32(ntp(now)>>16) - r.LastSenderReport - r.Delay)
			if d >= 0 && d < 30<<16 {
				s.far.rtt = time.Duration(d) * time.Second / 65536
			}
		}
		s.mu.Unlock()
	}
}
