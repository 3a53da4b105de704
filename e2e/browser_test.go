//go:build e2e && linux

package e2e_test

import (
	"testing"
	"time"

	"github.com/cordboard/cordboard/e2e/harness"
	"github.com/cordboard/cordboard/gateway/event"
)

// TestChromiumPhone: Chromium with JsSIP is an agent's phone. It registers with
// the session's credentials over secure WebSocket, takes a queue call with Opus
// while the customer speaks G.711, is heard and hears, holds, and presses a key
// that arrives at the customer.
func TestChromiumPhone(t *testing.T) {
	t.Parallel()
	g := harness.Start(t, harness.Options{AgentCodec: "opus", State: openTrunk + users("ana") + queueOf("record: true, wrapUpSeconds: 0", "ana")})
	facts := g.Facts(t)
	b := g.Browser(t, harness.ToneFile(t, agentHz, toneFor))

	in := signIn("ana")
	in.Phone = true
	ana := g.SignIn(t, in)
	if a := ana.Agent(t, "me"); a.State != "offline" { // available only while a phone is registered
		t.Errorf("before the phone is there: %+v", a)
	}
	sip := ana.Session.SIP
	b.Do(t, nil, "start", map[string]any{
		"url": sip.URLs[0], "aor": sip.AOR, "username": sip.Username, "password": sip.Password, "realm": sip.Realm, "iceServers": ana.Session.ICEServers,
	})
	b.Next(t, "registered")
	ana.AgentIs(t, "me", "available")

	far := customerOf(t, g, customer)
	call(t, g, far, did)
	rings := b.Next(t, "incoming")
	entered, _ := harness.Fact[event.QueueEntered](t, facts, 0, nil)
	if rings.From != customer || rings.CallID != entered.CallID || rings.Campaign != "Support<-" {
		t.Errorf("the page rings with %+v", rings)
	}
	b.Do(t, nil, "answer")
	b.Next(t, "confirmed")
	harness.Fact[event.QueueConnected](t, facts, 0, nil)
	harness.Until(t, harness.Patience, "the page hears the customer", func() bool { return b.Ms(t, "heard", customerHz) >= 1000 })
	var codec string
	if b.Do(t, &codec, "codec"); codec != "audio/opus" {
		t.Errorf("the page hears by %q", codec)
	}

	b.Do(t, nil, "digit", "5")
	if e := far.Next(t, "CALL_DTMF_START"); e.Param != "5" {
		t.Errorf("the customer hears %+v", e)
	}
	b.Do(t, nil, "hold")
	harness.Fact[event.CallHeld](t, facts, 0, nil)
	wait(t, 2*time.Second)
	b.Do(t, nil, "unhold")
	harness.Fact[event.CallUnheld](t, facts, 0, nil)
	b.Do(t, nil, "clear")
	harness.Until(t, harness.Patience, "the page hears the customer after the hold", func() bool { return b.Ms(t, "heard", customerHz) >= 1000 })
	wait(t, time.Second)
	b.Do(t, nil, "hangup")
	b.Next(t, "ended")
	far.Next(t, "CALL_CLOSED")

	heard := far.Heard(t)
	heard.WantTone(t, "customer hears the agent", 0, agentHz, 1500*time.Millisecond)
	if music := heard.Loud(0) - heard.Tone(0, agentHz); music < time.Second {
		t.Errorf("music on hold was heard for %v", music)
	}
	if at := heard.ToneAt(0, agentHz); len(at) == 0 || heard.Duration()-at[len(at)-1] > 1500*time.Millisecond {
		t.Errorf("the customer does not hear the agent after the hold: %v", at)
	}
	_, rec := g.Recording(t, entered.CallID, "wav")
	rec.WantTone(t, "recording, customer on the left", 0, customerHz, 3*time.Second)
	rec.WantTone(t, "recording, agent on the right", 1, agentHz, 1500*time.Millisecond)
	g.QueueLog(t, harness.GUID(entered.CallID), harness.Events("CONNECT", "HOLD", "UNHOLD", "COMPLETEAGENT"))

	var ok bool
	if b.Do(t, &ok, "connect", "wss://"+g.HTTP+"/ws"); !ok {
		t.Error("the gateway refuses its own page")
	}
	b.Do(t, nil, "stop")
	ana.AgentIs(t, "me", "offline")
}
