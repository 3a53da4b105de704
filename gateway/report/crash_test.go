package report_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/report"
	"github.com/cordboard/cordboard/gateway/store"
)

// childEnv makes the test binary a gateway's journal and tables under load,
// which its parent kills.
const childEnv = "CORDBOARD_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		if err := child(os.Getenv(childEnv), os.Getenv(childEnv+"_DB")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// parts opens the journal, the tables and the reader between them.
func parts(ctx context.Context, dir, url string, log *slog.Logger) (*event.Stream, *store.DB, *report.Projector, error) {
	// Append must not return before the journal has the fact: what was
	// acknowledged is what must not be lost.
	s, err := event.Open(ctx, event.Options{Dir: dir + "/journal", Log: log, Deadline: time.Minute})
	if err != nil {
		return nil, nil, nil, err
	}
	db, err := store.Open(ctx, store.Options{Dir: dir, URL: url, Log: log})
	if err != nil {
		return nil, nil, nil, err
	}
	p, err := report.NewProjector(report.Options{Log: log, Store: db, Source: s, BatchWait: 5 * time.Millisecond})
	return s, db, p, err
}

// closeDangling appends what the run before left open.
func closeDangling(ctx context.Context, s *event.Stream, p *report.Projector) error {
	d, err := p.Dangling(ctx)
	if err != nil {
		return err
	}
	if err := s.Append(ctx, time.Now(), event.GatewayStarted{Version: "test"}); err != nil {
		return err
	}
	return s.Append(ctx, d.At, append(d.Calls, d.Agents...)...)
}

// child makes calls until it is killed, and prints what was acknowledged.
func child(dir, url string) error {
	ctx := context.Background()
	s, _, p, err := parts(ctx, dir, url, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	if err != nil {
		return err
	}
	if err := closeDangling(ctx, s, p); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { fmt.Fprintln(os.Stderr, p.Run(ctx)) })
	for w := range 8 {
		wg.Go(func() {
			for n := w; ; n++ {
				call(ctx, s, n)
			}
		})
	}
	wg.Wait()
	return nil
}

// call is one call's life. Each of its facts is printed by the name of the row
// that must come of it.
func call(ctx context.Context, s *event.Stream, n int) {
	id := uuid.Must(uuid.NewV7()).String()
	now := time.Now()
	say := func(row string, p ...event.Payload) {
		if err := s.Append(ctx, time.Now(), p...); err != nil {
			panic(err)
		}
		if _, err := fmt.Fprintln(os.Stdout, row, id); err != nil {
			panic(err)
		}
	}
	say("started", event.CallStarted{CallID: id, Direction: event.Inbound, From: "59899", To: "59825", Trunk: "carrier"})
	say("ENTERQUEUE", event.QueueEntered{CallID: id, Queue: "q", Caller: "59899", Position: 1})
	if n%3 == 0 {
		say("ABANDON", event.QueueLeft{CallID: id, Queue: "q", Reason: event.LeftAbandon})
	} else {
		say("ringing", event.CallLegRinging{CallID: id, LegID: "leg" + id, Agent: "ana"})
		say("CONNECT", event.QueueConnected{CallID: id, Queue: "q", Agent: "ana", LegID: "leg" + id})
		say("COMPLETEAGENT", event.QueueCompleted{CallID: id, Queue: "q", Agent: "ana", By: event.ByAgent})
	}
	say("cdr",
		event.CallLegEnded{CallID: id, LegID: "leg" + id, Direction: event.Inbound, StartedAt: now, EndedAt: time.Now()},
		event.CallEnded{CallID: id, By: event.ByAgent})
}

func TestKilledUnderLoadLosesAndDoublesNothing(t *testing.T) {
	killed(t, "")
}

// killed kills a child 20 times and counts.
func killed(t *testing.T, url string) {
	t.Helper()
	dir := t.TempDir()
	said := map[string]int{}
	for round := range 20 {
		for line := range strings.Lines(killedAfter(t, dir, url, 60+time.Duration(round*17%10)*25*time.Millisecond)) {
			if strings.HasSuffix(line, "\n") {
				said[strings.TrimSpace(line)]++
			}
		}
	}
	if len(said) < 1000 {
		t.Fatalf("only %d facts were acknowledged: no load", len(said))
	}

	s, db, p, err := parts(t.Context(), dir, url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := closeDangling(t.Context(), s, p); err != nil {
		t.Fatal(err)
	}
	// A second look finds nothing open, and applies the rest.
	d, err := p.Dangling(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Calls) != 0 {
		t.Errorf("%d things are open after they were closed: %+v", len(d.Calls), d.Calls[0])
	}

	rows := map[string]int{} // "EVENT callid"
	scan(t, db, "SELECT event, callid FROM queue_log_repo WHERE callid <> ''", rows)
	calls := map[string]int{}
	scan(t, db, "SELECT 'cdr', guid FROM cdr_repo", calls)
	for line := range said {
		name, id, _ := strings.Cut(line, " ")
		switch name {
		case "started", "ringing", "cdr":
			if calls["cdr "+id] == 0 {
				t.Errorf("lost: no record of call %s", id)
			}
		default:
			if rows[line] == 0 {
				t.Errorf("lost: %s", line)
			}
		}
	}
	terminal := map[string]int{}
	for row, n := range rows {
		if n != 1 {
			t.Errorf("%s is there %d times", row, n)
		}
		name, id, _ := strings.Cut(row, " ")
		switch name {
		case "ABANDON", "COMPLETEAGENT", "COMPLETECALLER":
			terminal[id]++
		}
	}
	for row := range rows {
		if id, ok := strings.CutPrefix(row, "ENTERQUEUE "); ok && terminal[id] != 1 {
			t.Errorf("entry %s ended %d times", id, terminal[id])
		}
	}
	for row, n := range calls {
		if n != 1 {
			t.Errorf("%s is there %d times", row, n)
		}
	}
	t.Logf("%d acknowledged facts, %d queue log rows, %d call records, %d facts in the stream", len(said), len(rows), len(calls), s.Last())
}

// killedAfter runs a child, kills it after d of work, and returns what it said.
func killedAfter(t *testing.T, dir, url string, d time.Duration) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir, childEnv+"_DB="+url)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	first, err := r.ReadString('\n') // it works
	if err != nil {
		t.Fatalf("child said nothing: %v", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		<-time.After(d)
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
	})
	rest, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if err := cmd.Wait(); err == nil {
		t.Error("child ended by itself")
	}
	return first + string(rest)
}

func scan(t *testing.T, db *store.DB, query string, into map[string]int) {
	t.Helper()
	err := db.Query(t.Context(), query, func(rows *sql.Rows) error {
		for rows.Next() {
			var a, b string
			if err := rows.Scan(&a, &b); err != nil {
				return err
			}
			into[a+" "+b]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
