package report_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
)

// BenchmarkApply measures how many facts a second go from the stream into
// SQLite. Six facts are a queue call.
func BenchmarkApply(b *testing.B) {
	s, db, p, err := parts(b.Context(), b.TempDir(), "", slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	}()
	for i := 0; i < b.N; i += 6 {
		id, now := fmt.Sprint(i), time.Now()
		err := s.Append(b.Context(), now,
			event.CallStarted{CallID: id, Direction: event.Inbound, From: "59899", To: "59825", Trunk: "carrier"},
			event.QueueEntered{CallID: id, Queue: "q", Caller: "59899", Position: 1},
			event.QueueConnected{CallID: id, Queue: "q", Agent: "ana", LegID: "leg" + id},
			event.QueueCompleted{CallID: id, Queue: "q", Agent: "ana", By: event.ByAgent},
			event.CallLegEnded{CallID: id, LegID: "leg" + id, Direction: event.Inbound, StartedAt: now, EndedAt: now},
			event.CallEnded{CallID: id, By: event.ByAgent})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	if _, err := p.Dangling(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(s.Last())/b.Elapsed().Seconds(), "facts/s")
}
