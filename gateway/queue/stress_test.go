package queue

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/event"
)

// crowd is a call layer whose agents and callers do anything at any moment.
type crowd struct {
	*phones
	r   *Runner
	reg *agent.Registry
	wg  sync.WaitGroup
	mu  sync.Mutex
	rnd *rand.Rand
}

func (c *crowd) dice(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rnd.IntN(n)
}

func (c *crowd) Ring(_ context.Context, callID, agentName string, _ RingOptions) error {
	after := time.Duration(c.dice(4000)) * time.Millisecond
	c.wg.Go(func() {
		time.Sleep(after)
		switch x := c.dice(20); {
		case x < 13:
			c.r.Result(callID, agentName, RingResult{Outcome: Answered, LegID: "l"})
			time.Sleep(time.Duration(c.dice(30_000)) * time.Millisecond)
			switch c.dice(8) {
			case 0:
				c.r.Reenter(callID)
			case 1:
				c.r.Hangup(callID)
			default:
				c.r.Ended(callID, event.ByAgent)
			}
		case x < 15:
			c.r.Result(callID, agentName, RingResult{Outcome: NoAnswer})
		case x < 16:
			c.r.Result(callID, agentName, RingResult{Outcome: Busy})
		case x < 17:
			_ = c.reg.Phone(agentName, false, "lost")
			time.Sleep(time.Second)
			_ = c.reg.Phone(agentName, true, "")
			c.r.Result(callID, agentName, RingResult{Outcome: Unreachable})
		default:
			c.r.Result(callID, agentName, RingResult{Outcome: Rejected})
		}
	})
	return nil
}

// Whatever happens at whatever moment, each call has one entry and one end in
// the journal, and no agent is left with anything.
func TestAnythingAtAnyMoment(t *testing.T) {
	rounds := 15
	if os.Getenv("CORDBOARD_LONG") != "" {
		rounds = 1500
	}
	for seed := range rounds {
		synctest.Test(t, func(t *testing.T) { anything(t, uint64(seed)) })
	}
}

func anything(t *testing.T, seed uint64) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	j := &memory{delay: time.Duration(seed%3) * 10 * time.Millisecond}
	reg := agent.NewRegistry(agent.Options{Log: log, Journal: j})
	c := &crowd{phones: &phones{}, reg: reg, rnd: rand.New(rand.NewPCG(seed, 5))}
	c.r = NewRunner(Options{Log: log, Calls: c, Agents: reg, Journal: j, Seed: seed})
	ctx, cancel := context.WithCancel(t.Context())
	regCtx, regCancel := context.WithCancel(t.Context())
	var run, regRun sync.WaitGroup
	run.Go(func() { _ = c.r.Run(ctx) })
	regRun.Go(func() { _ = reg.Run(regCtx) })
	strategies := []campaign.Strategy{campaign.RingAll, campaign.LeastRecent, campaign.RRMemory}
	a := q("a", strategies[seed%3], "p0", "p1", "p2", "p3")
	a.WrapUp, a.MaxWait = 3*time.Second, 2*time.Minute
	b := q("b", campaign.Random, "p2", "p3", "p4")
	b.Weight, b.NoAnswerPause = 1, 1
	c.r.SetCampaigns([]campaign.Campaign{a, b})
	for i := range 5 {
		name := fmt.Sprintf("p%d", i)
		if err := reg.SignIn(ctx, agent.SignIn{Agent: name, Session: "s"}); err != nil {
			t.Fatal(err)
		}
		if err := reg.Phone(name, true, ""); err != nil {
			t.Fatal(err)
		}
	}
	const calls = 80
	var callers sync.WaitGroup
	for i := range calls {
		id := fmt.Sprintf("c%d", i)
		at, patience := time.Duration(c.dice(120_000))*time.Millisecond, time.Duration(c.dice(90_000))*time.Millisecond
		queue := []string{"a", "b"}[c.dice(2)]
		pause := c.dice(5) == 0
		callers.Go(func() {
			time.Sleep(at)
			if err := c.r.Enter(ctx, Caller{CallID: id, Queue: queue}); err != nil {
				t.Error(err)
			}
			if name := fmt.Sprintf("p%d", i%5); pause {
				_ = reg.Break(ctx, name, "Coffee", "")
				time.Sleep(2 * time.Second)
				_ = reg.Unbreak(ctx, name)
			}
			time.Sleep(patience)
			c.r.Hangup(id)
		})
	}
	callers.Wait()
	c.wg.Wait()
	for range 5 { // no-answer pauses
		for i := range 5 {
			_ = reg.Unbreak(ctx, fmt.Sprintf("p%d", i))
		}
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	if s := c.r.Stats(); s.Entries != 0 || s.Facts != 0 || s.Actions != 0 || s.Repairs != 0 {
		t.Errorf("seed %d: stats %+v", seed, s)
	}
	for _, v := range reg.All() {
		if v.State != agent.Available || len(v.Calls) > 0 {
			t.Errorf("seed %d: %+v is left", seed, v)
		}
	}
	for i := range calls {
		facts := j.of(fmt.Sprintf("c%d", i))
		var entered, ended, offered, done int
		for _, f := range facts {
			switch {
			case strings.HasPrefix(f, "ENTERQUEUE"):
				entered++
			case strings.HasPrefix(f, "left"), strings.HasPrefix(f, "COMPLETE"):
				ended++
			case strings.HasPrefix(f, "offer ") && strings.Count(f, " ") == 1:
				offered++
			case strings.HasPrefix(f, "offer "), strings.HasPrefix(f, "CONNECT"):
				done++
			}
		}
		last := facts[len(facts)-1]
		if entered != 1 || ended != 1 || offered > done || !strings.HasPrefix(facts[0], "ENTERQUEUE") ||
			!strings.HasPrefix(last, "left") && !strings.HasPrefix(last, "COMPLETE") {
			t.Errorf("seed %d: facts of c%d: %q", seed, i, facts)
		}
	}
	cancel()
	run.Wait()
	regCancel()
	regRun.Wait()
}

func TestRunLeavesNoGoroutine(t *testing.T) {
	defer goleak.VerifyNone(t)
	log := slog.New(slog.DiscardHandler)
	j := &memory{}
	reg := agent.NewRegistry(agent.Options{Log: log, Journal: j})
	r := NewRunner(Options{Log: log, Calls: &phones{}, Agents: reg, Journal: j})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	wg.Go(func() { _ = reg.Run(ctx) })
	r.SetCampaigns([]campaign.Campaign{q("a", campaign.RingAll, "ana")})
	if err := r.Enter(ctx, Caller{CallID: "c", Queue: "a"}); err != nil {
		t.Fatal(err)
	}
	cancel()
	wg.Wait()
}

// echo answers each ring at once and ends the call.
type echo struct {
	*phones
	r    *Runner
	rung chan struct{}
}

func (e *echo) Ring(_ context.Context, callID, agentName string, _ RingOptions) error {
	e.rung <- struct{}{}
	e.r.Result(callID, agentName, RingResult{Outcome: Answered, LegID: "l", RingMs: 1})
	e.r.Ended(callID, event.ByAgent)
	return nil
}

// From Enter to the phone with 200 agents, a journal that takes 1 ms for each
// fact, and 130 calls a second in the open: they come whether or not the ones
// before are done.
func BenchmarkRunner130(b *testing.B) {
	log := slog.New(slog.DiscardHandler)
	j := &memory{delay: time.Millisecond}
	reg := agent.NewRegistry(agent.Options{Log: log, Journal: j})
	e := &echo{phones: &phones{}, rung: make(chan struct{}, 1_000_000)}
	e.r = NewRunner(Options{Log: log, Calls: e, Agents: reg, Journal: j})
	ctx, cancel := context.WithCancel(b.Context())
	regCtx, regCancel := context.WithCancel(b.Context())
	var run, regRun sync.WaitGroup
	run.Go(func() { _ = e.r.Run(ctx) })
	regRun.Go(func() { _ = reg.Run(regCtx) })
	c := q("q", campaign.LeastRecent)
	c.MaxLen = 0
	for i := range 200 {
		name := fmt.Sprintf("p%d", i)
		c.Members = append(c.Members, campaign.Member{User: name})
		if err := reg.SignIn(ctx, agent.SignIn{Agent: name, Session: "s"}); err != nil {
			b.Fatal(err)
		}
		if err := reg.Phone(name, true, ""); err != nil {
			b.Fatal(err)
		}
	}
	e.r.SetCampaigns([]campaign.Campaign{c})
	tick := time.NewTicker(time.Second / 130)
	defer tick.Stop()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		<-tick.C
		n++
		if err := e.r.Enter(ctx, Caller{CallID: fmt.Sprintf("c%d", n), Queue: "q"}); err != nil {
			b.Fatal(err)
		}
	}
	for range n {
		<-e.rung
	}
	h := e.r.Stats().RingDelay
	b.ReportMetric(float64(h.SumNs)/float64(max(1, h.Count)), "ring-ns/call")
	b.ReportMetric(float64(h.Quantile(0.5)), "ring-p50-ns")
	b.ReportMetric(float64(h.Quantile(0.99)), "ring-p99-ns")
	cancel()
	run.Wait()
	regCancel()
	regRun.Wait()
}

// As fast as it goes: what a whole call costs the queue and the registry.
func BenchmarkRunnerWholeCall(b *testing.B) {
	log := slog.New(slog.DiscardHandler)
	j := nothing{}
	reg := agent.NewRegistry(agent.Options{Log: log, Journal: j})
	e := &echo{phones: &phones{}, rung: make(chan struct{}, 1)}
	e.r = NewRunner(Options{Log: log, Calls: e, Agents: reg, Journal: j})
	ctx, cancel := context.WithCancel(b.Context())
	regCtx, regCancel := context.WithCancel(b.Context())
	var run, regRun sync.WaitGroup
	run.Go(func() { _ = e.r.Run(ctx) })
	regRun.Go(func() { _ = reg.Run(regCtx) })
	c := q("q", campaign.LeastRecent)
	for i := range 100 {
		name := fmt.Sprintf("p%d", i)
		c.Members = append(c.Members, campaign.Member{User: name})
		_ = reg.SignIn(ctx, agent.SignIn{Agent: name, Session: "s"})
		_ = reg.Phone(name, true, "")
	}
	e.r.SetCampaigns([]campaign.Campaign{c})
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		if err := e.r.Enter(ctx, Caller{CallID: fmt.Sprintf("c%d", n), Queue: "q"}); err != nil {
			b.Fatal(err)
		}
		<-e.rung
	}
	cancel()
	run.Wait()
	regCancel()
	regRun.Wait()
}

type nothing struct{}

func (nothing) Append(context.Context, time.Time, ...event.Payload) error { return nil }
