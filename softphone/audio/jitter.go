package audio

import "time"

const (
	// jitterSlots is how many packets the buffer holds at most; a power of two.
	jitterSlots = 64
	// jitterMin and jitterMax bound the delay that the buffer aims at, in packets.
	jitterMin = 2
	jitterMax = 20
	// jitterLull is after how many empty turns the buffer fills up again before it plays.
	jitterLull = 5
	// jitterTrim is for how many turns there must have been more than needed before a packet is left out.
	jitterTrim = 100
	// maxPacket bounds one payload.
	maxPacket = 1500
)

// Verdict is what the jitter buffer has for one turn.
type Verdict int

// Verdicts of Pop.
const (
	// Nothing: the stream has not begun or is silent; play silence.
	Nothing Verdict = iota
	// Ready: the payload is the next packet.
	Ready
	// Lost: the next packet did not come in time; the payload, if any, is the one after it (for in-band FEC).
	Lost
)

// Jitter is a buffer that turns packets as they come into packets at an even pace. Its delay follows
// what the network does: it grows at once when packets come late and shrinks slowly. It allocates only
// when a slot is used first. Not safe for concurrent use.
type Jitter struct {
	slots   [jitterSlots]slot
	started bool
	filling bool
	next    uint16 // sequence number due
	newest  uint16
	count   int // packets held
	target  int // wanted delay in packets
	empty   int // turns without a packet in a row
	surplus int // turns in a row with more than target
	late    int // late packets since the target changed

	transit time.Duration // of the last packet, relative
	jitter  float64       // RFC 3550 section 6.4.1, in seconds
	heard   bool
	stats   JitterStats
}

// JitterStats counts since the start.
type JitterStats struct {
	Received, Late, Lost, Duplicate, Dropped uint64
}

type slot struct {
	seq  uint16
	full bool
	data []byte
}

// NewJitter makes an empty buffer.
func NewJitter() *Jitter { return &Jitter{target: jitterMin, filling: true} }

// Push takes a packet that arrived now. stamp is its RTP time as a duration; it may start anywhere.
func (j *Jitter) Push(seq uint16, stamp time.Duration, now time.Time, payload []byte) {
	if len(payload) == 0 || len(payload) > maxPacket {
		j.stats.Dropped++
		return
	}
	j.stats.Received++
	j.measure(stamp, now)
	if !j.started {
		j.restart(seq)
	}
	d := int16(seq - j.next)
	switch {
	case d < 0 && d > -jitterSlots:
		j.stats.Late++
		j.late++
		if j.late >= 2 && j.target < jitterMax {
			j.target++
			j.late = 0
		}
		return
	case d < 0 || d >= jitterSlots:
		// A jump: another source, or a long silence with lost packets.
		j.flush()
		j.restart(seq)
	}
	s := &j.slots[seq%jitterSlots]
	if s.full {
		j.stats.Duplicate++
		return
	}
	s.seq, s.full, s.data = seq, true, append(s.data[:0], payload...)
	j.count++
	if int16(seq-j.newest) > 0 {
		j.newest = seq
	}
}

// Pop gives what is to be played next; one turn is one packet time. The payload is valid until the next Push.
func (j *Jitter) Pop() ([]byte, Verdict) {
	if !j.started {
		return nil, Nothing
	}
	if j.filling {
		if j.count < j.target {
			// A stream that sent few packets and fell silent must not wait for ever.
			j.empty++
			if j.count == 0 || j.empty <= j.target {
				return nil, Nothing
			}
		}
		j.filling, j.empty = false, 0
		j.seek()
	}
	j.trim()
	s := &j.slots[j.next%jitterSlots]
	if s.full && s.seq == j.next {
		s.full = false
		j.count--
		j.next++
		j.empty = 0
		return s.data, Ready
	}
	if j.count == 0 {
		// Nothing is held: the packet may be late or the far side silent. The number due is kept, so that
		// late packets still play, a little later than before.
		j.empty++
		if j.empty >= jitterLull {
			j.filling = true
			return nil, Nothing
		}
		if j.empty == 2 && j.target < jitterMax {
			j.target++
		}
		return nil, Lost
	}
	j.stats.Lost++
	j.next++
	after := &j.slots[j.next%jitterSlots]
	if after.full && after.seq == j.next {
		return after.data, Lost
	}
	return nil, Lost
}

// Reset forgets all packets: the source changed.
func (j *Jitter) Reset() {
	j.flush()
	j.started, j.heard = false, false
}

// Interarrival is the jitter estimate of RFC 3550.
func (j *Jitter) Interarrival() time.Duration {
	return time.Duration(j.jitter * float64(time.Second))
}

// Delay is how many packets the buffer aims to hold.
func (j *Jitter) Delay() int { return j.target }

// Stats returns the counters.
func (j *Jitter) Stats() JitterStats { return j.stats }

func (j *Jitter) measure(stamp time.Duration, now time.Time) {
	transit := time.Duration(now.UnixNano()) - stamp
	if j.heard {
		d := (transit - j.transit).Abs().Seconds()
		if d < 1 { // else a new talk spurt with a new clock, or a suspended machine
			j.jitter += (d - j.jitter) / 16
		}
	}
	j.transit, j.heard = transit, true
}

// depth is the span of what is held, gaps included.
func (j *Jitter) depth() int {
	if j.count == 0 {
		return 0
	}
	return int(int16(j.newest-j.next)) + 1
}

func (j *Jitter) restart(seq uint16) {
	j.started, j.filling = true, true
	j.next, j.newest = seq, seq-1
	j.empty, j.surplus = 0, 0
}

// seek moves to the oldest packet held, after a silence.
func (j *Jitter) seek() {
	for range jitterSlots {
		if s := &j.slots[j.next%jitterSlots]; s.full && s.seq == j.next {
			return
		}
		if j.count == 0 {
			return
		}
		j.next++
	}
}

// trim leaves one packet out when the buffer has been fuller than needed for a while: the far clock is
// faster than ours, or a burst of delay is over.
func (j *Jitter) trim() {
	if j.depth() <= j.target+1 {
		j.surplus = 0
		return
	}
	j.surplus++
	want := jitterTrim
	if j.depth() > 2*j.target+4 {
		want = 3
	}
	if j.surplus < want {
		return
	}
	j.surplus = 0
	if s := &j.slots[j.next%jitterSlots]; s.full {
		s.full = false
		j.count--
		j.stats.Dropped++
	}
	j.next++
	if j.target > jitterMin && want == jitterTrim {
		j.target--
	}
}

func (j *Jitter) flush() {
	for i := range j.slots {
		j.slots[i].full = false
	}
	j.count = 0
}
