package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
)

// journal is an event.Journal in memory, as slow as it is told.
type journal struct {
	mu    sync.Mutex
	delay time.Duration
	facts []event.Payload
}

func (j *journal) Append(_ context.Context, _ time.Time, payloads ...event.Payload) error {
	time.Sleep(j.delay)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.facts = append(j.facts, payloads...)
	return nil
}

// take returns the facts since the last take, as "kind details".
func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []string
	for _, p := range j.facts {
		switch f := p.(type) {
		case event.AgentState:
			out = append(out, fmt.Sprintf("state %s>%s %q after %s", f.Previous, f.State, f.Reason, time.Duration(f.PreviousMs)*time.Millisecond))
		case event.AgentUnpaused:
			out = append(out, fmt.Sprintf("REALUNPAUSE %s %d", f.Reason, f.PausedSeconds))
		case event.BreakEnded:
			out = append(out, fmt.Sprintf("UNBREAK %s %d", f.Motive, f.Seconds))
		case event.AgentSignedOut:
			out = append(out, fmt.Sprintf("AGENTLOGOFF %s %d", f.Message, f.LoginSeconds))
		case event.WrapUpFinished:
			out = append(out, fmt.Sprintf("FINISHWRAPUP %d", f.SecondsLeft))
		default:
			out = append(out, string(p.Kind()))
		}
	}
	j.facts = nil
	return out
}

type floor struct {
	*Registry
	t *testing.T
	j *journal
}

func withFloor(t *testing.T, fn func(f floor)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		r := NewRegistry(Options{Log: slog.New(slog.DiscardHandler), Journal: j})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := r.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		fn(floor{r, t, j})
		cancel()
		wg.Wait()
	})
}

func (f floor) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f floor) facts(want ...string) {
	f.t.Helper()
	synctest.Wait()
	if got := f.j.take(); !slices.Equal(got, want) {
		f.t.Fatalf("facts\n got %q\nwant %q", got, want)
	}
}

func (f floor) state(want State) {
	f.t.Helper()
	synctest.Wait()
	if v, _ := f.Snapshot("ana"); v.State != want {
		f.t.Fatalf("state is %s (%s), want %s", v.State, v.Reason, want)
	}
}

// ready signs ana in with a phone.
func (f floor) ready() {
	f.t.Helper()
	f.ok(f.SignIn(f.t.Context(), SignIn{Agent: "ana", Extension: "2101", Session: "s1", Endpoint: "app"}))
	f.ok(f.Phone("ana", true, ""))
	f.state(Available)
	f.j.take()
}

// LOG-007, LOG-008
func TestAvailableOnlyWithAPhone(t *testing.T) {
	withFloor(t, func(f floor) {
		ctx := f.t.Context()
		f.ok(f.SignIn(ctx, SignIn{Agent: "ana", Extension: "2101", Session: "s1", Endpoint: "app"}))
		f.facts("agent.signedIn", `state offline>offline "no phone" after 0s`)
		time.Sleep(3 * time.Second)
		f.ok(f.Phone("ana", true, ""))
		f.facts(`state offline>available "" after 3s`)
		if _, err := f.Lease("ana", "c1", KindOffer, "q", time.Minute); err != nil {
			f.t.Fatal(err)
		}
		f.state(Ringing)
		f.ok(f.Phone("ana", false, "connection lost"))
		f.state(Ringing)
		time.Sleep(time.Minute) // the lease expires
		f.state(Offline)
		f.j.take()
		time.Sleep(2 * time.Second)
		f.ok(f.SignOut(ctx, "ana", "bye"))
		f.ok(f.SignOut(ctx, "ana", "bye"))
		f.facts("AGENTLOGOFF bye 65", `state offline>offline "signed out" after 2s`)
		if err := f.SignOut(ctx, "nobody", ""); !errors.Is(err, ErrUnknown) {
			f.t.Fatal(err)
		}
	})
}

// AGENT-04, AGENT-06, LOG-028
func TestWrapUp(t *testing.T) {
	withFloor(t, func(f floor) {
		f.ready()
		talk := func() {
			l, err := f.Lease("ana", "c1", KindOffer, "q", time.Minute)
			f.ok(err)
			f.ok(l.Answered())
			time.Sleep(2 * time.Minute) // longer than the lease: it no longer expires
			f.state(OnCall)
			l.Release(10*time.Second, "q")
			l.Release(10*time.Second, "q")
			f.state(WrapUp)
			f.j.take()
		}
		talk()
		if v, _ := f.Snapshot("ana"); time.Until(v.Until) != 10*time.Second || v.Campaign != "q" || v.CallID != "c1" {
			f.t.Fatalf("view %+v", v)
		}
		if _, err := f.Lease("ana", "c2", KindOffer, "q", time.Minute); !errors.Is(err, ErrUnavailable) {
			f.t.Fatalf("offered in wrap-up: %v", err)
		}
		time.Sleep(10*time.Second - time.Nanosecond)
		f.facts()
		time.Sleep(time.Nanosecond)
		f.facts("FINISHWRAPUP 0", `state wrapUp>available "" after 10s`)
		talk()
		time.Sleep(3500 * time.Millisecond)
		f.ok(f.FinishWrapUp(f.t.Context(), "ana"))
		f.facts("FINISHWRAPUP 7", `state wrapUp>available "" after 3.5s`)
		if err := f.FinishWrapUp(f.t.Context(), "ana"); !errors.Is(err, ErrNotWrapUp) {
			f.t.Fatal(err)
		}
		time.Sleep(time.Minute)
		f.facts()
		talk()
		l, err := f.Lease("ana", "c9", KindDialled, "out", 0) // dialling ends wrap-up
		f.ok(err)
		f.state(OnCall)
		l.Release(0, "")
		f.state(Available)
	})
}

// LOG-018 to LOG-021, AGENT-10
func TestBreaksAndRealPause(t *testing.T) {
	withFloor(t, func(f floor) {
		ctx := f.t.Context()
		f.ready()
		f.ok(f.Break(ctx, "ana", "Lunch", "soup"))
		f.facts("break.started", "agent.paused", `state available>onBreak "Lunch" after 0s`)
		time.Sleep(90 * time.Second)
		f.ok(f.Break(ctx, "ana", "Training", "")) // one pause, two breaks
		f.facts("UNBREAK Lunch 90", "break.started", `state onBreak>onBreak "Training" after 1m30s`)
		time.Sleep(30 * time.Second)
		f.ok(f.Unbreak(ctx, "ana"))
		f.facts("UNBREAK Training 30", "REALUNPAUSE Training 120", `state onBreak>available "" after 30s`)
		if err := f.Unbreak(ctx, "ana"); !errors.Is(err, ErrNotOnBreak) {
			f.t.Fatal(err)
		}
		if err := f.Break(ctx, "ana", " ", ""); !errors.Is(err, ErrNoReason) {
			f.t.Fatal(err)
		}

		l, err := f.Lease("ana", "c1", KindOffer, "q", time.Minute)
		f.ok(err)
		f.ok(l.Answered())
		f.state(OnCall)
		l.Release(0, "")
	})
}

func TestBreakDuringACallShowsAfterIt(t *testing.T) {
	withFloor(t, func(f floor) {
		ctx := f.t.Context()
		f.ready()
		l, err := f.Lease("ana", "c1", KindOffer, "q", time.Minute)
		f.ok(err)
		f.ok(l.Answered())
		f.state(OnCall)
		f.j.take()
		f.ok(f.Break(ctx, "ana", "Lunch", ""))
		f.facts("break.started", "agent.paused")
		f.state(OnCall)
		l.Release(5*time.Second, "q")
		f.state(WrapUp)
		time.Sleep(5 * time.Second)
		f.state(OnBreak)
	})
}

// contract: no answer.
func TestNoAnswerPauseIsAPauseWithReason(t *testing.T) {
	withFloor(t, func(f floor) {
		f.ready()
		l, err := f.Lease("ana", "c1", KindOffer, "q", time.Minute)
		f.ok(err)
		f.j.take()
		synctest.Wait()
		f.j.take()
		f.ok(f.PauseNoAnswer("ana"))
		l.Release(0, "")
		f.facts("agent.paused", `state ringing>onBreak "no answer" after 0s`)
		time.Sleep(7 * time.Second)
		f.ok(f.Unbreak(f.t.Context(), "ana"))
		f.facts("REALUNPAUSE no answer 7", `state onBreak>available "" after 7s`)
	})
}

// contract: the newest sign-in takes over; a call goes on.
func TestNewestSignInTakesOver(t *testing.T) {
	withFloor(t, func(f floor) {
		ctx := f.t.Context()
		f.ready()
		l, err := f.Lease("ana", "c1", KindOffer, "q", time.Minute)
		f.ok(err)
		f.ok(l.Answered())
		f.state(OnCall)
		f.j.take()
		time.Sleep(4 * time.Second)
		f.ok(f.SignIn(ctx, SignIn{Agent: "ana", Extension: "2101", Session: "s2", Endpoint: "desk"}))
		f.facts("AGENTLOGOFF taken over 4", "agent.signedIn")
		f.ok(f.SignOutSession(ctx, "ana", "s1", "old session")) // ends nothing
		f.facts()
		v, _ := f.Snapshot("ana")
		if v.State != OnCall || v.Session != "s2" || v.Endpoint != "desk" {
			f.t.Fatalf("view %+v", v)
		}
		f.ok(f.SignOut(ctx, "ana", "bye")) // the call goes on, no wrap-up, nothing new
		f.state(OnCall)
		l.Release(10*time.Second, "q")
		f.state(Offline)
		if _, err := f.Lease("ana", "c2", KindOffer, "q", time.Minute); !errors.Is(err, ErrSignedOut) {
			f.t.Fatal(err)
		}
	})
}

func TestOneOwnerPerAgent(t *testing.T) {
	withFloor(t, func(f floor) {
		f.ready()
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for i := range 50 {
			wg.Go(func() {
				kind := KindOffer
				if i%2 == 0 {
					kind = KindDirect
				}
				if _, err := f.Lease("ana", fmt.Sprintf("c%d", i), kind, "q", time.Minute); err == nil {
					mu.Lock()
					won++
					mu.Unlock()
				} else if !errors.Is(err, ErrBusy) {
					f.t.Error(err)
				}
			})
		}
		wg.Wait()
		if won != 1 {
			f.t.Fatalf("%d calls got the agent", won)
		}
		if n := f.Stats().LeasesExpired; n != 0 {
			f.t.Fatalf("%d expired", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := f.Stats().LeasesExpired; n != 1 { // no result came: a repair
			f.t.Fatalf("%d expired", n)
		}
		f.state(Available)
	})
}

// A viewer never learns a fact before the journal has it, a decider at once.
func TestViewersWaitForTheJournal(t *testing.T) {
	withFloor(t, func(f floor) {
		f.ready()
		var seen []State
		defer f.Subscribe(func(v View) { seen = append(seen, v.State) })()
		f.j.delay = 50 * time.Millisecond
		_, err := f.Lease("ana", "c1", KindOffer, "q", time.Minute)
		f.ok(err)
		if len(seen) != 1 || seen[0] != Ringing {
			f.t.Fatalf("deciders saw %q", seen)
		}
		if v, _ := f.Current("ana"); v.State != Ringing {
			f.t.Fatalf("current is %s", v.State)
		}
		f.state(Available)
		time.Sleep(50 * time.Millisecond)
		f.state(Ringing)
		f.ok(f.Phone("ana", false, ""))
		start := time.Now()
		f.ok(f.SignOut(f.t.Context(), "ana", "")) // waits for the acknowledgement
		if d := time.Since(start); d != 50*time.Millisecond {
			f.t.Fatalf("returned after %s", d)
		}
	})
}

func TestRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		r := NewRegistry(Options{Log: slog.New(slog.DiscardHandler), Journal: j})
		f := floor{r, t, j}
		ago := time.Now().Add(-time.Minute)
		f.ok(r.Restore([]Restored{
			{SignIn: SignIn{Agent: "ana", Extension: "2101", Session: "s1", Endpoint: "app"}, SignedInAt: ago, State: OnCall, Since: ago, Rev: 40},
			{SignIn: SignIn{Agent: "ben", Session: "s2"}, SignedInAt: ago, Break: "Lunch", BreakSince: ago, PausedSince: ago, State: OnBreak, Since: ago},
			{SignIn: SignIn{Agent: "cat"}, State: Available, Since: ago},
		}))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = r.Run(ctx) })
		synctest.Wait()
		got := j.take()
		slices.Sort(got)
		want := []string{
			`state available>offline "signed out" after 1m0s`,
			`state onBreak>onBreak "Lunch" after 1m0s`,
			`state onCall>offline "gateway restarted" after 1m0s`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("facts %q", got)
		}
		if v, _ := r.Snapshot("ana"); v.Rev <= 40 || !v.SignedIn {
			t.Errorf("view %+v", v)
		}
		f.ok(r.Phone("ana", true, ""))
		f.state(Available)
		j.take()
		f.ok(r.Unbreak(ctx, "ben"))
		f.facts("UNBREAK Lunch 60", "REALUNPAUSE Lunch 60", `state onBreak>offline "gateway restarted" after 0s`)
		cancel()
		wg.Wait()
		if err := r.Phone("ana", false, ""); !errors.Is(err, ErrClosed) {
			t.Errorf("after Run: %v", err)
		}
	})
}

func BenchmarkLeaseAnswerRelease(b *testing.B) {
	r := NewRegistry(Options{Log: slog.New(slog.DiscardHandler), Journal: &discard{}})
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	if err := r.SignIn(ctx, SignIn{Agent: "ana", Session: "s"}); err != nil {
		b.Fatal(err)
	}
	if err := r.Phone("ana", true, ""); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		l, err := r.Lease("ana", "c", KindOffer, "q", time.Minute)
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Answered(); err != nil {
			b.Fatal(err)
		}
		l.Release(0, "")
	}
	cancel()
	wg.Wait()
}

type discard struct{}

func (*discard) Append(context.Context, time.Time, ...event.Payload) error { return nil }
