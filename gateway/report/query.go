package report

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"
)

// Limits of a page.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
	// maxValue bounds each text of a filter, in bytes.
	maxValue = 256
)

// ErrFilter is the cause of every error of ParseFilter.
var ErrFilter = errors.New("wrong filter")

// Filter chooses rows. An empty field chooses all. Rows come newest first;
// After is the Next of the page before.
type Filter struct {
	From     time.Time // inclusive
	To       time.Time // exclusive
	Campaign string
	Agent    string
	Number   string // caller or called number, digits as stored
	GUID     string
	Event    string // queue log only
	After    int64
	Limit    int // 0 = DefaultLimit
}

// Page is one page of rows; Next is 0 on the last.
type Page[T any] struct {
	Rows []T   `json:"rows"`
	Next int64 `json:"next,omitempty"`
}

// AgentDay is what one agent did in a time range.
type AgentDay struct {
	Agent        string `json:"agent"`
	Answered     int64  `json:"answered"`
	NotAnswered  int64  `json:"notAnswered"`
	OutCalls     int64  `json:"outCalls"`
	TalkSeconds  int64  `json:"talkSeconds"`
	BreakSeconds int64  `json:"breakSeconds"`
	LoginSeconds int64  `json:"loginSeconds"`
}

// CampaignDay is what one campaign's queue did in a time range.
type CampaignDay struct {
	Campaign       string `json:"campaign"`
	Entered        int64  `json:"entered"`
	Answered       int64  `json:"answered"`
	AnsweredInTime int64  `json:"answeredInTime"`
	Abandoned      int64  `json:"abandoned"`
	// Left counts entries that ended by time-out, empty queue or a key.
	Left           int64 `json:"left"`
	WaitSeconds    int64 `json:"waitSeconds"` // of the answered, in sum
	MaxWaitSeconds int64 `json:"maxWaitSeconds"`
	TalkSeconds    int64 `json:"talkSeconds"`
	// ServiceLevelPct is AnsweredInTime in percent of Answered + Abandoned + Left.
	ServiceLevelPct float64 `json:"serviceLevelPct"`
}

// Queries are the questions that may be asked of the tables. The store answers
// them; consumers declare the few they need.
type Queries interface {
	QueueLog(ctx context.Context, f Filter) (Page[QueueLogRow], error)
	CDR(ctx context.Context, f Filter) (Page[CDRRow], error)
	Quality(ctx context.Context, f Filter) (Page[QualityRow], error)
	Recordings(ctx context.Context, f Filter) (Page[RecordingRow], error)
	Dispositions(ctx context.Context, f Filter) (Page[DispositionRow], error)
	Audit(ctx context.Context, f Filter) (Page[AuditRow], error)
	Tags(ctx context.Context, f Filter) (Page[TagRow], error)
	// AgentDays and CampaignDays need From and To. inTime says within how many
	// seconds an answer of a campaign counts as in time.
	AgentDays(ctx context.Context, f Filter) ([]AgentDay, error)
	CampaignDays(ctx context.Context, f Filter, inTime func(campaign string) time.Duration) ([]CampaignDay, error)
}

// ParseFilter reads a filter from the query of a URL: from, to (RFC 3339 or
// YYYY-MM-DD, a day in loc), campaign, agent, number, guid, event, after,
// limit. Unknown and repeated keys are refused by name.
func ParseFilter(v url.Values, loc *time.Location) (Filter, error) {
	var f Filter
	for key, vals := range v {
		if len(vals) != 1 {
			return Filter{}, fmt.Errorf("%w: %q is given %d times", ErrFilter, key, len(vals))
		}
		if err := f.set(key, vals[0], loc); err != nil {
			return Filter{}, err
		}
	}
	return f, f.Check()
}

func (f *Filter) set(key, val string, loc *time.Location) error {
	if len(val) > maxValue || !utf8.ValidString(val) {
		return fmt.Errorf("%w: %q is too long or not UTF-8", ErrFilter, key)
	}
	var err error
	switch key {
	case "from":
		f.From, err = parseTime(val, loc, 0)
	case "to":
		f.To, err = parseTime(val, loc, 1)
	case "campaign":
		f.Campaign = val
	case "agent":
		f.Agent = val
	case "number":
		f.Number = val
	case "guid":
		f.GUID = val
	case "event":
		f.Event = val
	case "after":
		f.After, err = strconv.ParseInt(val, 10, 64)
	case "limit":
		f.Limit, err = strconv.Atoi(val)
		if err == nil && f.Limit == 0 {
			err = errors.New("must be at least 1")
		}
	default:
		return fmt.Errorf("%w: unknown key %q", ErrFilter, key)
	}
	if err != nil {
		return fmt.Errorf("%w: %q: %w", ErrFilter, key, err)
	}
	return nil
}

// parseTime reads a moment, or a day: its start, or with days = 1 its end.
func parseTime(s string, loc *time.Location, days int) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseInLocation(time.DateOnly, s, loc); err == nil {
		return d.AddDate(0, 0, days).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, errors.New("want YYYY-MM-DD or RFC 3339")
	}
	return t.UTC(), nil
}

// Check reports what is wrong with the filter.
func (f Filter) Check() error {
	switch {
	case f.Limit < 0 || f.Limit > MaxLimit:
		return fmt.Errorf("%w: limit %d is not between 1 and %d", ErrFilter, f.Limit, MaxLimit)
	case f.After < 0:
		return fmt.Errorf("%w: after %d is negative", ErrFilter, f.After)
	case !f.From.IsZero() && !f.To.IsZero() && f.To.Before(f.From):
		return fmt.Errorf("%w: to is before from", ErrFilter)
	}
	return nil
}

// Values writes the filter as the query of a URL that ParseFilter reads.
func (f Filter) Values() url.Values {
	v := url.Values{}
	put := func(key, val string) {
		if val != "" {
			v.Set(key, val)
		}
	}
	if !f.From.IsZero() {
		put("from", f.From.UTC().Format(time.RFC3339Nano))
	}
	if !f.To.IsZero() {
		put("to", f.To.UTC().Format(time.RFC3339Nano))
	}
	put("campaign", f.Campaign)
	put("agent", f.Agent)
	put("number", f.Number)
	put("guid", f.GUID)
	put("event", f.Event)
	if f.After > 0 {
		put("after", strconv.FormatInt(f.After, 10))
	}
	if f.Limit > 0 {
		put("limit", strconv.Itoa(f.Limit))
	}
	return v
}
