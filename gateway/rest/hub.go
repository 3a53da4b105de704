package rest

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/event"
)

// ringSize is how many facts a slow client may be behind before it is told to
// resume.
const ringSize = 8192

// item is a fact as it goes to clients, encoded once for all of them, and only
// when there is one who asks.
type item struct {
	seq     uint64
	kind    event.Kind
	encoded func() encoded
}

// encoded is what clients need of a fact. The text is nil if it has none.
type encoded struct {
	about

	text []byte
}

// about is what a fact says of who may see it.
type about struct {
	Agent    string `json:"agent"`
	Campaign string `json:"campaign"`
	Queue    string `json:"queue"`
}

func newItem(f event.Fact, log *slog.Logger) item {
	return item{seq: f.Seq, kind: f.Type, encoded: sync.OnceValue(func() encoded {
		var e encoded
		if err := json.Unmarshal(f.Data, &e.about); err != nil {
			e.about = about{} // then only those who see everything see it
		}
		var err error
		if e.text, err = json.Marshal(api.Event{Seq: f.Seq, Time: f.Time, Type: string(f.Type), Data: f.Data}); err != nil {
			log.Error("fact not shown", "seq", f.Seq, "err", err)
			e.text = nil
		}
		return e
	})}
}

// hub reads the stream once for all clients and keeps its newest facts in a
// ring. Clients read the ring at their own pace, so that a slow one costs
// nothing and holds nobody up.
type hub struct {
	facts Facts
	log   *slog.Logger

	mu      sync.Mutex
	ring    []item // ascending
	last    uint64
	started bool
	changed chan struct{} // closed at the next change
	done    bool
}

func newHub(f Facts, log *slog.Logger) *hub {
	return &hub{facts: f, log: log, changed: make(chan struct{})}
}

// run follows the stream until ctx ends.
func (b *hub) run(ctx context.Context) error {
	defer b.finish()
	b.mu.Lock()
	b.last, b.started = b.facts.Last(), true
	after := b.last
	b.wakeLocked()
	b.mu.Unlock()
	for ctx.Err() == nil {
		err := b.facts.Read(ctx, after, func(f event.Fact) error {
			b.add(newItem(f, b.log))
			after = f.Seq
			return nil
		})
		if ctx.Err() != nil || errors.Is(err, event.ErrClosed) {
			return nil
		}
		if err != nil {
			b.log.WarnContext(ctx, "event reader starts again", "after", after, "err", err)
		}
		pause := time.NewTimer(time.Second)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
	return nil
}

func (b *hub) add(it item) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ring) >= 2*ringSize { // copied once in ringSize facts
		b.ring = append(make([]item, 0, 2*ringSize), b.ring[len(b.ring)-ringSize:]...)
	}
	b.ring = append(b.ring, it)
	b.last = it.seq
	b.wakeLocked()
}

func (b *hub) wakeLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *hub) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = true
	b.wakeLocked()
}

// view is what a client gets of the hub at one moment.
type view struct {
	items   []item // after the client's cursor; read only
	last    uint64
	behind  bool // the ring no longer reaches back to the cursor
	waiting bool // the hub has not begun
	done    bool
	changed <-chan struct{}
}

// after returns what follows the cursor.
func (b *hub) after(cursor uint64) view {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := view{last: b.last, done: b.done, waiting: !b.started, changed: b.changed}
	if cursor >= b.last {
		return v
	}
	if len(b.ring) == 0 || b.ring[0].seq > cursor+1 {
		v.behind = true
		return v
	}
	// sequences may have gaps: search for the first above the cursor
	lo, hi := 0, len(b.ring)
	for lo < hi {
		mid := (lo + hi) / 2
		if b.ring[mid].seq <= cursor {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	v.items = b.ring[lo:len(b.ring):len(b.ring)]
	return v
}
