package queue

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

// ask runs fn on the runner's goroutine and waits for it.
func (r *Runner) ask(ctx context.Context, fn func(now time.Time)) error {
	done := make(chan struct{})
	m := func(_ context.Context, now time.Time) {
		defer close(done)
		fn(now)
	}
	select {
	case r.mailbox <- m:
	case <-r.stopped:
		return ErrStopping
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.stopped:
		select {
		case <-done:
			return nil
		default:
			return ErrStopping
		}
	}
}

// Snapshot returns the queues as the journal knows them, by name.
func (r *Runner) Snapshot(ctx context.Context) ([]View, error) {
	var out []View
	err := r.ask(ctx, func(now time.Time) {
		calls := r.core.calls()
		for name, q := range r.core.queues {
			v := View{
				Queue: name, Open: q.cfg.Schedule.Open(now.In(q.loc)), Members: len(q.members),
				Staffed: q.staffed, Ready: len(q.ready), Counters: q.count,
			}
			for _, id := range calls[name] {
				rec, ok := r.records[id]
				if !ok {
					continue
				}
				e := rec.view.Load()
				if e == nil {
					continue // not journaled yet
				}
				entry := *e
				entry.Agents = slices.Clone(e.Agents)
				switch entry.State {
				case StateWaiting:
					v.Waiting++
				case StateRinging:
					v.Ringing++
				case StateTalking:
					v.Talking++
				case StateGone:
					continue
				}
				if entry.State != StateTalking {
					entry.Position = v.Waiting + v.Ringing
				}
				v.Entries = append(v.Entries, entry)
			}
			out = append(out, v)
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b View) int { return cmp.Compare(a.Queue, b.Queue) })
	return out, nil
}

// Why explains how a call came to be where it is. It knows calls that are in a
// queue and the last ones that were.
func (r *Runner) Why(ctx context.Context, callID string) (Explanation, error) {
	var out Explanation
	found := false
	err := r.ask(ctx, func(now time.Time) {
		rec, ok := r.records[callID]
		if !ok {
			rec, ok = r.endedByID[callID]
		}
		if !ok {
			return
		}
		found = true
		state, text := r.core.Explain(now, callID)
		out = Explanation{
			CallID: callID, Queue: rec.caller.Queue, State: state, Now: text, Decisions: slices.Clone(rec.decisions),
		}
	})
	if err != nil {
		return Explanation{}, err
	}
	if !found {
		return Explanation{}, ErrNoCall
	}
	return out, nil
}
