package dtmf

import (
	"math"
	"time"
)

// frequencies of a digit in Hz (ITU-T Q.23); ok is false for other characters.
func frequencies(digit byte) (low, high float64, ok bool) {
	code, ok := Code(digit)
	if !ok || code == Flash {
		return 0, 0, false
	}
	const order = "123A456B789C*0#D"
	for i := range len(order) {
		if order[i] == upper(digit) {
			return rowHz(i / 4), columnHz(i % 4), true
		}
	}
	return 0, 0, false
}

func rowHz(i int) float64 {
	switch i {
	case 0:
		return 697
	case 1:
		return 770
	case 2:
		return 852
	}
	return 941
}

func columnHz(i int) float64 {
	switch i {
	case 0:
		return 1209
	case 1:
		return 1336
	case 2:
		return 1477
	}
	return 1633
}

// AppendTone appends the two tones of a digit (-10 and -8 dBm0, so that neither
// law clips) as PCM of the given rate. Nothing is appended for what has no tone.
func AppendTone(dst []int16, digit byte, rate int, d time.Duration) []int16 {
	low, high, ok := frequencies(digit)
	if !ok {
		return dst
	}
	n := int(d * time.Duration(rate) / time.Second)
	ramp := max(1, rate/400) // 2.5 ms, so that the ends do not click
	for i := range n {
		t := float64(i) / float64(rate)
		v := 7000*math.Sin(2*math.Pi*low*t) + 8800*math.Sin(2*math.Pi*high*t)
		if edge := min(i, n-1-i); edge < ramp {
			v *= float64(edge) / float64(ramp)
		}
		dst = append(dst, int16(v))
	}
	return dst
}
