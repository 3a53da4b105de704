package campaign

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// FieldError says what is wrong with one field of a campaign. Field is the
// field's name on the wire: "ringSeconds", "members[2].user".
type FieldError struct {
	Field   string
	Problem string
}

// Error implements error.
func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// Problems is everything that is wrong with a campaign.
type Problems []*FieldError //nolint:errname // it is a list of errors, named by what it holds

// Error implements error.
func (p Problems) Error() string {
	parts := make([]string, len(p))
	for i, e := range p {
		parts[i] = e.Error()
	}
	return strings.Join(parts, "; ")
}

// Unwrap lets errors.As find each FieldError.
func (p Problems) Unwrap() []error {
	out := make([]error, len(p))
	for i, e := range p {
		out[i] = e
	}
	return out
}

func (p *Problems) add(field, format string, args ...any) {
	*p = append(*p, &FieldError{Field: field, Problem: fmt.Sprintf(format, args...)})
}

// FieldsOf returns the field errors inside err, in order; none when err is of
// another kind.
func FieldsOf(err error) []*FieldError {
	if p, ok := errors.AsType[Problems](err); ok {
		return p
	}
	if e, ok := errors.AsType[*FieldError](err); ok {
		return []*FieldError{e}
	}
	return nil
}

// Defaults returns a new inbound voice campaign that works as soon as it has a
// name, a DID and members (VOICE-10). What a caller reads from a file or a
// request is decoded on top of it.
func Defaults() Campaign {
	return Campaign{
		Channel:       "voice",
		Direction:     Inbound,
		Strategy:      LeastRecent,
		RingTime:      15 * time.Second,
		Retry:         3 * time.Second,
		ServiceLevel:  20 * time.Second,
		MaxWait:       10 * time.Minute,
		MaxLen:        100,
		JoinEmpty:     true,
		NoAnswerPause: 2,
		Schedule:      Always(),
	}
}

// The bounds of a campaign's fields.
const (
	maxName    = 100
	maxMembers = 10_000
	maxList    = 1000
	maxPenalty = 1000
)

// Validate reports everything that is wrong with the campaign by itself, as
// Problems. Whether its trunk, form and users exist is checked by those who
// know them.
func (c *Campaign) Validate() error {
	var p Problems
	switch {
	case strings.TrimSpace(c.Name) == "":
		p.add("name", "is missing")
	case len(c.Name) > maxName:
		p.add("name", "is longer than %d bytes", maxName)
	case strings.ContainsFunc(c.Name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '|' }):
		p.add("name", "has a control character or a vertical bar")
	}
	if c.Channel != "voice" {
		p.add("channel", "%.20q is not known; voice is", c.Channel)
	}
	switch c.Direction {
	case Inbound, Outbound:
	default:
		p.add("direction", "%.20q is neither inbound nor outbound", c.Direction)
	}
	if !c.Strategy.Known() {
		p.add("strategy", "%.20q is not one of ringall, leastrecent, fewestcalls, random, rrmemory, linear, wrandom", c.Strategy)
	}
	c.validateTimes(&p)
	if c.Weight < -1000 || c.Weight > 1000 {
		p.add("weight", "%d is not between -1000 and 1000", c.Weight)
	}
	if c.MaxLen < 0 {
		p.add("maxLen", "%d is negative", c.MaxLen)
	}
	if c.NoAnswerPause < 0 {
		p.add("noAnswerPause", "%d is negative", c.NoAnswerPause)
	}
	for i, w := range c.Schedule {
		if w.days == 0 {
			p.add(fmt.Sprintf("schedule[%d]", i), "has no days")
		}
	}
	if c.Timezone != "" {
		if _, err := time.LoadLocation(c.Timezone); err != nil || c.Timezone == "Local" {
			p.add("timezone", "%.40q is not an IANA time zone", c.Timezone)
		}
	}
	c.validateLists(&p)
	if len(p) > 0 {
		return p
	}
	return nil
}

func (c *Campaign) validateTimes(p *Problems) {
	for _, d := range []struct {
		field    string
		v        time.Duration
		min, max time.Duration
	}{
		{"ringSeconds", c.RingTime, time.Second, 10 * time.Minute},
		{"retrySeconds", c.Retry, 0, time.Hour},
		{"wrapUpSeconds", c.WrapUp, 0, 24 * time.Hour},
		{"serviceLevelSeconds", c.ServiceLevel, 0, 24 * time.Hour},
		{"maxWaitSeconds", c.MaxWait, 0, 24 * time.Hour},
	} {
		if d.v < d.min || d.v > d.max {
			p.add(d.field, "%g is not between %g and %g", d.v.Seconds(), d.min.Seconds(), d.max.Seconds())
		}
	}
}

func (c *Campaign) validateLists(p *Problems) {
	seen := map[string]bool{}
	for i, did := range c.DIDs {
		field := fmt.Sprintf("did[%d]", i)
		switch {
		case !isDigits(did) || len(did) > maxDigits:
			p.add(field, "%.30q is not a number of up to %d digits", did, maxDigits)
		case seen[did]:
			p.add(field, "%s is there twice", did)
		}
		seen[did] = true
	}
	clear(seen)
	for i, m := range c.Members {
		field := fmt.Sprintf("members[%d]", i)
		switch {
		case m.User == "":
			p.add(field+".user", "is missing")
		case seen[m.User]:
			p.add(field+".user", "%.60q is there twice", m.User)
		}
		seen[m.User] = true
		if m.Penalty < 0 || m.Penalty > maxPenalty {
			p.add(field+".penalty", "%d is not between 0 and %d", m.Penalty, maxPenalty)
		}
	}
	clear(seen)
	for i, b := range c.Breaks {
		field := fmt.Sprintf("breaks[%d]", i)
		switch {
		case strings.TrimSpace(b) == "" || len(b) > maxName:
			p.add(field, "is empty or longer than %d bytes", maxName)
		case seen[b]:
			p.add(field, "%.60q is there twice", b)
		}
		seen[b] = true
	}
	for _, l := range []struct {
		field string
		n     int
		max   int
	}{{"did", len(c.DIDs), maxList}, {"members", len(c.Members), maxMembers}, {"breaks", len(c.Breaks), maxList}, {"callerId", len(c.CallerID), maxList * 10}, {"schedule", len(c.Schedule), maxList}} {
		if l.n > l.max {
			p.add(l.field, "has %d entries, more than %d", l.n, l.max)
		}
	}
	if len(c.CallerID) > 0 {
		if _, err := ParseCallerIDs(c.CallerID); err != nil {
			p.add("callerId", "%v", err)
		}
	}
}

// Known reports whether s is one of the seven strategies.
func (s Strategy) Known() bool {
	switch s {
	case RingAll, LeastRecent, FewestCalls, Random, RRMemory, Linear, WRandom:
		return true
	default:
		return false
	}
}
