package campaign

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Errors of caller-id lists.
var (
	// ErrCallerID is the cause of every error about one entry.
	ErrCallerID = errors.New("not a caller id like PREFIX#NUMBER-FROM-TO")
	// ErrNoGeneric means that a list has no entry without a prefix (VOICE-21).
	ErrNoGeneric = errors.New("no caller id without a prefix")
)

const (
	maxDigits     = 20 // of a number anywhere in a campaign
	maxRandDigits = 12
	maxCallerIDs  = 10_000
)

// CallerID is one entry of a campaign's caller ids (VOICE-18).
type CallerID struct {
	Prefix string // numbers that begin so use this entry; "" = any
	Number string
	// RandFrom and RandTo are of equal length; a random number between them,
	// both included, is appended to Number (VOICE-22). Empty = nothing is.
	RandFrom, RandTo string
}

// ParseCallerID reads PREFIX#NUMBER-FROM-TO; only NUMBER is needed.
func ParseCallerID(s string) (CallerID, error) {
	var c CallerID
	rest := strings.TrimSpace(s)
	if prefix, after, ok := strings.Cut(rest, "#"); ok {
		if !isDigits(prefix) {
			return c, fmt.Errorf("%.60q: prefix: %w", s, ErrCallerID)
		}
		c.Prefix, rest = prefix, after
	}
	parts := strings.Split(rest, "-")
	c.Number = strings.TrimPrefix(parts[0], "+")
	switch len(parts) {
	case 1:
	case 3:
		c.RandFrom, c.RandTo = parts[1], parts[2]
		if !isDigits(c.RandFrom) || !isDigits(c.RandTo) || len(c.RandFrom) != len(c.RandTo) ||
			len(c.RandFrom) > maxRandDigits || c.RandFrom > c.RandTo {
			return CallerID{}, fmt.Errorf("%.60q: range %.40q: %w", s, strings.Join(parts[1:], "-"), ErrCallerID)
		}
	default:
		return CallerID{}, fmt.Errorf("%.60q: %w", s, ErrCallerID)
	}
	if !isDigits(c.Number) || len(c.Prefix) > maxDigits || len(c.Number)+len(c.RandFrom) > maxDigits {
		return CallerID{}, fmt.Errorf("%.60q: number: %w", s, ErrCallerID)
	}
	return c, nil
}

// String returns the entry as ParseCallerID reads it.
func (c CallerID) String() string {
	s := c.Number
	if c.Prefix != "" {
		s = c.Prefix + "#" + s
	}
	if c.RandFrom != "" {
		s += "-" + c.RandFrom + "-" + c.RandTo
	}
	return s
}

// make returns a number to show, with the random part filled in.
func (c CallerID) make(r *rand.Rand) string {
	if c.RandFrom == "" {
		return c.Number
	}
	from, err1 := strconv.ParseInt(c.RandFrom, 10, 64)
	to, err2 := strconv.ParseInt(c.RandTo, 10, 64)
	if err1 != nil || err2 != nil || to < from {
		return c.Number // only an entry that no parser made
	}
	n := from + r.Int64N(to-from+1)
	return c.Number + fmt.Sprintf("%0*d", len(c.RandFrom), n)
}

// CallerIDs are the caller ids of one campaign.
type CallerIDs []CallerID

// ParseCallerIDs reads a list of entries and checks that one of them is
// without a prefix (VOICE-21).
func ParseCallerIDs(entries []string) (CallerIDs, error) {
	ids := make(CallerIDs, 0, len(entries))
	generic := false
	for _, e := range entries {
		c, err := ParseCallerID(e)
		if err != nil {
			return nil, err
		}
		generic = generic || c.Prefix == ""
		ids = append(ids, c)
	}
	if !generic {
		return nil, ErrNoGeneric
	}
	return ids, nil
}

// ReadCallerIDs reads a file of one entry per line (VOICE-23). Blank lines are
// skipped; an error names its line.
func ReadCallerIDs(r io.Reader) ([]string, error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 4096), 4096)
	var out []string
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if n == 1 {
			line = strings.TrimSpace(strings.TrimPrefix(line, "\ufeff"))
		}
		if line == "" {
			continue
		}
		c, err := ParseCallerID(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if len(out) == maxCallerIDs {
			return nil, fmt.Errorf("line %d: more than %d entries: %w", n, maxCallerIDs, ErrCallerID)
		}
		out = append(out, c.String())
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read caller ids: %w", err)
	}
	if _, err := ParseCallerIDs(out); err != nil {
		return nil, err
	}
	return out, nil
}

// Choose returns the caller id to show to a number: one at random of those
// whose prefix the number begins with, else one of those without a prefix
// (VOICE-19, VOICE-20). Empty when there is none.
func (ids CallerIDs) Choose(number string, r *rand.Rand) string {
	var match, generic []CallerID
	for _, c := range ids {
		switch {
		case c.Prefix == "":
			generic = append(generic, c)
		case strings.HasPrefix(number, c.Prefix):
			match = append(match, c)
		}
	}
	if len(match) == 0 {
		match = generic
	}
	if len(match) == 0 {
		return ""
	}
	return match[r.IntN(len(match))].make(r)
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
