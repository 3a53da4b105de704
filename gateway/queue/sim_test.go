package queue

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/event"
)

// day is a simulated day: a core, agents who behave like people, and callers
// who come, wait, lose patience and talk. It keeps its own books and compares
// them with the core's.
type day struct {
	t      testing.TB
	c      *Core
	r      *rand.Rand
	now    time.Time
	events eventHeap
	n      int
	checks bool

	agents []*person
	byName map[string]*person
	calls  map[string]*simCall
	queues []campaign.Campaign

	ended, connected, abandoned, evicted, timedOut, offers, refused int
}

type person struct {
	name     string
	staffed  bool
	onBreak  bool
	offer    string // call that rings
	talks    string
	wrapTill time.Time
}

type simCall struct {
	id, queue string
	at        time.Time
	state     EntryState
	agents    []string
	agent     string
	connects  int
}

type simEvent struct {
	at time.Time
	n  int
	do func()
}

type eventHeap []simEvent

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].n < h[j].n
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(simEvent)) }
func (h *eventHeap) Pop() any {
	e := (*h)[len(*h)-1]
	(*h)[len(*h)-1] = simEvent{}
	*h = (*h)[:len(*h)-1]
	return e
}

func (d *day) in(after time.Duration, do func()) {
	d.n++
	heap.Push(&d.events, simEvent{at: d.now.Add(after), n: d.n, do: do})
}

func (d *day) exp(mean time.Duration) time.Duration {
	return time.Duration(d.r.ExpFloat64() * float64(mean))
}

func newDay(tb testing.TB, seed uint64, agents int, queues []campaign.Campaign, checks bool) *day {
	tb.Helper()
	d := &day{
		t: tb, c: NewCore(time.UTC, seed), r: rand.New(rand.NewPCG(seed, 7)), checks: checks,
		now:    time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC),
		byName: map[string]*person{}, calls: map[string]*simCall{}, queues: queues,
	}
	for i := range agents {
		p := &person{name: fmt.Sprintf("agent%d", i)}
		d.agents = append(d.agents, p)
		d.byName[p.name] = p
	}
	d.carry(d.c.Configure(d.now, queues))
	return d
}

// sync tells the core an agent's state, as the registry would.
func (d *day) sync(p *person) {
	s := AgentStatus{Agent: p.name, Staffed: p.staffed, Paused: p.onBreak, State: "sim"}
	if p.staffed && !p.onBreak && p.offer == "" && p.talks == "" && !d.now.Before(p.wrapTill) {
		s.Availability = Free
	}
	d.carry(d.c.AgentChanged(d.now, s))
}

// carry is the runner: it does what the core says and checks each step.
func (d *day) carry(cmds []Command) {
	var free []*person
	for _, c := range slices.Clone(cmds) {
		call, p := d.calls[c.CallID], d.byName[c.Agent]
		switch c.Kind {
		case CommandEntered:
			call.state = StateWaiting
		case CommandOffer:
			d.offers++
			switch {
			case p.offer != "" || p.talks != "":
				d.t.Fatalf("%s is rung for %s while busy with %s%s", p.name, c.CallID, p.offer, p.talks)
			case d.now.Before(p.wrapTill):
				d.t.Fatalf("%s is rung in wrap-up", p.name)
			case !p.staffed || p.onBreak:
				d.t.Fatalf("%s is rung while away", p.name)
			case call == nil || call.state == StateTalking || call.state == StateGone:
				d.t.Fatalf("%s is rung for %s, which does not wait", p.name, c.CallID)
			}
			p.offer = c.CallID
			call.state, call.agents = StateRinging, append(call.agents, p.name)
			d.ring(c, p)
		case CommandOfferEnded:
			p.offer = ""
			call.agents = slices.DeleteFunc(call.agents, func(a string) bool { return a == p.name })
			if len(call.agents) == 0 {
				call.state = StateWaiting
			}
			free = append(free, p)
		case CommandConnected:
			if p.offer != c.CallID && !c.Late || p.talks != "" {
				d.t.Fatalf("%s got %s without being rung", p.name, c.CallID)
			}
			p.offer, p.talks = "", c.CallID
			call.state, call.agent, call.agents = StateTalking, p.name, nil
			call.connects++
			d.connected++
			id := c.CallID
			d.in(d.exp(90*time.Second)+time.Second, func() { d.hangup(id) })
		case CommandCompleted, CommandLeft:
			if call == nil || call.state == StateGone {
				d.t.Fatalf("%s ended twice", c.CallID)
			}
			if c.Kind == CommandCompleted && p.talks == c.CallID {
				p.talks = ""
				p.wrapTill = d.now.Add(c.WrapUp)
				d.in(c.WrapUp, func() { d.sync(p) })
				free = append(free, p)
			}
			switch {
			case c.Kind == CommandCompleted:
			case c.Reason == event.LeftAbandon:
				d.abandoned++
			case c.Reason == event.LeftEmpty:
				d.evicted++
			case c.Reason == event.LeftTimeout:
				d.timedOut++
			}
			call.state = StateGone
			d.ended++
			delete(d.calls, c.CallID)
		case CommandPause:
			p.onBreak = true
			d.in(d.exp(5*time.Minute), func() { p.onBreak = false; d.sync(p) })
			free = append(free, p)
		case CommandReentered:
			p.talks = ""
			call.state = StateWaiting
			free = append(free, p)
		case CommandOverdue, CommandRefused:
		}
	}
	for _, p := range free {
		d.sync(p)
	}
	if d.checks {
		if due := d.c.Tick(d.now); len(due) > 0 {
			d.carry(due)
		}
		for _, err := range d.c.Check(d.now) {
			d.t.Fatal(err)
		}
	}
}

// ring is what a person does with a ringing phone.
func (d *day) ring(c Command, p *person) {
	id := c.CallID
	report := func(after time.Duration, o Outcome) {
		d.in(after, func() { d.carry(d.c.Result(d.now, id, p.name, RingResult{Outcome: o, LegID: "leg"})) })
	}
	switch x := d.r.IntN(100); {
	case x < 85:
		report(time.Second+d.exp(3*time.Second), Answered)
	case x < 90:
		report(c.RingFor, NoAnswer)
	case x < 94:
		report(time.Second, Rejected)
	case x < 96:
		report(0, Unreachable)
	case x < 98:
		report(time.Millisecond, Busy)
	case x < 99:
		p.staffed = false // the app was killed while it rang
		d.in(0, func() { d.sync(p) })
		d.in(d.exp(time.Minute), func() { p.staffed = true; d.sync(p) })
	default: // the result is lost
	}
}

func (d *day) hangup(id string) {
	call, ok := d.calls[id]
	if !ok || call.state != StateTalking {
		return
	}
	switch d.r.IntN(20) {
	case 0:
		d.carry(d.c.Leave(d.now, id, event.LeftAbandon, ""))
	case 1:
		d.carry(d.c.Reenter(d.now, id))
	default:
		d.carry(d.c.Completed(d.now, id, event.ByAgent))
	}
}

func (d *day) arrive(patience time.Duration) {
	d.n++
	q := d.queues[d.r.IntN(len(d.queues))]
	id := "call" + strconv.Itoa(d.n)
	d.calls[id] = &simCall{id: id, queue: q.Name, at: d.now}
	cmds, err := d.c.Enter(d.now, Caller{CallID: id, Queue: q.Name})
	if err != nil {
		delete(d.calls, id)
		d.refused++
		return
	}
	d.carry(cmds)
	d.in(d.exp(patience), func() { // hangs up unless talking: waiting or ringing
		if call, ok := d.calls[id]; ok && call.state != StateTalking {
			d.carry(d.c.Leave(d.now, id, event.LeftAbandon, ""))
		}
	})
}

// run plays events and the core's own timers in order.
func (d *day) run() {
	for {
		core, ok := d.c.Next()
		if len(d.events) == 0 && (!ok || len(d.calls) == 0) {
			return
		}
		if len(d.events) == 0 || ok && core.Before(d.events[0].at) {
			if core.After(d.now) {
				d.now = core
			}
			d.carry(d.c.Tick(d.now))
			continue
		}
		e := heap.Pop(&d.events).(simEvent)
		d.now = e.at
		e.do()
	}
}

func (d *day) work(shift time.Duration) {
	for _, p := range d.agents {
		d.in(d.exp(time.Minute), func() { p.staffed = true; d.sync(p) })
		for at := d.exp(time.Hour); at < shift; at += d.exp(time.Hour) {
			d.in(at, func() { p.onBreak = true; d.sync(p) })
			d.in(at+d.exp(5*time.Minute), func() { p.onBreak = false; d.sync(p) })
		}
	}
}

func randomQueues(r *rand.Rand, agents int) []campaign.Campaign {
	strategies := []campaign.Strategy{
		campaign.RingAll, campaign.LeastRecent, campaign.FewestCalls,
		campaign.Random, campaign.RRMemory, campaign.Linear, campaign.WRandom,
	}
	out := make([]campaign.Campaign, 1+r.IntN(4))
	for i := range out {
		c := campaign.Defaults()
		c.Name, c.Strategy, c.Weight = fmt.Sprintf("q%d", i), strategies[r.IntN(len(strategies))], r.IntN(3)
		c.WrapUp, c.MaxWait = time.Duration(r.IntN(20))*time.Second, time.Duration(r.IntN(300))*time.Second
		c.MaxLen, c.NoAnswerPause, c.LeaveWhenEmpty, c.JoinEmpty = r.IntN(30), r.IntN(4), r.IntN(4) == 0, r.IntN(4) > 0
		c.Retry = time.Duration(r.IntN(5)) * time.Second
		for a := range agents {
			if r.IntN(3) > 0 {
				c.Members = append(c.Members, campaign.Member{User: fmt.Sprintf("agent%d", a), Penalty: r.IntN(3)})
			}
		}
		out[i] = c
	}
	return out
}

// No caller is lost, no agent has two calls or is rung in wrap-up, in many
// small days with everything that people and networks do. CORDBOARD_LONG makes
// it a campaign.
func TestRandomDays(t *testing.T) {
	days := 300
	if os.Getenv("CORDBOARD_LONG") != "" {
		days = 20_000
	}
	for seed := range days {
		r := rand.New(rand.NewPCG(uint64(seed), 99))
		n := 1 + r.IntN(8)
		d := newDay(t, uint64(seed), n, randomQueues(r, n), true)
		d.work(time.Hour)
		calls := 150
		for i := range calls {
			d.in(time.Duration(i)*d.exp(20*time.Second)/10, func() { d.arrive(2 * time.Minute) })
		}
		d.run()
		if d.ended+d.refused != calls || len(d.calls) != 0 {
			t.Fatalf("seed %d: %d calls, %d ended, %d refused, %d left behind", seed, calls, d.ended, d.refused, len(d.calls))
		}
		for _, p := range d.agents {
			if p.offer != "" || p.talks != "" {
				t.Fatalf("seed %d: %s is left with %s%s", seed, p.name, p.offer, p.talks)
			}
		}
		var n2 Counters
		for _, q := range d.c.queues {
			n2.Entered += q.count.Entered
			n2.Abandoned += q.count.Abandoned
			n2.TimedOut += q.count.TimedOut
			n2.Evicted += q.count.Evicted
		}
		if int(n2.Entered) != d.ended || int(n2.Abandoned) != d.abandoned || int(n2.TimedOut) != d.timedOut || int(n2.Evicted) != d.evicted {
			t.Fatalf("seed %d: counted %+v", seed, n2)
		}
	}
}

func bigDay(tb testing.TB, agents, calls int) *day {
	tb.Helper()
	queues := make([]campaign.Campaign, 10)
	for i := range queues {
		c := campaign.Defaults()
		c.Name, c.Strategy, c.MaxLen, c.WrapUp = fmt.Sprintf("q%d", i), campaign.LeastRecent, 0, 10*time.Second
		for a := range agents {
			if a%10 == i || a%7 == i {
				c.Members = append(c.Members, campaign.Member{User: fmt.Sprintf("agent%d", a)})
			}
		}
		queues[i] = c
	}
	d := newDay(tb, 1, agents, queues, false)
	d.work(8 * time.Hour)
	var next func()
	left := calls
	next = func() {
		d.arrive(3 * time.Minute)
		if left--; left > 0 {
			d.in(d.exp(120*time.Millisecond), next)
		}
	}
	d.in(time.Minute, next)
	d.run()
	return d
}

// A day of 1,000 agents takes seconds (design: decisions are pure functions);
// BenchmarkBigDay has the one of 200,000 calls.
func TestBigDay(t *testing.T) {
	start := time.Now()
	agents, calls := 1000, 50_000
	if os.Getenv("CORDBOARD_LONG") != "" {
		calls = 200_000
	}
	d := bigDay(t, agents, calls)
	took := time.Since(start)
	t.Logf("%d calls, %d offers, %d connected, %d abandoned, %d timed out in %s", calls, d.offers, d.connected, d.abandoned, d.timedOut, took)
	if d.ended != calls {
		t.Fatalf("%d of %d calls ended", d.ended, calls)
	}
	if took > 60*time.Second {
		t.Fatalf("took %s", took)
	}
}

func BenchmarkBigDay(b *testing.B) {
	for b.Loop() {
		bigDay(b, 1000, 200_000)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/200_000, "ns/call")
}

// The decision for one caller with 1,000 free agents.
func BenchmarkEnterOffer1000(b *testing.B) {
	c := campaign.Defaults()
	c.Name, c.MaxLen = "q", 0
	for i := range 1000 {
		c.Members = append(c.Members, campaign.Member{User: strconv.Itoa(i)})
	}
	core := NewCore(time.UTC, 1)
	now := time.Now()
	core.Configure(now, []campaign.Campaign{c})
	for i := range 1000 {
		core.AgentChanged(now, AgentStatus{Agent: strconv.Itoa(i), Availability: Free, Staffed: true})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := core.Enter(now, Caller{CallID: "x", Queue: "q"}); err != nil {
			b.Fatal(err)
		}
		core.Leave(now, "x", event.LeftAbandon, "")
	}
}
