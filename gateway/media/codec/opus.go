package codec

import (
	"fmt"

	"github.com/thesyncim/gopus"
)

// MaxOpusPacket bounds one packet of 20 ms (RFC 6716 section 3.2.1).
const MaxOpusPacket = 1275

// OpusOptions say how speech is coded; zero values give a telephone conversation.
type OpusOptions struct {
	Rate        int  // API rate in Hz: 8000, 12000, 16000, 24000 or 48000
	Bitrate     int  // bit/s; 0 = 16000 at 8 kHz, 24000 at 16 kHz, 32000 above
	Complexity  int  // 0 to 10; 0 = the default of 5, -1 = the cheapest
	FEC         bool // carry the previous frame again at low rate (LBRR)
	LossPercent int  // expected loss; FEC is only as strong as this says
	DTX         bool // send nothing in silence
	Music       bool // tune for music instead of speech
}

// OpusEncoder codes mono frames of 20 ms.
type OpusEncoder struct {
	enc   *gopus.Encoder
	rate  int
	frame int
}

// NewOpusEncoder makes an encoder.
func NewOpusEncoder(o OpusOptions) (*OpusEncoder, error) {
	if !opusRate(o.Rate) {
		return nil, fmt.Errorf("opus at %d Hz: %w", o.Rate, ErrRate)
	}
	app := gopus.ApplicationVoIP
	if o.Music {
		app = gopus.ApplicationAudio
	}
	enc, err := gopus.NewEncoder(gopus.EncoderConfig{SampleRate: o.Rate, Channels: 1, Application: app})
	if err != nil {
		return nil, fmt.Errorf("make opus encoder: %w", err)
	}
	e := &OpusEncoder{enc: enc, rate: o.Rate, frame: o.Rate / 50}
	if err := e.configure(o); err != nil {
		return nil, fmt.Errorf("configure opus encoder: %w", err)
	}
	return e, nil
}

func (e *OpusEncoder) configure(o OpusOptions) error {
	if o.Bitrate == 0 {
		switch {
		case o.Rate <= 8000:
			o.Bitrate = 16000
		case o.Rate <= 16000:
			o.Bitrate = 24000
		default:
			o.Bitrate = 32000
		}
	}
	switch o.Complexity {
	case 0:
		o.Complexity = 5
	case -1:
		o.Complexity = 0
	}
	if err := e.enc.SetFrameSize(e.frame); err != nil {
		return err
	}
	if err := e.enc.SetBitrate(o.Bitrate); err != nil {
		return err
	}
	if err := e.enc.SetComplexity(o.Complexity); err != nil {
		return err
	}
	signal := gopus.SignalVoice
	if o.Music {
		signal = gopus.SignalMusic
	}
	if err := e.enc.SetSignal(signal); err != nil {
		return err
	}
	e.enc.SetDTX(o.DTX)
	e.enc.SetFEC(o.FEC)
	return e.enc.SetPacketLoss(o.LossPercent)
}

// SetLoss tells the encoder how much the far side loses (from RTCP), so that
// FEC gets its share of the bits.
func (e *OpusEncoder) SetLoss(percent int) error {
	if err := e.enc.SetPacketLoss(min(max(percent, 0), 100)); err != nil {
		return fmt.Errorf("set opus loss: %w", err)
	}
	return nil
}

// Encode implements Encoder; pcm is exactly 20 ms.
func (e *OpusEncoder) Encode(dst []byte, pcm []int16) (int, error) {
	if len(pcm) != e.frame {
		return 0, fmt.Errorf("opus frame of %d samples, want %d: %w", len(pcm), e.frame, ErrShortBuffer)
	}
	n, err := e.enc.EncodeInt16(pcm, dst)
	if err != nil {
		return 0, fmt.Errorf("encode opus: %w", err)
	}
	return n, nil
}

// Rate implements Encoder.
func (e *OpusEncoder) Rate() int { return e.rate }

// OpusDecoder decodes one direction of an Opus stream to mono.
type OpusDecoder struct {
	dec     *gopus.Decoder
	rate    int
	scratch []float32
}

// NewOpusDecoder makes a decoder with the given API rate.
func NewOpusDecoder(rate int) (*OpusDecoder, error) {
	if !opusRate(rate) {
		return nil, fmt.Errorf("opus at %d Hz: %w", rate, ErrRate)
	}
	dec, err := gopus.NewDecoder(gopus.DefaultDecoderConfig(rate, 1))
	if err != nil {
		return nil, fmt.Errorf("make opus decoder: %w", err)
	}
	return &OpusDecoder{dec: dec, rate: rate, scratch: make([]float32, MaxFrameSamples)}, nil
}

// Rate implements Decoder.
func (d *OpusDecoder) Rate() int { return d.rate }

// Decode implements Decoder.
func (d *OpusDecoder) Decode(pcm []int16, payload []byte) (int, error) {
	if len(payload) == 0 {
		return 0, fmt.Errorf("decode opus: empty payload: %w", ErrShortBuffer)
	}
	n, err := d.dec.DecodeInt16(payload, pcm)
	if err != nil {
		return 0, fmt.Errorf("decode opus: %w", err)
	}
	return n, nil
}

// Conceal implements Decoder.
func (d *OpusDecoder) Conceal(pcm []int16) error {
	n, err := d.dec.DecodeInt16(nil, pcm)
	if err != nil {
		return fmt.Errorf("conceal opus: %w", err)
	}
	clear(pcm[min(n, len(pcm)):])
	return nil
}

// Recover implements Decoder.
func (d *OpusDecoder) Recover(pcm []int16, next []byte) (bool, error) {
	if len(next) == 0 || len(pcm) > len(d.scratch) {
		return false, d.Conceal(pcm)
	}
	fec := gopus.PacketHasLBRR(next)
	n, err := d.dec.DecodeWithFEC(next, d.scratch[:len(pcm)], true)
	if err != nil {
		return false, fmt.Errorf("recover opus: %w", err)
	}
	n = min(n, len(pcm))
	for i, v := range d.scratch[:n] {
		pcm[i] = int16(min(max(v*32768, -32768), 32767))
	}
	clear(pcm[n:])
	return fec, nil
}

func opusRate(rate int) bool {
	switch rate {
	case 8000, 12000, 16000, 24000, 48000:
		return true
	}
	return false
}
