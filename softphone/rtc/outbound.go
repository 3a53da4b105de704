package rtc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/gateway/media/dtmf"
	"github.com/cordboard/cordboard/softphone/audio"
)

// ErrNoDigits is returned when the far side takes no telephone events.
var ErrNoDigits = errors.New("far side takes no telephone events")

// binding is what pion gives a track to write to.
type binding struct {
	w    webrtc.TrackLocalWriter
	ssrc uint32
}

// outbound is the sending half: a track of ours that writes audio and telephone events with one SSRC and
// one clock.
type outbound struct {
	to atomic.Pointer[binding]

	mu      sync.Mutex
	audio   format
	event   format
	enc     codec.Encoder
	encRate int
	up      *codec.Resampler
	pcm     []int16 // after resampling
	buf     []byte
	seq     uint16
	ts      uint32
	sending bool // a packet was sent in the turn before: no marker needed
	digits  *dtmf.Sender

	packets, octets uint32
	lastTS          uint32
	lastAt          time.Time
}

func newOutbound() *outbound {
	return &outbound{
		buf: make([]byte, codec.MaxOpusPacket),
		seq: uint16(rand.UintN(1 << 15)), //nolint:gosec // G404: a start value, not a secret
		ts:  rand.Uint32(),               //nolint:gosec // G404: as above
	}
}

// Bind implements webrtc.TrackLocal.
func (o *outbound) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	for _, p := range c.CodecParameters() {
		if p.MimeType != "audio/"+codec.TelephoneEvent {
			o.to.Store(&binding{w: c.WriteStream(), ssrc: uint32(c.SSRC())})
			return p, nil
		}
	}
	return webrtc.RTPCodecParameters{}, ErrNoCommonCodec
}

// Unbind implements webrtc.TrackLocal.
func (o *outbound) Unbind(webrtc.TrackLocalContext) error {
	o.to.Store(nil)
	return nil
}

// ID implements webrtc.TrackLocal.
func (*outbound) ID() string { return "audio" }

// RID implements webrtc.TrackLocal.
func (*outbound) RID() string { return "" }

// StreamID implements webrtc.TrackLocal.
func (*outbound) StreamID() string { return "phone" }

// Kind implements webrtc.TrackLocal.
func (*outbound) Kind() webrtc.RTPCodecType { return webrtc.RTPCodecTypeAudio }

// use sets what is sent from now on.
func (o *outbound) use(audioFormat, event format) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.audio.name != audioFormat.name {
		o.enc, o.encRate, o.up = nil, 0, nil
	}
	if o.event != event || o.digits == nil {
		o.digits = nil
		if event.name != "" {
			o.digits = dtmf.NewSender(event.rate, audio.FrameTime)
		}
	}
	o.audio, o.event = audioFormat, event
}

func (o *outbound) codec() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.audio.name
}

func (o *outbound) press(digits string, each time.Duration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.digits == nil {
		return ErrNoDigits
	}
	if err := o.digits.Queue(digits, each); err != nil {
		return fmt.Errorf("send digits: %w", err)
	}
	return nil
}

// pressing reports whether digits are still on their way.
func (o *outbound) pressing() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.digits != nil && o.digits.Active()
}

// send takes one turn: a telephone event if one is due, else pcm (nil sends nothing). skipped turns that
// never came move the clock on.
func (o *outbound) send(pcm []int16, rate, skipped int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.audio.name == "" {
		return nil
	}
	step := uint32(o.audio.rate / 50)
	o.ts += step * uint32(skipped)
	ts := o.ts
	o.ts += step
	if o.digits != nil {
		if p, ok := o.digits.Next(ts); ok {
			o.sending = false
			return o.write(o.event.pt, p.Timestamp, p.Marker, p.Payload[:])
		}
	}
	if pcm == nil {
		o.sending = false
		return nil
	}
	payload, err := o.encode(pcm, rate)
	if err != nil || len(payload) == 0 {
		return err
	}
	marker := !o.sending
	o.sending = true
	o.lastTS, o.lastAt = ts, time.Now()
	return o.write(o.audio.pt, ts, marker, payload)
}

func (o *outbound) encode(pcm []int16, rate int) ([]byte, error) {
	if o.enc == nil || o.encRate != rate {
		at := encoderRate(o.audio.name, rate)
		enc, err := codec.NewEncoder(o.audio.name, at)
		if err != nil {
			return nil, fmt.Errorf("make encoder: %w", err)
		}
		o.enc, o.encRate, o.up = enc, rate, nil
		if at != rate {
			if o.up, err = codec.NewResampler(rate, at); err != nil {
				return nil, fmt.Errorf("make encoder: %w", err)
			}
		}
	}
	if o.up != nil {
		size := audio.FrameSize(o.enc.Rate())
		o.pcm = o.up.Append(o.pcm, pcm)
		if len(o.pcm) < size { // the filter's delay, once
			return nil, nil
		}
		n, err := o.enc.Encode(o.buf, o.pcm[:size])
		o.pcm = o.pcm[:copy(o.pcm, o.pcm[size:])]
		if err != nil {
			return nil, fmt.Errorf("encode: %w", err)
		}
		return o.buf[:n], nil
	}
	n, err := o.enc.Encode(o.buf, pcm)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return o.buf[:n], nil
}

// encoderRate is the API rate of a codec for sound of a rate: Opus takes what it is given.
func encoderRate(name string, rate int) int {
	if name == codec.Opus {
		return rate
	}
	return audio.RateNarrow
}

func (o *outbound) write(pt uint8, ts uint32, marker bool, payload []byte) error {
	b := o.to.Load()
	if b == nil {
		return nil
	}
	h := rtp.Header{Version: 2, Marker: marker, PayloadType: pt, SequenceNumber: o.seq, Timestamp: ts, SSRC: b.ssrc}
	o.seq++
	n, err := b.w.WriteRTP(&h, payload)
	if err != nil {
		return fmt.Errorf("send packet: %w", err)
	}
	if n > 0 { // 0 before DTLS is done
		o.packets++
		o.octets += uint32(len(payload))
	}
	return nil
}

// loss tells an encoder with FEC how much the far side loses.
func (o *outbound) loss(share float64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e, ok := o.enc.(*codec.OpusEncoder); ok {
		// The encoder keeps what it had if it refuses; a percentage is never refused.
		_ = e.SetLoss(max(5, min(40, int(share*100+0.5))))
	}
}

// report is what a sender report says: the RTP time of now and what was sent.
func (o *outbound) report(now time.Time) (ssrc, ts, packets, octets uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if b := o.to.Load(); b != nil {
		ssrc = b.ssrc
	}
	if o.packets > 0 && !o.lastAt.IsZero() {
		ts = o.lastTS + uint32(now.Sub(o.lastAt).Seconds()*float64(o.audio.rate))
	}
	return ssrc, ts, o.packets, o.octets
}
