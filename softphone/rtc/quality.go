package rtc

import (
	"math"
	"strings"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

// Quality of a session so far.
type Quality struct {
	RTT time.Duration
	// Jitter and Loss (0 to 1) are of what we receive; FarJitter and FarLoss of what the far side says
	// that it receives.
	Jitter, FarJitter time.Duration
	Loss, FarLoss     float64
	MOS               float64
	Received, Sent    uint64 // packets
}

// MOS estimates the quality of conversation, 1 to 4.5, by the E-model in the short form of ITU-T G.107:
// delay is one way, mouth to ear; loss is a share of 0 to 1 after the jitter buffer.
func MOS(codecName string, delay time.Duration, loss float64) float64 {
	// Equipment impairment and robustness against loss: G.113 for G.711 with concealment; Opus with FEC
	// as measured by others.
	ie, bpl := 0.0, 25.1
	if strings.EqualFold(codecName, codec.Opus) {
		bpl = 35
	}
	d := float64(delay) / float64(time.Millisecond)
	id := 0.024 * d
	if d > 177.3 {
		id += 0.11 * (d - 177.3)
	}
	loss = math.Max(0, math.Min(1, loss)) * 100
	r := 93.2 - id - (ie + (95-ie)*loss/(loss+bpl))
	switch {
	case r <= 0:
		return 1
	case r >= 100:
		return 4.5
	}
	return math.Max(1, 1+0.035*r+r*(r-60)*(100-r)*7e-6)
}
