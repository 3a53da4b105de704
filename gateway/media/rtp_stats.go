package media

// streamStats measures one received stream as RFC 3550 appendix A says.
type streamStats struct {
	ssrc    uint32
	started bool
	baseSeq uint32
	maxSeq  uint32 // extended by its cycles
	clock   uint32

	received      uint32
	priorExpected uint32
	priorReceived uint32

	transit  uint32  // of the previous packet, in ticks
	jitter   float64 // in ticks
	packets  uint64  // of all streams
	octets   uint64  // of all streams
	lastTS   uint32
	earlier  uint32 // lost packets of streams before this one
	earlierN uint32 // expected packets of streams before this one
}

// maxDropout is the largest jump of the sequence that is still the same stream
// (RFC 3550 appendix A.1).
const maxDropout = 3000

// restart begins a new stream and keeps the sums of those before.
func (s *streamStats) restart(ssrc, clock uint32, seq uint16) {
	lost, expected := s.lost(), s.expected()
	*s = streamStats{
		ssrc: ssrc, clock: clock, started: true,
		baseSeq: uint32(seq), maxSeq: uint32(seq),
		packets: s.packets, octets: s.octets, earlier: lost, earlierN: expected,
	}
}

// packet counts one; now is the arrival in nanoseconds.
func (s *streamStats) packet(ssrc, clock uint32, seq uint16, ts uint32, size int, now int64) {
	switch {
	case !s.started || s.ssrc != ssrc || s.clock != clock:
		s.restart(ssrc, clock, seq)
	default:
		delta := seq - uint16(s.maxSeq)
		switch {
		case delta < maxDropout:
			s.maxSeq += uint32(delta)
		case delta > 0xFFFF-maxDropout: // late or doubled
		default:
			s.restart(ssrc, clock, seq)
		}
	}
	s.received++
	s.packets++
	s.octets += uint64(size)
	// Ticks of a day wrap; only the difference of two transits counts. Packets
	// of one timestamp (telephone events) say nothing of the network.
	transit := uint32(uint64(now)/1000*uint64(clock)/1_000_000) - ts
	if s.received > 1 && ts != s.lastTS {
		d := int32(transit - s.transit)
		if d < 0 {
			d = -d
		}
		if uint32(d) < clock { // more than a second is a jump of the source's clock
			s.jitter += (float64(d) - s.jitter) / 16
		}
	}
	s.transit, s.lastTS = transit, ts
}

func (s *streamStats) expectedHere() uint32 {
	if !s.started {
		return 0
	}
	return s.maxSeq - s.baseSeq + 1
}

// expected is the number of packets that were sent as far as the sequence tells.
func (s *streamStats) expected() uint32 { return s.expectedHere() + s.earlierN }

// lost is how many of them did not come; never negative though packets may come twice.
func (s *streamStats) lost() uint32 { return s.earlier + s.lostHere() }

func (s *streamStats) lostHere() uint32 {
	if e := s.expectedHere(); e > s.received {
		return e - s.received
	}
	return 0
}

// fraction is the part lost since the last call, in 1/256 (RFC 3550 appendix A.3).
func (s *streamStats) fraction() uint8 {
	expected := s.expectedHere() - s.priorExpected
	received := s.received - s.priorReceived
	s.priorExpected, s.priorReceived = s.expectedHere(), s.received
	if expected == 0 || received >= expected {
		return 0
	}
	return uint8(min(255, (expected-received)<<8/expected))
}
