package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordboard/cordboard/gateway/agent/lane"
	"github.com/cordboard/cordboard/gateway/event"
)

// journalWorkers is how many agents' facts may wait for the journal at once.
const journalWorkers = 32

// Options are what a registry needs.
type Options struct {
	Log     *slog.Logger
	Journal event.Journal
}

// Registry owns the state of every agent of this node. It is safe for
// concurrent use. Run must run for wrap-ups to end, leases to expire and facts
// to reach the journal.
type Registry struct {
	log     *slog.Logger
	journal event.Journal
	lanes   *lane.Lanes
	views   sync.Map // agent -> View, as journaled
	expired atomic.Uint64
	failed  atomic.Uint64
	wake    chan struct{} // a deadline may have come nearer

	mu     sync.Mutex
	agents map[string]*agent
	timers deadlines
	closed bool
	subs   []*subscriber // copied on write
}

type subscriber struct{ fn func(View) }

// NewRegistry returns an empty registry.
func NewRegistry(o Options) *Registry {
	return &Registry{
		log: o.Log.With("component", "agent"), journal: o.Journal,
		lanes: lane.New(journalWorkers), wake: make(chan struct{}, 1),
		agents: map[string]*agent{},
	}
}

// Run ends wrap-ups and leases at their time and appends facts to the journal
// until ctx ends; then it appends what is left and returns. After that every
// change is refused with ErrClosed.
func (r *Registry) Run(ctx context.Context) error {
	facts, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { r.lanes.Run(facts) })
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		timer.Reset(r.expire(time.Now()))
		select {
		case <-timer.C:
		case <-r.wake:
		case <-ctx.Done():
		}
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	stop()
	wg.Wait()
	return nil
}

// Subscribe calls fn with the new view at each change of any agent, before the
// journal has it: it is for those who decide, not for viewers. fn runs on the
// goroutine that made the change and must not block or call the registry's
// changing methods; two changes at the same moment may come in either order
// (Rev tells). The returned function ends the subscription.
func (r *Registry) Subscribe(fn func(View)) (cancel func()) {
	s := &subscriber{fn: fn}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.subs = append(slices.Clone(r.subs), s)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.subs = slices.DeleteFunc(slices.Clone(r.subs), func(o *subscriber) bool { return o == s })
	}
}

// Snapshot returns an agent as the journal knows it: for viewers.
func (r *Registry) Snapshot(agent string) (View, bool) {
	v, ok := r.views.Load(agent)
	if !ok {
		return View{}, false
	}
	view, ok := v.(View)
	return view, ok
}

// All returns every agent as the journal knows them, by name: for viewers.
func (r *Registry) All() []View {
	var out []View
	r.views.Range(func(_, v any) bool {
		if view, ok := v.(View); ok {
			out = append(out, view)
		}
		return true
	})
	slices.SortFunc(out, func(a, b View) int { return cmp.Compare(a.Agent, b.Agent) })
	return out
}

// Current returns an agent as it is now, journaled or not: for those who
// decide.
func (r *Registry) Current(agent string) (View, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.agents[agent]
	if !ok {
		return View{}, false
	}
	return a.view(), true
}

// CurrentAll returns every agent as they are now, journaled or not.
func (r *Registry) CurrentAll() []View {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]View, 0, len(r.agents))
	for _, a := range r.agents {
		out = append(out, a.view())
	}
	return out
}

// Stats returns the counters.
func (r *Registry) Stats() Stats {
	s := Stats{
		ByState: map[State]int{}, LeasesExpired: r.expired.Load(),
		FactsPending: r.lanes.Pending(), FactsFailed: r.failed.Load(),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.agents {
		s.ByState[a.shown.state]++
		if !a.signedAt.IsZero() {
			s.SignedIn++
		}
	}
	return s
}

// change runs fn on an agent under the lock, derives the new state, and hands
// what happened to the deciders and to the journal. The channel that it returns
// is closed when the journal has acknowledged the facts; it is nil when fn said
// that nothing changes.
func (r *Registry) change(name string, create bool, fn func(a *agent, now time.Time) error) (<-chan struct{}, error) {
	now := time.Now()
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, ErrClosed
	}
	a, known := r.agents[name]
	if !known {
		if !create || name == "" {
			r.mu.Unlock()
			return nil, ErrUnknown
		}
		a = newAgent(name, now)
		r.agents[name] = a
	}
	err := fn(a, now)
	if errors.Is(err, errSame) {
		r.mu.Unlock()
		return nil, nil
	}
	if err != nil {
		if !known {
			delete(r.agents, name)
		}
		r.mu.Unlock()
		return nil, err
	}
	c := r.commitLocked(a, now)
	r.mu.Unlock()
	c.tell()
	return c.done, nil
}

// commit is a change that was made, to be told once the lock is gone.
type commit struct {
	view View
	subs []*subscriber
	done chan struct{}
}

func (c commit) tell() {
	for _, s := range c.subs {
		s.fn(c.view)
	}
}

// commitLocked derives the agent's state after a change and gives its facts to
// the agent's lane, under the lock so that they keep the order of the changes.
func (r *Registry) commitLocked(a *agent, now time.Time) commit {
	a.rev++
	a.derive(now)
	facts, v := a.facts, a.view()
	a.facts = nil
	c := commit{view: v, subs: r.subs, done: make(chan struct{})}
	ok := r.lanes.Do(a.name, func(ctx context.Context) {
		defer close(c.done)
		if len(facts) > 0 {
			if err := r.journal.Append(ctx, now, facts...); err != nil {
				r.failed.Add(uint64(len(facts)))
				r.log.ErrorContext(ctx, "agent facts not journaled", "agent_id", v.Agent, "facts", len(facts), "err", err)
			}
		}
		r.views.Store(v.Agent, v)
	})
	if !ok {
		close(c.done)
	}
	if at := a.deadline(); !at.IsZero() && !at.Equal(a.hint) {
		a.hint = at
		r.timers.add(at, a.name)
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	return c
}

// expire ends what is due and returns the time to the next deadline.
func (r *Registry) expire(now time.Time) time.Duration {
	var commits []commit
	var lost []*Lease
	r.mu.Lock()
	for name := range r.timers.due(now) {
		a, ok := r.agents[name]
		if !ok {
			continue
		}
		gone, changed := a.expire(now)
		if changed {
			lost = append(lost, gone...)
			commits = append(commits, r.commitLocked(a, now))
		}
	}
	next := time.Hour
	if at, ok := r.timers.next(); ok {
		next = max(0, at.Sub(now))
	}
	r.mu.Unlock()
	for _, c := range commits {
		c.tell()
	}
	for _, l := range lost {
		r.expired.Add(1)
		r.log.Warn("lease expired without a result", "agent_id", l.agent, "call_id", l.callID)
	}
	return next
}

// wait returns when the journal has a change, or when ctx ends.
func wait(ctx context.Context, done <-chan struct{}, err error) error {
	if err != nil || done == nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the journal: %w", context.Cause(ctx))
	}
}
