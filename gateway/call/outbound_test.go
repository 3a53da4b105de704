package call

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/gateway/trunk"
)

// carriers makes trunks of peers, in the order of their priority.
func (r *rig) carriers(peers ...*peer) {
	r.t.Helper()
	var all []trunk.Trunk
	for i, p := range peers {
		all = append(all, trunk.Trunk{
			Name: p.name, Address: p.addr.String(), Transport: trunk.UDP, Priority: i, MaxChannels: 1, SRTP: trunk.SRTPOff,
			Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Codecs: []string{"PCMA", "PCMU"},
		})
	}
	if err := r.trunks.Set(all); err != nil {
		r.t.Fatal(err)
	}
}

// used is how many channels of all trunks are taken.
func (r *rig) used() int {
	n := 0
	for _, s := range r.trunks.Status() {
		n += s.Channels
	}
	return n
}

const number = "59899000111"

func outboundOf(t Target, change ...func(*Outbound)) Outbound {
	o := Outbound{
		Info: Info{
			ID: callID, Direction: event.Outbound, From: t.Extension, To: number, Agent: t.Agent, Campaign: "Sales->", Record: true,
		},
		Caller: t, CallerID: "18885550100",
	}
	for _, fn := range change {
		fn(&o)
	}
	return o
}

// dialled makes INVITEs from a phone outbound calls.
func (r *rig) dialled(t Target, change ...func(*Outbound)) {
	r.onInvite(func(d *sip.Dialog) {
		if _, err := r.sw.Outbound(d, outboundOf(t, change...), r.owner); err != nil {
			code, reason := SIPStatus(err)
			_ = d.Reject(code, reason)
		}
	})
}

// ended checks what an outbound call has left.
func (r *rig) ended(by event.By, status, disposition string, rows int) {
	r.t.Helper()
	r.callEnds(by)
	eventually(r.t, "the channels are given back", func() bool { return r.used() == 0 })
	out := facts[event.OutCallEnded](r.journal)
	if len(out) != 1 || out[0].DialStatus != status || out[0].Number != number || out[0].Agent != "ana" || out[0].Campaign != "Sales->" {
		r.t.Errorf("OUTCALL %+v, want %s", out, status)
	}
	cdr := facts[event.CallLegEnded](r.journal)
	if len(cdr) != rows || cdr[len(cdr)-1].Disposition != disposition || cdr[len(cdr)-1].Agent != "ana" {
		r.t.Errorf("CDRs %+v, want %d and %s", cdr, rows, disposition)
	}
	if n := count[event.CallEnded](r.journal); n != 1 {
		r.t.Errorf("%d CallEnded", n)
	}
}

func TestAgentDials(t *testing.T) {
	for _, offer := range []string{"with an offer", "without an offer"} {
		t.Run(offer, func(t *testing.T) {
			r := newRig(t)
			carrier := newPeer(t, "carrier")
			r.carriers(carrier)
			p, target := r.phone("ana", "2101")
			r.dialled(target)
			agent := p.invite(r.addr, number, offer == "without an offer")
			far := carrier.next()
			if from := far.d.Request().From().URI.User; from != "18885550100" {
				t.Errorf("caller id %q", from)
			}
			if far.d.Request().URI().User != number {
				t.Errorf("dialled %s", far.d.Request().URI().User)
			}
			far.ring()
			agent.is(180)
			if snap := r.sw.Live(t.Context()); len(snap) != 1 || snap[0].Phase != "dialing" || len(snap[0].Legs) != 2 {
				t.Errorf("snapshot %+v", snap)
			}
			agent.say(toneB)
			far.accept(toneA)
			agent.up()
			r.ringEnds("ana", OutcomeAnswered)
			r.bothHear(far, agent)
			speak(t, time.Second)
			agent.hangup()
			far.over()
			r.ended(event.ByAgent, "ANSWER", "ANSWERED", 1)
			r.finished(true)
			row := facts[event.CallLegEnded](r.journal)[0]
			if row.Channel == row.DstChannel || row.DstChannel[:11] != "SIP/carrier" || row.LastApp != "Dial" || row.AnsweredAt == nil || !row.Recorded {
				t.Errorf("CDR %+v", row)
			}
			if got := facts[event.CallAnswered](r.journal); len(got) != 1 || got[0].LegID != row.LegID {
				t.Errorf("answered %+v, the CDR names %s", got, row.LegID)
			}
			left, right := r.recording()
			a, _, _ := parts(left, toneA)
			b, _, _ := parts(right, toneB)
			if a < 8 || b < 8 {
				t.Errorf("recorded %d tenths of the customer, %d of the agent", a, b)
			}
		})
	}
}

func TestCalledPartyRefuses(t *testing.T) {
	tests := []struct {
		code                int
		status, disposition string
	}{
		{486, "BUSY", "BUSY"},
		{603, "BUSY", "BUSY"},
		{404, "CHANUNAVAIL", "FAILED"},
		{480, "NOANSWER", "NO ANSWER"},
	}
	for _, tt := range tests {
		t.Run(tt.status, func(t *testing.T) {
			r := newRig(t)
			carrier := newPeer(t, "carrier")
			r.carriers(carrier)
			p, target := r.phone("ana", "2101")
			r.dialled(target)
			agent := p.invite(r.addr, number, false)
			carrier.next().reject(tt.code)
			if cause := agent.over(); cause.Code != tt.code {
				t.Errorf("the phone got %+v", cause)
			}
			r.ended(event.BySystem, tt.status, tt.disposition, 1)
			r.finished(false)
		})
	}
}

func TestAgentGivesUp(t *testing.T) {
	r := newRig(t)
	carrier := newPeer(t, "carrier")
	r.carriers(carrier)
	p, target := r.phone("ana", "2101")
	r.dialled(target)
	agent := p.invite(r.addr, number, false)
	far := carrier.next()
	far.ring()
	agent.is(180)
	agent.hangup()
	if cause := far.over(); cause.Kind != sip.KindCancelled {
		t.Errorf("the carrier got %+v", cause)
	}
	r.ended(event.ByAgent, "CANCEL", "NO ANSWER", 1)
}

// The customer hangs up.
func TestCalledPartyHangsUp(t *testing.T) {
	r := newRig(t)
	carrier := newPeer(t, "carrier")
	r.carriers(carrier)
	p, target := r.phone("ana", "2101")
	r.dialled(target)
	agent := p.invite(r.addr, number, false)
	agent.say(toneB)
	far := carrier.next()
	far.accept(toneA)
	r.bothHear(far, agent)
	far.hangup()
	agent.over()
	r.ended(event.ByCustomer, "ANSWER", "ANSWERED", 1)
}

// A carrier that cannot is followed by the next one; each try has its CDR and
// gives its channel back.
func TestFailover(t *testing.T) {
	r := newRig(t)
	first, second := newPeer(t, "first"), newPeer(t, "second")
	r.carriers(first, second)
	p, target := r.phone("ana", "2101")
	r.dialled(target)
	agent := p.invite(r.addr, number, false)
	one := first.next()
	one.announce(600)
	agent.is(183)
	eventually(t, "the first carrier's announcement", func() bool { return agent.hears(600) })
	one.reject(503)
	far := second.next()
	far.ring()
	agent.is(183) // the phone listens to us already
	eventually(t, "ringback", func() bool {
		agent.mu.Lock()
		defer agent.mu.Unlock()
		return len(agent.heard) == 8000 && power(agent.heard[6400:]) > 100 && share(agent.heard[6400:], 600) < 0.3
	})
	if n := r.used(); n != 1 {
		t.Errorf("%d channels are taken", n)
	}
	agent.say(toneB)
	far.accept(toneA)
	agent.up()
	r.bothHear(far, agent)
	far.hangup()
	r.ended(event.ByCustomer, "ANSWER", "ANSWERED", 2)
	rows := facts[event.CallLegEnded](r.journal)
	if rows[0].Trunk != "first" || rows[0].Disposition != "FAILED" || rows[1].Trunk != "second" || rows[0].LegID == rows[1].LegID {
		t.Errorf("CDRs %+v", rows)
	}
}

// All ways out fail: the phone gets the last reason.
func TestNoWayOut(t *testing.T) {
	t.Run("refused by all", func(t *testing.T) {
		r := newRig(t)
		first, second := newPeer(t, "first"), newPeer(t, "second")
		r.carriers(first, second)
		p, target := r.phone("ana", "2101")
		r.dialled(target)
		agent := p.invite(r.addr, number, false)
		first.next().reject(500)
		second.next().reject(502)
		if cause := agent.over(); cause.Code != 502 {
			t.Errorf("the phone got %+v", cause)
		}
		r.ended(event.BySystem, "CONGESTION", "FAILED", 2)
	})
	t.Run("no trunk", func(t *testing.T) {
		r := newRig(t)
		p, target := r.phone("ana", "2101")
		r.dialled(target)
		agent := p.invite(r.addr, number, false)
		if cause := agent.over(); cause.Code != 503 {
			t.Errorf("the phone got %+v", cause)
		}
		r.ended(event.BySystem, "CHANUNAVAIL", "FAILED", 1)
	})
	t.Run("all channels taken", func(t *testing.T) {
		r := newRig(t)
		carrier := newPeer(t, "carrier")
		r.carriers(carrier)
		line, _ := r.trunks.Line("carrier")
		release, err := line.Acquire()
		if err != nil {
			t.Fatal(err)
		}
		p, target := r.phone("ana", "2101")
		r.dialled(target)
		agent := p.invite(r.addr, number, false)
		if cause := agent.over(); cause.Code != 503 {
			t.Errorf("the phone got %+v", cause)
		}
		carrier.none(100 * time.Millisecond)
		release()
		r.ended(event.BySystem, "CHANUNAVAIL", "FAILED", 1)
	})
}

// Early media is heard, digits may be sent into it, and another description in
// the 200 counts.
func TestEarlyMedia(t *testing.T) {
	r := newRig(t)
	carrier := newPeer(t, "carrier")
	r.carriers(carrier)
	p, target := r.phone("ana", "2101")
	r.dialled(target)
	agent := p.invite(r.addr, number, false)
	far := carrier.next()
	far.announce(600)
	agent.is(183)
	eventually(t, "the announcement", func() bool { return agent.hears(600) })
	moved := carrier.newTalk() // the media moves with the answer
	moved.take(far.offer)
	moved.say(toneA)
	far.vanish(true)
	agent.say(toneB)
	if err := far.d.Answer(moved.sdp("sendrecv")); err != nil {
		t.Fatal(err)
	}
	agent.up()
	r.bothHear(moved, agent)
	agent.hangup()
	r.ended(event.ByAgent, "ANSWER", "ANSWERED", 1)
}

// The agent's own phone rings first and answers by itself (PHONE-37).
func TestOriginate(t *testing.T) {
	r := newRig(t)
	carrier := newPeer(t, "carrier")
	r.carriers(carrier)
	p, target := r.phone("ana", "2101")
	id, err := r.sw.Originate(t.Context(), outboundOf(target), r.owner)
	if err != nil || id != callID {
		t.Fatalf("originate: %s %v", id, err)
	}
	agent := p.next()
	if got := agent.d.Request().From().URI.User; got != number {
		t.Errorf("the phone shows %s", got)
	}
	agent.ring()
	carrier.none(100 * time.Millisecond)
	agent.accept(toneB)
	agent.up()
	far := carrier.next()
	if _, err := agent.d.Reinvite(t.Context(), nil); err != nil { // its ACK must not dial again
		t.Fatal(err)
	}
	far.ring()
	eventually(t, "ringback", func() bool {
		agent.mu.Lock()
		defer agent.mu.Unlock()
		return len(agent.heard) == 8000 && power(agent.heard) > 50
	})
	carrier.none(100 * time.Millisecond)
	far.accept(toneA)
	r.bothHear(far, agent)
	far.hangup()
	agent.over()
	r.ended(event.ByCustomer, "ANSWER", "ANSWERED", 1)
}

func TestOriginateFails(t *testing.T) {
	t.Run("no phone", func(t *testing.T) {
		r := newRig(t)
		if _, err := r.sw.Originate(t.Context(), outboundOf(Target{Agent: "ana", Extension: "2101"}), r.owner); !errors.Is(err, ErrUnreachable) {
			t.Errorf("originate: %v", err)
		}
		eventually(t, "no call is left", func() bool { return r.sw.Count() == 0 })
		if len(r.journal.all()) != 0 {
			t.Errorf("facts %v", r.journal.all())
		}
	})
	t.Run("the agent declines", func(t *testing.T) {
		r := newRig(t)
		p, target := r.phone("ana", "2101")
		if _, err := r.sw.Originate(t.Context(), outboundOf(target), r.owner); err != nil {
			t.Fatal(err)
		}
		p.next().reject(603)
		r.ended(event.ByAgent, "CANCEL", "BUSY", 1)
	})
	t.Run("the called party is busy", func(t *testing.T) {
		r := newRig(t)
		carrier := newPeer(t, "carrier")
		r.carriers(carrier)
		p, target := r.phone("ana", "2101")
		if _, err := r.sw.Originate(t.Context(), outboundOf(target), r.owner); err != nil {
			t.Fatal(err)
		}
		agent := p.next()
		agent.accept(toneB)
		carrier.next().reject(486)
		agent.over()
		r.ended(event.BySystem, "BUSY", "BUSY", 1)
	})
}

// Extensions call each other; a phone that is gone is 480 at once.
func TestInternalCall(t *testing.T) {
	internal := func(o *Outbound) {
		o.Direction, o.Campaign, o.To = event.Internal, "", "2102"
		o.Extension = Target{Agent: "bruno", Extension: "2102"}
		o.FromName = "Ana Pereira"
	}
	t.Run("answered on one of two phones", func(t *testing.T) {
		r := newRig(t)
		p, target := r.phone("ana", "2101")
		r.dialled(target, internal)
		desk, app := newPeer(t, "desk"), newPeer(t, "app")
		r.register(desk, "2102", "2102-desk")
		r.register(app, "2102", "2102-app")
		agent := p.invite(r.addr, "2102", false)
		agent.say(toneB)
		d, a := desk.next(), app.next()
		if from := a.d.Request().From(); from.URI.User != "2101" || from.Name != "Ana Pereira" {
			t.Errorf("the phone shows %+v", from)
		}
		d.ring()
		agent.is(180)
		a.accept(toneA)
		d.over()
		agent.up()
		r.bothHear(a, agent)
		agent.hangup()
		a.over()
		r.callEnds(event.ByAgent)
		r.finished(true)
		if n := count[event.OutCallEnded](r.journal); n != 0 {
			t.Errorf("%d OUTCALL of an internal call", n)
		}
	})
	t.Run("busy on one, gone on the other", func(t *testing.T) {
		r := newRig(t)
		p, target := r.phone("ana", "2101")
		r.dialled(target, internal)
		desk, app := newPeer(t, "desk"), newPeer(t, "app")
		r.register(desk, "2102", "2102-desk")
		r.register(app, "2102", "2102-app")
		agent := p.invite(r.addr, "2102", false)
		desk.next().reject(486)
		app.next().reject(480)
		if cause := agent.over(); cause.Code != 486 {
			t.Errorf("the phone got %+v", cause)
		}
	})
	t.Run("not registered", func(t *testing.T) {
		r := newRig(t)
		p, target := r.phone("ana", "2101")
		r.dialled(target, internal)
		began := time.Now()
		agent := p.invite(r.addr, "2102", false)
		if cause := agent.over(); cause.Code != 480 || time.Since(began) > time.Second {
			t.Errorf("the phone got %+v after %v", cause, time.Since(began))
		}
		r.callEnds(event.BySystem)
		r.finished(false)
	})
}

// An agent lost in a dialled call: comfort, and back in it.
func TestDialledCallKeepsTheAgentsPlace(t *testing.T) {
	r := newRig(t, func(o *Options) { o.ReattachFor = 20 * time.Second })
	carrier := newPeer(t, "carrier")
	r.carriers(carrier)
	p, target := r.phone("ana", "2101")
	r.dialled(target)
	agent := p.invite(r.addr, number, false)
	agent.say(toneB)
	far := carrier.next()
	far.accept(toneA)
	r.bothHear(far, agent)
	r.kill(p, agent)
	back := p.next()
	if got := back.d.Request().From().URI.User; got != number {
		t.Errorf("the phone shows %s", got)
	}
	back.accept(toneB)
	r.bothHear(far, back)
	far.hangup()
	back.over()
	r.ended(event.ByCustomer, "ANSWER", "ANSWERED", 2)
	r.finished(true)
}
