package rtc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

// Direction is who sends media, seen from the description's author (RFC 3264 section 6.1).
type Direction int

// The directions.
const (
	SendRecv Direction = iota
	SendOnly
	RecvOnly
	Inactive
)

// String is the SDP attribute.
func (d Direction) String() string {
	switch d {
	case SendOnly:
		return "sendonly"
	case RecvOnly:
		return "recvonly"
	case Inactive:
		return "inactive"
	case SendRecv:
	}
	return "sendrecv"
}

// sends reports whether the author of d sends.
func (d Direction) sends() bool { return d == SendRecv || d == SendOnly }

// receives reports whether the author of d wants to receive.
func (d Direction) receives() bool { return d == SendRecv || d == RecvOnly }

func direction(sends, receives bool) Direction {
	switch {
	case sends && receives:
		return SendRecv
	case sends:
		return SendOnly
	case receives:
		return RecvOnly
	default:
		return Inactive
	}
}

const (
	// maxDescription bounds a session description.
	maxDescription = 64 << 10
	audioMedia     = "m=audio "
	mediaPrefix    = "m="
)

// ErrDescription is returned for a session description that cannot be used.
var ErrDescription = errors.New("session description cannot be used")

// ErrNoCommonCodec is returned when the far side speaks none of our codecs.
var ErrNoCommonCodec = errors.New("no common codec")

// format is one payload type of the audio section.
type format struct {
	pt   uint8
	name string // as rtpmap writes it
	rate int
}

func (f format) event() bool { return strings.EqualFold(f.name, codec.TelephoneEvent) }

// description is what the phone needs to know of a far side's SDP beyond what pion reads itself.
type description struct {
	direction Direction
	formats   []format // in the author's order
	mid       bool
	webrtc    bool // has a fingerprint and ICE credentials
}

// readDescription reads the first audio section.
func readDescription(sdp []byte) (description, error) {
	var d description
	if len(sdp) > maxDescription {
		return d, fmt.Errorf("%d bytes: %w", len(sdp), ErrDescription)
	}
	if !strings.HasPrefix(string(sdp), "v=0") {
		return d, fmt.Errorf("no version: %w", ErrDescription)
	}
	var pts []uint8
	names := map[uint8]format{}
	inAudio, found, fingerprint, ufrag := false, false, false, false
	session := SendRecv
	for line := range strings.SplitSeq(string(sdp), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if strings.HasPrefix(line, mediaPrefix) {
			inAudio = !found && strings.HasPrefix(line, audioMedia)
			if inAudio {
				found = true
				d.direction = session
				pts = payloadTypes(line)
			}
			continue
		}
		if dir, ok := directionOf(line); ok {
			if inAudio {
				d.direction = dir
			} else if !found {
				session = dir
			}
		}
		if found && !inAudio {
			continue
		}
		switch {
		case strings.HasPrefix(line, "a=fingerprint:"):
			fingerprint = true
		case strings.HasPrefix(line, "a=ice-ufrag:"):
			ufrag = true
		case inAudio && strings.HasPrefix(line, "a=mid:"):
			d.mid = true
		case inAudio && strings.HasPrefix(line, "a=rtpmap:"):
			if f, ok := rtpmap(line); ok {
				names[f.pt] = f
			}
		}
	}
	if !found {
		return d, fmt.Errorf("no audio: %w", ErrDescription)
	}
	d.webrtc = fingerprint && ufrag
	for _, pt := range pts {
		f, ok := names[pt]
		if !ok {
			c, static := codec.ByPayloadType(pt)
			if !static {
				continue
			}
			f = format{pt: pt, name: c.Name, rate: c.ClockRate}
		}
		d.formats = append(d.formats, f)
	}
	return d, nil
}

// choose picks the first of the author's formats that is among our codecs, and its telephone-event.
func (d description) choose(ours []codec.Codec) (audio, event format, ok bool) {
	for _, f := range d.formats {
		for _, c := range ours {
			if !ok && strings.EqualFold(c.Name, f.name) && c.ClockRate == f.rate {
				audio, ok = f, true
			}
		}
	}
	for _, f := range d.formats {
		if f.event() && (event.name == "" || f.rate == audio.rate) {
			event = f
		}
	}
	return audio, event, ok
}

func payloadTypes(line string) []uint8 {
	fields := strings.Fields(line)
	var out []uint8
	for _, s := range fields[min(3, len(fields)):] {
		if n, err := strconv.ParseUint(s, 10, 7); err == nil {
			out = append(out, uint8(n))
		}
	}
	return out
}

// rtpmap reads "a=rtpmap:111 opus/48000/2".
func rtpmap(line string) (format, bool) {
	pt, rest, ok := strings.Cut(strings.TrimPrefix(line, "a=rtpmap:"), " ")
	if !ok {
		return format{}, false
	}
	n, err := strconv.ParseUint(pt, 10, 7)
	if err != nil {
		return format{}, false
	}
	parts := strings.Split(strings.TrimSpace(rest), "/")
	if len(parts) < 2 {
		return format{}, false
	}
	rate, err := strconv.Atoi(parts[1])
	if err != nil || rate <= 0 {
		return format{}, false
	}
	return format{pt: uint8(n), name: parts[0], rate: rate}, true
}

func directionOf(line string) (Direction, bool) {
	switch line {
	case "a=sendrecv":
		return SendRecv, true
	case "a=sendonly":
		return SendOnly, true
	case "a=recvonly":
		return RecvOnly, true
	case "a=inactive":
		return Inactive, true
	}
	return SendRecv, false
}

// withDirection returns the description with every direction replaced by dir.
func withDirection(sdp []byte, dir Direction) []byte {
	out := make([]byte, 0, len(sdp)+32)
	for line := range strings.SplitAfterSeq(string(sdp), "\n") {
		text := strings.TrimRight(line, "\r\n")
		if _, ok := directionOf(text); ok {
			out = append(out, "a="+dir.String()...)
			out = append(out, line[len(text):]...)
			continue
		}
		out = append(out, line...)
	}
	return out
}

// withMid puts a mid into an audio section that has none, before its first attribute: pion refuses a
// description without.
func withMid(sdp []byte) []byte {
	out := make([]byte, 0, len(sdp)+16)
	inAudio, done := false, false
	for line := range strings.SplitAfterSeq(string(sdp), "\n") {
		if inAudio && !done && (strings.HasPrefix(line, "a=") || strings.HasPrefix(line, mediaPrefix)) {
			out = append(out, "a=mid:0\r\n"...)
			done = true
		}
		inAudio = inAudio || strings.HasPrefix(line, audioMedia)
		out = append(out, line...)
	}
	return out
}
