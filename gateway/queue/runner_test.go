package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/event"
)

// memory is an event.Journal in memory, as slow as it is told.
type memory struct {
	mu    sync.Mutex
	delay time.Duration
	facts []event.Payload
}

func (m *memory) Append(_ context.Context, _ time.Time, payloads ...event.Payload) error {
	m.mu.Lock()
	delay := m.delay
	m.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.facts = append(m.facts, payloads...)
	return nil
}

// of returns what the journal has of one call, as readers of the queue log
// would have it.
func (m *memory) of(callID string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, p := range m.facts {
		s := ""
		id := ""
		switch f := p.(type) {
		case event.QueueEntered:
			id, s = f.CallID, fmt.Sprintf("ENTERQUEUE %s at %d", f.Caller, f.Position)
		case event.OfferMade:
			id, s = f.CallID, "offer "+f.Agent
		case event.OfferEnded:
			id, s = f.CallID, fmt.Sprintf("offer %s %s %d", f.Agent, f.Outcome, f.RingMs)
		case event.QueueConnected:
			id, s = f.CallID, fmt.Sprintf("CONNECT %s %d|%s|%d %t", f.Agent, f.HoldSeconds, f.LegID, f.RingSeconds, f.Reattached)
		case event.QueueReentered:
			id, s = f.CallID, "reentered"
		case event.QueueLeft:
			id, s = f.CallID, fmt.Sprintf("left %s %d|%d|%d", f.Reason, f.Position, f.OriginalPosition, f.WaitSeconds)
		case event.QueueCompleted:
			id, s = f.CallID, fmt.Sprintf("COMPLETE %s by %s %d|%d|%d %s", f.Agent, f.By, f.HoldSeconds, f.TalkSeconds, f.OriginalPosition, f.Cause)
		}
		if id == callID {
			out = append(out, strings.TrimSpace(s))
		}
	}
	return out
}

// phones is the call layer: it notes what it is asked.
type phones struct {
	mu   sync.Mutex
	done []string
	ring func(callID, agent string, o RingOptions) error
}

func (p *phones) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = append(p.done, fmt.Sprintf(format, args...))
}

func (p *phones) Ring(_ context.Context, callID, agentName string, o RingOptions) error {
	p.note("ring %s %s %s", callID, agentName, o.RingFor)
	if p.ring != nil {
		return p.ring(callID, agentName, o)
	}
	return nil
}

func (p *phones) StopRinging(callID, agentName, why string) {
	p.note("stop %s %s: %s", callID, agentName, why)
}

func (p *phones) Drop(callID string, why event.LeaveReason) { p.note("drop %s: %s", callID, why) }

func (p *phones) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.done
	p.done = nil
	return out
}

type centre struct {
	*Runner
	t       *testing.T
	journal *memory
	calls   *phones
	agents  *agent.Registry
	stop    func()
}

func support() campaign.Campaign {
	c := q("Support<-", campaign.Linear, "ana", "ben")
	c.WrapUp = 10 * time.Second
	return c
}

// withCentre runs a queue with the agents named, in a bubble of virtual time.
func withCentre(t *testing.T, o Options, c campaign.Campaign, agents []string, fn func(c *centre)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		j, p := &memory{}, &phones{}
		reg := agent.NewRegistry(agent.Options{Log: slog.New(slog.DiscardHandler), Journal: j})
		o.Log, o.Calls, o.Agents, o.Journal = slog.New(slog.DiscardHandler), p, reg, j
		ctx, cancel := context.WithCancel(t.Context())
		regCtx, regCancel := context.WithCancel(t.Context())
		r := NewRunner(o)
		var wg, regWG sync.WaitGroup
		wg.Go(func() { _ = r.Run(ctx) })
		regWG.Go(func() { _ = reg.Run(regCtx) })
		r.SetCampaigns([]campaign.Campaign{c})
		ce := &centre{Runner: r, t: t, journal: j, calls: p, agents: reg, stop: sync.OnceFunc(func() {
			cancel()
			wg.Wait()
			regCancel()
			regWG.Wait()
		})}
		for _, a := range agents {
			ce.signIn(a)
		}
		fn(ce)
		synctest.Wait()
		if n := r.Stats().Repairs; n != 0 && o.Alive == nil {
			t.Errorf("%d repairs", n)
		}
		ce.stop()
	})
}

func (c *centre) signIn(name string) {
	c.t.Helper()
	if err := c.agents.SignIn(c.t.Context(), agent.SignIn{Agent: name, Session: name, Endpoint: "app"}); err != nil {
		c.t.Fatal(err)
	}
	if err := c.agents.Phone(name, true, ""); err != nil {
		c.t.Fatal(err)
	}
	synctest.Wait()
}

func (c *centre) enter(id string) {
	c.t.Helper()
	if err := c.Enter(c.t.Context(), Caller{CallID: id, Queue: "Support<-", From: "59899123456"}); err != nil {
		c.t.Fatal(err)
	}
	synctest.Wait()
}

func (c *centre) did(want ...string) {
	c.t.Helper()
	synctest.Wait()
	if got := c.calls.take(); !slices.Equal(got, want) {
		c.t.Fatalf("call layer\n got %q\nwant %q", got, want)
	}
}

func (c *centre) facts(call string, want ...string) {
	c.t.Helper()
	synctest.Wait()
	if got := c.journal.of(call); !slices.Equal(got, want) {
		c.t.Fatalf("facts of %s\n got %q\nwant %q", call, got, want)
	}
}

func (c *centre) state(name string, want agent.State) {
	c.t.Helper()
	synctest.Wait()
	if v, _ := c.agents.Snapshot(name); v.State != want {
		c.t.Fatalf("%s is %s (%s), want %s", name, v.State, v.Reason, want)
	}
}

// 5.1: waits, rings, is answered, ends; LOG-010, LOG-012, LOG-013.
func TestCallFromQueueToWrapUp(t *testing.T) {
	withCentre(t, Options{}, support(), nil, func(c *centre) {
		c.enter("c1")
		c.did()
		time.Sleep(7 * time.Second)
		c.signIn("ana")
		c.did("ring c1 ana 15s")
		c.state("ana", agent.Ringing)
		time.Sleep(3 * time.Second)
		c.Result("c1", "ana", RingResult{Outcome: Answered, LegID: "leg1"})
		c.state("ana", agent.OnCall)
		c.enter("c2")
		time.Sleep(time.Minute)
		c.Ended("c1", event.ByAgent)
		c.facts("c1", "ENTERQUEUE 59899123456 at 1", "offer ana", "CONNECT ana 10|leg1|3 false", "COMPLETE ana by agent 10|60|1")
		c.state("ana", agent.WrapUp)
		time.Sleep(10*time.Second - time.Nanosecond) // AGENT-04
		c.did()
		time.Sleep(time.Nanosecond)
		c.did("ring c2 ana 15s")
		c.Result("c2", "ana", RingResult{Outcome: Answered, LegID: "leg2"})
		c.Hangup("c2") // the caller hangs up while talking
		synctest.Wait()
		if got := c.journal.of("c2"); got[len(got)-1] != "COMPLETE ana by customer 70|0|1" {
			c.t.Fatalf("facts %q", got)
		}
		if err := c.agents.FinishWrapUp(c.t.Context(), "ana"); err != nil {
			c.t.Fatal(err)
		}
		c.state("ana", agent.Available)
	})
}

// 5.2: RINGNOANSWER, the next agent, reject, no-answer pause.
func TestNoAnswerRejectAndPause(t *testing.T) {
	withCentre(t, Options{}, support(), []string{"ana", "ben"}, func(c *centre) {
		c.enter("c1")
		time.Sleep(15 * time.Second)
		c.Result("c1", "ana", RingResult{Outcome: NoAnswer, RingMs: 15004})
		c.did("ring c1 ana 15s", "ring c1 ben 15s")
		time.Sleep(2 * time.Second)
		c.Result("c1", "ben", RingResult{Outcome: Rejected})
		time.Sleep(3 * time.Second)
		c.did("ring c1 ana 15s") // the second round
		time.Sleep(15 * time.Second)
		c.Result("c1", "ana", RingResult{Outcome: NoAnswer, RingMs: 15000})
		c.did("ring c1 ben 15s")
		c.state("ana", agent.OnBreak)
		if v, _ := c.agents.Snapshot("ana"); v.Reason != agent.ReasonNoAnswer {
			c.t.Fatalf("ana is %+v", v)
		}
		c.facts("c1", "ENTERQUEUE 59899123456 at 1", "offer ana", "offer ana noAnswer 15004", "offer ben", "offer ben rejected 2000",
			"offer ana", "offer ana noAnswer 15000", "offer ben")
		if x, err := c.Why(c.t.Context(), "c1"); err != nil || x.State != StateRinging || x.Now != "rings at ben" || len(x.Decisions) != 9 {
			c.t.Fatalf("why: %+v, %v", x, err)
		}
		c.Hangup("c1")
		c.did("stop c1 ben: the caller is gone")
		c.state("ben", agent.Available)
	})
}

// 5.3: the caller hangs up at every moment; nothing is left behind.
func TestCallerHangsUpAtEveryMoment(t *testing.T) {
	moments := map[string]struct {
		do   func(c *centre)
		last string
	}{
		"waiting": {func(c *centre) {
			c.enter("c1")
			time.Sleep(3500 * time.Millisecond)
			c.Hangup("c1")
		}, "left abandon 1|1|3"},
		"ringing": {func(c *centre) {
			c.signIn("ana")
			c.enter("c1")
			time.Sleep(2 * time.Second)
			c.Hangup("c1")
		}, "left abandon 1|1|2"},
		"at the answer, before it": {func(c *centre) {
			c.signIn("ana")
			c.enter("c1")
			c.Hangup("c1")
			c.Result("c1", "ana", RingResult{Outcome: Answered, LegID: "l"})
			synctest.Wait()
			if got := c.calls.take(); got[len(got)-1] != "stop c1 ana: the offer is over" {
				c.t.Errorf("the answered leg is left: %q", got)
			}
		}, "left abandon 1|1|0"},
		"at the answer, after it": {func(c *centre) {
			c.signIn("ana")
			c.enter("c1")
			c.Result("c1", "ana", RingResult{Outcome: Answered, LegID: "l"})
			c.Hangup("c1")
			c.Ended("c1", event.ByAgent) // both say so
		}, "COMPLETE ana by customer 0|0|1"},
		"talking": {func(c *centre) {
			c.signIn("ana")
			c.enter("c1")
			c.Result("c1", "ana", RingResult{Outcome: Answered, LegID: "l"})
			time.Sleep(9 * time.Second)
			c.Ended("c1", event.ByCustomer)
			c.Hangup("c1")
		}, "COMPLETE ana by customer 0|9|1"},
		"while the journal is slow": {func(c *centre) {
			c.signIn("ana")
			c.journal.mu.Lock()
			c.journal.delay = 100 * time.Millisecond
			c.journal.mu.Unlock()
			c.enter("c1")
			c.Hangup("c1")
			time.Sleep(time.Second)
		}, "left abandon 1|1|0"},
	}
	for name, m := range moments {
		t.Run(name, func(t *testing.T) {
			withCentre(t, Options{}, support(), nil, func(c *centre) {
				m.do(c)
				time.Sleep(11 * time.Second)
				synctest.Wait()
				got := c.journal.of("c1")
				if len(got) == 0 || got[len(got)-1] != m.last {
					c.t.Fatalf("facts %q, want %q last", got, m.last)
				}
				if s := c.Stats(); s.Entries != 0 || s.Facts != 0 || s.Actions != 0 {
					c.t.Fatalf("left behind: %+v", s)
				}
				if _, ok := c.agents.Current("ana"); ok {
					c.state("ana", agent.Available)
				}
			})
		})
	}
}

// 5.4: the agent's app is killed while it rings and while talking.
func TestAgentIsLost(t *testing.T) {
	withCentre(t, Options{}, support(), []string{"ana", "ben"}, func(c *centre) {
		c.enter("c1")
		c.did("ring c1 ana 15s")
		if err := c.agents.Phone("ana", false, "connection lost"); err != nil {
			c.t.Fatal(err)
		}
		c.did("stop c1 ana: the agent's phone is gone", "ring c1 ben 15s")
		c.state("ana", agent.Offline)
		c.Result("c1", "ben", RingResult{Outcome: Answered, LegID: "leg1"})
		synctest.Wait()
		time.Sleep(20 * time.Second)
		if err := c.agents.Phone("ben", false, "connection lost"); err != nil {
			c.t.Fatal(err)
		}
		c.state("ben", agent.OnCall)
		time.Sleep(30 * time.Second)
		c.Reenter("c1")
		c.state("ben", agent.Offline)
		c.did()
		if err := c.agents.Phone("ana", true, ""); err != nil {
			c.t.Fatal(err)
		}
		c.did("ring c1 ana 15s")
		c.Result("c1", "ana", RingResult{Outcome: Answered, LegID: "leg2"})
		synctest.Wait()
		time.Sleep(5 * time.Second)
		c.Ended("c1", event.ByCustomer)
		c.facts("c1", "ENTERQUEUE 59899123456 at 1", "offer ana", "offer ana unreachable 0", "offer ben", "CONNECT ben 0|leg1|0 false",
			"reentered", "offer ana", "CONNECT ana 0|leg2|0 true", "COMPLETE ana by customer 0|55|1")
	})
}

func TestRingErrorGoesToTheNext(t *testing.T) {
	withCentre(t, Options{}, support(), []string{"ana", "ben"}, func(c *centre) {
		c.calls.ring = func(_, agentName string, _ RingOptions) error {
			if agentName == "ana" {
				return errors.New("no binding")
			}
			return nil
		}
		c.enter("c1")
		c.did("ring c1 ana 15s", "ring c1 ben 15s")
		c.Result("c1", "ben", RingResult{Outcome: Answered})
	})
}

// An agent who dials out in the same moment is not rung.
func TestAgentTakenBySomethingElse(t *testing.T) {
	withCentre(t, Options{}, support(), []string{"ana", "ben"}, func(c *centre) {
		l, err := c.agents.Lease("ana", "out1", agent.KindDialled, "Sales->", 0)
		if err != nil {
			c.t.Fatal(err)
		}
		if err := c.Enter(c.t.Context(), Caller{CallID: "c1", Queue: "Support<-"}); err != nil {
			c.t.Fatal(err)
		}
		c.did("ring c1 ben 15s")
		c.enter("c2")
		l.Release(0, "")
		c.did("ring c2 ana 15s")
	})
}

// A lost result: the queue gives up, nobody is stuck.
func TestLostResultIsRepaired(t *testing.T) {
	alive := func(string) bool { return true }
	withCentre(t, Options{Alive: alive}, support(), []string{"ana"}, func(c *centre) {
		c.enter("c1")
		time.Sleep(15*time.Second + RingGrace)
		c.did("ring c1 ana 15s", "stop c1 ana: no result came")
		c.state("ana", agent.Available)
		if n := c.Stats().Repairs; n != 1 {
			c.t.Fatalf("%d repairs", n)
		}
	})
}

func TestEntryWhoseCallIsGoneIsRepaired(t *testing.T) {
	alive := func(id string) bool { return id != "ghost" }
	withCentre(t, Options{Alive: alive}, support(), []string{"ana"}, func(c *centre) {
		c.enter("ghost")
		c.Result("ghost", "ana", RingResult{Outcome: Answered})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s := c.Stats(); s.Entries != 0 || s.Repairs != 1 {
			c.t.Fatalf("stats %+v", s)
		}
		time.Sleep(10 * time.Second)
		c.state("ana", agent.Available)
	})
}

// Facts first: a viewer sees nothing before the journal has it, the phone rings
// all the same, and other calls are not held up.
func TestSlowJournalDelaysViewersNotPhones(t *testing.T) {
	withCentre(t, Options{}, support(), []string{"ana", "ben"}, func(c *centre) {
		c.journal.mu.Lock()
		c.journal.delay = 80 * time.Millisecond
		c.journal.mu.Unlock()
		start := time.Now()
		c.enter("c1")
		c.enter("c2")
		c.did("ring c1 ana 15s", "ring c2 ben 15s")
		if d := time.Since(start); d != 0 {
			c.t.Fatalf("ringing took %s", d)
		}
		visible := func() int {
			v, err := c.Snapshot(c.t.Context())
			if err != nil || len(v) != 1 {
				c.t.Fatalf("snapshot %v, %v", v, err)
			}
			return len(v[0].Entries)
		}
		if n := visible(); n != 0 {
			c.t.Fatalf("%d callers are seen before the journal has them", n)
		}
		time.Sleep(80 * time.Millisecond)
		synctest.Wait()
		if n := visible(); n != 2 {
			c.t.Fatalf("%d callers are seen", n)
		}
		v, err := c.Snapshot(c.t.Context())
		if err != nil || v[0].Waiting != 2 || v[0].Ringing != 0 { // OFFER is not journaled yet
			c.t.Fatalf("snapshot %+v, %v", v, err)
		}
		time.Sleep(time.Second)
	})
}

func TestOverload(t *testing.T) {
	withCentre(t, Options{MaxCallers: 2, MaxFacts: 3}, support(), nil, func(c *centre) {
		c.enter("c1")
		c.enter("c2")
		if err := c.Enter(c.t.Context(), Caller{CallID: "c3", Queue: "Support<-"}); !errors.Is(err, ErrOverload) {
			c.t.Fatalf("third caller: %v", err)
		}
		c.Hangup("c1")
		c.enter("c4")
		c.journal.mu.Lock()
		c.journal.delay = 100 * time.Millisecond
		c.journal.mu.Unlock()
		c.Hangup("c2")
		c.Hangup("c4")
		c.enter("c5")
		if err := c.Enter(c.t.Context(), Caller{CallID: "c6", Queue: "Support<-"}); !errors.Is(err, ErrOverload) {
			c.t.Fatalf("caller while facts wait: %v", err)
		}
		time.Sleep(time.Second)
		c.enter("c7")
		if n := c.Stats().Overloads; n != 2 {
			c.t.Fatalf("%d overloads", n)
		}
	})
}

func TestStopDrainsAndCloses(t *testing.T) {
	withCentre(t, Options{}, support(), []string{"ana", "ben"}, func(c *centre) {
		c.enter("c1")
		c.Result("c1", "ana", RingResult{Outcome: Answered, LegID: "l"})
		c.enter("c2")
		c.enter("c3")
		c.calls.take()
		time.Sleep(5 * time.Second)
		c.Drain()
		if err := c.Enter(c.t.Context(), Caller{CallID: "c4", Queue: "Support<-"}); !errors.Is(err, ErrStopping) {
			c.t.Fatalf("entered while draining: %v", err)
		}
		c.journal.mu.Lock()
		c.journal.delay = 50 * time.Millisecond
		c.journal.mu.Unlock()
		c.stop()
		got := c.calls.take()
		if len(got) != 4 { // nobody is rung any more
			c.t.Errorf("call layer got %q", got)
		}
		for _, want := range []string{"stop c2 ben: the caller is gone", "drop c1: closed", "drop c2: closed", "drop c3: closed"} {
			if !slices.Contains(got, want) {
				c.t.Errorf("%q is missing in %q", want, got)
			}
		}
		for call, want := range map[string]string{
			"c1": "COMPLETE ana by system 0|5|1 gateway stopped",
			"c2": "left closed 1|1|5", "c3": "left closed 2|2|5",
		} {
			got := c.journal.of(call)
			if last := got[len(got)-1]; last != want {
				c.t.Errorf("%s: %q, want %q", call, last, want)
			}
		}
		if err := c.Enter(c.t.Context(), Caller{CallID: "c5", Queue: "Support<-"}); !errors.Is(err, ErrStopping) {
			c.t.Fatalf("entered after the end: %v", err)
		}
		c.Hangup("c1") // nobody is there to take it
	})
}

func TestMembersChangedAreFacts(t *testing.T) {
	withCentre(t, Options{}, support(), nil, func(c *centre) {
		c.SetCampaigns([]campaign.Campaign{q("Support<-", campaign.Linear, "ana", "cat"), q("New<-", campaign.Linear, "ana")})
		synctest.Wait()
		var got []string
		c.journal.mu.Lock()
		for _, p := range c.journal.facts {
			got = append(got, fmt.Sprintf("%T%v", p, p))
		}
		c.journal.mu.Unlock()
		slices.Sort(got)
		want := []string{
			"event.MemberAdded{New<- ana}", "event.MemberAdded{Support<- cat}", "event.MemberRemoved{Support<- ben}", "event.QueueCreated{New<-}",
		}
		if !slices.Equal(got, want) {
			c.t.Fatalf("facts %q", got)
		}
	})
}

// The agent answers and takes a break in the same moment: the call layer has
// joined the two, so the queue says the same.
func TestLateAnswerCounts(t *testing.T) {
	withCentre(t, Options{}, support(), []string{"ana", "ben"}, func(c *centre) {
		c.enter("c1")
		if err := c.agents.Break(c.t.Context(), "ana", "Lunch", ""); err != nil {
			c.t.Fatal(err)
		}
		c.did("ring c1 ana 15s", "stop c1 ana: the agent took a break", "ring c1 ben 15s")
		c.Result("c1", "ana", RingResult{Outcome: Answered, LegID: "l"})
		c.did("stop c1 ben: answered by ana")
		c.state("ana", agent.OnCall)
		c.state("ben", agent.Available)
		c.Result("c1", "ben", RingResult{Outcome: Answered, LegID: "l2"})
		c.did("stop c1 ben: the offer is over")
		c.Ended("c1", event.ByCustomer)
		c.state("ana", agent.WrapUp)
		time.Sleep(10 * time.Second)
		c.state("ana", agent.OnBreak)
	})
}
