package report_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/report"
)

func audit(i int) event.Audit { return event.Audit{User: "eva", Action: fmt.Sprint(i)} }

// actions returns what was applied of audits, in order.
func actions(st *memory) []string {
	var list []string
	st.all(func(c report.Change) {
		for _, r := range c.Audit {
			list = append(list, r.Action)
		}
	})
	return list
}

func upTo(n int) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

// run runs a projector inside a synctest bubble until the returned function.
func run(t *testing.T, p *report.Projector) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestFactsWaitWhileTheDatabaseIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, st := newTape(), newMemory()
		gone := true
		st.hook = func(report.Batch) error {
			if gone {
				return errors.New("connection refused")
			}
			return nil
		}
		var alarms []event.Alarm
		p := projector(t, src, st, func(o *report.Options) { o.Alarm = func(a event.Alarm) { alarms = append(alarms, a) } })
		stop := run(t, p)
		defer stop()
		for i := range 2000 { // more than a batch and the reader's room
			src.add(noon, audit(i))
		}
		time.Sleep(time.Hour)
		if got := actions(st); len(got) != 0 {
			t.Fatalf("%d rows without a database", len(got))
		}
		if s := p.Stats(); s.Behind != 2000 || s.Retries < 100 || s.Retries > 1000 {
			t.Errorf("stats %+v", s)
		}
		st.mu.Lock()
		gone = false
		st.mu.Unlock()
		time.Sleep(20 * time.Second)
		if d := cmp.Diff(upTo(2000), actions(st)); d != "" {
			t.Error(d)
		}
		if len(alarms) != 2 || !alarms[0].Active || alarms[1].Active || alarms[0].Name != report.AlarmDatabase {
			t.Errorf("alarms %+v", alarms)
		}
		if s := p.Stats(); s.Behind != 0 || s.Applied != 2000 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestRefusedFactIsPutAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, st := newTape(), newMemory()
		st.hook = func(b report.Batch) error {
			for _, c := range b.Changes {
				if len(c.Audit) > 0 && c.Audit[0].Action == "7" {
					return fmt.Errorf("bad value: %w", report.ErrRefused)
				}
			}
			return nil
		}
		for i := range 20 {
			src.add(noon, audit(i))
		}
		var alarms []event.Alarm
		p := projector(t, src, st, func(o *report.Options) { o.Alarm = func(a event.Alarm) { alarms = append(alarms, a) } })
		stop := run(t, p)
		defer stop()
		if err := p.Wait(t.Context(), 20); err != nil {
			t.Fatal(err)
		}
		want := append(upTo(20)[:7:7], upTo(20)[8:]...)
		if d := cmp.Diff(want, actions(st)); d != "" {
			t.Error(d)
		}
		var poison []report.PoisonRow
		st.all(func(c report.Change) { poison = append(poison, c.Poison...) })
		if len(poison) != 1 || poison[0].Seq != 8 || len(alarms) != 1 || alarms[0].Name != report.AlarmPoison {
			t.Errorf("poison %+v, alarms %+v", poison, alarms)
		}
	})
}

func TestBadFactsBlockNothing(t *testing.T) {
	src, st := newTape(), newMemory()
	src.add(noon, audit(0))
	src.raw(noon, event.KindQueueEntered, `{"callId": 7}`)
	src.raw(noon, event.KindMalformed, `"{not json"`)
	src.raw(noon, "later.version", `{"x":1}`)
	src.raw(noon, event.KindGap, `null`)
	src.raw(noon, event.KindCallEnded, `[]`)
	src.add(noon, audit(1))
	applyAll(t, src, st)
	if d := cmp.Diff(upTo(2), actions(st)); d != "" {
		t.Error(d)
	}
	var kinds []string
	st.all(func(c report.Change) {
		for _, r := range c.Poison {
			kinds = append(kinds, r.Kind)
		}
	})
	if d := cmp.Diff([]string{"queue.entered", "malformed", "call.ended"}, kinds); d != "" {
		t.Error(d)
	}
}

// Another reader (a second node) applies the same facts: this one begins anew
// at the checkpoint and nothing is double.
func TestMovedCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, st := newTape(), newMemory()
		for i := range 10 {
			src.add(noon, audit(i))
		}
		once := true
		st.hook = func(report.Batch) error {
			if once { // 1 to 4 were applied elsewhere
				once = false
				st.seq = 4
			}
			return nil
		}
		p := projector(t, src, st, nil)
		stop := run(t, p)
		defer stop()
		if err := p.Wait(t.Context(), 10); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(upTo(10)[4:], actions(st)); d != "" {
			t.Error(d)
		}
	})
}

// After a power failure the tables know facts that the stream has lost.
func TestStreamBehindTheTables(t *testing.T) {
	src, st := newTape(), newMemory()
	src.add(noon, audit(0), audit(1))
	st.seq = 9
	applyAll(t, src, st)
	if src.skips != 9 {
		t.Errorf("stream was moved to %d, want 9", src.skips)
	}
}

func TestAllUnreadFactsAreTooOld(t *testing.T) {
	src, st := newTape(), newMemory()
	src.first = 100 // all up to 99 are gone
	applyAll(t, src, st)
	if st.seq != 99 {
		t.Errorf("checkpoint is %d, want 99", st.seq)
	}
}

func TestOneRunAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := projector(t, newTape(), newMemory(), nil)
		stop := run(t, p)
		defer stop()
		synctest.Wait()
		if err := p.Run(t.Context()); !errors.Is(err, report.ErrRunning) {
			t.Errorf("second run: %v", err)
		}
		if _, err := p.Dangling(t.Context()); !errors.Is(err, report.ErrRunning) {
			t.Errorf("dangling while running: %v", err)
		}
	})
}

func TestCrashIsClosed(t *testing.T) {
	src, st := newTape(), newMemory()
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	src.add(at(0), event.GatewayStarted{},
		event.AgentSignedIn{Agent: "ana", Extension: "2101", Session: "s1", Endpoint: "app"},
		event.AgentSignedIn{Agent: "bob", Extension: "2102", Session: "s2", Endpoint: "desk"},
		event.AgentSignedIn{Agent: "eva", Session: "s3"}, event.AgentSignedOut{Agent: "eva", Session: "s3"})
	src.add(at(10), event.BreakStarted{Agent: "bob", Motive: "LUNCH", Comment: "soup"})
	// One waits, one talks to ana, one was already over, one dials out.
	src.add(at(20), event.CallStarted{CallID: "waits", Direction: event.Inbound, From: "1", To: "9", Trunk: "carrier", Campaign: "q"},
		event.QueueEntered{CallID: "waits", Queue: "q", Caller: "1", Position: 1})
	src.add(at(21), event.CallStarted{CallID: "talks", Direction: event.Inbound, From: "2", To: "9", Trunk: "carrier", Campaign: "q"},
		event.QueueEntered{CallID: "talks", Queue: "q", Caller: "2", Position: 2},
		event.CallLegRinging{CallID: "talks", LegID: "leg2", Agent: "ana"})
	src.add(at(25), event.QueueConnected{CallID: "talks", Queue: "q", Agent: "ana", LegID: "leg2", HoldSeconds: 4},
		event.RecordingStarted{CallID: "talks", Campaign: "q", Path: "2026/11/21/talks.wav"})
	src.add(at(26), event.CallStarted{CallID: "over"}, event.QueueEntered{CallID: "over", Queue: "q"},
		event.QueueLeft{CallID: "over", Queue: "q", Reason: event.LeftAbandon}, event.CallLegEnded{CallID: "over"}, event.CallEnded{CallID: "over"})
	src.add(at(30), event.CallStarted{CallID: "dials", Direction: event.Outbound, From: "2101", To: "1888", Trunk: "carrier", Campaign: "Sales->", Agent: "ana"},
		event.CallLegRinging{CallID: "dials", LegID: "leg3"})
	src.add(at(40), audit(1))

	d := applyAll(t, src, st)
	if !d.At.Equal(at(40)) {
		t.Errorf("last sign of life is %v", d.At)
	}
	answered := at(25)
	want := []event.Payload{
		event.QueueLeft{CallID: "waits", Queue: "q", Reason: event.LeftClosed, Position: 1, OriginalPosition: 1, WaitSeconds: 20, Cause: "gateway restarted"},
		event.QueueCompleted{CallID: "talks", Queue: "q", Agent: "ana", By: event.BySystem, HoldSeconds: 4, TalkSeconds: 15, OriginalPosition: 2, Cause: "gateway restarted"},
		event.CallLegEnded{
			CallID: "waits", Direction: event.Inbound, Campaign: "q", Src: "1", Dst: "9", Channel: "SIP/carrier", LastApp: "Queue",
			StartedAt: at(20), EndedAt: at(40), Disposition: "NO ANSWER", By: event.BySystem, Trunk: "carrier",
		},
		event.CallLegEnded{
			CallID: "talks", LegID: "leg2", Direction: event.Inbound, Campaign: "q", Agent: "ana", Src: "2", Dst: "9", Channel: "SIP/carrier",
			DstChannel: "SIP/ana", LastApp: "Queue", StartedAt: at(21), AnsweredAt: &answered, EndedAt: at(40),
			Disposition: "ANSWERED", Recorded: true, By: event.BySystem, Trunk: "carrier",
		},
		event.CallLegEnded{
			CallID: "dials", LegID: "leg3", Direction: event.Outbound, Campaign: "Sales->", Agent: "ana", Src: "2101", Dst: "1888",
			Channel: "SIP/ana", DstChannel: "SIP/carrier", LastApp: "Dial", StartedAt: at(30), EndedAt: at(40),
			Disposition: "NO ANSWER", By: event.BySystem, Trunk: "carrier",
		},
		event.OutCallEnded{CallID: "dials", Campaign: "Sales->", Agent: "ana", Number: "1888", DialStatus: "CANCEL", TotalSeconds: 10},
		event.RecordingFinished{CallID: "talks", Path: "2026/11/21/talks.wav", DurationMs: 15000},
		event.CallEnded{CallID: "waits", Campaign: "q", By: event.BySystem, Cause: "gateway restarted", DurationMs: 20000},
		event.CallEnded{CallID: "talks", Campaign: "q", Agent: "ana", By: event.BySystem, Cause: "gateway restarted", DurationMs: 19000, TalkMs: 15000},
		event.CallEnded{CallID: "dials", Campaign: "Sales->", Agent: "ana", By: event.BySystem, Cause: "gateway restarted", DurationMs: 10000},
	}
	if diff := cmp.Diff(want, d.Calls); diff != "" {
		t.Error(diff)
	}
	wantAgents := []event.Payload{
		event.AgentSignedOut{Agent: "ana", Session: "s1", Message: "gateway restarted", LoginSeconds: 40},
		event.BreakEnded{Agent: "bob", Motive: "LUNCH", Comment: "soup", Seconds: 30},
		event.AgentSignedOut{Agent: "bob", Session: "s2", Message: "gateway restarted", LoginSeconds: 40},
	}
	if diff := cmp.Diff(wantAgents, d.Agents); diff != "" {
		t.Error(diff)
	}
	wantIn := []report.SignedIn{
		{Agent: "ana", Extension: "2101", Session: "s1", Endpoint: "app", Since: at(0)},
		{Agent: "bob", Extension: "2102", Session: "s2", Endpoint: "desk", Since: at(0), Break: "LUNCH", BreakComment: "soup", BreakSince: at(10)},
	}
	if diff := cmp.Diff(wantIn, d.SignedIn); diff != "" {
		t.Error(diff)
	}

	// The next start closes them, even when it crashes in the middle of that.
	src.add(noon.Add(time.Hour), event.GatewayStarted{})
	src.add(d.At, d.Calls[:4]...)
	half := applyAll(t, src, st)
	if diff := cmp.Diff(want[4:], half.Calls); diff != "" {
		t.Error(diff)
	}
	src.add(d.At, append(half.Calls, half.Agents...)...)
	if end := applyAll(t, src, st); len(end.Calls)+len(end.Agents)+len(end.SignedIn) != 0 {
		t.Errorf("still open: %+v", end)
	}
}
