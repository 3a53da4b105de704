package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/agent/lane"
	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/event"
)

// The runner's bounds where Options name none.
const (
	defaultMaxCallers = 10_000
	defaultMaxFacts   = 20_000
	mailboxSize       = 4096
	factWorkers       = 64
	actionWorkers     = 32
	keptEnded         = 2000 // ended calls that Why still explains
	keptDecisions     = 64   // of one call
	checkEvery        = time.Second
)

// leaseGrace is how much longer than the queue's own patience an agent's lease
// lasts: only a lost result makes it expire.
const leaseGrace = 5 * time.Second

// Options are what a runner needs.
type Options struct {
	Log     *slog.Logger
	Calls   Calls
	Agents  *agent.Registry
	Journal event.Journal
	// Location is the time zone of campaigns without one; nil = UTC.
	Location *time.Location
	// Seed makes the strategies with chance repeatable.
	Seed uint64
	// MaxCallers bounds the entries of this node, MaxFacts those facts that
	// wait for the journal: above either new callers get ErrOverload. 0 = a
	// default.
	MaxCallers int
	MaxFacts   int
	// Alive, if given, tells whether a call still exists. Once a second the
	// entries of calls that do not are taken out, and counted as repairs.
	Alive func(callID string) bool
}

// Runner owns the queues of a node. Its methods are safe for concurrent use.
type Runner struct {
	o       Options
	log     *slog.Logger
	mailbox chan message
	stopped chan struct{} // closed when no message is taken any more
	facts   *lane.Lanes
	actions *lane.Lanes
	count   counters
	drain   atomic.Bool

	// The goroutine of Run owns these.
	core       *Core
	records    map[string]*record
	ended      []*record // a ring of the last keptEnded
	endedNext  int
	endedByID  map[string]*record
	todo       []Command
	configured map[string]campaign.Campaign

	dirtyMu sync.Mutex
	dirty   map[string]struct{} // agents whose state changed
	wake    chan struct{}
}

// message is something for the goroutine of Run to do.
type message func(ctx context.Context, now time.Time)

// record is what the runner knows of one call.
type record struct {
	caller    Caller
	asked     time.Time // when Enter was called
	leases    map[string]*agent.Lease
	view      atomic.Pointer[EntryView] // as journaled
	decisions []Decision
	rung      bool
	missing   int // checks in a row that found no such call
}

// NewRunner returns a runner; Run makes it work.
func NewRunner(o Options) *Runner {
	if o.Location == nil {
		o.Location = time.UTC
	}
	if o.MaxCallers <= 0 {
		o.MaxCallers = defaultMaxCallers
	}
	if o.MaxFacts <= 0 {
		o.MaxFacts = defaultMaxFacts
	}
	return &Runner{
		o: o, log: o.Log.With("component", "queue"),
		mailbox: make(chan message, mailboxSize), stopped: make(chan struct{}),
		facts: lane.New(factWorkers), actions: lane.New(actionWorkers),
		core: NewCore(o.Location, o.Seed), records: map[string]*record{}, endedByID: map[string]*record{},
		dirty: map[string]struct{}{}, wake: make(chan struct{}, 1),
	}
}

// Run decides until ctx ends. Then every caller leaves its queue as closed,
// every connected call is completed with a cause, what was decided is carried
// out and journaled, and Run returns. To let calls end by themselves first, use
// Drain and wait until Stats shows no entries. It may be called once.
func (r *Runner) Run(ctx context.Context) error {
	work := context.WithoutCancel(ctx)
	factsCtx, stopFacts := context.WithCancel(work)
	actionsCtx, stopActions := context.WithCancel(work)
	var facts, actions sync.WaitGroup
	facts.Go(func() { r.facts.Run(factsCtx) })
	actions.Go(func() { r.actions.Run(actionsCtx) })
	cancel := r.o.Agents.Subscribe(r.agentChanged)
	for _, v := range r.o.Agents.CurrentAll() {
		r.agentChanged(v)
	}
	r.loop(ctx, work)
	cancel()
	stopFacts()
	facts.Wait() // the last facts may still ask for a Drop
	stopActions()
	actions.Wait()
	return nil
}

func (r *Runner) loop(ctx, work context.Context) {
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	for ctx.Err() == nil {
		wait := time.Hour
		if at, ok := r.core.Next(); ok {
			wait = max(0, time.Until(at))
		}
		due.Reset(wait)
		select {
		case m := <-r.mailbox:
			m(work, time.Now())
		case <-r.wake:
		case <-due.C:
			now := time.Now()
			r.decided(r.core.Tick(now))
		case <-check.C:
			r.check(work, time.Now())
		case <-ctx.Done():
		}
		r.settle(work, time.Now())
	}
	r.drain.Store(true)
	now := time.Now()
	r.decided(r.core.Close(now))
	r.carryAll(work, now)
	for {
		select {
		case m := <-r.mailbox:
			m(work, now)
			r.carryAll(work, now)
			continue
		default:
		}
		break
	}
	close(r.stopped)
}

// post gives a message to the runner. It blocks while the mailbox is full; when
// the runner has stopped there is nobody left whom it concerns.
func (r *Runner) post(m message) {
	select {
	case <-r.stopped:
		return
	default:
	}
	select {
	case r.mailbox <- m:
	case <-r.stopped:
	}
}

// SetCampaigns makes the queues as the campaigns say. After the first time, a
// new queue, a new member and a removed one are facts.
func (r *Runner) SetCampaigns(campaigns []campaign.Campaign) {
	r.post(func(_ context.Context, now time.Time) {
		r.campaignFacts(now, campaigns)
		r.decided(r.core.Configure(now, campaigns))
	})
}

// Drain refuses new callers with ErrStopping; those who wait are still served.
func (r *Runner) Drain() { r.drain.Store(true) }

// Enter puts a call into a queue. It answers at once, with ErrOverload when it
// cannot be admitted, and with the errors of Core.Enter. When ctx ends first
// the call may be in the queue: Hangup takes it out.
func (r *Runner) Enter(ctx context.Context, in Caller) error {
	asked := time.Now()
	if r.drain.Load() {
		return ErrStopping
	}
	if r.facts.Pending() >= r.o.MaxFacts {
		r.count.overloads.Add(1)
		return fmt.Errorf("%d facts wait for the journal: %w", r.o.MaxFacts, ErrOverload)
	}
	answer := make(chan error, 1)
	m := func(_ context.Context, now time.Time) { answer <- r.enter(now, asked, in) }
	select {
	case <-r.stopped:
		return ErrStopping
	default:
	}
	select {
	case r.mailbox <- m:
	default:
		r.count.overloads.Add(1)
		return fmt.Errorf("%d messages wait for the queues: %w", mailboxSize, ErrOverload)
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.stopped:
		select {
		case err := <-answer:
			return err
		default:
			return ErrStopping
		}
	}
}

// enter runs on the runner's goroutine.
func (r *Runner) enter(now, asked time.Time, in Caller) error {
	if r.drain.Load() {
		return ErrStopping
	}
	if len(r.records) >= r.o.MaxCallers {
		r.count.overloads.Add(1)
		return fmt.Errorf("%d callers are in the queues: %w", len(r.records), ErrOverload)
	}
	cmds, err := r.core.Enter(now, in)
	if err != nil {
		r.count.refusals.Add(1)
		return err
	}
	r.records[in.CallID] = &record{caller: in, asked: asked, leases: map[string]*agent.Lease{}}
	r.decided(cmds)
	return nil
}

// Hangup says that the caller is gone, at whatever moment.
func (r *Runner) Hangup(callID string) { r.Leave(callID, event.LeftAbandon, "") }

// Leave takes a call out of its queue for a reason of the call layer's: a key
// was pressed, the caller was moved.
func (r *Runner) Leave(callID string, why event.LeaveReason, key string) {
	r.post(func(_ context.Context, now time.Time) { r.decided(r.core.Leave(now, callID, why, key)) })
}

// Result says how ringing an agent for a call ended. An answer that comes when
// somebody else has the call, or nobody any more, gets Calls.StopRinging.
func (r *Runner) Result(callID, agentName string, res RingResult) {
	r.post(func(_ context.Context, now time.Time) { r.decided(r.core.Result(now, callID, agentName, res)) })
}

// Ended says that a call which an agent had is over, and who ended it.
func (r *Runner) Ended(callID string, by event.By) {
	r.post(func(_ context.Context, now time.Time) { r.decided(r.core.Completed(now, callID, by)) })
}

// Reenter puts a call whose agent was lost, and did not come back in time, at
// the head of its queue with the same entry.
func (r *Runner) Reenter(callID string) {
	r.post(func(_ context.Context, now time.Time) { r.decided(r.core.Reenter(now, callID)) })
}

// agentChanged marks an agent as changed. It is called by the registry and
// never blocks.
func (r *Runner) agentChanged(v agent.View) {
	r.dirtyMu.Lock()
	r.dirty[v.Agent] = struct{}{}
	r.dirtyMu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// settle carries out what was decided, tells the core which agents changed,
// and goes on until there is nothing left of either.
func (r *Runner) settle(ctx context.Context, now time.Time) {
	for {
		r.carryAll(ctx, now)
		r.dirtyMu.Lock()
		names := make([]string, 0, len(r.dirty))
		for name := range r.dirty {
			names = append(names, name)
		}
		clear(r.dirty)
		r.dirtyMu.Unlock()
		if len(names) == 0 {
			break
		}
		for _, name := range names {
			if v, ok := r.o.Agents.Current(name); ok {
				r.decided(r.core.AgentChanged(now, statusOf(v)))
			} else {
				r.decided(r.core.AgentChanged(now, AgentStatus{Agent: name}))
			}
		}
	}
}

// carryAll carries out what was decided, and what is decided meanwhile.
func (r *Runner) carryAll(ctx context.Context, now time.Time) {
	for i := 0; i < len(r.todo); i++ {
		r.carryOut(ctx, now, r.todo[i])
	}
	clear(r.todo)
	r.todo = r.todo[:0]
	r.count.entries.Store(int64(len(r.records)))
	r.count.waiting.Store(int64(r.core.waiting))
}

// decided queues the core's commands to be carried out.
func (r *Runner) decided(cmds []Command) { r.todo = append(r.todo, cmds...) }

// statusOf says what an agent's view means for the core.
func statusOf(v agent.View) AgentStatus {
	s := AgentStatus{
		Agent: v.Agent, Staffed: v.Staffed(), Paused: v.Paused, State: string(v.State), Since: v.Since,
	}
	if v.Reason != "" {
		s.State += " (" + v.Reason + ")"
	}
	switch v.State {
	case agent.Available:
		s.Availability = Free
	case agent.OnCall:
		if v.Ringing == 0 && v.WrapUpUntil.IsZero() && !v.Paused && v.Staffed() {
			s.Availability = Engaged
		}
	case agent.Ringing, agent.WrapUp, agent.OnBreak, agent.Offline:
	}
	return s
}

// check looks for what should not be and repairs it.
func (r *Runner) check(ctx context.Context, now time.Time) {
	r.decided(r.core.Tick(now))
	r.settle(ctx, now)
	for _, err := range r.core.Check(now) {
		r.repaired(ctx, "invariant broken", err)
	}
	for id, rec := range r.records {
		for name, l := range rec.leases {
			if !r.core.holds(id, name) {
				l.Release(0, "")
				delete(rec.leases, name)
				r.repaired(ctx, "lease without a call", fmt.Errorf("call %s, agent %s: %w", id, name, agent.ErrLeaseGone))
			}
		}
		if r.o.Alive == nil || r.o.Alive(id) {
			rec.missing = 0
			continue
		}
		if rec.missing++; rec.missing > 1 {
			r.decided(r.core.Leave(now, id, event.LeftAbandon, ""))
			r.repaired(ctx, "entry without a call", fmt.Errorf("call %s: %w", id, ErrNoCall))
		}
	}
	r.settle(ctx, now)
	for _, v := range r.o.Agents.CurrentAll() {
		want := statusOf(v)
		have, ok := r.core.status(v.Agent)
		if ok && have.Availability == want.Availability && have.Staffed == want.Staffed && have.Paused == want.Paused {
			continue
		}
		r.dirtyMu.Lock()
		_, coming := r.dirty[v.Agent]
		r.dirtyMu.Unlock()
		if !coming {
			r.decided(r.core.AgentChanged(now, want))
			r.repaired(ctx, "agent state was not known", fmt.Errorf("agent %s is %s: %w", v.Agent, v.State, errStale))
		}
	}
}

var errStale = errors.New("core has another state")

func (r *Runner) repaired(ctx context.Context, what string, err error) {
	r.count.repairs.Add(1)
	r.log.ErrorContext(ctx, "queue repaired", "what", what, "err", err)
}
