package campaign

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// VOICE-18 to VOICE-22
func TestCallerIDChoose(t *testing.T) {
	ids, err := ParseCallerIDs([]string{"598#59825550100", "59#59825550101", "1#1888555-0100-0199", "5554000", "555-05-07"})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	tests := []struct {
		name, number string
		want         []string // all of them, nothing else, over many tries
	}{
		{"all prefixes that match take part", "59899123456", []string{"59825550100", "59825550101"}},
		{"one prefix matches", "5491155550000", []string{"5554000", "55505", "55506", "55507"}},
		{"no prefix matches", "4915112345678", []string{"5554000", "55505", "55506", "55507"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			seen := map[string]bool{}
			for range 400 {
				seen[ids.Choose(tt.number, r)] = true
			}
			if len(seen) != len(tt.want) {
				t.Fatalf("chose %v, want %v", seen, tt.want)
			}
			for _, w := range tt.want {
				if !seen[w] {
					t.Fatalf("never chose %s of %v", w, seen)
				}
			}
		})
	}
	for range 300 {
		n := ids.Choose("12125550000", r)
		if len(n) != 11 || !strings.HasPrefix(n, "18885550") || n < "18885550100" || n > "18885550199" {
			t.Fatalf("chose %s outside the range", n)
		}
	}
	if got := CallerIDs(nil).Choose("1", r); got != "" {
		t.Fatalf("chose %q of nothing", got)
	}
}

func TestCallerIDRefusals(t *testing.T) {
	for _, s := range []string{"", "#", "1#", "#123", "a#1", "123-4", "123-1-22", "123-22-11", "123-1-2-3", "123-a-b", "12 3", "123456789012345678901", "123--", "1#2#3"} {
		if c, err := ParseCallerID(s); !errors.Is(err, ErrCallerID) {
			t.Errorf("%q was read as %s, %v", s, c, err)
		}
	}
	if _, err := ParseCallerIDs([]string{"598#1", "1#2"}); !errors.Is(err, ErrNoGeneric) { // VOICE-21
		t.Errorf("a list without a generic entry: %v", err)
	}
}

// VOICE-23
func TestReadCallerIDs(t *testing.T) {
	got, err := ReadCallerIDs(strings.NewReader("\ufeff598#59825550100\r\n\r\n 5554000-00-99 \n"))
	if err != nil || len(got) != 2 || got[0] != "598#59825550100" || got[1] != "5554000-00-99" {
		t.Fatalf("read %q, %v", got, err)
	}
	if _, err := ReadCallerIDs(strings.NewReader("1\n2\nx\n")); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Fatalf("the error does not name line 3: %v", err)
	}
}

func FuzzCallerID(f *testing.F) {
	for _, s := range []string{"598#59825550100-00-99", "5554000", "1#2", "1-2-3", "#"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		c, err := ParseCallerID(in)
		if err != nil {
			return
		}
		again, err := ParseCallerID(c.String())
		if err != nil || again != c {
			t.Fatalf("%q was read as %+v, and that as %+v: %v", in, c, again, err)
		}
		if n := c.make(rand.New(rand.NewPCG(1, 1))); !isDigits(n) || len(n) != len(c.Number)+len(c.RandFrom) {
			t.Fatalf("%q made %q", in, n)
		}
	})
}
