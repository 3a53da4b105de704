package audio

import (
	"math"
	"time"
)

// Tone returns a sine of hz at rate that starts and ends softly; level is of full scale, 0 to 1.
func Tone(rate int, hz, level float64, d time.Duration) []int16 {
	out := make([]int16, int(d.Seconds()*float64(rate)))
	edge := rate / 100 // 10 ms
	for i := range out {
		a := math.Min(1, float64(min(i, len(out)-1-i))/float64(edge))
		out[i] = int16(a * level * math.MaxInt16 * math.Sin(2*math.Pi*hz*float64(i)/float64(rate)))
	}
	return out
}

// Mix adds from to pcm without overflow; both are as long as the shorter of them.
func Mix(pcm, from []int16) {
	n := min(len(pcm), len(from))
	for i, s := range from[:n] {
		pcm[i] = int16(max(math.MinInt16, min(math.MaxInt16, int(pcm[i])+int(s))))
	}
}
