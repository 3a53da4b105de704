//go:build e2e && linux

package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordboard/cordboard/e2e/harness"
	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/event"
)

// outboundState is a state with outbound campaigns over carriers at ports of
// 127.0.0.1, the first preferred.
func outboundState(ports ...int) string {
	var b strings.Builder
	b.WriteString("trunks:\n")
	for i, p := range ports {
		fmt.Fprintf(&b, "  - {name: carrier%d, address: \"127.0.0.1:%d\", transport: udp, codecs: [PCMA, PCMU], priority: %d, maxChannels: 5}\n", i+1, p, i)
	}
	b.WriteString(users("ana"))
	b.WriteString(`campaigns:
  - {name: "Sales->", channel: voice, direction: outbound, callerId: ["598#59825550150", "18885550100"], schedule: ["sun-sat;00:00-23:59"], record: true, wrapUpSeconds: 0, members: [{user: ana}]}
`)
	return b.String()
}

// party is a called party behind a carrier: sipp with a scenario.
type party struct {
	sipp  *harness.Sipp
	trace string
}

// carrier is sipp with a scenario as a carrier. It takes more than one call,
// because the keep-alive's OPTIONS count as calls of their own.
func carrier(t *testing.T, g *harness.Gateway, port int, scenario string, more ...string) party {
	t.Helper()
	p := party{trace: filepath.Join(t.TempDir(), "messages")}
	p.sipp = g.Sipp(t, harness.SippOptions{
		Scenario: "testdata/" + scenario, Port: port, Tone: customerHz, Patience: 2 * time.Minute, Calls: 1000,
		Args: append([]string{"-aa", "-trace_msg", "-message_file", p.trace}, more...),
	})
	t.Cleanup(func() {
		if t.Failed() {
			b, err := os.ReadFile(p.trace)
			t.Logf("%s got and said (%v):\n%s", scenario, err, b)
		}
	})
	return p
}

// ends waits until the party got a last request, and ends it.
func (p party) ends(t *testing.T, last string) {
	t.Helper()
	harness.Until(t, harness.Patience, "the carrier gets "+last, func() bool {
		b, err := os.ReadFile(p.trace)
		return err == nil && strings.Contains(string(b), "\n"+last+" sip:")
	})
	p.sipp.Signal(syscall.SIGKILL)
	p.sipp.Wait(t, harness.Patience)
}

// invite returns the first INVITE that the party got.
func (p party) invite(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(p.trace)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(string(b), "INVITE sip:")
	if i < 0 {
		t.Fatalf("the carrier got no INVITE:\n%s", b)
	}
	msg, _, _ := strings.Cut(string(b)[i:], "\r\n\r\n")
	return msg
}

func dialling(t *testing.T, number, hangupAfter string) harness.PhoneOptions {
	t.Helper()
	o := app("ana")
	o.Args = []string{"--dial", number, "--hangup-after", hangupAfter}
	o.Play, o.Record = harness.ToneFile(t, agentHz, toneFor), filepath.Join(t.TempDir(), "heard.wav")
	return o
}

// outcall waits for the rows of an outbound call.
func outcall(t *testing.T, g *harness.Gateway, guid string) (api.QueueLogRow, []api.CDRRow) {
	t.Helper()
	rows := g.QueueLog(t, harness.GUID(guid), harness.Events("OUTCALL"))
	if len(rows) != 1 {
		t.Errorf("rows %v", harness.Show(rows))
	}
	return rows[0], g.CDR(t, harness.GUID(guid), func(r []api.CDRRow) bool { return len(r) > 0 })
}

// TestOutbound: an agent's phone dials through a campaign; the carrier sees the
// caller id of the campaign's rule; both hear each other; OUTCALL, CDR and
// recording say so.
func TestOutbound(t *testing.T) {
	t.Parallel()
	g := harness.Start(t, harness.Options{})
	facts := g.Facts(t)
	port := g.Port(t)
	g.Apply(t, outboundState(port))
	for _, tt := range []struct {
		name, number, callerID string
	}{
		{"a rule by prefix", "59899765432", "59825550150"},
		{"any other number", "14155550142", "18885550100"},
	} {
		far := carrier(t, g, port, "uas-answer-tone-expect-bye.xml")
		after := facts.Last()
		o := dialling(t, tt.number, "3s")
		phone := g.Phone(t, o)
		phone.Next(t, "ringing")
		phone.Next(t, "answered")
		started, _ := harness.Fact[event.CallStarted](t, facts, after, nil)
		if code := phone.Wait(t, harness.Patience); code != 0 {
			t.Errorf("%s: the phone ended with %d", tt.name, code)
		}
		far.ends(t, "BYE")
		msg := far.invite(t)
		if !strings.HasPrefix(msg, "INVITE sip:"+tt.number+"@127.0.0.1") || !strings.Contains(msg, "sip:"+tt.callerID+"@") {
			t.Errorf("%s: the carrier got\n%s", tt.name, msg)
		}
		if strings.Contains(msg, "2101") {
			t.Errorf("%s: the carrier sees the extension:\n%s", tt.name, msg)
		}
		harness.Hear(t, o.Record).WantTone(t, "agent hears the called party", 0, customerHz, 1500*time.Millisecond)
		_, rec := g.Recording(t, started.CallID, "wav")
		rec.WantTone(t, "recording, customer on the left", 0, customerHz, 1500*time.Millisecond)
		rec.WantTone(t, "recording, agent on the right", 1, agentHz, 1500*time.Millisecond)
		row, cdrs := outcall(t, g, started.CallID) // LOG-022
		talk, err := strconv.Atoi(row.Data[1])
		total, err2 := strconv.Atoi(row.Data[2])
		if err != nil || err2 != nil || talk < 2 || talk > 5 || total < talk {
			t.Errorf("%s: times %v", tt.name, row.Data)
		}
		want := []string{"ANSWER", row.Data[1], row.Data[2], tt.number, started.CallID}
		if d := cmp.Diff(want, row.Data); d != "" || row.Agent != "ana" || row.QueueName != "Sales->" {
			t.Errorf("%s: %s %+v", tt.name, d, row)
		}
		c := cdrs[0]
		got := []any{len(cdrs), c.Direction, c.Agent, c.Trunk, c.Campaign, c.EndedBy, c.Dst, c.LastApp, c.Disposition, c.Recorded}
		if d := cmp.Diff([]any{1, "outbound", "ana", "carrier1", "Sales->", "agent", tt.number, "Dial", "ANSWERED", true}, got); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
}

// TestOutboundRefusals: busy, no answer and giving up are told as such, and a
// carrier that cannot take the call is followed by the next one.
func TestOutboundRefusals(t *testing.T) {
	t.Parallel()
	g := harness.Start(t, harness.Options{})
	facts := g.Facts(t)
	first, second := g.Port(t), g.Port(t)
	g.Apply(t, outboundState(first, second))
	const number = "59899765432"
	for _, tt := range []struct {
		scenario, status, disposition string
		code                          int
	}{
		{"uas-busy-486.xml", "BUSY", "BUSY", 486},
		{"uas-no-answer-480.xml", "NOANSWER", "NO ANSWER", 480},
	} {
		far := carrier(t, g, first, tt.scenario)
		after := facts.Last()
		phone := g.Phone(t, dialling(t, number, "5s"))
		started, _ := harness.Fact[event.CallStarted](t, facts, after, nil)
		if e := phone.Next(t, "ended"); e.Code != tt.code {
			t.Errorf("%s: the phone is told %+v", tt.scenario, e)
		}
		if code := phone.Wait(t, harness.Patience); code != 1 {
			t.Errorf("%s: the phone ended with %d", tt.scenario, code)
		}
		far.ends(t, "ACK")
		row, cdrs := outcall(t, g, started.CallID)
		if row.Data[0] != tt.status || row.Data[1] != "0" || len(cdrs) != 1 || cdrs[0].Disposition != tt.disposition || cdrs[0].AnsweredAt != nil || cdrs[0].CauseCode != strconv.Itoa(tt.code) {
			t.Errorf("%s: %+v %+v", tt.scenario, row, cdrs)
		}
	}

	// The agent gives up: over REST, from a session without a phone.
	far := carrier(t, g, first, "uas-ring-expect-cancel.xml")
	after := facts.Last()
	phone := g.Phone(t, dialling(t, number, "5s"))
	phone.Next(t, "ringing")
	started, _ := harness.Fact[event.CallStarted](t, facts, after, nil)
	g.SignIn(t, signIn("ana")).Do(t, http.MethodDelete, "/calls/"+started.CallID, nil, nil)
	phone.Next(t, "ended")
	far.ends(t, "CANCEL")
	if row, _ := outcall(t, g, started.CallID); row.Data[0] != "CANCEL" {
		t.Errorf("given up: %+v", row)
	}

	// The first carrier is full, the second gives back what it hears.
	full := carrier(t, g, first, "uas-full-503.xml")
	echo := carrier(t, g, second, "uas-answer-echo-expect-bye.xml", "-rtp_echo")
	after = facts.Last()
	o := dialling(t, number, "5s")
	phone = g.Phone(t, o)
	started, _ = harness.Fact[event.CallStarted](t, facts, after, nil)
	phone.Next(t, "answered")
	phone.Next(t, "ended")
	phone.Wait(t, harness.Patience)
	full.ends(t, "ACK")
	echo.ends(t, "BYE")
	if msg := echo.invite(t); !strings.Contains(msg, "sip:59825550150@") {
		t.Errorf("the second carrier got\n%s", msg)
	}
	row, cdrs := outcall(t, g, started.CallID)
	if row.Data[0] != "ANSWER" || len(cdrs) != 2 {
		t.Fatalf("failover: %+v %+v", row, cdrs)
	}
	got := []string{cdrs[0].Trunk, cdrs[0].Disposition, cdrs[1].Trunk, cdrs[1].Disposition}
	if d := cmp.Diff([]string{"carrier1", "FAILED", "carrier2", "ANSWERED"}, got); d != "" {
		t.Error(d)
	}
	harness.Hear(t, o.Record).WantTone(t, "agent hears what the called party heard", 0, agentHz, time.Second)
	_, rec := g.Recording(t, started.CallID, "wav")
	rec.WantTone(t, "recording, echo on the left", 0, agentHz, 1500*time.Millisecond)
	rec.WantTone(t, "recording, agent on the right", 1, agentHz, 1500*time.Millisecond)
}
