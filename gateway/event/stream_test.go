package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet(testing.TB) *slog.Logger { return slog.New(slog.DiscardHandler) }

func openTest(tb testing.TB, o Options) *Stream {
	tb.Helper()
	o.Log = quiet(tb)
	if o.Dir == "" && o.URL == "" {
		o.Dir = tb.TempDir()
	}
	s, err := Open(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// external starts a NATS server that listens, as a customer's own would.
func external(tb testing.TB, dir string, port int) *server.Server {
	tb.Helper()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
	})
	if err != nil {
		tb.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(10 * time.Second) {
		tb.Fatal("external server did not start")
	}
	stop := sync.OnceFunc(func() { srv.Shutdown(); srv.WaitForShutdown() })
	tb.Cleanup(stop)
	return srv
}

func note(i int) Audit { return Audit{User: "ana", Action: fmt.Sprint(i)} }

// read returns n facts after a sequence.
func read(tb testing.TB, s *Stream, after uint64, n int) []Fact {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 20*time.Second)
	defer cancel()
	var got []Fact
	errEnough := errors.New("enough")
	err := s.Read(ctx, after, func(f Fact) error {
		got = append(got, f)
		if len(got) == n {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		tb.Fatalf("read %d of %d facts: %v", len(got), n, err)
	}
	return got
}

func numbers(tb testing.TB, facts []Fact) []string {
	tb.Helper()
	var list []string
	for _, f := range facts {
		var a Audit
		if err := json.Unmarshal(f.Data, &a); err != nil {
			tb.Fatal(err)
		}
		list = append(list, a.Action)
	}
	return list
}

func engines(t *testing.T, fn func(t *testing.T, o Options)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) { fn(t, Options{Dir: t.TempDir()}) })
	t.Run("always", func(t *testing.T) { fn(t, Options{Dir: t.TempDir(), Sync: SyncAlways}) })
	t.Run("external", func(t *testing.T) {
		fn(t, Options{URL: external(t, t.TempDir(), -1).ClientURL()})
	})
}

func TestFactsComeBackInOrderAfterReopening(t *testing.T) {
	engines(t, func(t *testing.T, o Options) {
		t.Helper()
		at := time.Date(2026, 11, 21, 12, 0, 0, 123000000, time.FixedZone("-3", -3*3600))
		o.Deadline = time.Minute // what is in the stream after Append must not depend on how busy the machine is
		s := openTest(t, o)
		for i := range 5 {
			if err := s.Append(t.Context(), at, note(2*i), note(2*i+1)); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.Last(); got != 10 {
			t.Errorf("last is %d, want 10", got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Append(t.Context(), at, note(11)); !errors.Is(err, ErrClosed) {
			t.Errorf("append after close: %v", err)
		}

		s = openTest(t, o)
		if got := s.Last(); got != 10 {
			t.Errorf("last after reopening is %d, want 10", got)
		}
		facts := read(t, s, 3, 7)
		if d := cmp.Diff([]string{"3", "4", "5", "6", "7", "8", "9"}, numbers(t, facts)); d != "" {
			t.Error(d)
		}
		f := facts[0]
		if f.Seq != 4 || f.Type != KindAudit || !f.Time.Equal(at) || f.Time.Location() != time.UTC || f.ID == "" {
			t.Errorf("fact is %+v", f)
		}
	})
}

func TestReadFollowsLive(t *testing.T) {
	s := openTest(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan Fact)
	ended := make(chan error, 1)
	go func() {
		ended <- s.Read(ctx, 0, func(f Fact) error {
			got <- f
			return nil
		})
	}()
	for i := range 3 {
		if err := s.Append(t.Context(), time.Now(), note(i)); err != nil {
			t.Fatal(err)
		}
		if f := <-got; f.Seq != uint64(i+1) {
			t.Errorf("seq %d, want %d", f.Seq, i+1)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("end of the context is no error, got %v", err)
	}
}

func TestCloseEndsReaders(t *testing.T) {
	s := openTest(t, Options{})
	ended := make(chan error, 1)
	started := make(chan struct{})
	if err := s.Append(t.Context(), time.Now(), note(0)); err != nil {
		t.Fatal(err)
	}
	go func() {
		ended <- s.Read(t.Context(), 0, func(Fact) error { close(started); return nil })
	}()
	<-started
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("read ended with %v", err)
	}
}

func TestReadBeyondTheEndIsRefused(t *testing.T) {
	s := openTest(t, Options{})
	err := s.Read(t.Context(), 7, func(Fact) error { return nil })
	if !errors.Is(err, ErrRewound) {
		t.Errorf("got %v, want ErrRewound", err)
	}
}

type badPayload struct{ C chan int }

func (badPayload) Kind() Kind { return "bad" }

func TestBadPayloadIsRefusedAlone(t *testing.T) {
	s := openTest(t, Options{})
	if err := s.Append(t.Context(), time.Now(), badPayload{}); !errors.Is(err, ErrBadPayload) {
		t.Errorf("not JSON: %v", err)
	}
	big := Audit{Action: strings.Repeat("x", 600<<10)}
	if err := s.Append(t.Context(), time.Now(), big); !errors.Is(err, ErrBadPayload) {
		t.Errorf("too large: %v", err)
	}
	if err := s.Append(t.Context(), time.Now(), note(1)); err != nil {
		t.Error(err)
	}
	if got := s.Last(); got != 1 {
		t.Errorf("last is %d, want 1", got)
	}
}

func TestStrangersMessageComesAsMalformed(t *testing.T) {
	srv := external(t, t.TempDir(), -1)
	s := openTest(t, Options{URL: srv.ClientURL()})
	nc, err := nats.Connect(srv.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Request("facts.audit", []byte("{not json"), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	f := read(t, s, 0, 1)[0]
	if f.Type != KindMalformed || string(f.Data) != `"{not json"` {
		t.Errorf("got %+v", f)
	}
}

func TestOneProcessPerFolder(t *testing.T) {
	dir := t.TempDir()
	openTest(t, Options{Dir: dir})
	_, err := Open(t.Context(), Options{Dir: dir, Log: quiet(t)})
	if !errors.Is(err, ErrLocked) {
		t.Errorf("second opening: %v", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{
		{}, {Dir: "x"}, {Log: quiet(t)}, {Log: quiet(t), Dir: "x", Sync: "often"}, {Log: quiet(t), Dir: "x", Sync: "0s"},
	} {
		if _, err := Open(t.Context(), o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

func TestSkipKeepsSequencesApart(t *testing.T) {
	for _, have := range []int{0, 3} {
		t.Run(fmt.Sprint(have), func(t *testing.T) {
			dir := t.TempDir()
			s := openTest(t, Options{Dir: dir})
			for i := range have {
				if err := s.Append(t.Context(), time.Now(), note(i)); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Skip(t.Context(), 9000); err != nil {
				t.Fatal(err)
			}
			if err := s.Append(t.Context(), time.Now(), note(7)); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openTest(t, Options{Dir: dir})
			f := read(t, s, 9000, 1)[0]
			if f.Seq != 9001 || f.Type != KindAudit {
				t.Errorf("first new fact is %+v", f)
			}
			if first, err := s.First(t.Context()); err != nil || (have == 0 && first != 9001) || (have > 0 && first != 1) {
				t.Errorf("first is %d, %v", first, err)
			}
		})
	}
}

// The journal is gone for a while: Append answers within its deadline, nothing
// is lost, nothing is double and the order is kept.
func TestOutageKeepsOrderAndLosesNothing(t *testing.T) {
	dir := t.TempDir()
	srv := external(t, dir, -1)
	addr := srv.Addr().String()
	var port int
	if _, err := fmt.Sscanf(addr[strings.LastIndex(addr, ":")+1:], "%d", &port); err != nil {
		t.Fatal(err)
	}
	var raised, cleared atomic.Int32
	s := openTest(t, Options{URL: srv.ClientURL(), AckTimeout: 300 * time.Millisecond, Alarm: func(active bool, _ string) {
		if active {
			raised.Add(1)
		} else {
			cleared.Add(1)
		}
	}})
	ctx, cancel := context.WithCancel(t.Context())
	var got []Fact
	reading := make(chan error, 1)
	const n = 600
	go func() {
		reading <- s.Read(ctx, 0, func(f Fact) error {
			got = append(got, f)
			if len(got) == n {
				cancel()
			}
			return nil
		})
	}()
	for i := range n {
		if i == 200 {
			srv.Shutdown()
			srv.WaitForShutdown()
		}
		if i == 210 { // the next ones come into memory without waiting their turn
			var wg sync.WaitGroup
			wg.Go(func() { external(t, dir, port) })
			defer wg.Wait()
		}
		start := time.Now()
		if err := s.Append(t.Context(), time.Now(), note(i)); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 400*time.Millisecond {
			t.Errorf("append %d took %v", i, d)
		}
	}
	select {
	case err := <-reading:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		cancel()
		t.Fatalf("only %d of %d came: %+v", len(got), n, s.Stats())
	}
	for i, f := range got {
		if f.Seq != uint64(i+1) {
			t.Fatalf("fact %d has sequence %d", i, f.Seq)
		}
	}
	for i, a := range numbers(t, got) {
		if a != fmt.Sprint(i) {
			t.Fatalf("fact %d is %s", i, a)
		}
	}
	if raised.Load() == 0 || raised.Load() != cleared.Load() {
		t.Errorf("alarm raised %d times, cleared %d times", raised.Load(), cleared.Load())
	}
	if st := s.Stats(); st.Waiting != 0 || st.Failing || st.Appended != n {
		t.Errorf("stats %+v", st)
	}
}

func TestFullMemoryRefuses(t *testing.T) {
	srv := external(t, t.TempDir(), -1)
	s, err := Open(t.Context(), Options{
		URL: srv.ClientURL(), Log: quiet(t), Buffer: 3, Deadline: 5 * time.Millisecond, CloseTimeout: time.Millisecond,
		AckTimeout: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Shutdown()
	for i := range 3 {
		if err := s.Append(t.Context(), time.Now(), note(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Append(t.Context(), time.Now(), note(3)); !errors.Is(err, ErrFull) {
		t.Errorf("append to full memory: %v", err)
	}
	if st := s.Stats(); st.Lost != 1 || st.Waiting != 3 {
		t.Errorf("stats %+v", st)
	}
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "3 facts") {
		t.Errorf("close says %v", err)
	}
}

func TestConcurrentAppends(t *testing.T) {
	s := openTest(t, Options{})
	const writers, each = 50, 100
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := s.Append(t.Context(), time.Now(), Audit{User: fmt.Sprint(w), Action: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	next := map[string]int{}
	ids := map[string]bool{}
	for _, f := range read(t, s, 0, writers*each) {
		var a Audit
		if err := json.Unmarshal(f.Data, &a); err != nil {
			t.Fatal(err)
		}
		if a.Action != fmt.Sprint(next[a.User]) || ids[f.ID] {
			t.Fatalf("writer %s: got %s, want %d", a.User, a.Action, next[a.User])
		}
		next[a.User]++
		ids[f.ID] = true
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, g := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", g), func(b *testing.B) {
			s := openTest(b, Options{})
			p := QueueEntered{CallID: "0195a3c4-7d1e-7c3a-9f00-1234567890ab", Queue: "Support<-", Caller: "59899123456"}
			b.SetParallelism(g)
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			var n atomic.Int64
			for range g {
				wg.Go(func() {
					for n.Add(1) <= int64(b.N) {
						if err := s.Append(b.Context(), time.Now(), p); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "facts/s")
			if st := s.Stats(); st.Late > 0 || st.Waiting > 0 {
				b.Logf("late %d, waiting %d", st.Late, st.Waiting)
			}
		})
	}
}
