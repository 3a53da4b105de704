package dtmf

import "time"

// lostEnd is how long after an event's last packet it is taken as over, though
// no packet with the end bit came: three packets of the slowest usual sender (50 ms).
const lostEnd = 150 * time.Millisecond

// Receiver turns telephone events of one stream into digits. It copes with
// repeated, lost, late and doubled packets: packets of one event share a
// timestamp, and a digit is told once, when its end is known.
type Receiver struct {
	clock int
	emit  func(digit byte, d time.Duration)

	active   bool
	known    bool // start and code below are of some event, running or over
	code     uint8
	start    uint32 // timestamp of the present segment
	segment  uint16 // longest duration seen in the present segment
	earlier  uint64 // ticks of the segments before it
	lastSeen time.Time
}

// NewReceiver makes a receiver for an RTP clock in Hz. emit is called from
// Push and Tick, once a digit.
func NewReceiver(clock int, emit func(digit byte, d time.Duration)) *Receiver {
	return &Receiver{clock: clock, emit: emit}
}

// Push takes the payload of one telephone-event packet.
func (r *Receiver) Push(ts uint32, marker bool, payload []byte, now time.Time) error {
	e, err := ParseEvent(payload)
	if err != nil {
		return err
	}
	switch {
	case r.known && ts == r.start && e.Code == r.code:
		if !r.active {
			return nil // a repeated end, or a packet that came after it
		}
		r.segment = max(r.segment, e.Duration)
	case r.known && int32(ts-r.start) <= 0 && int32(r.start-ts) < int32(r.clock)*10:
		return nil // a late packet of an earlier event
	case r.active && r.continues(ts, marker, e):
		r.earlier += uint64(ts - r.start)
		r.start, r.segment = ts, e.Duration
	default:
		r.finish() // the end of the event before was lost
		r.active, r.known = true, true
		r.code, r.start, r.segment, r.earlier = e.Code, ts, e.Duration, 0
	}
	r.lastSeen = now
	if e.End {
		r.finish()
	}
	return nil
}

// continues reports whether a packet with a new timestamp is the next segment
// of a long event (RFC 4733 section 2.5.1.3).
func (r *Receiver) continues(ts uint32, marker bool, e Event) bool {
	step := ts - r.start
	return !marker && e.Code == r.code && step == MaxEventDuration && r.segment >= MaxEventDuration/2
}

// Tick ends an event whose end was lost. Call it every 20 to 100 ms.
func (r *Receiver) Tick(now time.Time) {
	if r.active && now.Sub(r.lastSeen) >= lostEnd {
		r.finish()
	}
}

// Active reports whether a key is down.
func (r *Receiver) Active() bool { return r.active }

func (r *Receiver) finish() {
	if !r.active {
		return
	}
	r.active = false
	if digit, ok := Digit(r.code); ok {
		r.emit(digit, length(r.earlier+uint64(r.segment), r.clock))
	}
}
