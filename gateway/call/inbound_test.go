package call

import (
	"errors"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/sip"
)

// CALL: a customer's call, waited for with music, is heard on both sides,
// recorded and leaves its records.
func TestAgentAndCustomerHearEachOther(t *testing.T) {
	r := newRig(t)
	customer, agent, _, _ := r.talking()
	if got := agent.d.Request().Header("X-Cordboard-Call"); got != callID {
		t.Errorf("X-Cordboard-Call %q", got)
	}
	if got := agent.d.Request().Header("X-Cordboard-Campaign"); got != "Support<-" {
		t.Errorf("X-Cordboard-Campaign %q", got)
	}
	if from := agent.d.Request().From(); from.Name != "Marta" || from.URI.User != "59899123456" {
		t.Errorf("the phone shows %+v", from)
	}
	if got := agent.d.Request().Header("P-Asserted-Identity"); got == "" {
		t.Error("no P-Asserted-Identity")
	}
	if snap := r.sw.Live(t.Context()); len(snap) != 1 || snap[0].Phase != "connected" || snap[0].Agent != "ana" || len(snap[0].Legs) != 2 {
		t.Errorf("snapshot %+v", snap)
	}
	speak(t, time.Second)
	customer.hangup()
	if cause := agent.over(); !cause.Remote || cause.Q850 != 16 {
		t.Errorf("the agent's phone was told %+v", cause)
	}
	r.callEnds(event.ByCustomer)
	r.finished(true)
	if r.channels() != 1 {
		t.Errorf("%d channels given back", r.channels())
	}
	// LOG-043: one row for the pair.
	rows := facts[event.CallLegEnded](r.journal)
	if len(rows) != 1 || rows[0].Agent != "ana" || rows[0].Disposition != "ANSWERED" || rows[0].By != event.ByCustomer ||
		!rows[0].Recorded || rows[0].AnsweredAt == nil || rows[0].LastApp != "Queue" {
		t.Errorf("CDR %+v", rows)
	}
	if got := facts[event.CallAnswered](r.journal); len(got) != 1 || got[0].LegID != rows[0].LegID {
		t.Errorf("answered %+v, the CDR names %s", got, rows[0].LegID)
	}
	if got := count[event.CallQuality](r.journal); got != 2 {
		t.Errorf("quality of %d legs", got)
	}
	left, right := r.recording()
	if a, _, _ := parts(left, toneA); a < 8 {
		t.Errorf("%d tenths of a second of the customer on the left", a)
	}
	if b, _, _ := parts(right, toneB); b < 8 {
		t.Errorf("%d tenths of a second of the agent on the right", b)
	}
}

// speak lets the call go on for a while.
func speak(t *testing.T, d time.Duration) {
	t.Helper()
	<-time.After(d)
}

func TestAgentHangsUp(t *testing.T) {
	r := newRig(t)
	customer, agent, _, _ := r.talking()
	agent.hangup()
	customer.over()
	r.callEnds(event.ByAgent)
	r.finished(true)
	if rows := facts[event.CallLegEnded](r.journal); len(rows) != 1 || rows[0].By != event.ByAgent {
		t.Errorf("CDR %+v", rows)
	}
}

// Both sides hang up at the same moment: the call ends once.
func TestBothHangUpAtOnce(t *testing.T) {
	for range 5 {
		t.Run("", func(t *testing.T) {
			r := newRig(t)
			customer, agent, _, _ := r.talking()
			done := make(chan error, 2)
			go func() { done <- customer.d.Hangup(sip.Cause{Code: 200}) }()
			go func() { done <- agent.d.Hangup(sip.Cause{Code: 200}) }()
			for range 2 {
				if err := <-done; err != nil && !errors.Is(err, sip.ErrEnded) {
					t.Error(err)
				}
			}
			customer.over()
			agent.over()
			eventually(t, "no call is left", func() bool { return r.sw.Count() == 0 })
			r.finished(true)
			if got := count[event.CallLegEnded](r.journal); got != 1 {
				t.Errorf("%d CDRs", got)
			}
		})
	}
}

// ringall: two agents answer at once, one gets the call, the other is told
// that it was answered elsewhere.
func TestTwoAgentsAnswerAtOnce(t *testing.T) {
	r := newRig(t)
	customer := r.waiting()
	pa, ta := r.phone("ana", "2101")
	pb, tb := r.phone("bruno", "2102")
	a, b := r.ringAgent(pa, ta), r.ringAgent(pb, tb)
	done := make(chan struct{}, 2)
	for _, x := range []*talk{a, b} {
		go func() {
			x.take(x.offer)
			x.say(toneB)
			_ = x.d.Answer(x.sdp("sendrecv")) // or it was cancelled before
			done <- struct{}{}
		}()
	}
	<-done
	<-done
	results := map[Outcome]string{}
	for range 2 {
		select {
		case e := <-r.owner.rings:
			results[e.res.Outcome] = e.agent
		case <-time.After(soon):
			t.Fatalf("results %v", results)
		}
	}
	winner, loser := a, b
	if results[OutcomeAnswered] == "bruno" {
		winner, loser = b, a
	}
	if len(results) != 2 || results[OutcomeAnswered] == "" || results[OutcomeCancelled] == "" {
		t.Fatalf("results %v", results)
	}
	loser.over()
	r.bothHear(customer, winner)
	customer.hangup()
	winner.over()
	r.callEnds(event.ByCustomer)
	r.finished(true)
	if got := facts[event.CallLegEnded](r.journal); len(got) != 2 {
		t.Errorf("CDRs %+v", got)
	}
}

// Several phones of one agent ring at once; the one that answers has the call.
func TestPhonesOfOneAgent(t *testing.T) {
	r := newRig(t)
	customer := r.waiting()
	desk, app := newPeer(t, "desk"), newPeer(t, "app")
	r.register(desk, "2101", "2101-desk")
	r.register(app, "2101", "2101-app")
	if err := r.sw.Ring(t.Context(), callID, RingRequest{Target: Target{Agent: "ana", Extension: "2101"}}); err != nil {
		t.Fatal(err)
	}
	d, a := desk.next(), app.next()
	a.reject(486) // busy here: the other may still take it
	d.ring()
	d.accept(toneB)
	r.ringEnds("ana", OutcomeAnswered)
	r.bothHear(customer, d)
	d.hangup()
	r.callEnds(event.ByAgent)
}

// A refusal that means the person ends the ringing of all their phones.
func TestDeclineMeansThePerson(t *testing.T) {
	r := newRig(t)
	r.waiting()
	desk, app := newPeer(t, "desk"), newPeer(t, "app")
	r.register(desk, "2101", "2101-desk")
	r.register(app, "2101", "2101-app")
	if err := r.sw.Ring(t.Context(), callID, RingRequest{Target: Target{Agent: "ana", Extension: "2101"}}); err != nil {
		t.Fatal(err)
	}
	d, a := desk.next(), app.next()
	d.ring()
	a.reject(603)
	r.ringEnds("ana", OutcomeRejected)
	d.over()
}

func TestRingTimeout(t *testing.T) {
	r := newRig(t)
	customer := r.waiting()
	p, target := r.phone("ana", "2101")
	if err := r.sw.Ring(t.Context(), callID, RingRequest{Target: target, RingFor: 300 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	a := p.next()
	a.ring()
	if err := r.sw.Ring(t.Context(), callID, RingRequest{Target: target}); !errors.Is(err, ErrBusy) {
		t.Errorf("a second ring of the same agent: %v", err)
	}
	if res := r.ringEnds("ana", OutcomeNoAnswer); res.RingMs < 250 || res.Channel == "" {
		t.Errorf("result %+v", res)
	}
	a.over()
	if !customer.hearsMusic() {
		t.Error("the customer lost the music")
	}
	customer.hangup()
	r.callEnds(event.ByCustomer)
	r.finished(false)
	if rows := facts[event.CallLegEnded](r.journal); len(rows) != 1 || rows[0].Disposition != "NO ANSWER" || rows[0].Agent != "ana" {
		t.Errorf("CDR %+v", rows)
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name string
		code int
		want Outcome
	}{
		{"busy", 486, OutcomeRejected},
		{"declined", 603, OutcomeRejected},
		{"gone", 480, OutcomeUnreachable},
		{"no codec", 488, OutcomeUnreachable},
		{"timeout", 408, OutcomeNoAnswer},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			customer := r.waiting()
			p, target := r.phone("ana", "2101")
			r.ringAgent(p, target).reject(tt.code)
			r.ringEnds("ana", tt.want)
			customer.hangup()
			r.callEnds(event.ByCustomer)
			r.finished(false)
		})
	}
}

// A phone that is not registered cannot be rung, at once.
func TestRingWithoutPhone(t *testing.T) {
	r := newRig(t)
	r.waiting()
	err := r.sw.Ring(t.Context(), callID, RingRequest{Target: Target{Agent: "ana", Extension: "2101"}})
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("ring: %v", err)
	}
	if err := r.sw.Ring(t.Context(), "none", RingRequest{}); !errors.Is(err, ErrUnknown) {
		t.Errorf("ring of no call: %v", err)
	}
}

// An answer that fits no offer ends that phone's part and nothing else.
func TestPhoneAnswersNonsense(t *testing.T) {
	r := newRig(t)
	customer := r.waiting()
	p, target := r.phone("ana", "2101")
	a := r.ringAgent(p, target)
	if err := a.d.Answer([]byte("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 18\r\n")); err != nil {
		t.Fatal(err)
	}
	r.ringEnds("ana", OutcomeUnreachable)
	a.over()
	if !customer.hearsMusic() {
		t.Error("the customer lost the music")
	}
}

// The caller gives up before the gateway has answered.
func TestCallerCancels(t *testing.T) {
	r := newRig(t)
	started := make(chan struct{})
	r.onInvite(func(d *sip.Dialog) {
		if _, err := r.sw.Inbound(d, Inbound{Info: Info{ID: callID, Direction: event.Inbound, Record: true}}, r.owner); err != nil {
			t.Error(err)
		}
		close(started)
	})
	c := newPeer(t, "customer").invite(r.addr, "59825550111", false)
	<-started
	p, target := r.phone("ana", "2101")
	a := r.ringAgent(p, target)
	c.hangup()
	if cause := c.over(); cause.Kind != sip.KindCancelled {
		t.Errorf("cause %+v", cause)
	}
	a.over()
	r.ringEnds("ana", OutcomeCancelled)
	r.callEnds(event.ByCustomer)
	r.finished(false)
}

// The caller hangs up at any moment; nothing is left behind.
func TestCallerHangsUpWhileRinging(t *testing.T) {
	r := newRig(t)
	customer := r.waiting()
	p, target := r.phone("ana", "2101")
	a := r.ringAgent(p, target)
	customer.hangup()
	a.over()
	r.ringEnds("ana", OutcomeCancelled)
	r.callEnds(event.ByCustomer)
	r.finished(false)
	rows := facts[event.CallLegEnded](r.journal)
	if len(rows) != 1 || rows[0].Disposition != "NO ANSWER" || rows[0].By != event.ByCustomer || rows[0].Agent != "ana" {
		t.Errorf("CDR %+v", rows)
	}
}

func TestCallerHangsUpAtTheAnswer(t *testing.T) {
	for range 10 {
		t.Run("", func(t *testing.T) {
			r := newRig(t)
			customer := r.waiting()
			p, target := r.phone("ana", "2101")
			a := r.ringAgent(p, target)
			done := make(chan struct{})
			go func() { defer close(done); _ = customer.d.Hangup(sip.Cause{Code: 200}) }()
			a.take(a.offer)
			_ = a.d.Answer(a.sdp("sendrecv"))
			<-done
			customer.over()
			a.over()
			r.callEnds(event.ByCustomer)
			eventually(t, "CallEnded", func() bool { return count[event.CallEnded](r.journal) == 1 })
		})
	}
}

func TestCallerWaitsAlone(t *testing.T) {
	r := newRig(t)
	customer := r.waiting()
	customer.hangup()
	r.callEnds(event.ByCustomer)
	r.finished(false)
	rows := facts[event.CallLegEnded](r.journal)
	if len(rows) != 1 || rows[0].Agent != "" || rows[0].Disposition != "NO ANSWER" || rows[0].AnsweredAt != nil {
		t.Errorf("CDR %+v", rows)
	}
	if r.channels() != 1 {
		t.Errorf("%d channels given back", r.channels())
	}
}

// A caller may leave the offer to us (delayed offer).
func TestCallerWithoutOffer(t *testing.T) {
	r := newRig(t)
	r.inbound()
	c := newPeer(t, "customer").invite(r.addr, "59825550111", true)
	c.up()
	c.say(toneA)
	eventually(t, "music", c.hearsMusic)
	p, target := r.phone("ana", "2101")
	a := r.ringAgent(p, target)
	a.accept(toneB)
	r.bothHear(c, a)
	c.hangup()
	r.callEnds(event.ByCustomer)
}

// Bad descriptions get their status and leave nothing.
func TestBadOffers(t *testing.T) {
	tests := []struct {
		name, sdp string
		code      int
	}{
		{"no common codec", "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 18\r\n", 488},
		{"no audio", "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 4000 RTP/AVP 34\r\n", 488},
		{"only srtp", "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 8\r\n", 488},
		{"no description", "hello", 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.inbound()
			p := newPeer(t, "customer")
			c := p.newTalk()
			uri := sip.URI{Scheme: "sip", User: "59825550111", Host: "127.0.0.1", Port: int(r.addr.Port())}
			if _, err := p.ep.Invite(t.Context(), sip.Invite{
				URI: uri, To: sip.Address{URI: uri}, From: sip.Address{URI: sip.URI{Scheme: "sip", User: "1", Host: "127.0.0.1"}},
				Destination: r.addr.String(), Transport: "udp", SDP: []byte(tt.sdp),
			}, c); err != nil {
				t.Fatal(err)
			}
			if cause := c.over(); cause.Code != tt.code {
				t.Errorf("cause %+v, want %d", cause, tt.code)
			}
			if r.sw.Count() != 0 || len(r.journal.all()) != 0 {
				t.Errorf("%d calls, facts %v", r.sw.Count(), r.journal.all())
			}
		})
	}
}

func TestReject(t *testing.T) {
	r := newRig(t)
	r.onInvite(func(d *sip.Dialog) {
		c, err := r.sw.Inbound(d, Inbound{Info: Info{ID: callID, Direction: event.Inbound}}, r.owner)
		if err != nil {
			t.Error(err)
			return
		}
		r.sw.Reject(c.ID, 503, "Service Unavailable", sip.Header{Name: "Retry-After", Value: "7"})
	})
	c := newPeer(t, "customer").invite(r.addr, "59825550111", false)
	cause := c.over()
	se, ok := errors.AsType[*sip.StatusError](cause.Err)
	if cause.Code != 503 || !ok || se.RetryAfter != 7*time.Second {
		t.Errorf("cause %+v", cause)
	}
	r.callEnds(event.BySystem)
	r.finished(false)
}

// The owner takes an offer back as the agent answers: the answer counts until
// the owner says once more that it does not.
func TestOfferTakenBackAtTheAnswer(t *testing.T) {
	r := newRig(t)
	customer, agent, p, target := r.talking()
	r.sw.StopRinging(callID, "ana", false)
	speak(t, 200*time.Millisecond)
	if !agent.hears(toneA) {
		t.Fatal("the answer did not count")
	}
	r.sw.StopRinging(callID, "ana", false)
	agent.over()
	eventually(t, "music again", customer.hearsMusic)
	again := r.ringAgent(p, target)
	again.accept(toneB)
	r.ringEnds("ana", OutcomeAnswered)
	r.bothHear(customer, again)
	customer.hangup()
	r.callEnds(event.ByCustomer)
	r.finished(true)
}
