package dtmf

import "time"

// MaxQueue bounds the digits that wait in a Sender.
const MaxQueue = 128

const (
	// DefaultDuration of a digit where the caller does not say.
	DefaultDuration = 100 * time.Millisecond
	// MinDuration is the shortest digit that receivers must hear (ITU-T Q.24).
	MinDuration = 40 * time.Millisecond
	// MaxDuration bounds one digit.
	MaxDuration = 10 * time.Second

	defaultGap = 60 * time.Millisecond
	pause      = 500 * time.Millisecond // of a comma
	endRepeats = 3
	volume     = 10
)

// Packet is one telephone-event packet to send; sequence number, payload type
// and SSRC are the stream's.
type Packet struct {
	Payload   [PayloadSize]byte
	Timestamp uint32
	Marker    bool
}

type keypress struct {
	code   uint8
	silent bool
	ticks  uint32
}

// Sender turns digits into telephone-event packets. Its owner calls Next once
// for each packet time; while Next returns a packet, that is sent in place of audio.
type Sender struct {
	clock  int
	step   uint32 // ticks of one packet time
	queue  []keypress
	on     bool   // an event runs
	start  uint32 // of the present segment
	sent   uint32 // ticks of the present segment
	left   uint32 // ticks of the event that no packet told yet
	ends   int    // end packets still to repeat
	silent uint32 // ticks of pause still to come
}

// NewSender makes a sender for an RTP clock in Hz and a packet time.
func NewSender(clock int, packet time.Duration) *Sender {
	return &Sender{clock: clock, step: max(1, ticks(packet, clock))}
}

// Queue adds digits, each as long as said (0 = DefaultDuration). A comma waits half a second.
func (s *Sender) Queue(digits string, each time.Duration) error {
	if err := Valid(digits); err != nil {
		return err
	}
	if len(s.queue)+len(digits) > MaxQueue {
		return ErrFull
	}
	if each <= 0 {
		each = DefaultDuration
	}
	each = min(max(each, MinDuration), MaxDuration)
	for i := range len(digits) {
		code, ok := Code(digits[i])
		if !ok {
			s.queue = append(s.queue, keypress{silent: true, ticks: ticks(pause, s.clock)})
			continue
		}
		s.queue = append(s.queue, keypress{code: code, ticks: ticks(each, s.clock)})
	}
	return nil
}

// Active reports whether Next has anything left to do.
func (s *Sender) Active() bool { return s.on || s.ends > 0 || s.silent > 0 || len(s.queue) > 0 }

// Next returns the packet of this packet time. ts is the timestamp that audio
// would have now; it must go on by one packet time a call. Without a packet
// (ok false) audio may be sent.
func (s *Sender) Next(ts uint32) (p Packet, ok bool) {
	if s.ends > 0 { // repetitions of the end keep the event's timestamp and duration
		s.ends--
		if s.ends == 0 {
			s.silent = ticks(defaultGap, s.clock)
			p = s.packet(true)
			s.queue = s.queue[:copy(s.queue, s.queue[1:])]
			return p, true
		}
		return s.packet(true), true
	}
	if s.silent > 0 {
		s.silent -= min(s.silent, s.step)
		return Packet{}, false
	}
	if !s.on {
		if len(s.queue) == 0 {
			return Packet{}, false
		}
		if k := s.queue[0]; k.silent {
			s.silent = k.ticks - min(k.ticks, s.step)
			s.queue = s.queue[:copy(s.queue, s.queue[1:])]
			return Packet{}, false
		}
		s.on, s.start, s.sent, s.left = true, ts, 0, s.queue[0].ticks
		p.Marker = true
	}
	marker := p.Marker
	if s.sent+min(s.step, s.left) > MaxEventDuration {
		// A new segment begins where the one before it was full.
		s.start += MaxEventDuration
		s.sent -= MaxEventDuration // wraps; made right by what is added next
	}
	add := min(s.step, s.left)
	s.sent += add
	s.left -= add
	end := s.left == 0
	p = s.packet(end)
	p.Marker = marker
	if end {
		s.on = false
		s.ends = endRepeats - 1
	}
	return p, true
}

func (s *Sender) packet(end bool) Packet {
	e := Event{Code: s.queue[0].code, End: end, Volume: volume, Duration: uint16(s.sent)}
	p := Packet{Timestamp: s.start}
	e.Append(p.Payload[:0])
	return p
}
