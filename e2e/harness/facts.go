//go:build e2e && linux

package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/event"
)

// Facts follows a gateway's events over its WebSocket, across restarts.
type Facts struct{ log *Log[api.Event] }

// Facts follows the gateway's events from the first one on, to the test's end.
func (g *Gateway) Facts(tb testing.TB) *Facts {
	tb.Helper()
	if g.facts != nil {
		return g.facts
	}
	f := &Facts{log: NewLog[api.Event]()}
	ctx, cancel := context.WithCancel(tb.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		var last uint64
		for ctx.Err() == nil {
			last = f.follow(ctx, g, last)
			wait := time.NewTimer(100 * time.Millisecond)
			select {
			case <-wait.C:
			case <-ctx.Done():
				wait.Stop()
			}
		}
	})
	tb.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	g.facts = f
	return f
}

// follow reads one connection to its end and returns the last sequence seen.
func (f *Facts) follow(ctx context.Context, g *Gateway, last uint64) uint64 {
	token, err := g.admin()
	if err != nil {
		return last // the gateway does not run at the moment
	}
	tr, ok := g.http.Transport.(*http.Transport)
	if !ok {
		return last
	}
	d := websocket.Dialer{TLSClientConfig: tr.TLSClientConfig, HandshakeTimeout: 10 * time.Second}
	ws, res, err := d.DialContext(ctx, fmt.Sprintf("ws%s/api/v1/events?since=%d", strings.TrimPrefix(g.base, "http"), last), http.Header{"Authorization": {"Bearer " + token}})
	if res != nil {
		_ = res.Body.Close()
	}
	if err != nil {
		return last
	}
	stop := context.AfterFunc(ctx, func() { _ = ws.Close() })
	defer stop()
	defer func() { _ = ws.Close() }()
	for {
		var e api.Event
		if err := ws.ReadJSON(&e); err != nil {
			return last
		}
		if e.Seq > last {
			last = e.Seq
			f.log.Add(e)
		}
	}
}

// All returns all events so far.
func (f *Facts) All() []api.Event { return f.log.All() }

// Last returns the sequence of the newest event.
func (f *Facts) Last() uint64 {
	all := f.log.All()
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1].Seq
}

// Fact waits for the first fact of T's kind after a sequence that matches (nil
// = any).
func Fact[T event.Payload](tb testing.TB, f *Facts, after uint64, match func(T) bool) (T, api.Event) {
	tb.Helper()
	return FactWithin(tb, f, Patience, after, match)
}

// FactWithin is Fact with a patience of its own.
func FactWithin[T event.Payload](tb testing.TB, f *Facts, d time.Duration, after uint64, match func(T) bool) (T, api.Event) {
	tb.Helper()
	var found T
	kind := string(found.Kind())
	e, ok := f.log.Wait(tb.Context(), d, 0, func(e api.Event) bool {
		var p T
		if e.Seq <= after || e.Type != kind || json.Unmarshal(e.Data, &p) != nil || (match != nil && !match(p)) {
			return false
		}
		found = p
		return true
	})
	if !ok {
		tb.Fatalf("no fact %s that matches within %v; the last ones:\n%s", kind, d, f.tail())
	}
	return found, e
}

func (f *Facts) tail() string {
	all := f.log.All()
	var b strings.Builder
	for _, e := range all[max(0, len(all)-25):] {
		fmt.Fprintf(&b, "%d %s %s %s\n", e.Seq, e.Time.Format("15:04:05.000"), e.Type, e.Data)
	}
	return b.String()
}

// FactsOf returns all facts of T's kind so far.
func FactsOf[T event.Payload](tb testing.TB, f *Facts) []T {
	tb.Helper()
	var out []T
	var zero T
	for _, e := range f.All() {
		if e.Type != string(zero.Kind()) {
			continue
		}
		var p T
		if err := json.Unmarshal(e.Data, &p); err != nil {
			tb.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}
