package softphone

import (
	"fmt"
	"time"

	"github.com/cordboard/cordboard/softphone/audio"
	"github.com/cordboard/cordboard/softphone/rtc"
)

// worker moves sound between a device and the far side, once in 20 ms.
type worker struct {
	c      *call
	s      *rtc.Session
	stream audio.Stream
	rate   int
	beep   []int16
	sick   bool // the device failed and that was told
}

func (w *worker) run(stop <-chan struct{}) {
	size := audio.FrameSize(w.rate)
	mic, ear := make([]int16, size), make([]int16, size)
	pacer := audio.NewPacer()
	every := max(1, int(w.c.p.c.StatsEvery/audio.FrameTime))
	turns := 0
	for {
		skipped, ok := pacer.Wait(stop)
		if !ok {
			break
		}
		w.turn(mic, ear, skipped)
		if turns++; turns >= every {
			turns = 0
			if w.c.talking() {
				w.c.p.events.put(Stats{Call: w.c.id, Quality: w.c.quality()})
			}
		}
	}
	w.tell(w.stream.Close())
}

func (w *worker) turn(mic, ear []int16, skipped int) {
	if err := w.stream.ReadFrame(mic); err != nil {
		w.tell(err)
		clear(mic)
	}
	talk := rtc.Speak
	held := w.c.wantHold.Load()
	switch {
	case held:
		talk = rtc.Silent
	case w.c.muted.Load():
		talk = rtc.Muted
	}
	// A packet that cannot be sent is lost like one in the network: ICE tells when that matters.
	_ = w.s.Send(mic, w.rate, talk, skipped)
	w.s.Receive(ear, w.rate)
	if held {
		clear(ear)
	}
	if len(w.beep) > 0 {
		n := min(len(w.beep), len(ear))
		audio.Mix(ear, w.beep[:n])
		w.beep = w.beep[n:]
	}
	if err := w.stream.WriteFrame(ear); err != nil {
		w.tell(err)
	}
}

// tell reports the first failure of the device only.
func (w *worker) tell(err error) {
	if err == nil || w.sick {
		return
	}
	w.sick = true
	w.c.p.events.put(Problem{Call: w.c.id, Err: fmt.Errorf("sound device: %w", err)})
}

// beepTone tells an agent that a call was answered by itself.
func beepTone(rate int) []int16 { return audio.Tone(rate, 880, 0.25, 250*time.Millisecond) }
