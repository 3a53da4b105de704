package call

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/sip"
)

// A call is dropped with a prompt; with an agent in it both hear it.
func TestDropWithPrompt(t *testing.T) {
	r := newRig(t)
	r.sound("closing", 600)
	customer, agent, _, _ := r.talking()
	r.sw.Drop(callID, "closing", "gateway stopped")
	eventually(t, "the customer hears the prompt", func() bool { return customer.hears(600) })
	eventually(t, "the agent hears the prompt", func() bool { return agent.hears(600) })
	if err := r.sw.Ring(t.Context(), callID, RingRequest{Target: Target{Agent: "x"}}); err == nil {
		t.Error("an agent is rung for a call that ends")
	}
	customer.over()
	agent.over()
	r.callEnds(event.BySystem)
	r.finished(true)
}

// The agent hangs up during the last prompt: the customer still hears it all.
func TestDropOutlivesTheAgent(t *testing.T) {
	r := newRig(t)
	r.sound("closing", 600)
	customer, agent, _, _ := r.talking()
	r.sw.Drop(callID, "closing", "gateway stopped")
	eventually(t, "the prompt", func() bool { return customer.hears(600) })
	agent.hangup()
	speak(t, 300*time.Millisecond)
	if !customer.hears(600) {
		t.Error("the prompt was cut off")
	}
	customer.over()
	r.callEnds(event.BySystem)
}

// A caller who was not answered yet is answered to hear the prompt; without
// the prompt the call ends at once.
func TestDropUnanswered(t *testing.T) {
	for _, prompt := range []string{"closing", "missing", ""} {
		t.Run(prompt, func(t *testing.T) {
			r := newRig(t)
			r.sound("closing", 600)
			r.onInvite(func(d *sip.Dialog) {
				if _, err := r.sw.Inbound(d, Inbound{Info: Info{ID: callID, Direction: event.Inbound}}, r.owner); err != nil {
					t.Error(err)
				}
				r.sw.Drop(callID, prompt, "out of hours")
				if err := r.sw.Answer(context.Background(), callID, defaultMusic); err != nil && prompt == "closing" {
					t.Error(err) // and the music does not replace the prompt
				}
			})
			c := newPeer(t, "customer").invite(r.addr, "59825550111", false)
			if prompt == "closing" {
				c.up()
				eventually(t, "the prompt", func() bool { return c.hears(600) })
			}
			c.over()
			r.callEnds(event.BySystem)
			r.finished(false)
		})
	}
}

func TestHangupByRequest(t *testing.T) {
	r := newRig(t)
	customer, agent, _, _ := r.talking()
	if err := r.sw.Hangup(t.Context(), callID, event.ByAgent); err != nil {
		t.Fatal(err)
	}
	customer.over()
	agent.over()
	r.callEnds(event.ByAgent)
	if err := r.sw.Hangup(t.Context(), callID, event.ByAgent); !errors.Is(err, ErrUnknown) {
		t.Errorf("second hang-up: %v", err)
	}
}

// Draining refuses new calls, lets live ones go on, and urgent ones in.
func TestDrain(t *testing.T) {
	r := newRig(t)
	customer, agent, p, target := r.talking()
	drained := make(chan error, 1)
	go func() { drained <- r.sw.Drain(context.Background()) }()
	eventually(t, "it drains", r.sw.Draining)
	late := newPeer(t, "late").invite(r.addr, "59825550111", false)
	if cause := late.over(); cause.Code != 503 {
		t.Errorf("a new call got %+v", cause)
	}
	r.dialled(target, func(o *Outbound) { o.ID, o.Urgent, o.To = "urgent", true, "911" })
	carrier := newPeer(t, "carrier")
	r.carriers(carrier)
	help := p.invite(r.addr, "911", false)
	far := carrier.next()
	far.accept(toneA)
	help.up()
	r.bothHear(customer, agent)
	help.hangup()
	far.over()
	select {
	case err := <-drained:
		t.Fatalf("drained with a live call: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	customer.hangup()
	select {
	case err := <-drained:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(soon):
		t.Fatal("not drained")
	}
	if err := r.sw.Drain(t.Context()); err != nil {
		t.Errorf("a second drain: %v", err)
	}
}

// When the time for draining is over, calls end with a prompt.
func TestDrainEnds(t *testing.T) {
	r := newRig(t)
	r.sound("closing", 600)
	customer, agent, _, _ := r.talking()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, ErrDraining)
	defer cancel()
	if err := r.sw.Drain(ctx); !errors.Is(err, ErrDraining) {
		t.Errorf("drain: %v", err)
	}
	r.sw.DropAll("closing", "gateway stopped")
	eventually(t, "the prompt", func() bool { return customer.hears(600) })
	customer.over()
	agent.over()
	if err := r.sw.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

// Closing ends live calls, waits for them and takes no more.
func TestClose(t *testing.T) {
	r := newRig(t)
	customer, agent, _, _ := r.talking()
	if err := r.sw.Close(); err != nil {
		t.Fatal(err)
	}
	customer.over()
	agent.over()
	r.callEnds(event.BySystem)
	r.finished(true)
	if err := r.sw.Drain(t.Context()); err != nil {
		t.Errorf("drain after close: %v", err)
	}
	if late := newPeer(t, "late").invite(r.addr, "59825550111", false).over(); late.Code != 503 {
		t.Errorf("a new call got %+v", late)
	}
}

func TestOverload(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxCalls = 1 })
	customer := r.waiting()
	began := time.Now()
	late := newPeer(t, "late").invite(r.addr, "59825550111", false)
	if cause := late.over(); cause.Code != 503 || time.Since(began) > 500*time.Millisecond {
		t.Errorf("a call too many got %+v after %v", cause, time.Since(began))
	}
	customer.hangup()
	r.callEnds(event.ByCustomer)
}

// A panic in a call ends that call alone, with all that belongs to it.
func TestPanicEndsOneCall(t *testing.T) {
	r := newRig(t)
	customer, agent, _, _ := r.talking()
	r.inbound(func(in *Inbound) { in.ID = "other" })
	other := newPeer(t, "other").invite(r.addr, "59825550111", false)
	other.up()
	c, err := r.sw.find(callID)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.do(t.Context(), func() error { panic("for the test") }); !errors.Is(err, ErrEnded) {
		t.Errorf("do: %v", err)
	}
	customer.over()
	agent.over()
	eventually(t, "one call is left", func() bool { return r.sw.Count() == 1 })
	r.finishedOne()
	eventually(t, "music for the other customer", other.hearsMusic)
	other.hangup()
}

// Even when its end panics again, a call gives everything back.
func TestPanicTwice(t *testing.T) {
	r := newRig(t)
	customer, agent, _, _ := r.talking()
	c, err := r.sw.find(callID)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.do(t.Context(), func() error {
		c.rings["broken"] = nil // ending it panics
		panic("for the test")
	})
	customer.over()
	agent.over()
	r.callEnds(event.BySystem)
	r.finishedOne()
	if r.channels() != 1 {
		t.Errorf("%d channels given back", r.channels())
	}
}

// finishedOne waits for the end of the call under test.
func (r *rig) finishedOne() {
	r.t.Helper()
	eventually(r.t, "CallEnded", func() bool { return count[event.CallEnded](r.journal) == 1 })
	eventually(r.t, "the recording is complete", func() bool { return count[event.RecordingFinished](r.journal) == 1 })
}

// A recording that cannot be made raises an alarm; the call goes on.
func TestCallGoesOnWithoutRecording(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Recordings = "/proc/nowhere" })
	customer, _, _, _ := r.talking()
	alarms := facts[event.Alarm](r.journal)
	if len(alarms) != 1 || !alarms[0].Active || alarms[0].Name != "recording" {
		t.Errorf("alarms %+v", alarms)
	}
	customer.hangup()
	r.callEnds(event.ByCustomer)
	if rows := facts[event.CallLegEnded](r.journal); len(rows) != 1 || rows[0].Recorded {
		t.Errorf("CDR %+v", rows)
	}
}

// An echo lets a phone hear itself and leaves no facts.
func TestEcho(t *testing.T) {
	r := newRig(t)
	p, target := r.phone("ana", "2101")
	r.onInvite(func(d *sip.Dialog) {
		if err := r.sw.Echo(d, Info{ID: callID, Direction: event.Internal}, target, r.owner); err != nil {
			t.Error(err)
		}
	})
	c := p.invite(r.addr, "*43", false)
	c.up()
	c.say(toneA)
	eventually(t, "the echo", func() bool { return c.hears(toneA) })
	c.hangup()
	r.callEnds(event.ByCustomer)
	if got := r.journal.all(); len(got) != 0 {
		t.Errorf("facts %v", got)
	}
}

// Legs move forward only, and ended is final.
func TestLegStates(t *testing.T) {
	tests := []struct {
		name     string
		from, to State
		want     bool
	}{
		{"rings", StateTrying, StateRinging, true},
		{"answered without ringing", StateTrying, StateAnswered, true},
		{"ends untried", StateTrying, StateEnded, true},
		{"answered", StateRinging, StateAnswered, true},
		{"rings after the answer", StateAnswered, StateRinging, false},
		{"rings again", StateRinging, StateRinging, false},
		{"ends", StateAnswered, StateEnded, true},
		{"lives again", StateEnded, StateAnswered, false},
		{"ends again", StateEnded, StateEnded, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := &leg{state: tt.from}
			if got := l.set(tt.to, time.Now()); got != tt.want {
				t.Errorf("%s to %s: %v", tt.from, tt.to, got)
			}
			if want := map[bool]State{true: tt.to, false: tt.from}[tt.want]; l.state != want {
				t.Errorf("state %s", l.state)
			}
		})
	}
}

// Numbers mask themselves in logs.
func TestNumberInLogs(t *testing.T) {
	for in, want := range map[Number]string{"59899123456": "**56", "211": "**", "": "**"} {
		if got := in.LogValue().String(); got != want {
			t.Errorf("%q is logged as %q, want %q", string(in), got, want)
		}
	}
}
