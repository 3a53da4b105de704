package dtmf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// PayloadSize is the size of one RFC 4733 event block.
const PayloadSize = 4

// MaxEventDuration is how much one event can say before it is continued in a
// new segment (RFC 4733 section 2.5.1.3).
const MaxEventDuration = 0xFFFF

// Flash is the code of a hook flash; its digit is '!'.
const Flash = 16

var (
	// ErrPayload means that an RTP payload is no telephone event.
	ErrPayload = errors.New("dtmf: bad telephone-event payload")
	// ErrDigit means that a character is no DTMF digit.
	ErrDigit = errors.New("dtmf: not a digit")
	// ErrFull means that too many digits wait to be sent.
	ErrFull = errors.New("dtmf: too many digits waiting")
	// ErrBody means that a SIP INFO body holds no digit.
	ErrBody = errors.New("dtmf: bad INFO body")
)

// Event is one RFC 4733 event block.
type Event struct {
	Code     uint8 // 0-9, 10 *, 11 #, 12-15 A-D, 16 flash; others exist (fax tones)
	End      bool
	Volume   uint8  // -dBm0, 0 to 63
	Duration uint16 // in ticks of the RTP clock
}

// ParseEvent reads the first event block of an RTP payload.
func ParseEvent(payload []byte) (Event, error) {
	if len(payload) < PayloadSize {
		return Event{}, fmt.Errorf("%d bytes: %w", len(payload), ErrPayload)
	}
	return Event{
		Code:     payload[0],
		End:      payload[1]&0x80 != 0,
		Volume:   payload[1] & 0x3F,
		Duration: binary.BigEndian.Uint16(payload[2:]),
	}, nil
}

// Append appends the event block to dst.
func (e Event) Append(dst []byte) []byte {
	flags := e.Volume & 0x3F
	if e.End {
		flags |= 0x80
	}
	return append(dst, e.Code, flags, byte(e.Duration>>8), byte(e.Duration))
}

// Digit is the character of an event code; ok is false for events that are no digits.
func Digit(code uint8) (digit byte, ok bool) {
	const digits = "0123456789*#ABCD!"
	if int(code) >= len(digits) {
		return 0, false
	}
	return digits[code], true
}

// Code is the event code of a digit (0-9 * # A-D a-d, ! for flash).
func Code(digit byte) (code uint8, ok bool) {
	i := strings.IndexByte("0123456789*#ABCD!", upper(digit))
	if i < 0 {
		return 0, false
	}
	return uint8(i), true
}

// Valid reports whether all of s can be sent. A comma is a pause.
func Valid(s string) error {
	for i := range len(s) {
		if _, ok := Code(s[i]); !ok && s[i] != ',' {
			return fmt.Errorf("%q at %d: %w", s[i], i, ErrDigit)
		}
	}
	return nil
}

func upper(b byte) byte {
	if 'a' <= b && b <= 'd' {
		return b - 'a' + 'A'
	}
	return b
}

func ticks(d time.Duration, clock int) uint32 {
	return uint32(d * time.Duration(clock) / time.Second)
}

func length(t uint64, clock int) time.Duration {
	return time.Duration(t) * time.Second / time.Duration(clock)
}
