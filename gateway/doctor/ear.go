package doctor

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/cordboard/cordboard/softphone/audio"
)

const (
	// toneHz is the milliwatt tone of telephony, off 1000 Hz so that it is no
	// multiple of the frame rate.
	toneHz    = 1004
	toneLevel = 0.25
	// purity is how much of a frame's power the tone must hold, audible the
	// mean square below which a frame is silence.
	purity  = 0.5
	audible = 150 * 150
	// enough frames in a row are heard before anything counts as heard.
	enough = 10
)

// ear is a device that says a tone and notes when it hears it, or anything.
type ear struct {
	mu       sync.Mutex
	open     bool
	began    time.Time // of the tone since the answer
	toneRow  int
	soundRow int
	toneAt   time.Time
	changed  chan struct{} // closed when something was heard
	hasTone  bool
	hasSound bool
}

func newEar() *ear { return &ear{changed: make(chan struct{})} }

// Open implements audio.Device.
func (e *ear) Open(rate int) (audio.Stream, error) {
	return &earStream{e: e, rate: rate, coef: 2 * math.Cos(2*math.Pi*toneHz/float64(rate))}, nil
}

// answered starts the clock: what is said before is nothing.
func (e *ear) answered() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open = true
}

// tone waits until the tone came back, and says after how long.
func (e *ear) tone(ctx context.Context, within time.Duration) (time.Duration, bool) {
	ok := e.wait(ctx, within, func() bool { return e.hasTone })
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.toneAt.Sub(e.began), ok
}

// anything waits until something is heard.
func (e *ear) anything(ctx context.Context, within time.Duration) bool {
	return e.wait(ctx, within, func() bool { return e.hasSound })
}

func (e *ear) wait(ctx context.Context, within time.Duration, is func() bool) bool {
	t := time.NewTimer(within)
	defer t.Stop()
	for {
		e.mu.Lock()
		done, changed := is(), e.changed
		e.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-changed:
		case <-t.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// frame notes what one frame held.
func (e *ear) frame(tone, sound bool) {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.toneRow, e.soundRow = count(e.toneRow, tone), count(e.soundRow, sound)
	if tone && e.toneRow == 1 && !e.hasTone {
		e.toneAt = now
	}
	news := e.toneRow == enough && !e.hasTone || e.soundRow == enough && !e.hasSound
	e.hasTone = e.hasTone || e.toneRow >= enough
	e.hasSound = e.hasSound || e.soundRow >= enough
	if news {
		close(e.changed)
		e.changed = make(chan struct{})
	}
}

func count(row int, yes bool) int {
	if yes {
		return row + 1
	}
	return 0
}

// speaks reports whether the tone is to be said, and notes its begin.
func (e *ear) speaks() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open && e.began.IsZero() {
		e.began = time.Now()
	}
	return e.open
}

// earStream is one call's sound.
type earStream struct {
	e    *ear
	rate int
	at   int
	coef float64
}

// ReadFrame implements audio.Stream: the microphone.
func (s *earStream) ReadFrame(pcm []int16) error {
	if !s.e.speaks() {
		clear(pcm)
		return nil
	}
	for i := range pcm {
		pcm[i] = int16(toneLevel * math.MaxInt16 * math.Sin(2*math.Pi*toneHz*float64(s.at)/float64(s.rate)))
		s.at++
	}
	return nil
}

// WriteFrame implements audio.Stream: the loudspeaker. It looks for the tone by
// Goertzel's filter.
func (s *earStream) WriteFrame(pcm []int16) error {
	if len(pcm) == 0 {
		return nil
	}
	var power, s1, s2 float64
	for _, v := range pcm {
		x := float64(v)
		power += x * x
		s1, s2 = x+s.coef*s1-s2, s1
	}
	n := float64(len(pcm))
	sound := power/n > audible
	tone := (s1*s1 + s2*s2 - s.coef*s1*s2) * 2 / n
	s.e.frame(sound && tone > purity*power, sound)
	return nil
}

// Close implements audio.Stream.
func (*earStream) Close() error { return nil }
