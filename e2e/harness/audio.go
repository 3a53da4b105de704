//go:build e2e && linux

package harness

import (
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/media"
)

// Rate is the sample rate at which sound is judged.
const Rate = 8000

// window is the stretch in which a tone is looked for: 50 ms.
const window = Rate / 20

// Audio is sound that was heard, at Rate.
type Audio struct {
	Channels [][]int16
}

// Hear reads a sound file of any usual format; sox decodes it, so that it is
// not our own code that says what is in there.
func Hear(tb testing.TB, file string) *Audio {
	tb.Helper()
	soxi, sox := Need(tb, "soxi"), Need(tb, "sox")
	out, err := exec.CommandContext(tb.Context(), soxi, "-c", file).CombinedOutput() //nolint:gosec // the test's own file
	if err != nil {
		tb.Fatalf("soxi %s: %v\n%s", file, err, out)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil || n < 1 {
		tb.Fatalf("%s has %q channels", file, out)
	}
	cmd := exec.CommandContext(tb.Context(), sox, "-V1", file, "-t", "raw", "-e", "signed", "-b", "16", "-L", "-r", strconv.Itoa(Rate), "-") //nolint:gosec // the test's own file
	raw, err := cmd.Output()
	if err != nil {
		tb.Fatalf("sox %s: %v", file, err)
	}
	a := &Audio{Channels: make([][]int16, n)}
	for i := 0; i+2*n <= len(raw); i += 2 * n {
		for c := range n {
			a.Channels[c] = append(a.Channels[c], int16(binary.LittleEndian.Uint16(raw[i+2*c:])))
		}
	}
	return a
}

// Duration is how long the sound is.
func (a *Audio) Duration() time.Duration {
	return time.Duration(len(a.Channels[0])) * time.Second / Rate
}

// Tone returns for how long a channel (0 is the left or only one) is a tone of
// that frequency and not much else.
func (a *Audio) Tone(channel int, hz float64) time.Duration {
	return time.Duration(len(a.ToneAt(channel, hz))) * time.Second / (Rate / window)
}

// ToneAt returns where the windows of 50 ms lie in which a tone is heard.
func (a *Audio) ToneAt(channel int, hz float64) []time.Duration {
	var at []time.Duration
	pcm := a.Channels[channel]
	for i := 0; i+window <= len(pcm); i += window {
		if purity(pcm[i:i+window], hz) > 0.7 {
			at = append(at, time.Duration(i)*time.Second/Rate)
		}
	}
	return at
}

// Loud returns for how long a channel is louder than a whisper.
func (a *Audio) Loud(channel int) time.Duration {
	n := 0
	pcm := a.Channels[channel]
	for i := 0; i+window <= len(pcm); i += window {
		if power(pcm[i:i+window]) > quiet {
			n++
		}
	}
	return time.Duration(n) * time.Second / (Rate / window)
}

// quiet is the mean square below which a window holds nothing: about -46 dBFS.
const quiet = 160.0 * 160.0

func power(pcm []int16) float64 {
	sum := 0.0
	for _, v := range pcm {
		sum += float64(v) * float64(v)
	}
	return sum / float64(len(pcm))
}

// purity is the share of a window's power that lies at one frequency (Goertzel).
func purity(pcm []int16, hz float64) float64 {
	total := power(pcm)
	if total < quiet {
		return 0
	}
	k := 2 * math.Cos(2*math.Pi*hz/Rate)
	var s1, s2 float64
	for _, v := range pcm {
		s1, s2 = float64(v)+k*s1-s2, s1
	}
	n := float64(len(pcm))
	return 2 * (s1*s1 + s2*s2 - k*s1*s2) / (n * n) / total
}

// ToneFile writes a WAV file with a tone and returns its path.
func ToneFile(tb testing.TB, hz float64, d time.Duration) string {
	tb.Helper()
	pcm := make([]int16, int(d.Seconds()*Rate))
	for i := range pcm {
		pcm[i] = int16(9000 * math.Sin(2*math.Pi*hz*float64(i)/Rate))
	}
	file := filepath.Join(tb.TempDir(), "tone"+strconv.Itoa(int(hz))+".wav")
	f, err := os.Create(file) //nolint:gosec // the test's own folder
	if err != nil {
		tb.Fatal(err)
	}
	if err := media.WriteWAV(f, pcm, Rate); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	return file
}

// WantTone fails the test unless a channel holds a tone for so long.
func (a *Audio) WantTone(tb testing.TB, what string, channel int, hz float64, atLeast time.Duration) {
	tb.Helper()
	got := a.Tone(channel, hz)
	if got < atLeast {
		tb.Errorf("%s: %v of %.0f Hz in %v (loud for %v), want %v at least", what, got, hz, a.Duration(), a.Loud(channel), atLeast)
		return
	}
	tb.Logf("%s: %v of %.0f Hz in %v", what, got, hz, a.Duration())
}

// WantNoTone fails the test when a channel holds more than a trace of a tone.
func (a *Audio) WantNoTone(tb testing.TB, what string, channel int, hz float64) {
	tb.Helper()
	if got := a.Tone(channel, hz); got > 100*time.Millisecond {
		tb.Errorf("%s: %v of %.0f Hz in %v, want none", what, got, hz, a.Duration())
	}
}

// Envelope is how loud a channel is, a value for each 20 ms, as the ear takes
// loudness: by its logarithm.
func (a *Audio) Envelope(channel int) []float64 {
	const frame = Rate / 50
	pcm := a.Channels[channel]
	out := make([]float64, 0, len(pcm)/frame)
	for i := 0; i+frame <= len(pcm); i += frame {
		out = append(out, math.Log(1+math.Sqrt(power(pcm[i:i+frame]))/50))
	}
	return out
}

// Parts of a likeness are compared with a shift of their own, because a busy
// machine stretches speech: a second each, up to 200 ms.
const (
	likePart = 50
	likeSway = 10
)

// Likeness compares two envelopes at the best shift of said against heard: 1 is
// the same speech. said may be cut off in heard; at least overlap frames of it
// are compared.
func Likeness(heard, said []float64, overlap int) float64 {
	best := -1.0
	for shift := overlap - len(said); shift <= len(heard)-overlap; shift++ {
		from, to := max(0, shift), min(len(heard), shift+len(said))
		sum, n := 0.0, 0
		for at := from; at+likePart <= to; at += likePart {
			part := -1.0
			for sway := -likeSway; sway <= likeSway; sway++ {
				if a := at - shift + sway; a >= 0 && a+likePart <= len(said) {
					part = max(part, correlation(heard[at:at+likePart], said[a:a+likePart]))
				}
			}
			sum, n = sum+part, n+1
		}
		if n*likePart >= overlap {
			best = max(best, sum/float64(n))
		}
	}
	return best
}

func correlation(x, y []float64) float64 {
	var sx, sy, sxx, syy, sxy float64
	for i := range x {
		sx, sy = sx+x[i], sy+y[i]
		sxx, syy, sxy = sxx+x[i]*x[i], syy+y[i]*y[i], sxy+x[i]*y[i]
	}
	n := float64(len(x))
	vx, vy := sxx-sx*sx/n, syy-sy*sy/n
	if vx <= 0 || vy <= 0 {
		return 0
	}
	return (sxy - sx*sy/n) / math.Sqrt(vx*vy)
}
