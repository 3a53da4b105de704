package rtc_test

import (
	"bytes"
	"context"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordboard/cordboard/softphone/audio"
	"github.com/cordboard/cordboard/softphone/rtc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// side is a phone's media with a clock: it says a tone and keeps what it hears.
type side struct {
	*rtc.Session
	states chan struct{}
	mu     sync.Mutex
	talk   rtc.Talk
	heard  []int16
	digits []byte
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

func newSide(t *testing.T, hz float64, o rtc.Options) *side {
	t.Helper()
	o.Loopback = true
	e, err := rtc.NewEngine(o)
	if err != nil {
		t.Fatal(err)
	}
	return engineSide(t, e, hz)
}

func engineSide(t *testing.T, e *rtc.Engine, hz float64) *side {
	t.Helper()
	s := &side{states: make(chan struct{}, 64)}
	var err error
	s.Session, err = e.NewSession(rtc.Callbacks{
		OnState: func() {
			select {
			case s.states <- struct{}{}:
			default:
			}
		},
		OnDigit: func(d byte, _ time.Duration) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.digits = append(s.digits, d)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.stop = cancel
	s.wg.Go(func() { s.run(ctx, hz) })
	t.Cleanup(func() {
		cancel()
		s.wg.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
	return s
}

func (s *side) run(ctx context.Context, hz float64) {
	const rate = 8000
	p := audio.NewPacer()
	mic, ear := make([]int16, rate/50), make([]int16, rate/50)
	n := 0
	for {
		skipped, ok := p.Wait(ctx.Done())
		if !ok {
			return
		}
		for i := range mic {
			mic[i] = int16(8000 * math.Sin(2*math.Pi*hz*float64(n)/rate))
			n++
		}
		s.mu.Lock()
		talk := s.talk
		s.mu.Unlock()
		_ = s.Send(mic, rate, talk, skipped)
		s.Receive(ear, rate)
		s.mu.Lock()
		s.heard = append(s.heard, ear...)
		s.mu.Unlock()
	}
}

// hears waits until the last 200 ms heard are mostly a tone of hz; want false waits for its absence.
func (s *side) hears(t *testing.T, hz float64, want bool) {
	t.Helper()
	eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.heard) < 1600 {
			return false
		}
		return tone(s.heard[len(s.heard)-1600:], 8000, hz) > 0.5 == want
	}, "tone %v heard: want %v", hz, want)
}

// tone is the share of hz in the energy of pcm; 0 for silence.
func tone(pcm []int16, rate, hz float64) float64 {
	var re, im, sum float64
	for i, v := range pcm {
		a := 2 * math.Pi * hz * float64(i) / rate
		re += float64(v) * math.Cos(a)
		im += float64(v) * math.Sin(a)
		sum += float64(v) * float64(v)
	}
	if sum/float64(len(pcm)) < 1000 {
		return 0
	}
	return 2 * (re*re + im*im) / float64(len(pcm)) / sum
}

func eventually(t *testing.T, ok func() bool, format string, a ...any) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 15 s: "+format, a...)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func negotiate(t *testing.T, a, b *side, hold, restart, bHolds bool) {
	t.Helper()
	offer, err := a.Offer(t.Context(), hold, restart)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := b.Answer(t.Context(), offer, bHolds)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Answered(answer); err != nil {
		t.Fatal(err)
	}
}

func TestTalk(t *testing.T) {
	for _, codec := range []string{"opus", "PCMA", "PCMU"} {
		t.Run(codec, func(t *testing.T) {
			a := newSide(t, 440, rtc.Options{Codecs: []string{codec}})
			b := newSide(t, 1000, rtc.Options{})
			start := time.Now()
			negotiate(t, a, b, false, false, false)
			eventually(t, func() bool { return a.State() == rtc.StateConnected && b.State() == rtc.StateConnected }, "connected")
			t.Logf("connected after %v", time.Since(start))
			a.hears(t, 1000, true)
			b.hears(t, 440, true)
			if a.Codec() != codec || b.Codec() != codec {
				t.Errorf("codecs %q, %q; want %q", a.Codec(), b.Codec(), codec)
			}
			if err := a.Press("159#", 0); err != nil {
				t.Fatal(err)
			}
			if err := b.Press("2*", 60*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() bool { b.mu.Lock(); defer b.mu.Unlock(); return string(b.digits) == "159#" }, "digits at b")
			eventually(t, func() bool { a.mu.Lock(); defer a.mu.Unlock(); return string(a.digits) == "2*" }, "digits at a")
			b.hears(t, 440, true)
			eventually(t, func() bool { q := a.Quality(); return q.RTT > 0 && q.MOS > 1 && q.Received > 50 && q.Sent > 50 }, "quality %+v", a.Quality())
			if q := a.Quality(); q.Loss > 0.5 {
				t.Errorf("quality on loopback: %+v", q)
			}
		})
	}
}

// The trap of pion: an offer of sendonly is answered sendrecv, and after inactive the track is gone.
func TestHoldAndResume(t *testing.T) {
	a, b := newSide(t, 440, rtc.Options{}), newSide(t, 1000, rtc.Options{})
	negotiate(t, a, b, false, false, false)
	a.hears(t, 1000, true)

	offer, err := a.Offer(t.Context(), true, false)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(offer, []byte("a=sendonly")) || bytes.Contains(offer, []byte("a=sendrecv")) {
		t.Errorf("offer of hold is not sendonly:\n%s", offer)
	}
	answer, err := b.Answer(t.Context(), offer, false)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(answer, []byte("a=recvonly")) {
		t.Errorf("answer to sendonly is not recvonly:\n%s", answer)
	}
	if err := a.Answered(answer); err != nil {
		t.Fatal(err)
	}
	if !b.FarHold() || a.FarHold() {
		t.Errorf("far hold: a %v, b %v; want only b", a.FarHold(), b.FarHold())
	}
	a.hears(t, 1000, false)

	// Both hold: inactive, and back.
	negotiate(t, b, a, true, false, true)
	b.hears(t, 440, false)
	negotiate(t, a, b, false, false, false)
	a.hears(t, 1000, true)
	b.hears(t, 440, true)
	if a.FarHold() || b.FarHold() {
		t.Error("still on hold")
	}
}

func TestMute(t *testing.T) {
	a, b := newSide(t, 440, rtc.Options{}), newSide(t, 1000, rtc.Options{})
	negotiate(t, a, b, false, false, false)
	b.hears(t, 440, true)
	a.mu.Lock()
	a.talk = rtc.Muted
	a.mu.Unlock()
	b.hears(t, 440, false)
	before := b.Quality().Received
	eventually(t, func() bool { return b.Quality().Received > before+20 }, "a muted stream lives on")
	a.mu.Lock()
	a.talk = rtc.Speak
	a.mu.Unlock()
	b.hears(t, 440, true)
}

func TestICERestart(t *testing.T) {
	a, b := newSide(t, 440, rtc.Options{}), newSide(t, 1000, rtc.Options{})
	negotiate(t, a, b, false, false, false)
	a.hears(t, 1000, true)
	ufrag := func(sdp []byte) string {
		_, rest, _ := strings.Cut(string(sdp), "a=ice-ufrag:")
		return strings.Fields(rest)[0]
	}
	first, err := a.Offer(t.Context(), false, true)
	if err != nil {
		t.Fatal(err)
	}
	// Refused once (491, say): the next try must work.
	if err := a.Rollback(); err != nil {
		t.Fatal(err)
	}
	second, err := a.Offer(t.Context(), false, true)
	if err != nil {
		t.Fatal(err)
	}
	if ufrag(first) == ufrag(second) {
		t.Error("no new ICE credentials")
	}
	answer, err := b.Answer(t.Context(), second, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Answered(answer); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return a.State() == rtc.StateConnected }, "connected again")
	a.mu.Lock()
	a.heard = nil
	a.mu.Unlock()
	a.hears(t, 1000, true)
	b.hears(t, 440, true)
}

func TestBadDescriptions(t *testing.T) {
	a, b := newSide(t, 440, rtc.Options{Codecs: []string{"opus"}}), newSide(t, 1000, rtc.Options{Codecs: []string{"PCMU"}})
	offer, err := a.Offer(t.Context(), false, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Answer(t.Context(), offer, false); err == nil || !strings.Contains(err.Error(), "no common codec") {
		t.Errorf("no common codec: %v", err)
	}
	for _, bad := range []string{
		"", "garbage", "v=0\r\n", "v=0\r\nm=audio 1 RTP/AVP 0\r\n", strings.Repeat("v=0\r\n", 20000),
		"v=0\r\nm=audio 1 UDP/TLS/RTP/SAVPF 0\r\na=fingerprint:sha-256 xx\r\na=ice-ufrag:\r\n",
	} {
		if err := a.Answered([]byte(bad)); err == nil {
			t.Errorf("answer %.40q taken", bad)
		}
		if _, err := b.Answer(t.Context(), []byte(bad), false); err == nil {
			t.Errorf("offer %.40q taken", bad)
		}
	}
}
