package media

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

// Tone is the name of a built-in tone.
type Tone string

// The tones of every country, and some of our own. Play the first three in a loop.
const (
	ToneRingback   Tone = "ringback"
	ToneBusy       Tone = "busy"
	ToneCongestion Tone = "congestion"
	ToneBeep       Tone = "beep"
	ToneConfirm    Tone = "confirm" // three short beeps: done
	ToneDenied     Tone = "denied"  // one low beep: not done
)

// toneRate is the rate at which tones are made.
const toneRate = 8000

// burst is a part of a cadence: up to two frequencies (0 = silence) for a time.
type burst struct {
	f1, f2 float64
	d      time.Duration
}

func on(f1, f2 float64, ms int) burst { return burst{f1, f2, time.Duration(ms) * time.Millisecond} }
func off(ms int) burst                { return on(0, 0, ms) }

// cadences of a country's network tones (ITU-T E.180 supplement 2).
type cadences struct{ ringback, busy, congestion []burst }

// simple is the usual shape: one frequency, on and off times in milliseconds.
func simple(hz float64, ringOn, ringOff, busy, congestion int) cadences {
	return cadences{
		ringback:   []burst{on(hz, 0, ringOn), off(ringOff)},
		busy:       []burst{on(hz, 0, busy), off(busy)},
		congestion: []burst{on(hz, 0, congestion), off(congestion)},
	}
}

// tonesOf is by ISO 3166 country code; the tones that E.180 recommends for any other.
func tonesOf(country string) cadences {
	switch strings.ToUpper(country) {
	case "US", "CA", "PR", "DO":
		return cadences{
			ringback:   []burst{on(440, 480, 2000), off(4000)},
			busy:       []burst{on(480, 620, 500), off(500)},
			congestion: []burst{on(480, 620, 250), off(250)},
		}
	case "GB", "IE":
		return cadences{
			ringback:   []burst{on(400, 450, 400), off(200), on(400, 450, 400), off(2000)},
			busy:       []burst{on(400, 0, 375), off(375)},
			congestion: []burst{on(400, 0, 400), off(350), on(400, 0, 225), off(525)},
		}
	case "AU":
		return cadences{
			ringback:   []burst{on(413, 438, 400), off(200), on(413, 438, 400), off(2000)},
			busy:       []burst{on(425, 0, 375), off(375)},
			congestion: []burst{on(425, 0, 375), off(375)},
		}
	case "ES":
		return cadences{
			ringback:   []burst{on(425, 0, 1500), off(3000)},
			busy:       []burst{on(425, 0, 200), off(200)},
			congestion: []burst{on(425, 0, 200), off(200), on(425, 0, 200), off(200), on(425, 0, 200), off(600)},
		}
	case "AR":
		c := simple(425, 1000, 4500, 300, 200)
		c.busy[1] = off(200)
		c.congestion[1] = off(300)
		return c
	case "BR":
		c := simple(425, 1000, 4000, 250, 250)
		c.congestion = []burst{on(425, 0, 250), off(250), on(425, 0, 750), off(250)}
		return c
	case "CL":
		return simple(400, 1000, 3000, 500, 200)
	case "FR":
		return simple(440, 1500, 3500, 500, 250)
	case "DE", "AT":
		return simple(425, 1000, 4000, 480, 240)
	case "IT":
		return simple(425, 1000, 4000, 500, 200)
	case "PT":
		return simple(425, 1000, 5000, 500, 200)
	case "MX":
		return simple(425, 1000, 4000, 250, 250)
	case "UY", "PY", "VE", "PE", "CO", "EC", "BO", "NL":
		return simple(425, 1000, 4000, 500, 250)
	}
	return simple(425, 1000, 4000, 500, 250)
}

// toneCadence is the cadence of a tone; once means that it is not a loop.
func toneCadence(t Tone, country string) (c []burst, once bool, err error) {
	all := tonesOf(country)
	switch t {
	case ToneRingback:
		return all.ringback, false, nil
	case ToneBusy:
		return all.busy, false, nil
	case ToneCongestion:
		return all.congestion, false, nil
	case ToneBeep:
		return []burst{on(1000, 0, 200)}, true, nil
	case ToneConfirm:
		return []burst{on(600, 0, 100), off(100), on(600, 0, 100), off(100), on(600, 0, 100), off(100)}, true, nil
	case ToneDenied:
		return []burst{on(330, 0, 500), off(100)}, true, nil
	}
	return nil, false, fmt.Errorf("tone %q: %w", t, ErrNoSound)
}

// ToneSource is a built-in tone with the cadence of a country (ISO 3166 code).
func ToneSource(t Tone, country string) (Source, error) {
	c, once, err := toneCadence(t, country)
	if err != nil {
		return nil, err
	}
	return &clip{name: "tone/" + string(t), pcm: func() ([]int16, int, error) { return cadencePCM(c, once), toneRate, nil }}, nil
}

// cadencePCM renders a cadence. What loops is repeated until it is a whole
// number of frames, so that the loop keeps time.
func cadencePCM(c []burst, once bool) []int16 {
	var period time.Duration
	for _, b := range c {
		period += b.d
	}
	repeat := 1
	for !once && repeat < 20 && (period*time.Duration(repeat))%codec.FrameDuration != 0 {
		repeat++
	}
	var pcm []int16
	for range repeat {
		for _, b := range c {
			pcm = b.append(pcm)
		}
	}
	return pcm
}

// append renders one burst at about -10 dBm0 with edges of 5 ms.
func (b burst) append(pcm []int16) []int16 {
	n := int(b.d * toneRate / time.Second)
	if b.f1 == 0 {
		return append(pcm, make([]int16, n)...)
	}
	const ramp = toneRate / 200
	level := 7000.0
	if b.f2 != 0 {
		level = 5000
	}
	for i := range n {
		t := 2 * math.Pi * float64(i) / toneRate
		v := level * math.Sin(b.f1*t)
		if b.f2 != 0 {
			v += level * math.Sin(b.f2*t)
		}
		if edge := min(i, n-1-i); edge < ramp {
			v *= float64(edge) / ramp
		}
		pcm = append(pcm, int16(v))
	}
	return pcm
}

// SilenceSource is silence of the given length.
func SilenceSource(d time.Duration) Source {
	n := int(min(max(d, codec.FrameDuration), time.Hour) * toneRate / time.Second)
	return &clip{name: "silence", pcm: func() ([]int16, int, error) { return make([]int16, n), toneRate, nil }}
}
