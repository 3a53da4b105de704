package codec

import (
	"fmt"
	"math"
)

// Resampler changes the sample rate of a mono stream by a band-limited
// polyphase filter.
type Resampler struct {
	up, down int
	taps     int         // per phase
	phases   [][]float32 // up phases
	hist     []float32   // the last taps-1 input samples, then the present input
	phase    int         // of the next output sample
	skip     int         // input samples to pass over before it
}

// NewResampler makes a resampler; any two rates of 4000 to 384000 Hz whose
// ratio is sane.
func NewResampler(from, to int) (*Resampler, error) {
	if from < 4000 || to < 4000 || from > 384000 || to > 384000 {
		return nil, fmt.Errorf("resample %d to %d Hz: %w", from, to, ErrRate)
	}
	g := gcd(from, to)
	r := &Resampler{up: to / g, down: from / g}
	if r.up > 4800 {
		return nil, fmt.Errorf("resample %d to %d Hz: %w", from, to, ErrRate)
	}
	// Pass band up to 92 % of the lower Nyquist frequency; 24 zero crossings.
	cut := 0.46 * 2 * math.Min(1, float64(to)/float64(from)) // of the input's Nyquist
	half := int(math.Ceil(12 / cut))
	r.taps = 2 * half
	r.phases = make([][]float32, r.up)
	for p := range r.phases {
		ph := make([]float32, r.taps)
		frac := float64(p) / float64(r.up)
		sum := 0.0
		for k := range ph {
			x := float64(k-half+1) - frac
			w := 0.42 + 0.5*math.Cos(math.Pi*x/float64(half)) + 0.08*math.Cos(2*math.Pi*x/float64(half))
			if math.Abs(x) >= float64(half) {
				w = 0
			}
			c := cut * sinc(cut*x) * w
			ph[k] = float32(c)
			sum += c
		}
		for k := range ph {
			ph[k] /= float32(sum)
		}
		r.phases[p] = ph
	}
	r.hist = make([]float32, r.taps-1, r.taps-1+4096)
	r.skip = half // so that the output is not late
	return r, nil
}

// Append resamples in and appends the result to out.
func (r *Resampler) Append(out, in []int16) []int16 {
	for _, s := range in {
		r.hist = append(r.hist, float32(s))
	}
	i := 0
	for i+r.skip+r.taps <= len(r.hist) {
		i += r.skip
		r.skip = 0
		var acc float32
		win := r.hist[i : i+r.taps]
		for k, c := range r.phases[r.phase] {
			acc += c * win[k]
		}
		out = append(out, int16(math.Round(float64(min(max(acc, -32768), 32767)))))
		r.phase += r.down
		r.skip = r.phase / r.up
		r.phase %= r.up
	}
	drop := min(i+r.skip, len(r.hist))
	r.skip -= drop - i
	n := copy(r.hist, r.hist[drop:])
	r.hist = r.hist[:n]
	return out
}

// Flush appends what the filter still holds.
func (r *Resampler) Flush(out []int16) []int16 {
	return r.Append(out, make([]int16, r.taps/2))
}

// Resample converts a whole recording.
func Resample(pcm []int16, from, to int) ([]int16, error) {
	if from == to {
		return pcm, nil
	}
	r, err := NewResampler(from, to)
	if err != nil {
		return nil, err
	}
	want := (len(pcm)*to + from/2) / from
	out := r.Flush(r.Append(make([]int16, 0, want+64), pcm))
	return out[:min(len(out), want)], nil
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	return math.Sin(math.Pi*x) / (math.Pi * x)
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
