//go:build e2e && linux

package e2e_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordboard/cordboard/e2e/harness"
	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/event"
)

// TestSippCustomer: sipp calls a DID over UDP and waits in the queue because
// nobody is there; an agent's softphone registers over secure WebSocket and
// answers; both hear each other, and the records say exactly what happened.
func TestSippCustomer(t *testing.T) {
	t.Parallel()
	g := harness.Start(t, harness.Options{State: openTrunk + users("ana") +
		queueOf("joinEmpty: true, record: true, wrapUpSeconds: 0", "ana")})
	facts := g.Facts(t)

	sipp := g.Sipp(t, harness.SippOptions{
		Scenario: "testdata/uac-tone-bye-expect-200.xml", Remote: g.UDP,
		Keys: map[string]string{"did": did, "from": customer}, Tone: customerHz, Pause: 7 * time.Second,
	})
	in, _ := harness.Fact(t, facts, 0, func(q event.QueueEntered) bool { return q.Caller == customer })
	if q := g.Admin(t).Queue(t, "Support<-"); len(q.Entries) != 1 || q.Entries[0].CallID != in.CallID || q.Entries[0].Position != 1 {
		t.Fatalf("the queue is %+v", q)
	}
	harness.Until(t, harness.Patience, "the caller waits for a second", func() bool { return g.Admin(t).Queue(t, "Support<-").LongestWaitMs >= 1200 })
	o := answering(t, "ana")
	phone := g.Phone(t, o)
	rings := phone.Next(t, "incoming")
	if rings.From != customer || rings.CallID != in.CallID || rings.Campaign != "Support<-" || rings.WaitedMs <= 0 {
		t.Errorf("the phone rings with %+v", rings)
	}
	if a := phone.Next(t, "answered"); a.SetupMs <= 0 || a.Codec == "" {
		t.Errorf("answered: %+v", a)
	}
	phone.Next(t, "ended")
	sipp.Succeeds(t)
	if code := phone.Close(t); code != 0 {
		t.Errorf("the phone ended with %d", code)
	}

	heard := harness.Hear(t, o.Record)
	heard.WantTone(t, "agent hears the customer", 0, customerHz, 1500*time.Millisecond)
	row, rec := g.Recording(t, in.CallID, "wav")
	if len(rec.Channels) != 2 || row.Campaign != "Support<-" || row.Agent != "ana" || row.LostMs != 0 {
		t.Fatalf("recording with %d channels: %+v", len(rec.Channels), row)
	}
	rec.WantTone(t, "recording, customer on the left", 0, customerHz, 1500*time.Millisecond)
	rec.WantTone(t, "recording, agent on the right", 1, agentHz, 1500*time.Millisecond)
	rec.WantNoTone(t, "agent on the left", 0, agentHz)
	rec.WantNoTone(t, "customer on the right", 1, customerHz)
	_, mp3 := g.Recording(t, in.CallID, "mp3")
	mp3.WantTone(t, "MP3, customer on the left", 0, customerHz, 1500*time.Millisecond)
	mp3.WantTone(t, "MP3, agent on the right", 1, agentHz, 1500*time.Millisecond)

	wantRecords(t, g, facts, in.CallID)
	if q := g.Quality(t, in.CallID, 2); q[0].Side == q[1].Side || q[0].PacketsIn == 0 || q[0].LossInPct > 1 {
		t.Errorf("call_quality %+v", q)
	}
}

// wantRecords compares the records of TestSippCustomer's call with what
// happened: QUEUE_LOG_REPO and CDR_REPO.
func wantRecords(t *testing.T, g *harness.Gateway, facts *harness.Facts, guid string) {
	t.Helper()
	connected, _ := harness.Fact(t, facts, 0, func(q event.QueueConnected) bool { return q.CallID == guid })
	completed, _ := harness.Fact(t, facts, 0, func(q event.QueueCompleted) bool { return q.CallID == guid })
	hold, ring, talk := strconv.FormatInt(connected.HoldSeconds, 10), strconv.FormatInt(connected.RingSeconds, 10), strconv.FormatInt(completed.TalkSeconds, 10)
	rows := g.QueueLog(t, harness.GUID(guid), harness.Events("COMPLETECALLER"))
	want := []string{ // LOG-013, LOG-012, LOG-011
		"ENTERQUEUE|Support<-|||" + customer + "|||",
		"CONNECT|Support<-|ana|" + hold + "|" + connected.LegID + "|" + ring + "||",
		"COMPLETECALLER|Support<-|ana|" + hold + "|" + talk + "|1||",
	}
	if d := cmp.Diff(want, harness.Show(rows)); d != "" {
		t.Error(d)
	}
	if completed.TalkSeconds < 2 || completed.TalkSeconds > 7 {
		t.Errorf("talked for %d s", completed.TalkSeconds)
	}
	for _, r := range rows {
		if r.OrigID != guid || r.CallID != guid || r.Datetime != r.Time.UTC().Format(time.DateTime) {
			t.Errorf("row %+v", r)
		}
	}
	cdrs := g.CDR(t, harness.GUID(guid), func(r []api.CDRRow) bool { return len(r) > 0 })
	if len(cdrs) != 1 {
		t.Fatalf("%d CDRs: %+v", len(cdrs), cdrs)
	}
	c := cdrs[0] // LOG-034 to LOG-052
	got := []any{c.GUID, c.Direction, c.Agent, c.Trunk, c.Campaign, c.EndedBy, c.Src, c.Dst, c.CLID, c.LastApp, c.Disposition, c.Recorded}
	if d := cmp.Diff([]any{guid, "inbound", "ana", "carrier", "Support<-", "customer", customer, did, `"José Cliente" <` + customer + ">", "Queue", "ANSWERED", true}, got); d != "" {
		t.Error(d)
	}
	if !strings.HasPrefix(c.Channel, "SIP/carrier") || !strings.HasPrefix(c.DstChannel, "SIP/") {
		t.Errorf("channels %q and %q", c.Channel, c.DstChannel)
	}
	if c.BillSec != completed.TalkSeconds || c.Duration < c.BillSec || c.AnsweredAt == nil {
		t.Errorf("times %+v, talked for %d s", c, completed.TalkSeconds)
	}
}
