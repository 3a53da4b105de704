package media

import (
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

const (
	recordRate = 8000
	ringSize   = 1 << 15 // samples of a side that may wait for the writer: 4 s
	ringMask   = ringSize - 1

	// rebaseJump is how far RTP time and the clock may part before the stream
	// is placed anew: its sender restarted or jumped.
	rebaseJump = recordRate
	// rebaseDrift is how far the quickest packets of a window may be from
	// where the clock wants them: the far side's clock runs wrong.
	rebaseDrift  = 40 * recordRate / 1000
	driftPackets = 256
)

// Tapped is a leg whose speech can be recorded; *Port is one.
type Tapped interface {
	// Tap makes the leg write what its far side says into t, from now on and in
	// place of the track before; nil ends it. While the leg is muted it writes nothing.
	Tap(t *Track)
}

// Track takes the speech of one leg into a recording. Its methods may be
// called from the packet path: they allocate nothing and wait for nothing but
// one short lock of this side of this recording.
type Track struct {
	side *side

	// All below is guarded by side.mu.
	closed  bool
	started bool
	lastTS  uint32
	ticks   int64 // RTP time since the first packet
	base    int64 // where the first packet lies, in samples
	nearest int64 // smallest deviation in the present window
	seen    int   // packets of the window
}

// Write takes the payload of one G.711 packet: its RTP timestamp and the time
// it arrived. Order does not matter; what comes too late is counted as lost.
func (t *Track) Write(ts uint32, arrival time.Time, law codec.Law, payload []byte) {
	s := t.side
	s.rec.decideLaw(law)
	s.mu.Lock()
	if pos, from, ok := t.place(ts, recordRate, arrival, len(payload)); ok {
		payload = payload[from:]
		to := s.rec.fileLaw()
		a, b := s.room(pos+int64(from), len(payload))
		n := to.Convert(a, payload, law)
		to.Convert(b, payload[n:], law)
	}
	s.mu.Unlock()
}

// WriteLinear takes one packet of an already decoded leg: 8 kHz PCM, the RTP
// timestamp of its first sample and the RTP clock (48000 for Opus).
func (t *Track) WriteLinear(ts uint32, clock int, arrival time.Time, pcm []int16) {
	s := t.side
	s.rec.decideLaw(codec.ULaw)
	s.mu.Lock()
	if pos, from, ok := t.place(ts, clock, arrival, len(pcm)); ok {
		pcm = pcm[from:]
		to := s.rec.fileLaw()
		a, b := s.room(pos+int64(from), len(pcm))
		n := to.Encode(a, pcm)
		to.Encode(b, pcm[n:])
	}
	s.mu.Unlock()
}

// place finds where n samples lie in the recording; from is how many of them
// came too late.
func (t *Track) place(ts uint32, clock int, arrival time.Time, n int) (pos int64, from int, ok bool) {
	s := t.side
	if t.closed || n == 0 || n > ringSize/2 || clock <= 0 || s.rec.stopped.Load() {
		return 0, 0, false
	}
	now := s.rec.samples(arrival)
	if !t.started {
		t.started, t.lastTS, t.ticks, t.base, t.seen = true, ts, 0, now, 0
	}
	t.ticks += int64(int32(ts - t.lastTS))
	t.lastTS = ts
	pos = t.base + t.ticks*recordRate/int64(clock)
	dev := now - pos
	if dev > rebaseJump || dev < -rebaseJump {
		t.ticks, t.base, t.seen = 0, now, 0
		pos, dev = now, 0
	}
	if t.seen == 0 || dev < t.nearest {
		t.nearest = dev
	}
	if t.seen++; t.seen >= driftPackets {
		if t.nearest > rebaseDrift || t.nearest < -rebaseDrift {
			t.base += t.nearest
		}
		t.seen = 0
	}
	if pos < s.flushed {
		late := min(int64(n), s.flushed-pos)
		s.lost += late
		if late == int64(n) {
			return 0, 0, false
		}
		from = int(late)
	}
	if pos+int64(n) > s.flushed+ringSize { // the writer is stuck
		s.lost += int64(n - from)
		return 0, 0, false
	}
	if !s.ready {
		s.ready = true
		fill(s.ring[:], s.rec.fileLaw().Silence())
	}
	return pos, from, true
}

// side is one channel of a recording. Samples lie in the ring by their place
// in the recording; what nobody wrote is silence.
type side struct {
	rec *Recording

	mu      sync.Mutex
	ready   bool  // the ring is filled with silence
	flushed int64 // samples handed to the writer
	lost    int64
	leg     Tapped
	track   *Track
	ring    [ringSize]byte
}

// room is where n samples from pos lie in the ring, in two parts when they go
// around its end.
func (s *side) room(pos int64, n int) (a, b []byte) {
	at := int(pos & ringMask)
	if at+n <= ringSize {
		return s.ring[at : at+n], nil
	}
	return s.ring[at:], s.ring[:n-(ringSize-at)]
}

// take moves the samples up to pos into every second byte of dst, starting at
// dst[channel], and leaves silence behind. dst holds pos-flushed pairs.
func (s *side) take(dst []byte, channel int, pos int64, silence byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int(pos - s.flushed)
	if !s.ready {
		for i := range n {
			dst[2*i+channel] = silence
		}
		s.flushed = pos
		return
	}
	held := min(n, ringSize)
	a, b := s.room(s.flushed, held)
	for i, v := range a {
		dst[2*i+channel] = v
	}
	rest := dst[2*len(a):]
	for i, v := range b {
		rest[2*i+channel] = v
	}
	fill(a, silence)
	fill(b, silence)
	for i := held; i < n; i++ {
		dst[2*i+channel] = silence
	}
	s.flushed = pos
}

// attach puts leg (nil for nobody) in the place of the one before.
func (s *side) attach(leg Tapped) {
	s.mu.Lock()
	if s.rec.stopped.Load() {
		leg = nil
	}
	old := s.leg
	if s.track != nil {
		s.track.closed = true
	}
	var t *Track
	if leg != nil {
		t = &Track{side: s}
	}
	s.leg, s.track = leg, t
	s.mu.Unlock()

	if old != nil && old != leg {
		old.Tap(nil)
	}
	if leg != nil {
		leg.Tap(t)
	}
}

func fill(b []byte, v byte) {
	if len(b) == 0 {
		return
	}
	b[0] = v
	for n := 1; n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
}

func (s *side) lostSamples() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}
