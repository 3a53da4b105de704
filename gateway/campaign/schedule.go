package campaign

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ErrSchedule is the cause of every error about a schedule's text.
var ErrSchedule = errors.New("not a schedule entry like mon-fri;09:00-18:00")

const dayMinutes = 24 * 60

// Schedule is when a campaign is open: the union of its windows, by the wall
// clock of the campaign's time zone. An empty schedule is always open. In JSON
// and YAML it is a list of strings, "sun-sat;00:00-23:59" (VOICE-09).
type Schedule []Window

// Window is one entry of a schedule: days of the week and a range of hours on
// each of them. The end is not part of the range, except that 23:59 means the
// end of the day. A range whose end is before its start goes on into the next
// day: "fri;22:00-06:00" is open until six on Saturday.
type Window struct {
	days       uint8 // bit n = time.Weekday(n)
	start, end int16 // minutes after midnight; end may be dayMinutes
}

// dayName returns the three letters of a weekday, Sunday first.
func dayName(d int) string { return "sunmontuewedthufrisat"[3*d : 3*d+3] }

// ParseSchedule reads entries; each string may hold several joined with "&".
func ParseSchedule(entries ...string) (Schedule, error) {
	var s Schedule
	for _, e := range entries {
		for one := range strings.SplitSeq(e, "&") {
			w, err := ParseWindow(one)
			if err != nil {
				return nil, err
			}
			s = append(s, w)
		}
	}
	return s, nil
}

// Always is the schedule of a campaign that never closes.
func Always() Schedule { return Schedule{{days: 0x7f, end: dayMinutes}} }

// Strings returns the entries in their canonical form.
func (s Schedule) Strings() []string {
	out := make([]string, len(s))
	for i, w := range s {
		out[i] = w.String()
	}
	return out
}

// String returns the entries joined with "&", as ParseSchedule reads them.
func (s Schedule) String() string { return strings.Join(s.Strings(), "&") }

// Open reports whether the campaign is open at the moment t, by the wall clock
// of t's own location: convert it first, t.In(loc).
func (s Schedule) Open(t time.Time) bool {
	if len(s) == 0 {
		return true
	}
	for _, w := range s {
		if w.open(t) {
			return true
		}
	}
	return false
}

func (w Window) open(t time.Time) bool {
	day := int(t.Weekday())
	minute := int16(t.Hour()*60 + t.Minute())
	if w.end > w.start {
		return w.has(day) && minute >= w.start && minute < w.end
	}
	return w.has(day) && minute >= w.start || w.has((day+6)%7) && minute < w.end
}

func (w Window) has(day int) bool { return w.days&(1<<day) != 0 }

// ParseWindow reads one entry: DAYS;HH:MM-HH:MM, where DAYS is a list of days
// and ranges of days, "mon,tue" or "mon-fri,sun".
func ParseWindow(s string) (Window, error) {
	days, hours, ok := strings.Cut(strings.ToLower(strings.TrimSpace(s)), ";")
	if !ok {
		return Window{}, fmt.Errorf("%.60q: %w", s, ErrSchedule)
	}
	var w Window
	for part := range strings.SplitSeq(days, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			to = from
		}
		a, b := weekday(from), weekday(to)
		if a < 0 || b < 0 {
			return Window{}, fmt.Errorf("%.60q: day %.20q: %w", s, part, ErrSchedule)
		}
		for ; ; a = (a + 1) % 7 {
			w.days |= 1 << a
			if a == b {
				break
			}
		}
	}
	from, to, ok := strings.Cut(hours, "-")
	start, okStart := clock(from)
	end, okEnd := clock(to)
	if !ok || !okStart || !okEnd || start == dayMinutes {
		return Window{}, fmt.Errorf("%.60q: hours %.20q: %w", s, hours, ErrSchedule)
	}
	if end == dayMinutes-1 || end == 0 {
		end = dayMinutes
	}
	if start == end {
		return Window{}, fmt.Errorf("%.60q: the range of hours is empty: %w", s, ErrSchedule)
	}
	w.start, w.end = start, end
	return w, nil
}

func weekday(s string) int {
	s = strings.TrimSpace(s)
	for d := range 7 {
		if s == dayName(d) {
			return d
		}
	}
	return -1
}

// clock reads H:MM or HH:MM, up to 24:00, as minutes.
func clock(s string) (int16, bool) {
	h, m, ok := strings.Cut(strings.TrimSpace(s), ":")
	if !ok || len(h) == 0 || len(h) > 2 || len(m) != 2 {
		return 0, false
	}
	hour, err1 := strconv.ParseUint(h, 10, 8)
	minute, err2 := strconv.ParseUint(m, 10, 8)
	if err1 != nil || err2 != nil || minute > 59 || hour > 24 || hour == 24 && minute != 0 {
		return 0, false
	}
	return int16(hour*60 + minute), true
}

// String returns the canonical form: three days or more in a row as a range.
func (w Window) String() string {
	if w.days == 0 {
		return ""
	}
	var parts []string
	for d := 0; d < 7; d++ {
		if !w.has(d) {
			continue
		}
		last := d
		for last < 6 && w.has(last+1) {
			last++
		}
		if last-d >= 2 {
			parts = append(parts, dayName(d)+"-"+dayName(last))
			d = last
			continue
		}
		parts = append(parts, dayName(d))
	}
	end := w.end
	if end == dayMinutes {
		end--
	}
	return fmt.Sprintf("%s;%02d:%02d-%02d:%02d", strings.Join(parts, ","), w.start/60, w.start%60, end/60, end%60)
}

// MarshalText implements encoding.TextMarshaler for JSON and YAML.
func (w Window) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (w *Window) UnmarshalText(b []byte) error {
	v, err := ParseWindow(string(b))
	if err != nil {
		return err
	}
	*w = v
	return nil
}
