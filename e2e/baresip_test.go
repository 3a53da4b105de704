//go:build e2e && linux

package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cordboard/cordboard/e2e/harness"
	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/event"
)

// TestBaresipCustomerWithSRTP: a customer calls over TLS with SDES-SRTP; both
// sides hear each other; a call without encryption is refused by that trunk.
func TestBaresipCustomerWithSRTP(t *testing.T) {
	t.Parallel()
	g := harness.Start(t, harness.Options{State: `trunks:
  - {name: secure, address: "127.0.0.1:9", transport: tls, srtp: sdes, allow: ["127.0.0.1/32"], codecs: [PCMA, PCMU], maxChannels: 5}
` + users("ana") + queueOf("record: true, wrapUpSeconds: 0", "ana")})
	facts := g.Facts(t)
	o := answering(t, "ana")
	phone := g.Phone(t, o)
	phone.Next(t, "registered")

	open := g.Baresip(t, harness.BaresipOptions{
		Account: fmt.Sprintf("<sip:%s@%s;transport=tls>;regint=0;audio_codecs=PCMA/8000/1", customer, g.TLS),
		Play:    harness.ToneFile(t, customerHz, toneFor), CA: g.CA(),
	})
	open.Do(t, "dial", fmt.Sprintf("sip:%s@%s;transport=tls", did, g.TLS))
	if e := open.Next(t, "CALL_CLOSED"); e.Param != "488 Not Acceptable Here" {
		t.Errorf("a call without encryption: %+v", e)
	}

	b := g.Baresip(t, harness.BaresipOptions{
		Account: fmt.Sprintf("<sip:%s@%s;transport=tls>;regint=0;mediaenc=srtp-mand;audio_codecs=PCMA/8000/1", customer, g.TLS),
		Play:    harness.ToneFile(t, customerHz, toneFor), CA: g.CA(), Modules: []string{"srtp"},
	})
	b.Do(t, "dial", fmt.Sprintf("sip:%s@%s;transport=tls", did, g.TLS))
	b.Next(t, "CALL_ESTABLISHED")
	phone.Next(t, "answered")
	on, _ := harness.Fact[event.QueueConnected](t, facts, 0, nil)
	wait(t, 3*time.Second)
	b.Do(t, "hangup", "")
	phone.Next(t, "ended")
	phone.Close(t)

	b.Heard(t).WantTone(t, "customer hears the agent", 0, agentHz, 1500*time.Millisecond)
	harness.Hear(t, o.Record).WantTone(t, "agent hears the customer", 0, customerHz, 1500*time.Millisecond)
	_, rec := g.Recording(t, on.CallID, "wav")
	rec.WantTone(t, "recording, customer on the left", 0, customerHz, 1500*time.Millisecond)
	rec.WantTone(t, "recording, agent on the right", 1, agentHz, 1500*time.Millisecond)
	c := g.CDR(t, harness.GUID(on.CallID), func(r []api.CDRRow) bool { return len(r) == 1 })[0]
	if c.EndedBy != "customer" || c.Trunk != "secure" || c.Disposition != "ANSWERED" {
		t.Errorf("CDR %+v", c)
	}
}

// TestBaresipDeskPhone: an agent signs in with a registered desk phone as their
// endpoint; the phone rings, is heard, holds and comes back.
func TestBaresipDeskPhone(t *testing.T) {
	t.Parallel()
	g := harness.Start(t, harness.Options{State: openTrunk + users("ana") + queueOf("record: true, wrapUpSeconds: 0", "ana")})
	facts := g.Facts(t)
	desk := g.Baresip(t, harness.BaresipOptions{
		Account: fmt.Sprintf("<sip:2101@%s;transport=udp>;auth_user=2101-desk;auth_pass=%s;regint=60;answermode=manual;audio_codecs=PCMA/8000/1", g.UDP, secret),
		Play:    harness.ToneFile(t, agentHz, toneFor),
	})
	desk.Expect(t, "200 OK")
	if a := g.Admin(t).Agent(t, "ana"); a.State != "offline" || a.SignedIn {
		t.Errorf("registering signs in: %+v", a)
	}
	in := signIn("ana")
	in.Device = "desk"
	ana := g.SignIn(t, in)
	if a := ana.AgentIs(t, "me", "available"); a.Endpoint != "desk" || !a.Reachable {
		t.Errorf("signed in with the desk phone: %+v", a)
	}

	far := g.Baresip(t, harness.BaresipOptions{
		Account: fmt.Sprintf("<sip:%s@%s;transport=udp>;regint=0;audio_codecs=PCMU/8000/1", customer, g.UDP),
		Play:    harness.ToneFile(t, customerHz, toneFor),
	})
	far.Do(t, "dial", fmt.Sprintf("sip:%s@%s", did, g.UDP))
	desk.Next(t, "CALL_INCOMING")
	if a := ana.AgentIs(t, "me", "ringing"); a.CallID == "" {
		t.Errorf("while it rings: %+v", a)
	}
	desk.Do(t, "accept", "")
	on, _ := harness.Fact[event.QueueConnected](t, facts, 0, nil)
	ana.AgentIs(t, "me", "onCall")
	wait(t, 2*time.Second)
	desk.Do(t, "hold", "")
	held, _ := harness.Fact[event.CallHeld](t, facts, 0, nil)
	if held.Agent != "ana" || held.CallID != on.CallID {
		t.Errorf("held: %+v", held)
	}
	wait(t, 2*time.Second)
	desk.Do(t, "resume", "")
	harness.Fact[event.CallUnheld](t, facts, 0, nil)
	wait(t, 2*time.Second)
	desk.Do(t, "hangup", "")
	far.Next(t, "CALL_CLOSED")
	ana.AgentIs(t, "me", "available")

	heard := far.Heard(t)
	heard.WantTone(t, "customer hears the agent", 0, agentHz, 3*time.Second)
	if music := heard.Loud(0) - heard.Tone(0, agentHz); music < time.Second {
		t.Errorf("music on hold was heard for %v", music)
	}
	// This baresip records only up to the first hold; the browser's test listens after it.
	desk.Heard(t).WantTone(t, "agent hears the customer", 0, customerHz, 1500*time.Millisecond)
	_, rec := g.Recording(t, on.CallID, "wav")
	rec.WantTone(t, "recording, customer on the left", 0, customerHz, 5*time.Second)
	rec.WantTone(t, "recording, agent on the right", 1, agentHz, 3*time.Second)
	if gap := rec.Duration() - rec.Loud(1); gap < 1500*time.Millisecond {
		t.Errorf("the agent is silent for %v of %v: while they hold, they are not recorded", gap, rec.Duration())
	}
	rows := g.QueueLog(t, harness.GUID(on.CallID), harness.Events("COMPLETEAGENT"))
	got := make([]string, 0, len(rows))
	for _, r := range rows {
		got = append(got, r.Event)
	}
	want := []string{"ENTERQUEUE", "CONNECT", "HOLD", "UNHOLD", "COMPLETEAGENT"} // LOG-026, LOG-027, LOG-010
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("queue log %v, want %v", got, want)
	}
	for _, r := range rows {
		if (r.Event == "HOLD" || r.Event == "UNHOLD") && (r.Data[2] != customer || r.Data[3] != "ana" || r.Data[4] != "2101" || r.Agent != "ana") {
			t.Errorf("%+v", r)
		}
	}
}
