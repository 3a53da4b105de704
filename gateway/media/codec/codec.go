package codec

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Names as SDP writes them.
const (
	PCMU           = "PCMU"
	PCMA           = "PCMA"
	Opus           = "opus"
	G722           = "G722"
	TelephoneEvent = "telephone-event"
	ComfortNoise   = "CN"
)

// FrameDuration is the packet time used everywhere: 20 ms.
const FrameDuration = 20 * time.Millisecond

// DynamicPayloadType marks a codec without a static payload type (RFC 3551).
const DynamicPayloadType = 255

// MaxFrameSamples bounds one decoded packet: 120 ms at 48 kHz (RFC 6716 section 2.1.4).
const MaxFrameSamples = 5760

var (
	// ErrUnknown means that no codec of that name can be coded or decoded here.
	ErrUnknown = errors.New("codec: unknown codec")
	// ErrRate means that the codec does not work at that sample rate.
	ErrRate = errors.New("codec: unsupported sample rate")
	// ErrShortBuffer means that the destination cannot hold the result.
	ErrShortBuffer = errors.New("codec: destination too short")
)

// Codec is what RTP and SDP need to know about a codec.
type Codec struct {
	Name        string // as in rtpmap
	ClockRate   int    // RTP clock in Hz
	Channels    int    // as in rtpmap; Opus says 2 whatever it carries (RFC 7587)
	PayloadType uint8  // static payload type or DynamicPayloadType
	Fmtp        string // what we write into a=fmtp; empty for none
}

// TicksPerFrame is the RTP timestamp step of one 20 ms frame.
func (c Codec) TicksPerFrame() uint32 { return uint32(c.ClockRate / 50) }

// Static reports whether the payload type is fixed by RFC 3551.
func (c Codec) Static() bool { return c.PayloadType != DynamicPayloadType }

// Lookup finds a codec by its name, in any letter case.
func Lookup(name string) (Codec, bool) {
	switch strings.ToLower(name) {
	case "pcmu":
		return Codec{Name: PCMU, ClockRate: 8000, Channels: 1, PayloadType: 0}, true
	case "pcma":
		return Codec{Name: PCMA, ClockRate: 8000, Channels: 1, PayloadType: 8}, true
	case "opus":
		return Codec{Name: Opus, ClockRate: 48000, Channels: 2, PayloadType: DynamicPayloadType, Fmtp: "minptime=10;useinbandfec=1"}, true
	case "g722": // RFC 3551 section 4.5.2: an 8 kHz clock for 16 kHz speech
		return Codec{Name: G722, ClockRate: 8000, Channels: 1, PayloadType: 9}, true
	case "telephone-event":
		return Codec{Name: TelephoneEvent, ClockRate: 8000, Channels: 1, PayloadType: DynamicPayloadType, Fmtp: "0-16"}, true
	case "cn":
		return Codec{Name: ComfortNoise, ClockRate: 8000, Channels: 1, PayloadType: 13}, true
	}
	return Codec{}, false
}

// ByPayloadType finds the codec of a static payload type.
func ByPayloadType(pt uint8) (Codec, bool) {
	switch pt {
	case 0:
		return Lookup(PCMU)
	case 8:
		return Lookup(PCMA)
	case 9:
		return Lookup(G722)
	case 13:
		return Lookup(ComfortNoise)
	}
	return Codec{}, false
}

// CanDecode reports whether this package codes and decodes the named codec.
func CanDecode(name string) bool {
	return strings.EqualFold(name, PCMU) || strings.EqualFold(name, PCMA) || strings.EqualFold(name, Opus)
}

// Decoder turns the payloads of one stream into mono PCM at its API rate.
type Decoder interface {
	// Decode writes the speech of payload to pcm and returns the number of samples.
	Decode(pcm []int16, payload []byte) (int, error)
	// Conceal fills pcm (a whole number of 2.5 ms steps) in place of a lost packet.
	Conceal(pcm []int16) error
	// Recover fills pcm in place of the lost packet before next: from the
	// in-band FEC of next if it has any, else by concealment. It reports
	// whether FEC was used. next must be given to Decode after that.
	Recover(pcm []int16, next []byte) (fec bool, err error)
	// Rate is the API rate in Hz.
	Rate() int
}

// Encoder turns mono PCM at its API rate into payloads.
type Encoder interface {
	// Encode codes one frame (20 ms unless the codec says otherwise) into dst
	// and returns the payload's length.
	Encode(dst []byte, pcm []int16) (int, error)
	// Rate is the API rate in Hz.
	Rate() int
}

// NewDecoder makes a decoder for a stream; rate is the wanted API rate (8000
// for G.711; 8000, 12000, 16000, 24000 or 48000 for Opus).
func NewDecoder(name string, rate int) (Decoder, error) {
	switch {
	case strings.EqualFold(name, PCMU), strings.EqualFold(name, PCMA):
		if rate != 8000 {
			return nil, fmt.Errorf("%s at %d Hz: %w", name, rate, ErrRate)
		}
		return NewG711Decoder(LawOf(name)), nil
	case strings.EqualFold(name, Opus):
		return NewOpusDecoder(rate)
	}
	return nil, fmt.Errorf("decoder for %q: %w", name, ErrUnknown)
}

// NewEncoder makes an encoder for a stream at the given API rate. Opus is made
// with the options of a conversation; see NewOpusEncoder for others.
func NewEncoder(name string, rate int) (Encoder, error) {
	switch {
	case strings.EqualFold(name, PCMU), strings.EqualFold(name, PCMA):
		if rate != 8000 {
			return nil, fmt.Errorf("%s at %d Hz: %w", name, rate, ErrRate)
		}
		return G711Encoder{law: LawOf(name)}, nil
	case strings.EqualFold(name, Opus):
		return NewOpusEncoder(OpusOptions{Rate: rate, FEC: true, LossPercent: 5})
	}
	return nil, fmt.Errorf("encoder for %q: %w", name, ErrUnknown)
}
