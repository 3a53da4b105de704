package report_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/report"
)

// tape is a stream in memory.
type tape struct {
	mu    sync.Mutex
	facts []event.Fact
	first uint64
	grown chan struct{}
	skips uint64
}

func newTape() *tape { return &tape{first: 1, grown: make(chan struct{})} }

func (t *tape) add(at time.Time, list ...event.Payload) {
	for _, p := range list {
		data, err := json.Marshal(p)
		if err != nil {
			panic(err)
		}
		t.raw(at, p.Kind(), string(data))
	}
}

func (t *tape) raw(at time.Time, kind event.Kind, data string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	seq := t.first + uint64(len(t.facts))
	t.facts = append(t.facts, event.Fact{Seq: seq, ID: fmt.Sprint(seq), Time: at, Type: kind, Data: json.RawMessage(data)})
	close(t.grown)
	t.grown = make(chan struct{})
}

func (t *tape) Read(ctx context.Context, after uint64, fn func(event.Fact) error) error {
	for {
		t.mu.Lock()
		last, grown := t.first+uint64(len(t.facts))-1, t.grown
		var f event.Fact
		if after = max(after, t.first-1); after < last {
			f = t.facts[after-t.first+1]
		}
		t.mu.Unlock()
		if f.Seq > 0 {
			if err := fn(f); err != nil {
				return err
			}
			after = f.Seq
			continue
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil
		}
	}
}

func (t *tape) Last() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first + uint64(len(t.facts)) - 1
}

func (t *tape) First(context.Context) (uint64, error) { return t.first, nil }

func (t *tape) Skip(_ context.Context, seq uint64) error {
	t.skips = seq
	t.first, t.facts = seq+1, nil
	return nil
}

// memory is a Store in memory.
type memory struct {
	mu      sync.Mutex
	seq     uint64
	open    map[[2]string][]byte
	applied []report.Change
	// hook is asked before each Apply.
	hook func(report.Batch) error
}

func newMemory() *memory { return &memory{open: map[[2]string][]byte{}} }

func (m *memory) Checkpoint(context.Context) (uint64, []report.OpenItem, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var items []report.OpenItem
	for k, doc := range m.open {
		items = append(items, report.OpenItem{Kind: k[0], Key: k[1], Doc: doc})
	}
	return m.seq, items, nil
}

func (m *memory) Apply(_ context.Context, b report.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hook != nil {
		if err := m.hook(b); err != nil {
			return err
		}
	}
	if b.From != m.seq {
		return report.ErrMoved
	}
	for _, c := range b.Changes {
		for _, o := range c.Open {
			if o.Doc == nil {
				delete(m.open, [2]string{o.Kind, o.Key})
			} else {
				m.open[[2]string{o.Kind, o.Key}] = o.Doc
			}
		}
		m.applied = append(m.applied, c)
	}
	m.seq = b.To
	return nil
}

func (m *memory) all(of func(report.Change)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.applied {
		of(c)
	}
}

func projector(t *testing.T, src report.Source, st report.Store, change func(*report.Options)) *report.Projector {
	t.Helper()
	zone := time.FixedZone("UYT", -3*3600)
	o := report.Options{Log: slog.New(slog.DiscardHandler), Store: st, Source: src, Location: zone}
	if change != nil {
		change(&o)
	}
	p, err := report.NewProjector(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// applyAll applies what is on the tape and returns what is open.
func applyAll(t *testing.T, src *tape, st *memory) report.Dangling {
	t.Helper()
	d, err := projector(t, src, st, nil).Dangling(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestQueueLog(t *testing.T) {
	in := event.AgentSignedIn{Agent: "ana", Extension: "2101", Session: "s1", Endpoint: "app"}
	held := event.CallHeld{CallID: "c1", Campaign: "q", Agent: "ana", Channel: "SIP/carrier", From: "59899", FromName: "José"}
	tests := []struct {
		id   string
		fact event.Payload
		want string // event|origid|callid|queue|agent|data1..5, "" = no row
	}{
		{"LOG-007", in, "AGENTLOGIN|s1|||ana|||||"},
		{"LOG-008", event.AgentSignedOut{Agent: "ana", Session: "s1", LoginSeconds: 3600, Message: "bye"}, "AGENTLOGOFF|s1|||ana|3600||bye||"},
		{"LOG-009", event.QueueLeft{CallID: "c1", Queue: "q", Reason: event.LeftAbandon, Position: 2, OriginalPosition: 3, WaitSeconds: 17}, "ABANDON|c1|c1|q||2|3|17||"},
		{"LOG-009 closed", event.QueueLeft{CallID: "c1", Queue: "q", Reason: event.LeftClosed, Position: 1, OriginalPosition: 1, WaitSeconds: 5, Cause: "gateway restarted"}, "ABANDON|c1|c1|q||1|1|5|gateway restarted|"},
		{"LOG-010", event.QueueCompleted{CallID: "c1", Queue: "q", Agent: "ana", By: event.ByAgent, HoldSeconds: 9, TalkSeconds: 61, OriginalPosition: 1}, "COMPLETEAGENT|c1|c1|q|ana|9|61|1||"},
		{"LOG-011", event.QueueCompleted{CallID: "c1", Queue: "q", Agent: "ana", By: event.ByCustomer, HoldSeconds: 9, TalkSeconds: 61, OriginalPosition: 1}, "COMPLETECALLER|c1|c1|q|ana|9|61|1||"},
		{"LOG-012", event.QueueConnected{CallID: "c1", Queue: "q", Agent: "ana", LegID: "leg1", HoldSeconds: 9, RingSeconds: 4}, "CONNECT|c1|c1|q|ana|9|leg1|4||"},
		{"LOG-012 once", event.QueueConnected{CallID: "c1", Queue: "q", Agent: "ana", LegID: "leg2", Reattached: true}, ""},
		{"LOG-013", event.QueueEntered{CallID: "c1", Queue: "q", Caller: "59899", Position: 1}, "ENTERQUEUE|c1|c1|q|||59899|||"},
		{"LOG-014", event.QueueLeft{CallID: "c1", Queue: "q", Reason: event.LeftEmpty, Position: 1, OriginalPosition: 2, WaitSeconds: 3}, "EXITEMPTY|c1|c1|q||1|2|3||"},
		{"LOG-015", event.QueueLeft{CallID: "c1", Queue: "q", Reason: event.LeftKey, Key: "7", Position: 1, OriginalPosition: 2, WaitSeconds: 3}, "EXITWITHKEY|c1|c1|q||7|1|2|3|"},
		{"LOG-016", event.QueueLeft{CallID: "c1", Queue: "q", Reason: event.LeftTimeout, Position: 1, OriginalPosition: 2, WaitSeconds: 300}, "EXITWITHTIMEOUT|c1|c1|q||1|2|300||"},
		{"LOG-017", event.OfferEnded{CallID: "c1", Queue: "q", Agent: "ana", Outcome: "noAnswer", RingMs: 15003}, "RINGNOANSWER|c1|c1|q|ana|15003||||"},
		{"LOG-017 rejected", event.OfferEnded{CallID: "c1", Queue: "q", Agent: "ana", Outcome: "rejected", RingMs: 2000}, ""},
		{"LOG-018", event.AgentPaused{Agent: "bob", Reason: "no answer"}, "REALPAUSE||||bob||no answer|||"},
		{"LOG-019", event.AgentUnpaused{Agent: "bob", Reason: "no answer", PausedSeconds: 42}, "REALUNPAUSE||||bob|42|no answer|||"},
		{"LOG-020", event.BreakStarted{Agent: "bob", Motive: "LUNCH", Comment: "soup"}, "BREAK||||bob|LUNCH|soup|||"},
		{"LOG-021", event.BreakEnded{Agent: "bob", Motive: "LUNCH", Comment: "soup", Seconds: 1800}, "UNBREAK||||bob|LUNCH|soup|1800||"},
		{"LOG-022", event.OutCallEnded{CallID: "c2", Campaign: "Sales->", Agent: "ana", Number: "1888", DialStatus: "ANSWER", TalkSeconds: 30, TotalSeconds: 41}, "OUTCALL|c2|c2|Sales->|ana|ANSWER|30|41|1888|c2"},
		{"LOG-026", held, "HOLD|c1|c1|q|ana|SIP/carrier|José|59899|ana|2101"},
		{"LOG-027", event.CallUnheld(held), "UNHOLD|c1|c1|q|ana|SIP/carrier|José|59899|ana|2101"},
		{"LOG-028", event.WrapUpFinished{Agent: "ana", Campaign: "q", CallID: "c1", SecondsLeft: 6}, "FINISHWRAPUP|c1|c1|q|ana|6||||"},
		{"LOG-028 in time", event.WrapUpFinished{Agent: "ana", Campaign: "q", CallID: "c1"}, ""},
		{"LOG-029", event.MemberAdded{Queue: "q", Agent: "bob"}, "ADDMEMBER|||q|bob|||||"},
		{"LOG-031", event.QueueCreated{Queue: "q"}, "CREATEDQUEUE|||q||||||"},
		{"LOG-032", event.GatewayStarted{Version: "1"}, "QUEUESTART|||||||||"},
		{"LOG-033", event.MemberRemoved{Queue: "q", Agent: "bob"}, "REMOVEMEMBER|||q|bob|||||"},
		{"state is no row", event.AgentState{Agent: "ana", State: "available"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.id, func(t *testing.T) {
			src, st := newTape(), newMemory()
			if _, ok := tt.fact.(event.AgentSignedIn); !ok {
				src.add(noon, in)
			}
			src.add(noon, tt.fact)
			applyAll(t, src, st)
			var got string
			st.all(func(c report.Change) {
				for _, r := range c.QueueLog {
					if c.Seq == src.Last() {
						d := r.Data
						got = fmt.Sprintf("%s|%s|%s|%s|%s|%s|%s|%s|%s|%s", r.Event, r.OrigID, r.CallID, r.QueueName, r.Agent, d[0], d[1], d[2], d[3], d[4])
						if r.Datetime != "2026-11-21 09:00:00" { // LOG-002, in the gateway's zone
							t.Errorf("datetime is %q", r.Datetime)
						}
					}
				}
			})
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestCDR(t *testing.T) { // LOG-034 to LOG-052
	src, st := newTape(), newMemory()
	answered := noon.Add(12 * time.Second)
	src.add(noon.Add(time.Minute), event.CallLegEnded{
		CallID: "c1", LegID: "leg1", Direction: event.Inbound, Campaign: "q", Agent: "ana", Src: "59899", SrcName: "José",
		Dst: "59825", Channel: "SIP/carrier", DstChannel: "SIP/2101", LastApp: "Queue", StartedAt: noon, AnsweredAt: &answered,
		EndedAt: noon.Add(73*time.Second + 900*time.Millisecond), Disposition: "ANSWERED", Recorded: true, CauseCode: "200",
		By: event.ByCustomer, Trunk: "carrier",
	}, event.CallLegEnded{CallID: "c2", Direction: event.Inbound, Src: "1", Dst: "2", StartedAt: noon, EndedAt: noon, Trunk: "carrier"})
	applyAll(t, src, st)
	var got []report.CDRRow
	st.all(func(c report.Change) { got = append(got, c.CDR...) })
	want := []report.CDRRow{{
		Seq: 1, LegID: "leg1", Direction: "inbound", EndedBy: "customer", Agent: "ana", Trunk: "carrier", StartedAt: noon,
		AnsweredAt: answered, EndedAt: noon.Add(73*time.Second + 900*time.Millisecond),
		CDR: report.CDR{
			CallDate: "2026-11-21 09:00:00", CLID: `"José" <59899>`, Src: "59899", Dst: "59825", DContext: "inbound",
			Channel: "SIP/carrier", DstChannel: "SIP/2101", LastApp: "Queue", Duration: 73, BillSec: 61, Disposition: "ANSWERED",
			AccountCode: "ana", Type: "recorded", GUID: "c1", CauseCode: "200", Campaign: "q",
		},
	}, {
		Seq: 2, Direction: "inbound", Trunk: "carrier", StartedAt: noon, EndedAt: noon,
		CDR: report.CDR{CallDate: "2026-11-21 09:00:00", CLID: "1", Src: "1", Dst: "2", DContext: "inbound", AccountCode: "carrier", GUID: "c2"},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
