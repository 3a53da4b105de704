//go:build e2e && linux

package harness

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// BrowserEvent is a line of e2e/browser/phone.mjs.
type BrowserEvent struct {
	Event    string          `json:"event"`
	Text     string          `json:"text"`
	From     string          `json:"from"`
	CallID   string          `json:"callId"`
	Campaign string          `json:"campaign"`
	State    string          `json:"state"`
	ID       int             `json:"id"`
	Result   json.RawMessage `json:"result"`
	Error    string          `json:"error"`
}

// Browser is Chromium with a JsSIP phone in a page of the gateway.
type Browser struct {
	*Process

	stdin  io.WriteCloser
	events *Log[BrowserEvent]
	seen   int
	id     int
}

// Browser opens the page; its microphone hears a WAV file again and again.
func (g *Gateway) Browser(tb testing.TB, microphone string) *Browser {
	tb.Helper()
	node, chromium := Need(tb, "node"), Need(tb, "chromium")
	dir := filepath.Join(Root(tb), "e2e", "browser")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "jssip")); err != nil {
		if os.Getenv("CI") == "true" {
			tb.Fatal(err)
		}
		tb.Skip("npm ci in e2e/browser is missing: ", err)
	}
	b := &Browser{events: NewLog[BrowserEvent]()}
	b.Process, b.stdin = runPiped(tb, dir, func(line string) {
		var e BrowserEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			e = BrowserEvent{Event: "not JSON", Error: line}
		}
		b.events.Add(e)
	}, node, "phone.mjs", g.URL(), microphone, chromium)
	tb.Cleanup(func() {
		if tb.Failed() {
			for _, e := range b.events.All() {
				tb.Logf("browser: %+v %s", e, e.Result)
			}
		}
	})
	b.Next(tb, "ready")
	return b
}

// Next waits for the page's next event of a kind.
func (b *Browser) Next(tb testing.TB, kind string) BrowserEvent {
	tb.Helper()
	i := b.seen - 1
	e, ok := b.events.Wait(tb.Context(), 2*Patience, b.seen, func(e BrowserEvent) bool {
		i++
		return e.Event == kind
	})
	if !ok {
		tb.Fatalf("the page did not say %q", kind)
	}
	b.seen = i + 1
	return e
}

// Do calls a function of the page's phone; out may be nil.
func (b *Browser) Do(tb testing.TB, out any, call string, args ...any) {
	tb.Helper()
	b.id++
	id := b.id
	if args == nil {
		args = []any{}
	}
	line, err := json.Marshal(map[string]any{"id": id, "call": call, "args": args})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := fmt.Fprintf(b.stdin, "%s\n", line); err != nil {
		tb.Fatal(err)
	}
	e, ok := b.events.Wait(tb.Context(), 2*Patience, 0, func(e BrowserEvent) bool { return e.ID == id })
	if !ok || e.Error != "" {
		tb.Fatalf("the page's %s: %s", call, e.Error)
	}
	if out != nil {
		if err := json.Unmarshal(e.Result, out); err != nil {
			tb.Fatal(err)
		}
	}
}

// Ms calls a function of the page's phone that returns a number.
func (b *Browser) Ms(tb testing.TB, call string, args ...any) int {
	tb.Helper()
	var n int
	b.Do(tb, &n, call, args...)
	return n
}
