package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
)

const (
	retryMin = 100 * time.Millisecond
	// commitTimeout ends an attempt to write a batch: a database that hangs is
	// gone.
	commitTimeout = 30 * time.Second
)

// errCaughtUp ends a reading that had a goal.
var errCaughtUp = errors.New("caught up")

// Projector applies facts to the tables.
type Projector struct {
	o       Options
	running sync.Mutex // held by Run and Dangling

	mu      sync.Mutex
	stats   Stats
	applied chan struct{} // closed and replaced at each commit
}

// NewProjector makes a projector.
func NewProjector(o Options) (*Projector, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	return &Projector{o: o, applied: make(chan struct{})}, nil
}

// Run applies facts until ctx ends, which is no error. It retries for as long
// as the database or the stream is slow or gone; facts wait in the stream.
func (p *Projector) Run(ctx context.Context) error {
	if !p.running.TryLock() {
		return ErrRunning
	}
	defer p.running.Unlock()
	for attempt := 0; ; attempt++ {
		moved := p.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(moved, event.ErrClosed):
			return moved
		case errors.Is(moved, ErrMoved):
			p.o.Log.WarnContext(ctx, "another reader moved the checkpoint", "err", moved)
		default:
			p.o.Log.ErrorContext(ctx, "reading of facts stopped", "err", moved)
		}
		if err := pause(ctx, p.backoff(attempt)); err != nil {
			return nil // the end of ctx is no error
		}
	}
}

// follow applies facts after the checkpoint until something goes wrong.
func (p *Projector) follow(ctx context.Context) error {
	r, err := p.begin(ctx)
	if err != nil {
		return err
	}
	return r.read(ctx, 0)
}

// reading is one run of the reader from the checkpoint on.
type reading struct {
	p   *Projector
	m   *mapper
	seq uint64 // of the last fact that was applied
}

// begin loads the checkpoint. It retries until ctx ends.
func (p *Projector) begin(ctx context.Context) (*reading, error) {
	var seq uint64
	var items []OpenItem
	err := p.retry(ctx, "read checkpoint", func(ctx context.Context) error {
		var err error
		seq, items, err = p.o.Store.Checkpoint(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	st, err := load(items)
	if err != nil {
		return nil, err
	}
	// After a power failure the tables may know facts that the stream has
	// lost. New facts must not get their sequences.
	if last := p.o.Source.Last(); last < seq {
		p.o.Log.WarnContext(ctx, "stream is behind the tables", "stream", last, "tables", seq)
		if err := p.o.Source.Skip(ctx, seq); err != nil {
			return nil, fmt.Errorf("skip to %d: %w", seq, err)
		}
	}
	p.mu.Lock()
	p.stats.Applied = seq
	p.mu.Unlock()
	return &reading{p: p, m: &mapper{loc: p.o.Location, st: st}, seq: seq}, nil
}

// read applies facts up to the sequence to, or until ctx ends when it is 0.
func (r *reading) read(ctx context.Context, to uint64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	facts := make(chan event.Fact, r.p.o.BatchSize)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() {
		err := r.p.o.Source.Read(ctx, r.seq, func(f event.Fact) error {
			select {
			case facts <- f:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if to > 0 && f.Seq >= to {
				return errCaughtUp
			}
			return nil
		})
		if errors.Is(err, errCaughtUp) {
			return
		}
		if err == nil {
			err = context.Canceled
		}
		cancel(err)
	})
	for to == 0 || r.seq < to {
		if err := r.batch(ctx, facts, to); err != nil {
			return err
		}
	}
	return nil
}

// batch waits for facts, gives them a moment to become many, and applies them.
func (r *reading) batch(ctx context.Context, facts <-chan event.Fact, to uint64) error {
	b := Batch{From: r.seq, To: r.seq}
	var poison int
	last := time.Time{}
	add := func(f event.Fact) {
		c := r.m.change(f)
		poison += len(c.Poison)
		b.Changes = append(b.Changes, c)
		b.To = f.Seq
		if f.Type != event.KindGatewayStarted && f.Type != event.KindGap && f.Type != event.KindMalformed {
			last = f.Time
		}
	}
	select {
	case f := <-facts:
		add(f)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	t := time.NewTimer(r.p.o.BatchWait)
	defer t.Stop()
collect:
	for len(b.Changes) < r.p.o.BatchSize && (to == 0 || b.To < to) {
		select {
		case f := <-facts:
			add(f)
		case <-t.C:
			break collect
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if !last.IsZero() {
		it, err := r.alive(last)
		if err != nil {
			return err
		}
		tail := &b.Changes[len(b.Changes)-1]
		tail.Open = append(tail.Open, it)
	}
	return r.commit(ctx, b, poison)
}

// alive notes the last sign of life of a gateway.
func (r *reading) alive(at time.Time) (OpenItem, error) {
	r.m.st.alive = at
	doc, err := json.Marshal(at)
	if err != nil {
		return OpenItem{}, fmt.Errorf("encode time %v: %w", at, err)
	}
	return OpenItem{Kind: itemAlive, Key: itemAlive, Doc: doc}, nil
}

// commit writes a batch, however long that takes. A batch that the database
// refuses is halved until the fact is found that it is refused for.
func (r *reading) commit(ctx context.Context, b Batch, poison int) error {
	err := r.p.retry(ctx, "apply facts", func(ctx context.Context) error { return r.p.o.Store.Apply(ctx, b) })
	switch {
	case errors.Is(err, ErrRefused) && len(b.Changes) > 1:
		half := len(b.Changes) / 2
		mid := b.Changes[half-1].Seq
		if err := r.commit(ctx, Batch{From: b.From, To: mid, Changes: b.Changes[:half]}, 0); err != nil {
			return err
		}
		return r.commit(ctx, Batch{From: mid, To: b.To, Changes: b.Changes[half:]}, poison)
	case errors.Is(err, ErrRefused) && len(b.Changes[0].Poison) == 0:
		c := b.Changes[0]
		put := poisoned(event.Fact{Seq: c.Seq, Time: r.m.st.alive, Type: "refused", Data: describe(c)}, err)
		put.Open = c.Open
		return r.commit(ctx, Batch{From: b.From, To: b.To, Changes: []Change{put}}, poison+1)
	case err != nil:
		return err
	}
	r.seq = b.To
	r.p.committed(ctx, b, poison)
	return nil
}

// describe shows the rows that were refused.
func describe(c Change) json.RawMessage {
	c.Open = nil
	doc, err := json.Marshal(c)
	if err != nil {
		return json.RawMessage(`"rows cannot be shown"`)
	}
	return doc
}

func (p *Projector) committed(ctx context.Context, b Batch, poison int) {
	p.mu.Lock()
	p.stats.Applied = b.To
	p.stats.Facts += uint64(len(b.Changes))
	p.stats.Poisoned += uint64(poison)
	p.stats.LastCommit = time.Now()
	close(p.applied)
	p.applied = make(chan struct{})
	p.mu.Unlock()
	if poison > 0 {
		p.o.Log.ErrorContext(ctx, "facts put aside", "count", poison, "up_to", b.To)
		p.o.Alarm(event.Alarm{
			Name: AlarmPoison, Active: true,
			Message: fmt.Sprintf("%d facts up to number %d could not be applied and were put aside", poison, b.To),
		})
	}
}

// retry calls fn until it succeeds, is refused, or ctx ends.
func (p *Projector) retry(ctx context.Context, what string, fn func(context.Context) error) error {
	for attempt := 0; ; attempt++ {
		try, cancel := context.WithTimeout(ctx, commitTimeout)
		err := fn(try)
		cancel()
		switch {
		case err == nil || errors.Is(err, ErrRefused) || errors.Is(err, ErrMoved):
			if attempt > 0 {
				p.o.Alarm(event.Alarm{Name: AlarmDatabase, Message: "the database takes facts again"})
			}
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		p.mu.Lock()
		p.stats.Retries++
		p.mu.Unlock()
		p.o.Log.WarnContext(ctx, "database does not take facts", "what", what, "attempt", attempt+1, "err", err)
		if attempt == 0 {
			p.o.Alarm(event.Alarm{Name: AlarmDatabase, Active: true, Message: "the database does not take facts; they wait in the stream"})
		}
		if err := pause(ctx, p.backoff(attempt)); err != nil {
			return err
		}
	}
}

// backoff doubles with each attempt, with a fifth of jitter.
func (p *Projector) backoff(attempt int) time.Duration {
	d := min(retryMin<<min(attempt, 16), p.o.RetryMax)
	return d - rand.N(d/5+1) //nolint:gosec // jitter needs no secrecy
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Wait returns when the fact seq has been applied.
func (p *Projector) Wait(ctx context.Context, seq uint64) error {
	for {
		p.mu.Lock()
		done, ch := p.stats.Applied >= seq, p.applied
		p.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return fmt.Errorf("wait for fact %d: %w", seq, context.Cause(ctx))
		}
	}
}

// Stats returns the projector's counters.
func (p *Projector) Stats() Stats {
	last := p.o.Source.Last()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	if last > s.Applied {
		s.Behind = last - s.Applied
	}
	return s
}
