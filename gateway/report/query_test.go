package report_test

import (
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordboard/cordboard/gateway/report"
)

func TestParseFilter(t *testing.T) {
	zone := time.FixedZone("UYT", -3*3600)
	tests := []struct {
		query string
		want  report.Filter
		bad   bool
	}{
		{"", report.Filter{}, false},
		{"from=2026-11-21&to=2026-11-21", report.Filter{
			From: time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC),
		}, false},
		{"from=2026-11-21T10:00:00-03:00&limit=5&after=7", report.Filter{
			From: time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC), Limit: 5, After: 7,
		}, false},
		{"campaign=Support%3C-&agent=ana&number=59899&guid=g&event=CONNECT", report.Filter{
			Campaign: "Support<-", Agent: "ana", Number: "59899", GUID: "g", Event: "CONNECT",
		}, false},
		{"limit=0", report.Filter{}, true},
		{"limit=1001", report.Filter{}, true},
		{"limit=x", report.Filter{}, true},
		{"after=-1", report.Filter{}, true},
		{"from=yesterday", report.Filter{}, true},
		{"from=2026-11-22&to=2026-11-20", report.Filter{}, true},
		{"agent=a&agent=b", report.Filter{}, true},
		{"sort=up", report.Filter{}, true},
		{"agent=%FF", report.Filter{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.query, func(t *testing.T) {
			v, err := url.ParseQuery(tt.query)
			if err != nil {
				t.Fatal(err)
			}
			got, err := report.ParseFilter(v, zone)
			if tt.bad != errors.Is(err, report.ErrFilter) {
				t.Fatalf("error %v", err)
			}
			if !tt.bad {
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Error(d)
				}
			}
		})
	}
}

func FuzzParseFilter(f *testing.F) {
	f.Add("from=2026-11-21&to=2026-11-22T00:00:00.5Z&limit=10")
	f.Add("agent=ana&number=%2B59899&after=3")
	f.Fuzz(func(t *testing.T, query string) {
		v, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		one, err := report.ParseFilter(v, time.UTC)
		if err != nil {
			if !errors.Is(err, report.ErrFilter) {
				t.Errorf("error is not ErrFilter: %v", err)
			}
			return
		}
		two, err := report.ParseFilter(one.Values(), time.UTC)
		if err != nil {
			t.Fatalf("%q: own form is refused: %v", query, err)
		}
		if d := cmp.Diff(one, two); d != "" {
			t.Error(d)
		}
	})
}
