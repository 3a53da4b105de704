package media

import (
	"errors"
	"testing"
	"time"
)

// A far side hears itself, whatever it speaks, and a bridge ends that.
func TestEcho(t *testing.T) {
	for name, k := range map[string]kind{"PCMA": kindPCMA, "PCMU": kindPCMU} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			e := newEngine(t)
			pa, a, ha := rtpCall(t, e, k, freqA, RTPOptions{})
			pb, b, _ := rtpCall(t, e, k, freqB, RTPOptions{})
			ha.wait(t, "connected", time.Second)
			if err := pa.Echo(); err != nil {
				t.Fatal(err)
			}
			eventually(t, 2*time.Second, "a hears itself", func() bool { return a.hears(freqA, 200*time.Millisecond) })
			if b.hears(freqA, 100*time.Millisecond) {
				t.Error("somebody else hears the echo")
			}
			if err := Join(pa, pb); err != nil {
				t.Fatal(err)
			}
			eventually(t, 2*time.Second, "a hears b", func() bool { return a.hears(freqB, 200*time.Millisecond) })
			if err := pa.Echo(); err != nil {
				t.Fatal(err)
			}
			eventually(t, 2*time.Second, "b hears nobody", func() bool { return b.silent(200 * time.Millisecond) })
			pa.Leave()
			eventually(t, 2*time.Second, "a hears nobody", func() bool { return a.silent(200 * time.Millisecond) })
			if j := a.broken(); len(j) > 0 {
				t.Errorf("stream broke: %v", j)
			}
			if err := pa.Echo(); err != nil {
				t.Fatal(err)
			}
			pa.Close()
			if err := pa.Echo(); !errors.Is(err, ErrClosed) {
				t.Errorf("echo of a closed port: %v", err)
			}
		})
	}
}
