package media

import "time"

const (
	jitterSlots = 64 // packets; 1.3 s at 20 ms
	// jitterJump is how far timestamps and arrival may part before the stream
	// counts as a new one.
	jitterJump = 1500 * time.Millisecond
	// jitterSeqJump is how far sequence numbers may jump before that.
	jitterSeqJump = 1000
	// jitterConceal is how many packets are concealed in a row before silence.
	jitterConceal = 4
	jitterWindow  = 200 // packets over which the quickest is looked for
	jitterPatient = 50  // packets of too much delay before one is left out
	jitterRest    = 10  // packets between two insertions
)

// JitterOptions of a jitter buffer; zero values are those of a telephone.
type JitterOptions struct {
	ClockRate int           // RTP clock in Hz (8000)
	Packet    time.Duration // expected packet time until the stream shows its own (20 ms)
	Min       time.Duration // least delay (20 ms)
	Max       time.Duration // most delay (200 ms)
}

// JitterKind says what to do with the result of Get.
type JitterKind uint8

// Kinds of playout.
const (
	JitterSilence JitterKind = iota // nothing was said: play silence or comfort noise
	JitterPacket                    // decode Payload
	JitterLost                      // conceal; Payload is the next packet, for its FEC, or nil
)

// JitterResult is what to play. Payload is valid until the next Put.
type JitterResult struct {
	Kind      JitterKind
	Payload   []byte
	Timestamp uint32
	Ticks     uint32 // how much RTP time it stands for
}

// JitterStats counts what happened to packets.
type JitterStats struct {
	Played, Lost, Late, Duplicate, Dropped, Inserted uint64
	Target, Delay                                    time.Duration
}

type jitterSlot struct {
	used    bool
	seq     int64
	ts      int64
	arrival time.Duration
	data    []byte
}

// Jitter turns the packets of one stream, as the network brings them, into an
// even sequence. It holds no clock and no goroutine: Put is told when a packet
// came, Get is asked whenever another packet's worth of sound is needed. It
// follows the network's jitter and the far side's clock by leaving packets out
// and inserting concealment, in silence where there is any.
type Jitter struct {
	o     JitterOptions
	slots [jitterSlots]jitterSlot
	stats JitterStats

	epoch   time.Time // of all durations
	begun   bool      // a packet came
	playing bool
	count   int
	top     int64 // highest sequence number that came
	topTS   int64
	next    int64 // sequence number to play
	cursor  int64 // timestamp to play
	step    int64 // ticks of one packet
	empty   int   // Gets in a row that found nothing
	excess  int   // packets in a row that waited too long
	rest    int
	odd     uint16 // sequence number after a packet that fitted nowhere
	oddSet  bool

	delay jitterDelay
}

// NewJitter makes a buffer for one stream.
func NewJitter(o JitterOptions) *Jitter {
	if o.ClockRate <= 0 {
		o.ClockRate = 8000
	}
	if o.Packet <= 0 {
		o.Packet = 20 * time.Millisecond
	}
	if o.Min <= 0 {
		o.Min = 20 * time.Millisecond
	}
	if o.Max <= 0 {
		o.Max = 200 * time.Millisecond
	}
	j := &Jitter{o: o}
	j.Reset()
	return j
}

// Reset forgets the stream (a new SSRC); statistics go on.
func (j *Jitter) Reset() {
	for i := range j.slots {
		j.slots[i].used = false
	}
	j.begun, j.playing, j.oddSet = false, false, false
	j.count, j.empty, j.excess, j.rest = 0, 0, 0, 0
	j.step = j.toTicks(j.o.Packet)
	j.delay = jitterDelay{}
}

// Stats are the counts so far and the present delay.
func (j *Jitter) Stats() JitterStats {
	s := j.stats
	s.Target = j.target()
	return s
}

// Put takes a packet. The payload is copied.
func (j *Jitter) Put(seq uint16, ts uint32, payload []byte, arrival time.Time) {
	if !j.begun {
		j.begun, j.epoch = true, arrival
		j.top, j.topTS = int64(seq), int64(ts)
		j.next = j.top
	}
	at := arrival.Sub(j.epoch)
	diff := int64(int16(seq - uint16(j.top)))
	if diff > jitterSeqJump || diff < -jitterSeqJump {
		if !j.oddSet || seq != j.odd {
			j.odd, j.oddSet = seq+1, true
			j.stats.Late++
			return
		}
		j.restart(seq, ts)
		diff = 0
	}
	j.oddSet = false
	ext := j.top + diff
	extTS := j.topTS + int64(int32(ts-uint32(j.topTS)))
	if !j.delay.add(at-j.toTime(extTS), jitterJump) {
		// The sender's clock jumped: what is buffered has no place on the new one.
		j.restart(seq, ts)
		ext, extTS = j.top, j.topTS
		j.delay.add(at-j.toTime(extTS), jitterJump)
	}
	if diff == 1 {
		if d := extTS - j.topTS; d > 0 && d <= j.toTicks(120*time.Millisecond) {
			j.learn(d)
		}
	}
	if diff > 0 {
		j.top, j.topTS = ext, extTS
	}
	if !j.playing && ext < j.next && j.next-ext < jitterSlots {
		j.next = ext // reordered before the start
	}
	if ext < j.next {
		j.stats.Late++
		return
	}
	if ext-j.next >= jitterSlots { // nobody takes packets out: keep the newest
		j.forgetBefore(ext - jitterSlots/4)
	}
	s := &j.slots[ext&(jitterSlots-1)]
	if s.used && s.seq == ext {
		j.stats.Duplicate++
		return
	}
	if !s.used {
		j.count++
	}
	s.used, s.seq, s.ts, s.arrival = true, ext, extTS, at
	s.data = append(s.data[:0], payload...)
}

// learn takes the packet time from two neighbours. A longer one may be the
// end of a silence and counts only when nothing shorter was seen.
func (j *Jitter) learn(d int64) {
	if d < j.step || d%j.step == 0 && d <= 3*j.step && j.delay.seen < 8 {
		j.step = d
		return
	}
	if d > j.step {
		j.delay.longer++
		if j.delay.longer > 10 { // the packet time changed
			j.step, j.delay.longer = d, 0
		}
		return
	}
	j.delay.longer = 0
}

func (j *Jitter) restart(seq uint16, ts uint32) {
	for i := range j.slots {
		j.slots[i].used = false
	}
	j.count, j.playing, j.empty, j.excess = 0, false, 0, 0
	j.top, j.topTS = int64(seq), int64(ts)
	j.next = j.top
	j.delay = jitterDelay{}
}

func (j *Jitter) forgetBefore(seq int64) {
	for ; j.next < seq; j.next++ {
		if s := &j.slots[j.next&(jitterSlots-1)]; s.used && s.seq == j.next {
			s.used = false
			j.count--
			j.stats.Dropped++
		}
	}
	j.playing = false
}

// Get is what to play next. Call it when another packet's worth is needed: at
// 20 ms packets, every 20 ms.
func (j *Jitter) Get(now time.Time) JitterResult {
	at := now.Sub(j.epoch)
	if !j.playing && !j.start(at) {
		return JitterResult{Kind: JitterSilence, Ticks: uint32(j.step)}
	}
	j.rest = max(0, j.rest-1)
	for {
		s := &j.slots[j.next&(jitterSlots-1)]
		if !s.used || s.seq != j.next {
			return j.missing()
		}
		j.empty = 0
		late := at - j.toTime(s.ts) - j.delay.base() // the delay this packet would be played with
		gap := s.ts - j.cursor
		j.stats.Delay = late
		switch {
		case late > j.o.Max+j.toTime(j.step): // too late for anybody to wait for
			j.drop(s)
			continue
		case gap > 0 && j.toTime(gap) < jitterJump:
			// The far side was silent (DTX). Time can be made up for here unheard.
			ticks := j.step
			if late+j.toTime(gap) > j.target()+j.toTime(j.step) {
				ticks = min(2*j.step, max(j.step, gap))
			}
			j.cursor += ticks
			if j.cursor > s.ts {
				j.cursor = s.ts
			}
			return JitterResult{Kind: JitterSilence, Timestamp: uint32(j.cursor), Ticks: uint32(j.step)}
		case j.tooMuch(late):
			j.drop(s)
			continue
		case late+j.toTime(j.step) < j.target() && j.rest == 0:
			// The network became worse: one packet's worth more of delay.
			j.rest = jitterRest
			j.stats.Inserted++
			return JitterResult{Kind: JitterLost, Timestamp: uint32(j.cursor), Ticks: uint32(j.step)}
		}
		s.used = false
		j.count--
		j.next++
		j.cursor = s.ts + j.step
		j.stats.Played++
		return JitterResult{Kind: JitterPacket, Payload: s.data, Timestamp: uint32(s.ts), Ticks: uint32(j.step)}
	}
}

// start reports whether the first packets waited long enough.
func (j *Jitter) start(at time.Duration) bool {
	if j.count == 0 {
		return false
	}
	for {
		s := &j.slots[j.next&(jitterSlots-1)]
		if s.used && s.seq == j.next {
			if at-s.arrival < j.target() {
				return false
			}
			j.playing, j.cursor = true, s.ts
			return true
		}
		j.next++
	}
}

// missing is what to play while the next packet is not there.
func (j *Jitter) missing() JitterResult {
	r := JitterResult{Kind: JitterLost, Timestamp: uint32(j.cursor), Ticks: uint32(j.step)}
	if j.count > 0 { // later ones are: this one is lost
		if n := &j.slots[(j.next+1)&(jitterSlots-1)]; n.used && n.seq == j.next+1 {
			r.Payload = n.data
		}
		j.stats.Lost++
		j.next++
		j.cursor += j.step
		return r
	}
	// Nothing at all: late, lost, or the far side is silent. Its packets may
	// still be played when they come.
	j.empty++
	j.cursor += j.step
	if j.empty > jitterConceal {
		r.Kind = JitterSilence
	}
	return r
}

func (j *Jitter) drop(s *jitterSlot) {
	s.used = false
	j.count--
	j.next++
	j.cursor = s.ts + j.step
	j.excess = 0
	j.stats.Dropped++
}

// tooMuch reports whether a packet should be left out to shorten the delay.
func (j *Jitter) tooMuch(late time.Duration) bool {
	over := late - j.target() - j.toTime(j.step)
	if over <= j.toTime(j.step)/2 {
		j.excess = 0
		return false
	}
	j.excess++
	return j.count > 1 && j.excess > jitterPatient
}

// target is the delay that the network asks for now.
func (j *Jitter) target() time.Duration {
	return min(max(j.delay.peak, j.o.Min), j.o.Max)
}

func (j *Jitter) toTicks(d time.Duration) int64 {
	return int64(d) * int64(j.o.ClockRate) / int64(time.Second)
}

func (j *Jitter) toTime(ticks int64) time.Duration {
	return time.Duration(ticks/int64(j.o.ClockRate))*time.Second +
		time.Duration(ticks%int64(j.o.ClockRate))*time.Second/time.Duration(j.o.ClockRate)
}

// jitterDelay follows how late packets are: the quickest of the last two
// windows is the base, peak is how much later others came lately.
type jitterDelay struct {
	now, before time.Duration // the quickest of each window
	seen        int
	full        bool // before is set
	n           int  // packets of the present window
	longer      int
	strange     int
	peak        time.Duration
}

func (d *jitterDelay) base() time.Duration {
	if d.full {
		return min(d.now, d.before)
	}
	return d.now
}

// add takes the transit time of a packet (its zero is arbitrary) and reports
// false when it belongs to another clock.
func (d *jitterDelay) add(transit, jump time.Duration) bool {
	if d.seen == 0 {
		d.seen, d.n, d.now = 1, 1, transit
		return true
	}
	if over := transit - d.base(); over > jump || over < -jump {
		if d.strange++; d.strange > 1 {
			return false
		}
		return true // one strange packet is no new clock
	}
	d.strange = 0
	d.seen++
	if d.n == jitterWindow {
		d.before, d.full, d.now, d.n = d.now, true, transit, 0
	}
	d.now = min(d.now, transit)
	d.n++
	over := transit - d.base()
	if over > d.peak {
		d.peak = over
	} else {
		d.peak -= (d.peak - over) / 256
	}
	return true
}
