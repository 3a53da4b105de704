package dtmf

import (
	"math"
	"time"
)

// Detector hears digits in PCM by Goertzel filters over 12.75 ms blocks. A
// digit counts when two blocks in a row agree and is told when it ends.
type Detector struct {
	emit  func(digit byte, d time.Duration)
	rate  int
	block int
	n     int
	power float64
	coef  [8]float64
	s1    [8]float64
	s2    [8]float64

	candidate byte // what the last block held, 0 for nothing
	digit     byte // what is being heard, 0 for nothing
	blocks    int  // of digit so far
	missing   int  // blocks in a row without it
}

const (
	// minPower is the mean square below which nothing is heard: about -36 dBm0.
	minPower = 120 * 120
	// purity is how much of a block's power its two tones must hold.
	purity = 0.60
	// twist is the largest power ratio of the two tones: 8 dB.
	twist = 6.3
	// contrast is how far a tone stands over the others of its group: 9 dB.
	contrast = 8
)

// NewDetector makes a detector for PCM of the given rate. emit is called from Write.
func NewDetector(rate int, emit func(digit byte, d time.Duration)) *Detector {
	d := &Detector{emit: emit, rate: rate, block: rate * 51 / 4000}
	for i := range d.coef {
		hz := rowHz(i)
		if i >= 4 {
			hz = columnHz(i - 4)
		}
		d.coef[i] = 2 * math.Cos(2*math.Pi*hz/float64(rate))
	}
	return d
}

// Write hears pcm.
func (d *Detector) Write(pcm []int16) {
	for _, s := range pcm {
		v := float64(s)
		d.power += v * v
		for i, c := range d.coef {
			s0 := v + c*d.s1[i] - d.s2[i]
			d.s2[i], d.s1[i] = d.s1[i], s0
		}
		d.n++
		if d.n == d.block {
			d.decide(d.heard())
			d.n, d.power = 0, 0
			clear(d.s1[:])
			clear(d.s2[:])
		}
	}
}

// heard is the digit of the block just read, 0 for none.
func (d *Detector) heard() byte {
	n := float64(d.block)
	if d.power/n < minPower {
		return 0
	}
	var p [8]float64 // power of each tone in the unit of d.power
	for i, c := range d.coef {
		p[i] = (d.s1[i]*d.s1[i] + d.s2[i]*d.s2[i] - c*d.s1[i]*d.s2[i]) * 2 / n
	}
	row, rowOK := loudest(p[:4])
	col, colOK := loudest(p[4:])
	if !rowOK || !colOK {
		return 0
	}
	low, high := p[row], p[4+col]
	if low+high < purity*d.power || low > twist*high || high > twist*low {
		return 0
	}
	return "123A456B789C*0#D"[row*4+col]
}

func loudest(p []float64) (int, bool) {
	best := 0
	for i, v := range p {
		if v > p[best] {
			best = i
		}
	}
	for i, v := range p {
		if i != best && v*contrast > p[best] {
			return best, false
		}
	}
	return best, true
}

func (d *Detector) decide(now byte) {
	switch {
	case d.digit != 0 && now == d.digit:
		d.blocks += 1 + d.missing // a short dip belongs to the digit
		d.missing = 0
	case d.digit != 0:
		d.missing++
		if d.missing >= 2 || now != 0 && now == d.candidate {
			d.emit(d.digit, time.Duration(d.blocks*d.block)*time.Second/time.Duration(d.rate))
			d.digit, d.missing = 0, 0
			if now != 0 && now == d.candidate {
				d.digit, d.blocks = now, 2
			}
		}
	case now != 0 && now == d.candidate:
		d.digit, d.blocks, d.missing = now, 2, 0
	}
	d.candidate = now
}
