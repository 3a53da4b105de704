package codec

// G711Decoder decodes one direction of a G.711 stream and hides lost packets by
// repeating the last pitch period (in the manner of ITU-T G.711 appendix I,
// without its algorithmic delay): full level for 10 ms, then fading out by
// 60 ms. The first good packet after a loss is faded in over the repeated one.
type G711Decoder struct {
	law     Law
	history [plcHistory]int16 // the newest samples, at its end
	filled  int               // how much of history is speech
	period  int               // pitch period of the present gap in samples
	lost    int               // samples concealed in the present gap
	pos     int               // phase in the repeated period
	tail    [plcOverlap]int16
}

const (
	plcHistory  = 360 // 45 ms: two and a half longest periods with the correlation window
	plcMinPitch = 40  // 200 Hz
	plcMaxPitch = 120 // 66 Hz
	plcWindow   = 160
	plcOverlap  = 32 // 4 ms
	plcHold     = 80
	plcEnd      = 480
)

// NewG711Decoder makes a decoder of the given law.
func NewG711Decoder(l Law) *G711Decoder { return &G711Decoder{law: l} }

// Rate implements Decoder.
func (d *G711Decoder) Rate() int { return 8000 }

// Decode implements Decoder.
func (d *G711Decoder) Decode(pcm []int16, payload []byte) (int, error) {
	if len(pcm) < len(payload) {
		return 0, ErrShortBuffer
	}
	n := d.law.Decode(pcm, payload)
	if d.lost > 0 {
		d.join(pcm[:n])
	}
	d.remember(pcm[:n])
	return n, nil
}

// Conceal implements Decoder.
func (d *G711Decoder) Conceal(pcm []int16) error {
	if d.lost == 0 {
		d.period = d.pitch()
		d.pos = 0
	}
	for i := range pcm {
		pcm[i] = d.next()
	}
	return nil
}

// Recover implements Decoder; G.711 carries no FEC.
func (d *G711Decoder) Recover(pcm []int16, _ []byte) (bool, error) {
	return false, d.Conceal(pcm)
}

// next is one more sample of the repeated, fading period.
func (d *G711Decoder) next() int16 {
	if d.filled < plcMaxPitch || d.lost >= plcEnd {
		d.lost++
		return 0
	}
	base := plcHistory - d.period
	v := int32(d.history[base+d.pos])
	// Cross-fade the end of the period into what came before its start, so that
	// the seam of each repetition makes no click.
	if left := d.period - d.pos; left <= d.period/4 && base > d.period/4 {
		q := int32(d.period / 4)
		w := int32(left)
		v = (v*w + int32(d.history[base-left])*(q-w)) / q
	}
	d.pos++
	if d.pos == d.period {
		d.pos = 0
	}
	if d.lost > plcHold {
		v = v * int32(plcEnd-d.lost) / (plcEnd - plcHold)
	}
	d.lost++
	return int16(v)
}

// join fades the first good samples in over the concealment that would have followed.
func (d *G711Decoder) join(pcm []int16) {
	n := min(plcOverlap, len(pcm))
	for i := range n {
		d.tail[i] = d.next()
	}
	for i := range n {
		pcm[i] = int16((int32(pcm[i])*int32(i+1) + int32(d.tail[i])*int32(n-i)) / int32(n+1))
	}
	d.lost = 0
}

func (d *G711Decoder) remember(pcm []int16) {
	if len(pcm) >= plcHistory {
		copy(d.history[:], pcm[len(pcm)-plcHistory:])
	} else {
		copy(d.history[:], d.history[len(pcm):])
		copy(d.history[plcHistory-len(pcm):], pcm)
	}
	d.filled = min(plcHistory, d.filled+len(pcm))
}

// pitch is the lag at which the newest speech is most like itself.
func (d *G711Decoder) pitch() int {
	h := d.history[:]
	end := h[plcHistory-plcWindow:]
	best, bestLag := float32(0), plcMaxPitch
	for lag := plcMinPitch; lag <= plcMaxPitch; lag++ {
		past := h[plcHistory-plcWindow-lag : plcHistory-lag]
		var dot, energy float32
		for i := 0; i < plcWindow; i += 2 {
			a, b := float32(end[i]), float32(past[i])
			dot += a * b
			energy += b * b
		}
		if dot <= 0 || energy == 0 {
			continue
		}
		if score := dot * dot / energy; score > best {
			best, bestLag = score, lag
		}
	}
	return bestLag
}
