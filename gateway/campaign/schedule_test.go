package campaign

import (
	"encoding/json"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// VOICE-09
func TestScheduleOpen(t *testing.T) {
	montevideo, err := time.LoadLocation("America/Montevideo")
	if err != nil {
		t.Fatal(err)
	}
	madrid, err := time.LoadLocation("Europe/Madrid")
	if err != nil {
		t.Fatal(err)
	}
	at := func(loc *time.Location, s string) time.Time {
		v, err := time.ParseInLocation("2006-01-02 15:04:05", s, loc)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	// 2026-11-20 is a Friday.
	tests := []struct {
		name     string
		schedule string
		at       time.Time
		want     bool
	}{
		{"always", "sun-sat;00:00-23:59", at(montevideo, "2026-11-20 23:59:59"), true},
		{"empty is always", "", at(montevideo, "2026-11-20 12:00:00"), true},
		{"at the start", "mon,tue,wed,thu,fri,sat;08:00-21:00", at(montevideo, "2026-11-20 08:00:00"), true},
		{"before the start", "mon,tue,wed,thu,fri,sat;08:00-21:00", at(montevideo, "2026-11-20 07:59:59"), false},
		{"before the end", "mon,tue,wed,thu,fri,sat;08:00-21:00", at(montevideo, "2026-11-20 20:59:59"), true},
		{"at the end", "mon,tue,wed,thu,fri,sat;08:00-21:00", at(montevideo, "2026-11-20 21:00:00"), false},
		{"another day", "mon-thu;08:00-21:00", at(montevideo, "2026-11-20 12:00:00"), false},
		{"range over the weekend", "fri-mon;08:00-21:00", at(montevideo, "2026-11-22 12:00:00"), true},
		{"overnight before midnight", "fri;22:00-06:00", at(montevideo, "2026-11-20 23:00:00"), true},
		{"overnight after midnight", "fri;22:00-06:00", at(montevideo, "2026-11-21 05:59:59"), true},
		{"overnight is over", "fri;22:00-06:00", at(montevideo, "2026-11-21 06:00:00"), false},
		{"overnight not the morning of its day", "fri;22:00-06:00", at(montevideo, "2026-11-20 03:00:00"), false},
		{"overnight of Saturday on Sunday", "sat;22:00-06:00", at(montevideo, "2026-11-22 03:00:00"), true},
		{"second entry", "mon-fri;08:00-12:00&mon-fri;14:00-18:00", at(montevideo, "2026-11-20 15:00:00"), true},
		{"between the entries", "mon-fri;08:00-12:00&mon-fri;14:00-18:00", at(montevideo, "2026-11-20 13:00:00"), false},
		{"another zone's wall clock", "fri;08:00-09:00", at(time.UTC, "2026-11-20 11:30:00").In(montevideo), true},
		// Madrid leaves summer time on 2026-10-25 at 03:00, and enters it on
		// 2026-03-29 at 02:00.
		{"winter by the wall clock", "sun;09:00-10:00", at(time.UTC, "2026-10-25 08:30:00").In(madrid), true},
		{"summer by the wall clock", "sat;09:00-10:00", at(time.UTC, "2026-10-24 07:30:00").In(madrid), true},
		{"the hour that comes twice, first", "sun;02:00-02:30", at(time.UTC, "2026-10-25 00:10:00").In(madrid), true},
		{"the hour that comes twice, second", "sun;02:00-02:30", at(time.UTC, "2026-10-25 01:10:00").In(madrid), true},
		{"the hour that never comes", "sun;02:00-03:00", at(time.UTC, "2026-03-29 01:00:00").In(madrid), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s Schedule
			if tt.schedule != "" {
				var err error
				if s, err = ParseSchedule(tt.schedule); err != nil {
					t.Fatal(err)
				}
			}
			if got := s.Open(tt.at); got != tt.want {
				t.Fatalf("%s at %s: open is %t", s, tt.at, got)
			}
		})
	}
}

func TestScheduleRefusesWhatItCannotRead(t *testing.T) {
	for _, s := range []string{
		"", "mon", "mon;", ";08:00-09:00", "mon;08:00", "mon;8-9", "mon;08:00-08:00", "mon;24:00-08:00", "mon;08:60-09:00",
		"mon;08:00-25:00", "lun;08:00-09:00", "mon-;08:00-09:00", "mon,;08:00-09:00", "mon;08:00-09:00;tue", "mon;-08:00-09:00", "mon;+8:00-09:00",
	} {
		if got, err := ParseSchedule(s); err == nil {
			t.Errorf("%q was read as %s", s, got)
		}
	}
}

func TestScheduleIsAListOfStringsInJSONAndYAML(t *testing.T) {
	var v struct {
		Schedule Schedule `json:"schedule" yaml:"schedule"`
	}
	if err := yaml.Unmarshal([]byte(`schedule: ["SUN-sat; 0:00-24:00", "mon,tue,wed;22:00-00:00"]`), &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"schedule":["sun-sat;00:00-23:59","mon-wed;22:00-23:59"]}`; string(b) != want {
		t.Fatalf("got %s, want %s", b, want)
	}
	if err := json.Unmarshal([]byte(`{"schedule":["mon;99:00-01:00"]}`), &v); err == nil {
		t.Fatal("a wrong entry was read")
	}
}

func FuzzSchedule(f *testing.F) {
	for _, s := range []string{"sun-sat;00:00-23:59", "mon,tue;08:00-21:00", "fri-mon,wed;22:00-06:00&sun;1:00-2:00", "x;1-2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s, err := ParseSchedule(in)
		if err != nil {
			return
		}
		again, err := ParseSchedule(s.String())
		if err != nil || again.String() != s.String() || len(again) != len(s) {
			t.Fatalf("%q was read as %q, and that as %q: %v", in, s, again, err)
		}
		for i := range s {
			if s[i] != again[i] {
				t.Fatalf("%q: entry %d changed", in, i)
			}
		}
	})
}
