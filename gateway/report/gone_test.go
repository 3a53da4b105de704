//go:build e2e

package report_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/store/storetest"
)

// The database dies for a while: appending goes on at its speed, and every row
// is there once when the database is back.
func TestPostgreSQLGoneAndBack(t *testing.T) {
	pg := storetest.StartPostgres(t)
	s, db, p, err := parts(t.Context(), t.TempDir(), pg.Database(t), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	n := 0
	add := func(count int) {
		var worst time.Duration
		for range count {
			begin := time.Now()
			if err := s.Append(t.Context(), begin, event.Audit{User: "eva", Action: fmt.Sprint(n)}); err != nil {
				t.Fatal(err)
			}
			worst = max(worst, time.Since(begin))
			n++
		}
		t.Logf("%d facts, slowest %v", count, worst)
	}
	add(2000)
	pg.Stop(t)
	add(3000)
	if err := db.Ping(t.Context()); err == nil {
		t.Error("a dead database answers")
	}
	pg.Start(t)
	add(1000)
	wait, end := context.WithTimeout(t.Context(), 30*time.Second)
	defer end()
	if err := p.Wait(wait, s.Last()); err != nil {
		t.Fatal(err)
	}
	rows := map[string]int{}
	scan(t, db, "SELECT userid, action FROM AUDITORY", rows)
	if len(rows) != n {
		t.Errorf("%d rows of %d facts", len(rows), n)
	}
	for row, times := range rows {
		if times != 1 {
			t.Errorf("%s is there %d times", row, times)
		}
	}
	if st := p.Stats(); st.Retries == 0 {
		t.Error("nothing was retried: the database was not gone")
	}
}
