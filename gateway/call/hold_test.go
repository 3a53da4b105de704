package call

import (
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media/dtmf"
	"github.com/cordboard/cordboard/gateway/sip"
)

// An agent holds: the customer hears music, the agent's microphone is neither
// sent nor recorded, the facts say so, and afterwards all is as before.
func TestHoldAndUnhold(t *testing.T) {
	r := newRig(t)
	customer, agent, _, _ := r.talking()
	speak(t, time.Second)
	agent.hold(true)
	eventually(t, "music for the customer", customer.hearsMusic)
	if snap := r.sw.Live(t.Context()); len(snap) != 1 || snap[0].Phase != "held" {
		t.Errorf("snapshot %+v", snap)
	}
	speak(t, time.Second) // the agent goes on speaking, unheard
	if customer.hears(toneB) {
		t.Error("the customer hears the agent on hold")
	}
	agent.hold(false)
	r.bothHear(customer, agent)
	speak(t, time.Second)
	customer.hangup()
	r.callEnds(event.ByCustomer)
	r.finished(true)
	held, unheld := facts[event.CallHeld](r.journal), facts[event.CallUnheld](r.journal)
	if len(held) != 1 || len(unheld) != 1 || held[0].Agent != "ana" || held[0].From != "59899123456" || unheld[0].Channel != held[0].Channel {
		t.Errorf("held %+v, unheld %+v", held, unheld)
	}
	left, right := r.recording()
	total := len(left) / 800
	if a, _, _ := parts(left, toneA); a < total*3/4 {
		t.Errorf("the customer is on %d of %d tenths of a second", a, total)
	}
	b, silent, _ := parts(right, toneB)
	if silent < 8 || silent > total-12 || b < 12 {
		t.Errorf("the agent's side has %d tenths with the tone, %d silent of %d", b, silent, total)
	}
}

// A phone may hold by a re-INVITE whose offer is ours.
func TestHoldWithoutOffer(t *testing.T) {
	r := newRig(t)
	customer, agent, _, _ := r.talking()
	agent.mu.Lock()
	agent.direction = "sendonly"
	agent.mu.Unlock()
	if _, err := agent.d.Reinvite(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "music for the customer", customer.hearsMusic)
	agent.hold(false)
	r.bothHear(customer, agent)
	agent.hangup()
	r.callEnds(event.ByAgent)
	if n := count[event.CallHeld](r.journal); n != 1 {
		t.Errorf("%d holds", n)
	}
}

// The carrier holds, and comes back from another port: the agent notices no
// more than silence, and nothing of it is a hold of the agent's.
func TestCarrierHolds(t *testing.T) {
	r := newRig(t)
	customer, agent, _, _ := r.talking()
	customer.say(0)
	customer.hold(true)
	eventually(t, "silence for the agent", agent.quiet)
	customer.say(toneA)
	customer.hold(false)
	r.bothHear(customer, agent)
	agent.hangup()
	r.callEnds(event.ByAgent)
	if n := count[event.CallHeld](r.journal); n != 0 {
		t.Errorf("%d holds", n)
	}
}

// A re-INVITE that cannot be is refused, and the call goes on as it was.
func TestReinviteRefused(t *testing.T) {
	r := newRig(t)
	customer, agent, _, _ := r.talking()
	for _, bad := range []struct {
		sdp  string
		code int
	}{
		{"v=0\r\no=- 1 9 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 18\r\n", 488},
		{"v=0\r\nrubbish", 400},
	} {
		_, err := customer.d.Reinvite(t.Context(), []byte(bad.sdp))
		if got := statusCode(err); got != bad.code {
			t.Errorf("re-INVITE of %q: %v, want %d", bad.sdp, err, bad.code)
		}
	}
	r.bothHear(customer, agent)
	customer.hangup()
	r.callEnds(event.ByCustomer)
}

// Digits reach the other side by media and by SIP INFO, in both directions;
// while the agent holds they do not.
func TestDigitsByInfo(t *testing.T) {
	r := newRig(t)
	customer, agent, _, _ := r.talking()
	press := func(c *talk, digit byte) {
		t.Helper()
		kind, body, err := dtmf.FormatInfo(digit, 100*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.d.Info(t.Context(), kind, body); err != nil {
			t.Fatal(err)
		}
	}
	press(agent, '5')
	eventually(t, "the customer's carrier gets 5", func() bool { return customer.keys() == "5" })
	press(customer, '#')
	eventually(t, "the agent's phone gets #", func() bool { return agent.keys() == "#" })
	if err := agent.d.Info(t.Context(), "application/dtmf-relay", []byte("Signal=nonsense")); err != nil {
		t.Error(err)
	}
	if err := agent.d.Info(t.Context(), "text/plain", []byte("5")); err != nil {
		t.Error(err)
	}
	agent.hold(true)
	eventually(t, "music for the customer", customer.hearsMusic)
	press(agent, '7')
	agent.hold(false)
	r.bothHear(customer, agent)
	if got := customer.keys(); got != "5" {
		t.Errorf("the carrier got %q", got)
	}
	customer.hangup()
	r.callEnds(event.ByCustomer)
}

// Other requests in a dialog are not for us: trunks never transfer.
func TestReferIsRefused(t *testing.T) {
	r := newRig(t)
	customer, agent, _, _ := r.talking()
	for _, method := range []string{"REFER", "MESSAGE", "SUBSCRIBE"} {
		res, err := customer.d.Do(t.Context(), method, []sip.Header{{Name: "Refer-To", Value: "<sip:9@127.0.0.1>"}, {Name: "Event", Value: "refer"}}, nil)
		if err != nil || res.Code != 405 && res.Code != 489 {
			t.Errorf("%s: %d %v", method, res.Code, err)
		}
	}
	r.bothHear(customer, agent)
	customer.hangup()
	r.callEnds(event.ByCustomer)
}
