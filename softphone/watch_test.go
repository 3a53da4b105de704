package softphone

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatchTellsOfChangesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now atomic.Pointer[[]netip.Addr]
		var fails atomic.Bool
		set := func(s ...string) {
			var a []netip.Addr
			for _, x := range s {
				a = append(a, netip.MustParseAddr(x))
			}
			now.Store(&a)
		}
		set("192.168.1.5")
		ctx, cancel := context.WithCancel(t.Context())
		var told atomic.Int32
		done := make(chan struct{})
		go func() {
			defer close(done)
			watch(ctx, time.Second, func() ([]netip.Addr, error) {
				if fails.Load() {
					return nil, errors.New("no")
				}
				return *now.Load(), nil
			}, func() { told.Add(1) })
		}()
		step := func(want int32) {
			t.Helper()
			time.Sleep(1500 * time.Millisecond)
			synctest.Wait()
			if told.Load() != want {
				t.Errorf("told %d times, want %d", told.Load(), want)
			}
		}
		step(0)
		set("10.0.0.7")
		step(1)
		fails.Store(true)
		step(1)
		fails.Store(false)
		step(1)
		set()
		step(2)
		set("10.0.0.7", "2001:db8::1")
		step(3)
		cancel()
		<-done
	})
}

func TestAutoAnswerHeaders(t *testing.T) {
	for _, tt := range []struct {
		call, alert []string
		mode        string
		want        bool
	}{
		{nil, nil, "", false},
		{nil, nil, "Auto", true},
		{nil, nil, "auto;require", true},
		{nil, nil, "Manual", false},
		{[]string{"<sip:x>;answer-after=0"}, nil, "", true},
		{[]string{"<sip:x>; Answer-After = 0"}, nil, "", true},
		{[]string{"<sip:x>;answer-after=5"}, nil, "", false},
		{[]string{"<http://x>;purpose=icon, <sip:x>;answer-after=0"}, nil, "", true},
		{nil, []string{"<http://x>;info=alert-autoanswer;answer-after=0"}, "", true},
	} {
		if got := autoAnswer(tt.call, tt.alert, tt.mode); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
	for s, want := range map[string]time.Duration{"12": 12 * time.Second, "1.5": 1500 * time.Millisecond, "": 0, "-1": 0, "NaN": 0, "1e99": 0} {
		if got := waited(s); got != want {
			t.Errorf("waited %q: %v", s, got)
		}
	}
}

// Of a slow listener's events only those that can be missed are left out, and order is kept.
func TestQueueDropsOnlyWhatCanBeMissed(t *testing.T) {
	q := newQueue()
	for range 5 * maxWaiting {
		q.put(Stats{})
	}
	q.put(Ended{Call: "a"})
	q.put(Digit{})
	q.put(Ended{Call: "b"})
	q.close()
	var ended []CallID
	n := 0
	q.run(func(e Event) {
		n++
		if e, ok := e.(Ended); ok {
			ended = append(ended, e.Call)
		}
	})
	if n != maxWaiting+2 || len(ended) != 2 || ended[0] != "a" {
		t.Errorf("%d events, ended %v", n, ended)
	}
}
