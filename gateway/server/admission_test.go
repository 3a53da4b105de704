package server

import (
	"testing"
	"time"
)

// More calls at once than can be set up in time are refused, and taken again
// when those before them are in.
func TestAdmissionBoundsSetUps(t *testing.T) {
	a := &admission{setUps: 10}
	now := time.Unix(1, 0)
	var done []func(time.Time)
	for range 10 {
		d, ok := a.enter(now)
		if !ok {
			t.Fatal("refused below the bound")
		}
		done = append(done, d)
	}
	if _, ok := a.enter(now); ok {
		t.Fatal("admitted above the bound")
	}
	done[0](now.Add(time.Millisecond))
	if _, ok := a.enter(now); !ok {
		t.Fatal("refused though one was set up")
	}
	if refused, setUps, _ := a.stats(); refused != 1 || setUps != 10 {
		t.Fatalf("refused %d, being set up %d; want 1 and 10", refused, setUps)
	}
}

// A gateway that is late sheds calls even below the bound, but never all, so
// that it notices when it has caught up.
func TestAdmissionShedsWhenLate(t *testing.T) {
	a := &admission{}
	now := time.Unix(1, 0)
	for range 50 {
		d, ok := a.enter(now)
		if !ok {
			t.Fatal("refused with nothing else to do")
		}
		d(now.Add(time.Second))
	}
	var done []func(time.Time)
	for {
		d, ok := a.enter(now)
		if !ok {
			break
		}
		done = append(done, d)
	}
	if len(done) == 0 || len(done) >= defaultSetUps {
		t.Fatalf("%d calls admitted at once though late; want a few", len(done))
	}
	for _, d := range done {
		d(now.Add(time.Millisecond))
	}
	for range 50 {
		if d, ok := a.enter(now); ok {
			d(now.Add(time.Millisecond))
		}
	}
	n := 0
	for range 2 * defaultSetUps {
		if _, ok := a.enter(now); ok {
			n++
		}
	}
	if n != defaultSetUps {
		t.Fatalf("%d calls admitted at once after catching up, want %d", n, defaultSetUps)
	}
}
