package audio_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordboard/cordboard/softphone/audio"
)

// stream plays n packets through a buffer: delay gives when a packet of a number arrives after it was sent,
// negative = never. It returns what was played and the longest run of nothing or lost after the start.
func stream(n int, delay func(i int) time.Duration) (played []int, gap int, j *audio.Jitter) {
	j = audio.NewJitter()
	start := time.Unix(0, 0)
	at := map[int][]int{}
	for i := range n {
		if d := delay(i); d >= 0 {
			turn := i + int(d/audio.FrameTime)
			at[turn] = append(at[turn], i)
		}
	}
	run := 0
	for turn := range n + 20 {
		for _, i := range at[turn] {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], uint32(i))
			j.Push(uint16(65000+i), time.Duration(i)*audio.FrameTime, start.Add(time.Duration(turn)*audio.FrameTime), b[:])
		}
		p, v := j.Pop()
		if v == audio.Ready {
			played = append(played, int(binary.BigEndian.Uint32(p)))
			run = 0
			continue
		}
		if len(played) > 0 && turn < n {
			run++
			gap = max(gap, run)
		}
	}
	return played, gap, j
}

func inOrder(t *testing.T, played []int) {
	t.Helper()
	for i := 1; i < len(played); i++ {
		if played[i] <= played[i-1] {
			t.Fatalf("%d after %d", played[i], played[i-1])
		}
	}
}

func TestJitterInOrder(t *testing.T) {
	played, gap, j := stream(2000, func(int) time.Duration { return 0 }) // the number wraps
	inOrder(t, played)
	if len(played) != 2000 || gap != 0 {
		t.Errorf("%d played, gap %d", len(played), gap)
	}
	if j.Delay() > 3 {
		t.Errorf("delay of %d packets without jitter", j.Delay())
	}
}

func TestJitterReorders(t *testing.T) {
	played, _, _ := stream(1000, func(i int) time.Duration { return time.Duration(i%2) * audio.FrameTime })
	inOrder(t, played)
	if len(played) < 995 {
		t.Errorf("%d of 1000 played", len(played))
	}
}

func TestJitterHidesLoss(t *testing.T) {
	played, gap, j := stream(1000, func(i int) time.Duration {
		if i%10 == 5 {
			return -1
		}
		return 0
	})
	inOrder(t, played)
	if len(played) != 900 || gap > 2 || j.Stats().Lost < 95 {
		t.Errorf("%d played, gap %d, %+v", len(played), gap, j.Stats())
	}
}

func TestJitterGrowsWithTheNetwork(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	played, _, j := stream(3000, func(int) time.Duration { return time.Duration(r.IntN(5)) * audio.FrameTime })
	inOrder(t, played)
	if len(played) < 2850 {
		t.Errorf("%d of 3000 played with 100 ms of jitter: %+v", len(played), j.Stats())
	}
	if j.Interarrival() < 5*time.Millisecond {
		t.Errorf("jitter of %v is not seen", j.Interarrival())
	}
}

// A far clock that is 1 % faster must not pile up delay, nor packets.
func TestJitterFollowsAFasterClock(t *testing.T) {
	j := audio.NewJitter()
	seq, behind := 0, 0
	for turn := range 10000 {
		for range 1 + (turn%100)/99 {
			j.Push(uint16(seq), time.Duration(seq)*audio.FrameTime, time.Unix(0, int64(turn)*int64(audio.FrameTime)), []byte{byte(seq), byte(seq >> 8)})
			seq++
		}
		if p, v := j.Pop(); v == audio.Ready {
			behind = int(uint16(seq-1) - uint16(p[0]) - uint16(p[1])<<8)
		}
	}
	if behind > 8 {
		t.Errorf("%d packets behind after 200 s", behind)
	}
}

func TestJitterResumesAfterSilence(t *testing.T) {
	played, _, j := stream(500, func(i int) time.Duration {
		if i >= 200 && i < 300 {
			return -1
		}
		return 0
	})
	inOrder(t, played)
	if len(played) < 395 {
		t.Errorf("%d of 400 played: %+v", len(played), j.Stats())
	}
}

func FuzzJitter(f *testing.F) {
	f.Add([]byte{0, 1, 0, 2, 255, 255, 0, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		j := audio.NewJitter()
		for i := 0; i+1 < len(b); i += 2 {
			seq := binary.BigEndian.Uint16(b[i:])
			j.Push(seq, time.Duration(seq)*audio.FrameTime, time.Unix(int64(i), 0), b[i:i+2])
			if p, v := j.Pop(); v == audio.Ready && len(p) != 2 {
				t.Fatalf("%d bytes", len(p))
			}
		}
		for range 200 {
			j.Pop()
		}
		if _, v := j.Pop(); v == audio.Ready {
			t.Fatal("never empty")
		}
	})
}

func TestPacerDoesNotDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := audio.NewPacer()
		stop := make(chan struct{})
		start := time.Now()
		for i := range 3000 {
			if skipped, ok := p.Wait(stop); !ok || skipped != 0 {
				t.Fatalf("tick %d: skipped %d, %v", i, skipped, ok)
			}
			time.Sleep(time.Duration(i%25) * time.Millisecond) // work of 0 to 24 ms
		}
		if d := time.Since(start) - 3000*audio.FrameTime; d < -audio.FrameTime || d > 2*audio.FrameTime {
			t.Errorf("off by %v after a minute", d)
		}
		time.Sleep(time.Second) // a suspended machine
		if skipped, ok := p.Wait(stop); !ok || skipped < 45 || skipped > 52 {
			t.Errorf("skipped %d of a second", skipped)
		}
		close(stop)
		if _, ok := p.Wait(stop); ok {
			t.Error("ticks after stop")
		}
	})
}

func TestTonesDoNotOverflow(t *testing.T) {
	pcm := []int16{30000, -30000, 5}
	audio.Mix(pcm, []int16{30000, -30000})
	if pcm[0] != 32767 || pcm[1] != -32768 || pcm[2] != 5 {
		t.Errorf("mixed %v", pcm)
	}
}
