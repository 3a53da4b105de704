package queue

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/event"
)

// bench is a core with a clock that tests move, and a record of who is rung.
type bench struct {
	t    *testing.T
	c    *Core
	now  time.Time
	cmds []Command // of the last input
	rung map[string][]string
}

func newBench(t *testing.T, campaigns ...campaign.Campaign) *bench {
	t.Helper()
	b := &bench{t: t, c: NewCore(time.UTC, 1), now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), rung: map[string][]string{}}
	b.did(b.c.Configure(b.now, campaigns))
	return b
}

func (b *bench) did(cmds []Command) []Command {
	b.t.Helper()
	b.cmds = slices.Clone(cmds)
	for _, c := range b.cmds {
		switch c.Kind {
		case CommandOffer:
			b.rung[c.CallID] = append(b.rung[c.CallID], c.Agent)
		case CommandOfferEnded, CommandConnected:
			b.rung[c.CallID] = slices.DeleteFunc(b.rung[c.CallID], func(a string) bool { return a == c.Agent })
		case CommandEntered, CommandOverdue, CommandRefused, CommandPause, CommandReentered, CommandLeft, CommandCompleted:
		}
	}
	for _, err := range b.c.Check(b.now) {
		b.t.Fatal(err)
	}
	return b.cmds
}

func (b *bench) agents(a Availability, names ...string) {
	b.t.Helper()
	for _, n := range names {
		b.did(b.c.AgentChanged(b.now, AgentStatus{Agent: n, Availability: a, Staffed: true, State: "test", Since: b.now}))
	}
}

func (b *bench) enter(calls ...string) {
	b.t.Helper()
	for _, id := range calls {
		q, _, _ := strings.Cut(id, "-")
		cmds, err := b.c.Enter(b.now, Caller{CallID: id, Queue: q, From: "59899123456"})
		if err != nil {
			b.t.Fatal(err)
		}
		b.did(cmds)
	}
}

func (b *bench) result(call, agentName string, o Outcome) {
	b.t.Helper()
	b.did(b.c.Result(b.now, call, agentName, RingResult{Outcome: o, LegID: "leg"}))
}

func (b *bench) pass(d time.Duration) {
	b.t.Helper()
	end := b.now.Add(d)
	for {
		at, ok := b.c.Next()
		if !ok || at.After(end) {
			break
		}
		if at.After(b.now) {
			b.now = at
		}
		b.did(b.c.Tick(b.now))
	}
	b.now = end
	b.did(b.c.Tick(b.now))
}

// talk lets an agent take a call and end it.
func (b *bench) talk(call, agentName string, d time.Duration) {
	b.t.Helper()
	b.result(call, agentName, Answered)
	b.pass(d)
	b.did(b.c.Completed(b.now, call, event.ByCustomer))
	b.agents(Free, agentName)
}

func (b *bench) wantRung(call string, agents ...string) {
	b.t.Helper()
	if !slices.Equal(b.rung[call], agents) {
		b.t.Fatalf("call %s rings at %q, want %q", call, b.rung[call], agents)
	}
}

func (b *bench) find(k CommandKind) Command {
	b.t.Helper()
	for _, c := range b.cmds {
		if c.Kind == k {
			return c
		}
	}
	b.t.Fatalf("no command of kind %d in %+v", k, b.cmds)
	return Command{}
}

func (b *bench) has(k CommandKind) bool {
	return slices.ContainsFunc(b.cmds, func(c Command) bool { return c.Kind == k })
}

func q(name string, s campaign.Strategy, members ...string) campaign.Campaign {
	c := campaign.Defaults()
	c.Name, c.Strategy = name, s
	for _, m := range members {
		user, penalty, _ := strings.Cut(m, ":")
		p := 0
		if penalty != "" {
			p = int(penalty[0] - '0')
		}
		c.Members = append(c.Members, campaign.Member{User: user, Penalty: p})
	}
	return c
}

// ACD-02, ACD-08
func TestLeastRecentRingsWhoseLastCallIsLongestAgo(t *testing.T) {
	b := newBench(t, q("a", campaign.LeastRecent, "ana", "ben", "cat"))
	b.agents(Free, "cat", "ben", "ana")
	for _, want := range []string{"ana", "ben", "cat", "ana", "ben"} {
		b.enter("a-" + want)
		b.wantRung("a-"+want, want)
		if why := b.find(CommandOffer).Why; !strings.HasPrefix(why, "leastrecent: ") {
			t.Fatalf("why is %q", why)
		}
		b.talk("a-"+want, want, time.Minute)
	}
	b.enter("a-1", "a-2") // autofill: both ring at once
	b.wantRung("a-1", "cat")
	b.wantRung("a-2", "ana")
}

// ACD-01
func TestRingAllRingsEveryoneOfTheLowestPenalty(t *testing.T) {
	b := newBench(t, q("a", campaign.RingAll, "ana:0", "ben:0", "cat:1"))
	b.agents(Free, "ana", "ben", "cat")
	b.enter("a-1")
	b.wantRung("a-1", "ana", "ben")
	b.enter("a-2")
	b.wantRung("a-2", "cat")
	b.result("a-1", "ben", Answered)
	b.wantRung("a-1")
	if c := b.find(CommandOfferEnded); c.Agent != "ana" || c.Outcome != Cancelled || !c.Stop {
		t.Fatalf("ana's phone: %+v", c)
	}
	b.result("a-1", "ana", Answered) // at the same moment
	if c := b.find(CommandRefused); c.Agent != "ana" {
		t.Fatalf("refused %+v", c)
	}
}

func TestRingAllGoesOnWithTheOthersAfterAReject(t *testing.T) {
	b := newBench(t, q("a", campaign.RingAll, "ana", "ben"))
	b.agents(Free, "ana", "ben")
	b.enter("a-1")
	b.result("a-1", "ana", Rejected)
	b.wantRung("a-1", "ben")
	b.pass(time.Minute / 2)
	b.result("a-1", "ben", Answered)
}

// ACD-03
func TestFewestCalls(t *testing.T) {
	b := newBench(t, q("a", campaign.FewestCalls, "ana", "ben"))
	b.agents(Free, "ana")
	b.enter("a-1")
	b.talk("a-1", "ana", time.Second)
	b.agents(Free, "ben")
	b.enter("a-2")
	b.wantRung("a-2", "ben")
}

// ACD-05: the pass goes on behind the one who was rung last.
func TestRoundRobinRemembers(t *testing.T) {
	b := newBench(t, q("a", campaign.RRMemory, "ana", "ben", "cat"))
	b.agents(Free, "ana", "ben", "cat")
	b.enter("a-1")
	b.wantRung("a-1", "ana")
	b.result("a-1", "ana", NoAnswer)
	b.wantRung("a-1", "ben")
	b.talk("a-1", "ben", time.Second)
	b.enter("a-2")
	b.wantRung("a-2", "cat")
	b.talk("a-2", "cat", time.Second)
	b.enter("a-3")
	b.wantRung("a-3", "ana")
}

// ACD-06
func TestLinearBeginsAnew(t *testing.T) {
	b := newBench(t, q("a", campaign.Linear, "ana", "ben"))
	b.agents(Free, "ben", "ana")
	for i := range 3 {
		id := fmt.Sprintf("a-%d", i)
		b.enter(id)
		b.wantRung(id, "ana")
		b.talk(id, "ana", time.Second)
	}
}

// ACD-04, ACD-07
func TestChanceStrategies(t *testing.T) {
	count := func(c campaign.Campaign) map[string]int {
		b := newBench(t, c)
		b.agents(Free, "ana", "ben")
		n := map[string]int{}
		for i := range 400 {
			id := fmt.Sprintf("a-%d", i)
			b.enter(id)
			who := b.rung[id][0]
			n[who]++
			b.talk(id, who, time.Second)
		}
		return n
	}
	if n := count(q("a", campaign.Random, "ana", "ben")); n["ana"] < 140 || n["ben"] < 140 {
		t.Fatalf("random: %v", n)
	}
	if n := count(q("a", campaign.Random, "ana", "ben:1")); n["ben"] != 0 {
		t.Fatalf("random ignores the penalty: %v", n)
	}
	if n := count(q("a", campaign.WRandom, "ana", "ben:3")); n["ben"] == 0 || n["ben"] > 100 {
		t.Fatalf("wrandom: %v", n) // 1 in 8 by the weights
	}
}

// ACD-09
func TestHigherPenaltyWaitsForLower(t *testing.T) {
	b := newBench(t, q("a", campaign.LeastRecent, "ana:1", "ben:0"))
	b.agents(Free, "ana", "ben")
	b.enter("a-1")
	b.wantRung("a-1", "ben")
	b.enter("a-2")
	b.wantRung("a-2", "ana")
}

// ACD-13, VOICE-33
func TestNoAnswerGoesToTheNextAndRoundsArePaused(t *testing.T) {
	c := q("a", campaign.Linear, "ana", "ben")
	c.NoAnswerPause = 0
	b := newBench(t, c)
	b.agents(Free, "ana", "ben")
	b.enter("a-1")
	b.pass(15 * time.Second)
	b.result("a-1", "ana", NoAnswer)
	if c := b.find(CommandOfferEnded); c.Ring != 15*time.Second || c.Outcome != NoAnswer {
		t.Fatalf("offer ended %+v", c)
	}
	b.wantRung("a-1", "ben") // at once
	b.result("a-1", "ben", Rejected)
	b.wantRung("a-1") // everyone was tried
	b.pass(3*time.Second - time.Millisecond)
	b.wantRung("a-1")
	b.pass(time.Millisecond)
	b.wantRung("a-1", "ana")
}

// The one who rejected a call is rung at once for another one.
func TestRejectedCallGoesElsewhere(t *testing.T) {
	b := newBench(t, q("a", campaign.Linear, "ana"))
	b.agents(Free, "ana")
	b.enter("a-1", "a-2")
	b.wantRung("a-1", "ana")
	b.result("a-1", "ana", Rejected)
	b.wantRung("a-1")
	b.wantRung("a-2", "ana")
}

func TestUnreachablePhoneIsLeftAloneForAMoment(t *testing.T) {
	b := newBench(t, q("a", campaign.Linear, "ana"))
	b.agents(Free, "ana")
	b.enter("a-1", "a-2")
	b.result("a-1", "ana", Unreachable)
	b.wantRung("a-2")
	b.pass(3 * time.Second)
	b.wantRung("a-1", "ana")
}

func TestNoAnswerPause(t *testing.T) {
	b := newBench(t, q("a", campaign.Linear, "ana"))
	b.agents(Free, "ana")
	b.enter("a-1")
	b.result("a-1", "ana", NoAnswer)
	if b.has(CommandPause) {
		t.Fatal("paused after one")
	}
	b.pass(3 * time.Second)
	b.result("a-1", "ana", NoAnswer)
	if b.cmds[0].Kind != CommandPause || b.cmds[0].Agent != "ana" {
		t.Fatalf("not paused first: %+v", b.cmds)
	}
	b.pass(time.Minute)
	b.wantRung("a-1")
}

func TestAnswerBreaksTheRowOfNoAnswers(t *testing.T) {
	b := newBench(t, q("a", campaign.Linear, "ana"))
	b.agents(Free, "ana")
	for i := range 4 {
		id := fmt.Sprintf("a-%d", i)
		b.enter(id)
		b.result(id, "ana", NoAnswer)
		b.pass(3 * time.Second)
		b.talk(id, "ana", time.Second)
	}
}

// The phone never reported: the queue gives up by itself.
func TestOfferWithoutResultEnds(t *testing.T) {
	b := newBench(t, q("a", campaign.Linear, "ana", "ben"))
	b.agents(Free, "ana", "ben")
	b.enter("a-1")
	b.pass(15*time.Second + RingGrace)
	b.wantRung("a-1", "ben")
	b.enter("a-2")
	b.wantRung("a-2", "ana")
	b.result("a-1", "ana", Answered) // late, but nobody else has the caller
	if c := b.find(CommandConnected); c.Agent != "ana" || !c.Late || b.has(CommandRefused) {
		t.Fatalf("late answer: %+v", b.cmds)
	}
	b.wantRung("a-1")
	b.wantRung("a-2", "ben") // ana's other offer is over, ben is free again
	b.result("a-1", "ben", Answered)
	if !b.has(CommandRefused) {
		t.Fatal("a second agent got the call")
	}
}

// ACD-11, VOICE-35
func TestHeavierQueueGoesFirst(t *testing.T) {
	heavy := q("b", campaign.LeastRecent, "ana")
	heavy.Weight = 5
	b := newBench(t, q("a", campaign.LeastRecent, "ana"), heavy, q("c", campaign.LeastRecent, "ana"))
	b.enter("a-1")
	b.pass(time.Second)
	b.enter("c-1")
	b.pass(time.Minute)
	b.enter("b-1")
	b.agents(Free, "ana")
	b.wantRung("b-1", "ana")
	b.talk("b-1", "ana", time.Second)
	b.wantRung("a-1", "ana") // then the longest wait
}

// ACD-14, VOICE-47
func TestRingInUse(t *testing.T) {
	c := q("a", campaign.Linear, "ana", "ben")
	c.RingInUse = true
	b := newBench(t, c, q("b", campaign.Linear, "ana"))
	b.agents(Engaged, "ana")
	b.agents(Free, "ben")
	b.enter("b-1")
	b.wantRung("b-1")
	b.enter("a-1")
	b.wantRung("a-1", "ben") // who is free comes first
	b.enter("a-2")
	b.wantRung("a-2", "ana")
	if !b.find(CommandOffer).InUse {
		t.Fatal("the offer does not say that ana is on a call")
	}
}

// ACD-12, ACD-15, ACD-21
func TestEnterIsRefused(t *testing.T) {
	full := q("a", campaign.Linear, "ana")
	full.MaxLen = 1
	strict := q("b", campaign.Linear, "ana")
	strict.JoinEmpty = false
	shut := q("c", campaign.Linear, "ana")
	shut.Schedule, _ = campaign.ParseSchedule("mon;00:00-23:59") // it is Friday
	sales := q("d", campaign.Linear, "ana")
	sales.Direction = campaign.Outbound
	b := newBench(t, full, strict, shut, sales)
	b.enter("a-1")
	for id, want := range map[string]error{"a-2": ErrFull, "b-1": ErrEmpty, "c-1": ErrClosed, "d-1": ErrNoQueue, "e-1": ErrNoQueue, "a-1": ErrDuplicate} {
		name, _, _ := strings.Cut(id, "-")
		if _, err := b.c.Enter(b.now, Caller{CallID: id, Queue: name}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", id, err, want)
		}
	}
	b.agents(Away, "ana") // on a break, but there
	b.enter("b-1")
}

// ACD-17, VOICE-57, LOG-016
func TestMaximumWait(t *testing.T) {
	c := q("a", campaign.Linear, "ana")
	c.MaxWait = 20 * time.Second
	b := newBench(t, c)
	b.enter("a-0", "a-1")
	b.pass(19 * time.Second)
	b.agents(Free, "ana")
	b.pass(5 * time.Second) // a-0 rings over its time, a-1 goes
	b.wantRung("a-0", "ana")
	if _, ok := b.c.entries["a-1"]; ok {
		t.Fatal("a-1 still waits")
	}
	b.result("a-0", "ana", Rejected)
	b.pass(time.Millisecond)
	left := b.c.entries["a-0"]
	if left != nil {
		t.Fatalf("a-0 still waits: %+v", left)
	}
	if n := b.c.queues["a"].count; n.TimedOut != 2 || n.Entered != 2 {
		t.Fatalf("counted %+v", n)
	}
}

// ACD-15, VOICE-44, LOG-014
func TestLeaveWhenEmptyAfterAGrace(t *testing.T) {
	c := q("a", campaign.Linear, "ana")
	c.LeaveWhenEmpty = true
	b := newBench(t, c)
	b.agents(Away, "ana")
	b.enter("a-1")
	b.did(b.c.AgentChanged(b.now, AgentStatus{Agent: "ana"}))
	b.pass(emptyGrace - time.Millisecond)
	b.agents(Away, "ana") // back in time
	b.pass(time.Minute)
	b.did(b.c.AgentChanged(b.now, AgentStatus{Agent: "ana"}))
	b.pass(emptyGrace)
	if c := b.c.queues["a"].count; c.Evicted != 1 || len(b.c.entries) != 0 {
		t.Fatalf("counted %+v", c)
	}
}

// LOG-009, ACD-18
func TestPositions(t *testing.T) {
	b := newBench(t, q("a", campaign.Linear, "ana"))
	b.enter("a-1", "a-2", "a-3")
	b.pass(10 * time.Second)
	b.did(b.c.Leave(b.now, "a-1", event.LeftAbandon, ""))
	b.did(b.c.Leave(b.now, "a-3", event.LeftKey, "5"))
	c := b.find(CommandLeft)
	if c.Position != 2 || c.OriginalPosition != 3 || c.Hold != 10*time.Second || c.Key != "5" || c.Drop {
		t.Fatalf("left %+v", c)
	}
	cmds, err := b.c.Enter(b.now, Caller{CallID: "a-4", Queue: "a", Priority: 1})
	if err != nil {
		t.Fatal(err)
	}
	b.did(cmds)
	if c := b.find(CommandEntered); c.Position != 1 {
		t.Fatalf("priority entered at %d", c.Position)
	}
}

// contract: agent lost in a call.
func TestReentryAtTheHeadKeepsEntryAndClocks(t *testing.T) {
	b := newBench(t, q("a", campaign.Linear, "ana", "ben"))
	b.agents(Free, "ana")
	b.pass(time.Second)
	b.enter("a-1")
	b.pass(4 * time.Second)
	b.result("a-1", "ana", Answered)
	b.enter("a-2")
	b.pass(time.Minute)
	b.did(b.c.AgentChanged(b.now, AgentStatus{Agent: "ana"}))
	b.did(b.c.Reenter(b.now, "a-1"))
	if c := b.find(CommandReentered); c.Agent != "ana" {
		t.Fatalf("reentered %+v", c)
	}
	b.pass(6 * time.Second)
	b.agents(Free, "ben")
	b.wantRung("a-1", "ben") // before a-2
	b.result("a-1", "ben", Answered)
	if c := b.find(CommandConnected); !c.Again || c.Hold != 10*time.Second {
		t.Fatalf("connected %+v", c)
	}
	b.pass(30 * time.Second)
	b.did(b.c.Completed(b.now, "a-1", event.ByAgent))
	if c := b.find(CommandCompleted); c.Talk != 90*time.Second || c.Hold != 10*time.Second || c.OriginalPosition != 1 || c.Agent != "ben" {
		t.Fatalf("completed %+v", c)
	}
	if n := b.c.queues["a"].count; n.Entered != 2 || n.Connected != 1 {
		t.Fatalf("counted %+v", n)
	}
}

// A caller who was connected once ends as a call, not as an abandon: one entry,
// one end.
func TestHangupAfterReentryCompletes(t *testing.T) {
	b := newBench(t, q("a", campaign.Linear, "ana"))
	b.agents(Free, "ana")
	b.enter("a-1")
	b.result("a-1", "ana", Answered)
	b.did(b.c.Reenter(b.now, "a-1"))
	b.did(b.c.Leave(b.now, "a-1", event.LeftAbandon, ""))
	if c := b.find(CommandCompleted); c.By != event.ByCustomer || c.Agent != "ana" || b.has(CommandLeft) {
		t.Fatalf("completed %+v", c)
	}
}

func TestConfigureKeepsCallersAndHistory(t *testing.T) {
	b := newBench(t, q("a", campaign.LeastRecent, "ana", "ben"))
	b.agents(Free, "ana", "ben")
	b.enter("a-0")
	b.talk("a-0", "ana", time.Second)
	b.enter("a-1")
	b.wantRung("a-1", "ben")
	b.did(b.c.Configure(b.now, []campaign.Campaign{q("a", campaign.LeastRecent, "ana", "cat")}))
	b.wantRung("a-1", "ben") // who rings, rings on
	b.agents(Free, "cat")
	b.enter("a-2")
	b.wantRung("a-2", "cat") // ana's history is kept
	b.result("a-1", "ben", Answered)
	b.did(b.c.Configure(b.now, nil))
	if c := b.find(CommandLeft); c.CallID != "a-2" || c.Reason != event.LeftClosed || !c.Drop {
		t.Fatalf("left %+v", c)
	}
	b.did(b.c.Completed(b.now, "a-1", event.ByAgent))
	if len(b.c.queues) != 0 || len(b.c.entries) != 0 {
		t.Fatal("something is left behind")
	}
}

func TestAgentLostWhileRinging(t *testing.T) {
	b := newBench(t, q("a", campaign.Linear, "ana", "ben"))
	b.agents(Free, "ana", "ben")
	b.enter("a-1")
	b.did(b.c.AgentChanged(b.now, AgentStatus{Agent: "ana"}))
	if c := b.find(CommandOfferEnded); c.Outcome != Unreachable || !c.Stop {
		t.Fatalf("offer ended %+v", c)
	}
	b.wantRung("a-1", "ben") // at once
}

func TestExplain(t *testing.T) {
	b := newBench(t, q("a", campaign.Linear, "ana", "ben", "cat"))
	b.agents(Free, "ana")
	b.enter("a-1", "a-2")
	if _, text := b.c.Explain(b.now, "a-2"); text != "place 2 of 2 after 0s; of 3 members 1 rung for another caller, 2 signed out" {
		t.Fatal(text)
	}
	if state, text := b.c.Explain(b.now, "a-1"); state != StateRinging || text != "rings at ana" {
		t.Fatal(text)
	}
}
