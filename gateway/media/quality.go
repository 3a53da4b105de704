package media

import (
	"math"
	"strings"
	"time"
)

// Quality is what a leg's media is like, live or over the whole call.
type Quality struct {
	Codec    string
	RTT      time.Duration // 0 while no RTCP has told it
	Received StreamQuality // what we hear of the far side
	Sent     StreamQuality // what the far side reports of us
}

// StreamQuality is one direction of a leg.
type StreamQuality struct {
	Packets uint64
	Bytes   uint64
	Lost    uint64        // packets that never came
	Jitter  time.Duration // RFC 3550 section 6.4.1, as of now
	MOS     float64       // ITU-T G.107, 1 to 4.5; 0 while nothing was measured
}

// LossPercent is the share of packets that never came.
func (s StreamQuality) LossPercent() float64 {
	if s.Packets+s.Lost == 0 {
		return 0
	}
	return 100 * float64(s.Lost) / float64(s.Packets+s.Lost)
}

// Impairment is what the E-model asks of a stream.
type Impairment struct {
	Codec       string
	LossPercent float64       // after any jitter buffer
	Burst       float64       // BurstR of G.113: 1 = random loss; 0 counts as 1
	RTT         time.Duration // of the network; half of it is the one-way delay
	Jitter      time.Duration
	Buffer      time.Duration // playout delay; 0 = twice the jitter and 40 ms, as phones do
}

// RFactor is the transmission rating of the E-model (ITU-T G.107 with its
// default values: 93.2 for a faultless line).
func RFactor(i Impairment) float64 {
	if i.Buffer == 0 {
		i.Buffer = 2*i.Jitter + 40*time.Millisecond
	}
	delay := float64(i.RTT/2+i.Buffer)/float64(time.Millisecond) + 20 // and one frame
	r := 93.2 - delayImpairment(delay) - lossImpairment(i)
	return min(max(r, 0), 93.2)
}

// MOS is the mean opinion score of the E-model, 1 to 4.41 (ITU-T G.107 annex B).
func MOS(i Impairment) float64 {
	r := RFactor(i)
	if r < 6.5 { // below this the polynomial falls under 1
		return 1
	}
	m := 1 + 0.035*r + 7e-6*r*(r-60)*(100-r)
	return min(max(m, 1), 4.5)
}

// delayImpairment is Id by the usual approximation of G.107 (Cole and
// Rosenbluth), exact within half a point up to 400 ms.
func delayImpairment(ms float64) float64 {
	id := 0.024 * ms
	if ms > 177.3 {
		id += 0.11 * (ms - 177.3)
	}
	return id
}

// lossImpairment is Ie-eff (ITU-T G.107 section 3.5 with G.113 appendix I values).
func lossImpairment(i Impairment) float64 {
	ie, bpl := 0.0, 25.1 // G.711 with concealment
	if strings.EqualFold(i.Codec, "opus") {
		ie, bpl = 0, 30 // wider concealment and FEC; G.113 has no value yet
	}
	loss := min(max(i.LossPercent, 0), 100)
	if math.IsNaN(loss) {
		loss = 0
	}
	burst := max(1, i.Burst)
	return ie + (95-ie)*loss/(loss/burst+bpl)
}
