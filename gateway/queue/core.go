package queue

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"time"

	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/event"
)

// emptyGrace is how long a queue must be without staff before its callers are
// put out: phones that register again within it lose nobody a place.
const emptyGrace = 10 * time.Second

// minRetry is the shortest pause before the same agents are tried again, and
// before an agent whose phone could not be rung is offered anything.
const minRetry = time.Second

// Core decides for all queues of a node. It is not safe for concurrent use. Its
// inputs take the time, which never goes back, and return what is to be done;
// the returned slice is valid until the next input.
type Core struct {
	loc     *time.Location // of queues without a time zone
	rnd     *rand.Rand
	queues  map[string]*line
	workers map[string]*worker
	entries map[string]*entry
	waiting int // entries not talking
	seq     uint64
	dirty   []*line
	timers  timers
	out     []Command
}

// line is one queue.
type line struct {
	cfg     campaign.Campaign
	loc     *time.Location
	members []*member
	ready   []*member // who could be offered an entry now, in no order
	waiting []*entry  // waiting and ringing, in order of their turn
	ringing int       // how many of waiting
	talking int
	staffed int
	// emptySince is when the last staffed member was lost.
	emptySince time.Time
	next       int  // rrmemory: where the next pass begins
	dirty      bool // is in Core.dirty
	gone       bool // its campaign was deleted
	count      Counters
}

// member is a worker's place in a line.
type member struct {
	q        *line
	w        *worker
	penalty  int
	order    int
	paused   bool
	staffed  bool // is counted in line.staffed
	at       int  // index in line.ready, -1 = not ready
	lastCall time.Time
	calls    int
}

// worker is an agent.
type worker struct {
	name    string
	status  AgentStatus
	offer   *offer
	talks   []*entry
	members []*member
	// noAnswers counts unanswered offers in a row.
	noAnswers int
	// coolUntil keeps an agent whose phone could not be rung from the next
	// offer.
	coolUntil time.Time
}

// entry is a caller.
type entry struct {
	Caller
	q         *line
	seq       uint64
	reentered bool
	state     EntryState
	since     time.Time // of waiting (with ringing) or talking
	waited    time.Duration
	talked    time.Duration
	original  int
	offers    []*offer
	tried     []*worker // did not take it in this round
	retryAt   time.Time
	armed     time.Time // the retryAt that has a timer
	worker    *worker   // who has it, or had it last
}

// offer is one agent rung for one entry.
type offer struct {
	e     *entry
	m     *member
	at    time.Time
	until time.Time
	late  bool // was ended, and answered all the same
}

// NewCore returns a core without queues. loc is the time zone of campaigns
// without one; seed makes the strategies with chance repeatable.
func NewCore(loc *time.Location, seed uint64) *Core {
	return &Core{
		loc: loc, rnd: rand.New(rand.NewPCG(seed, seed)), //nolint:gosec // chance among agents is no secret
		queues: map[string]*line{}, workers: map[string]*worker{}, entries: map[string]*entry{},
	}
}

// done dispatches and returns what was decided.
func (c *Core) done(now time.Time) []Command {
	c.dispatch(now)
	return c.out
}

// begin starts an input.
func (c *Core) begin() { c.out = c.out[:0] }

// Enter puts a caller at the end of its queue, or refuses with an error of this
// package.
func (c *Core) Enter(now time.Time, in Caller) ([]Command, error) {
	c.begin()
	q, ok := c.queues[in.Queue]
	if !ok || q.gone || q.cfg.Direction == campaign.Outbound {
		return nil, fmt.Errorf("queue %q: %w", in.Queue, ErrNoQueue)
	}
	if _, ok := c.entries[in.CallID]; ok || in.CallID == "" {
		return nil, fmt.Errorf("call %q: %w", in.CallID, ErrDuplicate)
	}
	var err error
	switch {
	case !q.cfg.Schedule.Open(now.In(q.loc)):
		err = ErrClosed
	case q.cfg.MaxLen > 0 && len(q.waiting) >= q.cfg.MaxLen:
		err = ErrFull
	case !q.cfg.JoinEmpty && q.staffed == 0:
		err = ErrEmpty
	}
	if err != nil {
		q.count.Refused++
		return nil, fmt.Errorf("queue %q: %w", in.Queue, err)
	}
	if in.EnteredAt.IsZero() || in.EnteredAt.After(now) {
		in.EnteredAt = now
	}
	e := &entry{Caller: in, q: q, state: StateWaiting, since: in.EnteredAt}
	c.entries[in.CallID] = e
	c.insert(e)
	e.original = c.position(e)
	q.count.Entered++
	if q.cfg.MaxWait > 0 {
		c.timers.add(e.since.Add(q.cfg.MaxWait), e)
	}
	c.emit(Command{Kind: CommandEntered, CallID: e.CallID, Queue: in.Queue, Position: e.original, OriginalPosition: e.original})
	c.mark(q)
	return c.done(now), nil
}

// Leave takes a caller out: it hung up, pressed a key, or the gateway stops.
// With a caller who is talking the call is completed by the customer.
func (c *Core) Leave(now time.Time, callID string, why event.LeaveReason, key string) []Command {
	c.begin()
	e, ok := c.entries[callID]
	if !ok {
		return nil
	}
	if e.state == StateTalking {
		by := event.ByCustomer
		if why == event.LeftClosed {
			by = event.BySystem
		}
		c.complete(now, e, by, causeOf(why))
	} else {
		c.leave(now, e, why, key, why == event.LeftClosed)
	}
	return c.done(now)
}

// Close ends everything: callers leave from the last to the first, connected
// calls are completed, nothing is offered.
func (c *Core) Close(now time.Time) []Command {
	c.begin()
	for _, q := range c.queues {
		for _, e := range slices.Backward(slices.Clone(q.waiting)) {
			c.leave(now, e, event.LeftClosed, "", true)
		}
	}
	for _, e := range c.entries {
		c.complete(now, e, event.BySystem, causeOf(event.LeftClosed))
	}
	return c.out
}

func causeOf(why event.LeaveReason) string {
	if why == event.LeftClosed {
		return "gateway stopped"
	}
	return ""
}

// Completed ends a call that an agent had.
func (c *Core) Completed(now time.Time, callID string, by event.By) []Command {
	c.begin()
	e, ok := c.entries[callID]
	if !ok {
		return nil
	}
	if e.state == StateTalking {
		c.complete(now, e, by, "")
	} else {
		c.leave(now, e, event.LeftAbandon, "", false)
	}
	return c.done(now)
}

// Reenter puts a caller whose agent was lost at the head of the queue, with the
// same entry and its clocks going on.
func (c *Core) Reenter(now time.Time, callID string) []Command {
	c.begin()
	e, ok := c.entries[callID]
	if !ok || e.state != StateTalking {
		return nil
	}
	w := e.worker
	c.endTalk(now, e)
	e.reentered, e.state, e.since, e.tried, e.retryAt = true, StateWaiting, now, nil, time.Time{}
	c.insert(e)
	if q := e.q; q.cfg.MaxWait > 0 {
		c.timers.add(now.Add(q.cfg.MaxWait-e.waited), e)
	}
	c.emit(Command{Kind: CommandReentered, CallID: e.CallID, Queue: e.Queue, Agent: w.name, OriginalPosition: e.original})
	c.mark(e.q)
	return c.done(now)
}

// Result ends an offer as its phone reports. An answer to an offer that was
// ended a moment ago still counts while nobody else has the caller: the phone
// layer has joined the two by then. Otherwise it is refused, CommandRefused.
func (c *Core) Result(now time.Time, callID, agentName string, res RingResult) []Command {
	c.begin()
	o := c.offerOf(callID, agentName)
	if o == nil {
		if res.Outcome != Answered || c.talks(callID, agentName) {
			return c.out
		}
		if o = c.lateOffer(now, callID, agentName); o == nil {
			c.emit(Command{Kind: CommandRefused, CallID: callID, Agent: agentName, Why: "the offer is over"})
			return c.out
		}
	}
	if res.Outcome == Answered {
		c.connect(now, o, res)
	} else {
		c.notTaken(now, o, res, false, "")
	}
	return c.done(now)
}

// lateOffer makes the offer again that an agent has answered although it was
// ended, nil when the caller or the agent has somebody else.
func (c *Core) lateOffer(now time.Time, callID, agentName string) *offer {
	e, ok := c.entries[callID]
	w, known := c.workers[agentName]
	if !ok || !known || e.state == StateTalking || len(w.talks) > 0 && !e.q.cfg.RingInUse {
		return nil
	}
	if w.offer != nil {
		c.end(now, w.offer, Cancelled, 0, true, "the agent took another call")
	}
	return &offer{e: e, m: &member{q: e.q, w: w, at: -1}, at: now, late: true}
}

// Withdraw takes back an offer that could not be made, because something else
// has the agent: as if it had not been decided. The agent is offered nothing
// until AgentChanged.
func (c *Core) Withdraw(now time.Time, callID, agentName string) []Command {
	c.begin()
	o := c.offerOf(callID, agentName)
	if o == nil {
		return nil
	}
	o.m.w.status.Availability = Away
	c.drop(now, o)
	return c.done(now)
}

// AgentChanged says what an agent is doing.
func (c *Core) AgentChanged(now time.Time, s AgentStatus) []Command {
	c.begin()
	w, ok := c.workers[s.Agent]
	if !ok {
		w = &worker{name: s.Agent}
		c.workers[s.Agent] = w
	}
	w.status = s
	if o := w.offer; o != nil {
		switch {
		case !s.Staffed:
			c.notTaken(now, o, RingResult{Outcome: Unreachable}, true, "the agent's phone is gone")
		case s.Paused:
			c.notTaken(now, o, RingResult{Outcome: Rejected}, true, "the agent took a break")
		}
	}
	for _, m := range w.members {
		c.restaff(now, m)
	}
	c.refresh(now, w)
	return c.done(now)
}

// Tick does what time alone makes due.
func (c *Core) Tick(now time.Time) []Command {
	c.begin()
	for {
		what, ok := c.timers.due(now)
		if !ok {
			return c.done(now)
		}
		switch x := what.(type) {
		case *offer:
			if x.m.w.offer == x && !now.Before(x.until) {
				c.emit(Command{Kind: CommandOverdue, CallID: x.e.CallID, Queue: x.e.Queue, Agent: x.m.w.name})
				c.notTaken(now, x, RingResult{Outcome: NoAnswer}, true, "no result came")
			}
		case *entry:
			c.entryDue(now, x)
		case *worker:
			c.refresh(now, x)
		case *line:
			c.lineDue(now, x)
		}
	}
}

func (c *Core) entryDue(now time.Time, e *entry) {
	if c.entries[e.CallID] != e || e.state != StateWaiting {
		return
	}
	if limit := e.q.cfg.MaxWait; limit > 0 && e.wait(now) >= limit {
		c.leave(now, e, event.LeftTimeout, "", true)
		return
	}
	c.mark(e.q)
}

func (c *Core) lineDue(now time.Time, q *line) {
	if !q.cfg.LeaveWhenEmpty || q.staffed > 0 || q.emptySince.IsZero() || now.Before(q.emptySince.Add(emptyGrace)) {
		return
	}
	for _, e := range slices.Clone(q.waiting) {
		c.leave(now, e, event.LeftEmpty, "", true)
	}
}

// Next returns when Tick has something to do.
func (c *Core) Next() (time.Time, bool) { return c.timers.next() }

// wait returns how long the entry has waited in all.
func (e *entry) wait(now time.Time) time.Duration {
	if e.state == StateTalking {
		return e.waited
	}
	return e.waited + now.Sub(e.since)
}

// before is the order of entries: who was lost by an agent, then priority, then
// arrival.
func (e *entry) before(o *entry) bool {
	if e.reentered != o.reentered {
		return e.reentered
	}
	if !e.reentered && e.Priority != o.Priority {
		return e.Priority > o.Priority
	}
	return e.seq < o.seq
}

func (c *Core) insert(e *entry) {
	c.seq++
	e.seq = c.seq
	q := e.q
	i := sort.Search(len(q.waiting), func(i int) bool { return e.before(q.waiting[i]) })
	q.waiting = slices.Insert(q.waiting, i, e)
	c.waiting++
}

// position returns an entry's place in its queue, from 1.
func (c *Core) position(e *entry) int {
	return sort.Search(len(e.q.waiting), func(i int) bool { return !e.q.waiting[i].before(e) }) + 1
}

func (c *Core) remove(e *entry) {
	i := c.position(e) - 1
	e.q.waiting = slices.Delete(e.q.waiting, i, i+1)
	if e.state == StateRinging {
		e.q.ringing--
	}
	c.waiting--
}

// leave takes a waiting or ringing entry out for good.
func (c *Core) leave(now time.Time, e *entry, why event.LeaveReason, key string, drop bool) {
	for len(e.offers) > 0 {
		c.end(now, e.offers[len(e.offers)-1], Cancelled, 0, true, "the caller is gone")
	}
	position := c.position(e)
	c.remove(e)
	delete(c.entries, e.CallID)
	wait := e.wait(now)
	e.state = StateGone
	cmd := Command{
		Kind: CommandLeft, CallID: e.CallID, Queue: e.Queue, Reason: why, Key: key, Drop: drop,
		Position: position, OriginalPosition: e.original, Hold: wait, Talk: e.talked,
	}
	if e.worker == nil {
		e.q.count.left(why)
	} else { // was connected before: the one entry ends as a call
		e.q.count.TalkMs += uint64(max(0, e.talked.Milliseconds()))
		cmd.Kind, cmd.Agent, cmd.By, cmd.Cause = CommandCompleted, e.worker.name, event.BySystem, "agent lost, then "+string(why)
		if why == event.LeftAbandon {
			cmd.By = event.ByCustomer
		}
	}
	c.emit(cmd)
	c.retire(e.q)
}

func (n *Counters) left(why event.LeaveReason) {
	switch why {
	case event.LeftAbandon:
		n.Abandoned++
	case event.LeftTimeout:
		n.TimedOut++
	case event.LeftEmpty:
		n.Evicted++
	case event.LeftKey, event.LeftClosed:
		n.LeftOther++
	}
}

// endTalk ends an entry's time with its agent.
func (c *Core) endTalk(now time.Time, e *entry) {
	w := e.worker
	e.talked += now.Sub(e.since)
	e.q.talking--
	w.talks = slices.DeleteFunc(w.talks, func(o *entry) bool { return o == e })
	// What the agent does next (wrap-up, most often) comes by AgentChanged.
	w.status.Availability = Away
	for _, m := range w.members {
		if m.q == e.q {
			m.lastCall = now
		}
	}
	c.refresh(now, w)
}

func (c *Core) complete(now time.Time, e *entry, by event.By, cause string) {
	w := e.worker
	for _, m := range w.members {
		if m.q == e.q {
			m.calls++
		}
	}
	c.endTalk(now, e)
	e.state = StateGone
	delete(c.entries, e.CallID)
	e.q.count.TalkMs += uint64(max(0, e.talked.Milliseconds()))
	c.emit(Command{
		Kind: CommandCompleted, CallID: e.CallID, Queue: e.Queue, Agent: w.name, By: by, Cause: cause,
		Hold: e.waited, Talk: e.talked, OriginalPosition: e.original, WrapUp: e.q.cfg.WrapUp, Drop: cause != "",
	})
	c.retire(e.q)
}

// connect gives an entry to the agent who answered.
func (c *Core) connect(now time.Time, o *offer, res RingResult) {
	e, w := o.e, o.m.w
	again := e.worker != nil
	wait := e.wait(now)
	ring := ringTime(now, o, res)
	c.drop(now, o)
	for len(e.offers) > 0 {
		c.end(now, e.offers[len(e.offers)-1], Cancelled, 0, true, "answered by "+w.name)
	}
	c.remove(e)
	e.state, e.since, e.waited, e.worker = StateTalking, now, wait, w
	e.tried, e.retryAt = nil, time.Time{}
	w.talks = append(w.talks, e)
	w.noAnswers = 0
	w.status.Availability = Away // until AgentChanged
	e.q.talking++
	if !again {
		e.q.count.Connected++
		e.q.count.WaitMs += uint64(max(0, wait.Milliseconds()))
		if wait <= e.q.cfg.ServiceLevel {
			e.q.count.WithinLevel++
		}
	}
	c.refresh(now, w)
	c.emit(Command{
		Kind: CommandConnected, CallID: e.CallID, Queue: e.Queue, Agent: w.name, LegID: res.LegID,
		Hold: wait, Ring: ring, OriginalPosition: e.original, Again: again, Late: o.late,
	})
}

func ringTime(now time.Time, o *offer, res RingResult) time.Duration {
	if res.RingMs > 0 {
		return time.Duration(res.RingMs) * time.Millisecond
	}
	return now.Sub(o.at)
}

// notTaken ends an offer that the agent did not take.
func (c *Core) notTaken(now time.Time, o *offer, res RingResult, stop bool, why string) {
	w, q := o.m.w, o.e.q
	o.e.tried = append(o.e.tried, w)
	switch res.Outcome {
	case NoAnswer:
		q.count.NoAnswers++
		w.noAnswers++
		if limit := q.cfg.NoAnswerPause; limit > 0 && w.noAnswers >= limit {
			w.noAnswers = 0
			w.status.Availability = Away
			// Before the end of the offer, so that the agent is never shown
			// available in between.
			c.emit(Command{Kind: CommandPause, Agent: w.name, CallID: o.e.CallID, Queue: q.cfg.Name, Why: fmt.Sprintf("%d unanswered offers in a row", limit)})
		}
	case Rejected:
		w.noAnswers = 0
	case Busy, Unreachable:
		w.coolUntil = now.Add(max(minRetry, q.cfg.Retry))
		c.timers.add(w.coolUntil, w)
	case Answered, Cancelled:
	}
	c.end(now, o, res.Outcome, ringTime(now, o, res), stop, why)
}

// end ends an offer and says so.
func (c *Core) end(now time.Time, o *offer, outcome Outcome, ring time.Duration, stop bool, why string) {
	if ring == 0 {
		ring = now.Sub(o.at)
	}
	c.emit(Command{
		Kind: CommandOfferEnded, CallID: o.e.CallID, Queue: o.e.Queue, Agent: o.m.w.name,
		Outcome: outcome, Ring: ring, Stop: stop, Why: why,
	})
	c.drop(now, o)
}

// drop forgets an offer.
func (c *Core) drop(now time.Time, o *offer) {
	e, w := o.e, o.m.w
	e.offers = slices.DeleteFunc(e.offers, func(x *offer) bool { return x == o })
	w.offer = nil
	if len(e.offers) == 0 && e.state == StateRinging {
		e.state = StateWaiting
		e.q.ringing--
		e.retryAt = now.Add(max(minRetry, e.q.cfg.Retry))
		if limit := e.q.cfg.MaxWait; limit > 0 && e.wait(now) >= limit {
			c.timers.add(now, e) // its time came while it rang
		}
	}
	c.mark(e.q)
	c.refresh(now, w)
}

func (c *Core) offerOf(callID, agentName string) *offer {
	w, ok := c.workers[agentName]
	if !ok || w.offer == nil || w.offer.e.CallID != callID {
		return nil
	}
	return w.offer
}

func (c *Core) talks(callID, agentName string) bool {
	e, ok := c.entries[callID]
	return ok && e.state == StateTalking && e.worker.name == agentName
}

func (c *Core) emit(cmd Command) { c.out = append(c.out, cmd) }
