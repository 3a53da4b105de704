package dtmf

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Content types of SIP INFO bodies that carry digits.
const (
	TypeRelay = "application/dtmf-relay"
	TypePlain = "application/dtmf"
)

// maxBody bounds what ParseInfo looks at.
const maxBody = 256

// IsInfo reports whether a SIP INFO of that content type carries digits.
func IsInfo(contentType string) bool {
	t := mediaType(contentType)
	return t == TypeRelay || t == TypePlain
}

// ParseInfo reads the digit of a SIP INFO body. A body without a duration gives DefaultDuration.
func ParseInfo(contentType string, body []byte) (digit byte, d time.Duration, err error) {
	if len(body) > maxBody {
		return 0, 0, fmt.Errorf("%d bytes: %w", len(body), ErrBody)
	}
	text := string(body)
	switch mediaType(contentType) {
	case TypeRelay:
		return parseRelay(text)
	case TypePlain:
		digit, err = infoDigit(strings.TrimSpace(text))
		return digit, DefaultDuration, err
	}
	return 0, 0, fmt.Errorf("content type %q: %w", contentType, ErrBody)
}

// FormatInfo makes a SIP INFO body of type application/dtmf-relay.
func FormatInfo(digit byte, d time.Duration) (contentType string, body []byte, err error) {
	if _, ok := Code(digit); !ok {
		return "", nil, fmt.Errorf("%q: %w", digit, ErrDigit)
	}
	if d <= 0 {
		d = DefaultDuration
	}
	d = min(max(d, time.Millisecond), MaxDuration)
	return TypeRelay, fmt.Appendf(nil, "Signal=%c\r\nDuration=%d\r\n", upper(digit), d.Milliseconds()), nil
}

func parseRelay(text string) (digit byte, d time.Duration, err error) {
	d = DefaultDuration
	found := false
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\r' || r == '\n' }) {
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "signal":
			if digit, err = infoDigit(value); err != nil {
				return 0, 0, err
			}
			found = true
		case "duration":
			ms, err := strconv.Atoi(value)
			if err != nil || ms < 0 {
				return 0, 0, fmt.Errorf("duration %q: %w", value, ErrBody)
			}
			if ms > 0 {
				d = min(time.Duration(ms)*time.Millisecond, MaxDuration)
			}
		}
	}
	if !found {
		return 0, 0, fmt.Errorf("no signal: %w", ErrBody)
	}
	return digit, d, nil
}

// infoDigit reads one digit, also written as an event code ("10" for *, "11"
// for #) as some phones do.
func infoDigit(s string) (byte, error) {
	if len(s) == 1 {
		if _, ok := Code(s[0]); ok {
			return upper(s[0]), nil
		}
	}
	if n, err := strconv.Atoi(s); err == nil && len(s) == 2 && n >= 10 {
		if digit, ok := Digit(uint8(n)); ok {
			return digit, nil
		}
	}
	if strings.EqualFold(s, "flash") {
		return '!', nil
	}
	return 0, fmt.Errorf("signal %q: %w", s, ErrBody)
}

func mediaType(s string) string {
	s, _, _ = strings.Cut(s, ";")
	return strings.ToLower(strings.TrimSpace(s))
}
