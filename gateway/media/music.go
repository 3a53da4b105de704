package media

import "math"

// The music on hold is composed and rendered here, so that nobody's rights are
// touched and nothing needs to be installed: sixteen slow bars of broken chords,
// a pad and a sparse melody, whose tails run over the end into the beginning.
const (
	musicRate    = 16000
	musicSeconds = 60
	musicBars    = 16
	musicLevel   = 6500 // peak: about -14 dBFS, so that it stays behind a voice
)

// MusicSource is the built-in music on hold: one minute that loops without a seam.
func MusicSource() Source {
	return &clip{name: "music/default", music: true, pcm: func() ([]int16, int, error) { return composeMusic(), musicRate, nil }}
}

// musicChord is the chord of a bar as MIDI notes, bass first.
func musicChord(bar int) [5]int {
	switch bar {
	case 0, 8:
		return [5]int{48, 55, 59, 64, 67} // C major 7
	case 1, 5, 9:
		return [5]int{45, 52, 55, 60, 64} // A minor 7
	case 2, 6, 10:
		return [5]int{41, 53, 57, 60, 64} // F major 7
	case 3, 11:
		return [5]int{43, 55, 59, 62, 64} // G 6
	case 4, 13:
		return [5]int{40, 52, 55, 59, 62} // E minor 7
	case 7, 12, 14:
		return [5]int{38, 50, 57, 60, 65} // D minor 7
	}
	return [5]int{43, 53, 55, 60, 62} // G 7 suspended
}

// musicMelody is what the melody plays in a bar: note and eighth, 0 for a rest.
func musicMelody(bar int) [2][2]int {
	switch bar {
	case 0:
		return [2][2]int{{76, 0}, {79, 4}}
	case 1:
		return [2][2]int{{72, 2}}
	case 2:
		return [2][2]int{{76, 0}, {74, 5}}
	case 3:
		return [2][2]int{{71, 2}}
	case 4:
		return [2][2]int{{74, 0}, {71, 4}}
	case 5:
		return [2][2]int{{72, 1}}
	case 6:
		return [2][2]int{{69, 0}, {72, 5}}
	case 7:
		return [2][2]int{{77, 2}}
	case 9:
		return [2][2]int{{79, 0}, {76, 6}}
	case 10:
		return [2][2]int{{81, 2}}
	case 11:
		return [2][2]int{{79, 0}, {74, 4}}
	case 12:
		return [2][2]int{{72, 0}, {69, 5}}
	case 13:
		return [2][2]int{{71, 2}}
	case 15:
		return [2][2]int{{74, 0}, {71, 4}}
	}
	return [2][2]int{}
}

func composeMusic() []int16 {
	mix := make([]float32, musicRate*musicSeconds)
	const bar = musicRate * musicSeconds / musicBars
	const eighth = bar / 8
	order := [8]int{0, 2, 3, 4, 3, 2, 4, 3}
	for i := range musicBars {
		chord := musicChord(i)
		for step, k := range order {
			note := chord[k]
			if k > 0 {
				note += 12
			}
			// A small push and pull keeps it from sounding like a machine.
			at := i*bar + step*eighth + (step*37+i*53)%180
			pluck(mix, at, note, 0.30+0.06*float64((step+1)%2), 1.6)
		}
		pad(mix, i*bar, bar, chord)
		for _, m := range musicMelody(i) {
			if m[0] != 0 {
				pluck(mix, i*bar+m[1]*eighth+90, m[0], 0.38, 2.6)
			}
		}
	}
	peak := float32(0)
	for _, v := range mix {
		peak = max(peak, v, -v)
	}
	pcm := make([]int16, len(mix))
	for i, v := range mix {
		pcm[i] = int16(v / peak * musicLevel)
	}
	return pcm
}

func hertz(note int) float64 { return 440 * math.Exp2(float64(note-69)/12) }

// pluck adds a soft electric piano note that dies away within the given seconds.
func pluck(mix []float32, at, note int, level, seconds float64) {
	n := int(seconds * musicRate)
	for h, share := range [3]float64{1, 0.28, 0.09} {
		f := hertz(note) * float64(h+1)
		if f > 3400 { // what a telephone cannot carry
			break
		}
		decay := math.Exp(-(4.2 + 2.5*float64(h)) / float64(n))
		// A rotating phasor, shrunk a little with each sample: one sine without calling one.
		c, s := decay*math.Cos(2*math.Pi*f/musicRate), decay*math.Sin(2*math.Pi*f/musicRate)
		re, im := level*share, 0.0
		attack := 1.0 / (0.012 * musicRate)
		gain := 0.0
		for i := range n {
			gain = min(1, gain+attack)
			v := im * gain
			if left := n - i; left < 400 {
				v *= float64(left) / 400
			}
			j := at + i
			for j >= len(mix) {
				j -= len(mix)
			}
			mix[j] += float32(v)
			re, im = re*c-im*s, re*s+im*c
		}
	}
}

// pad adds the chord as a quiet swell that overlaps its neighbours.
func pad(mix []float32, at, length int, chord [5]int) {
	n := length + length/3
	at -= length / 6
	for k, note := range chord {
		level := 0.055
		if k == 0 {
			level = 0.09
			note += 12
		}
		f := hertz(note) * (1 + 0.0007*float64(k-2))
		c, s := math.Cos(2*math.Pi*f/musicRate), math.Sin(2*math.Pi*f/musicRate)
		re, im := level, 0.0
		for i := range n {
			w := min(1, float64(min(i, n-i))/float64(length/3))
			j := (at + i + len(mix)) % len(mix)
			mix[j] += float32(im * w)
			re, im = re*c-im*s, re*s+im*c
		}
	}
}
