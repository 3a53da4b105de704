package media

import (
	"sync"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/gateway/media/dtmf"
	"github.com/cordboard/cordboard/gateway/media/sdp"
)

const (
	freqA = 440.0
	freqB = 1000.0
)

// A call is heard on both sides whatever the two legs speak.
func TestBridgeCarriesSpeechBothWays(t *testing.T) {
	tests := []struct {
		name   string
		a, b   kind
		ao, bo RTPOptions
	}{
		{"PCMU to PCMU", kindPCMU, kindPCMU, RTPOptions{}, RTPOptions{}},
		{"PCMA to PCMU", kindPCMA, kindPCMU, RTPOptions{}, RTPOptions{}},
		{"SDES to RTP", kindPCMA, kindPCMA, RTPOptions{SDES: true}, RTPOptions{}},
		{"SDES to SDES", kindPCMU, kindPCMA, RTPOptions{SDES: true}, RTPOptions{SDES: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			e := newEngine(t)
			pa, a, ha := rtpCall(t, e, tt.a, freqA, tt.ao)
			pb, b, hb := rtpCall(t, e, tt.b, freqB, tt.bo)
			ha.wait(t, "connected", time.Second)
			hb.wait(t, "connected", time.Second)
			if a.hears(freqB, 100*time.Millisecond) {
				t.Fatal("heard before the bridge")
			}
			if err := Join(pa, pb); err != nil {
				t.Fatal(err)
			}
			eventually(t, 2*time.Second, "a hears b", func() bool { return a.hears(freqB, 200*time.Millisecond) })
			eventually(t, 2*time.Second, "b hears a", func() bool { return b.hears(freqA, 200*time.Millisecond) })
			if j := append(a.broken(), b.broken()...); len(j) > 0 {
				t.Errorf("stream broke: %v", j)
			}
			pa.Leave()
			eventually(t, 2*time.Second, "silence after leaving", func() bool {
				return a.silent(200*time.Millisecond) && b.silent(200*time.Millisecond)
			})
			if j := append(a.broken(), b.broken()...); len(j) > 0 {
				t.Errorf("stream broke by leaving: %v", j)
			}
		})
	}
}

// Music, then the agent: one stream without a hole.
func TestPlayThenJoinThenMute(t *testing.T) {
	noLeaks(t)
	e := newEngine(t)
	pa, a, _ := rtpCall(t, e, kindPCMA, freqA, RTPOptions{})
	pb, b, _ := rtpCall(t, e, kindPCMA, freqB, RTPOptions{})
	interrupted := make(chan error, 1)
	music := PCMSource("music", tone(600, 8000, 0, 8000*2), 8000)
	pa.Play(music, PlayOptions{Loop: true, Done: func(err error) { interrupted <- err }})
	eventually(t, 2*time.Second, "music", func() bool { return a.hears(600, 200*time.Millisecond) })
	a.clear()
	if err := Join(pa, pb); err != nil {
		t.Fatal(err)
	}
	if err := <-interrupted; err == nil {
		t.Error("Join did not interrupt the music")
	}
	eventually(t, 2*time.Second, "agent", func() bool { return a.hears(freqB, 200*time.Millisecond) })

	prompt := PCMSource("prompt", tone(1500, 8000, 0, 8000/2), 8000)
	done := make(chan error, 1)
	pa.Play(prompt, PlayOptions{Done: func(err error) { done <- err }})
	eventually(t, 2*time.Second, "prompt", func() bool { return a.hears(1500, 100*time.Millisecond) })
	if !b.hears(freqA, 100*time.Millisecond) {
		t.Error("the agent lost the customer while a prompt is played to the customer")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	eventually(t, 2*time.Second, "agent after the prompt", func() bool { return a.hears(freqB, 200*time.Millisecond) })

	pb.Mute(true)
	eventually(t, 2*time.Second, "mute", func() bool { return a.silent(200 * time.Millisecond) })
	pb.Mute(false)
	eventually(t, 2*time.Second, "unmute", func() bool { return a.hears(freqB, 200*time.Millisecond) })
	if j := a.broken(); len(j) > 0 {
		t.Errorf("stream broke: %v", j)
	}
	if a.gap > 150*time.Millisecond { // 40 ms on a quiet machine
		t.Errorf("gap of %v", a.gap)
	}
}

func TestDigitsAreRelayedAndReported(t *testing.T) {
	noLeaks(t)
	e := newEngine(t)
	pa, a, ha := rtpCall(t, e, kindPCMA, freqA, RTPOptions{})
	pb, b, hb := rtpCall(t, e, kindPCMU, freqB, RTPOptions{})
	if err := Join(pa, pb); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Second, "speech", func() bool { return b.hears(freqA, 100*time.Millisecond) })
	a.press(t, "12#")
	eventually(t, 3*time.Second, "digits at the far phone", func() bool { return b.pressed() == "12#" })
	eventually(t, 3*time.Second, "digits reported", func() bool { return ha.pressed() == "12#" })
	if got := hb.pressed(); got != "" {
		t.Errorf("digits %q reported on the listener's port", got)
	}
	b.press(t, "9")
	eventually(t, 3*time.Second, "digits back", func() bool { return a.pressed() == "9" && hb.pressed() == "9" })

	if err := pa.SendDTMF("456", 80*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Second, "digits of ours", func() bool { return a.pressed() == "9456" })
	eventually(t, 3*time.Second, "speech after digits", func() bool { return a.hears(freqB, 200*time.Millisecond) })
	if err := pa.SendDTMF("4x", 0); err == nil {
		t.Error("a letter that is no digit was taken")
	}
	if j := a.broken(); len(j) > 0 {
		t.Errorf("stream broke: %v", j)
	}
}

// A far side without telephone events hears digits as tones, ours and relayed ones.
func TestDigitsAsTones(t *testing.T) {
	noLeaks(t)
	e := newEngine(t)
	pa, a, ha := rtpCall(t, e, kindPCMA, freqA, RTPOptions{})
	h := newHeard()
	pb, err := e.NewRTP(RTPOptions{}, h)
	if err != nil {
		t.Fatal(err)
	}
	b := newRTPPeer(t, kindPCMU, freqB)
	d := b.describe(sdp.SendRecv)
	d.Media[0].Formats = d.Media[0].Formats[:1] // speech only
	answer, err := pb.Answer(t.Context(), d.Write())
	if err != nil {
		t.Fatal(err)
	}
	s, err := sdp.Parse(answer)
	if err != nil {
		t.Fatal(err)
	}
	b.talk(s.Media[0].Addr())
	if err := Join(pa, pb); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Second, "speech", func() bool { return b.hears(freqA, 100*time.Millisecond) })
	var mu sync.Mutex
	heard := ""
	detector := dtmf.NewDetector(8000, func(d byte, _ time.Duration) { heard += string(rune(d)) })
	b.set(func() {
		b.also = func(pcm []int16) {
			mu.Lock()
			detector.Write(pcm)
			mu.Unlock()
		}
	})
	tones := func(want string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return heard == want
		}
	}
	if err := pb.SendDTMF("5#", 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Second, "our digits as tones", tones("5#"))
	a.press(t, "3")
	eventually(t, 3*time.Second, "the relayed digit as a tone", tones("5#3"))
	eventually(t, 3*time.Second, "the relayed digit reported", func() bool { return ha.pressed() == "3" })
}

// The silence that keeps a path open is silence in every codec.
func TestSilenceIsSilent(t *testing.T) {
	for _, k := range []kind{kindPCMU, kindPCMA, kindOpus} {
		var o outbound
		o.setCodecLocked(k, 8000, 0)
		dec, err := codec.NewDecoder(k.name(), 8000)
		if err != nil {
			t.Fatal(err)
		}
		pcm := make([]int16, codec.MaxFrameSamples)
		for range 5 {
			n, err := dec.Decode(pcm, o.quiet[:o.quietLen])
			if err != nil || n != 160 {
				t.Fatalf("%s: %d samples, %v", k.name(), n, err)
			}
			for _, v := range pcm[:n] {
				if v > 8 || v < -8 {
					t.Fatalf("%s: %d in silence", k.name(), v)
				}
			}
		}
	}
}
