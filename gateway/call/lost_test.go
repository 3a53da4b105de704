package call

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
)

// kill makes an agent's phone vanish: no BYE, no media, the connection gone.
func (r *rig) kill(p *peer, agent *talk) {
	agent.vanish(true)
	r.sw.FlowGone(r.flow(p))
}

// An agent's app is killed and started again: the customer hears music in
// between, then the agent, in the same call and recording.
func TestAgentLostAndBack(t *testing.T) {
	r := newRig(t, func(o *Options) { o.ReattachFor = 20 * time.Second })
	customer, agent, p, _ := r.talking()
	speak(t, time.Second)
	r.unregister("2101")
	r.kill(p, agent)
	eventually(t, "the agent counts as lost", func() bool { return count[event.CallAgentLost](r.journal) == 1 })
	eventually(t, "music for the customer", customer.hearsMusic)
	if snap := r.sw.Live(t.Context()); len(snap) != 1 || snap[0].Phase != "kept" {
		t.Errorf("snapshot %+v", snap)
	}
	again := newPeer(t, "ana-2")
	b := r.register(again, "2101", "2101-new")
	r.mu.Lock()
	r.endpoint["ana"] = Target{Agent: "ana", Extension: "2101", SIPUser: "2101-new"}
	r.mu.Unlock()
	r.sw.Registered(b)
	back := again.next()
	if got := back.d.Request().Header("Answer-Mode"); got != "Auto" {
		t.Errorf("Answer-Mode %q", got)
	}
	back.accept(toneB)
	r.bothHear(customer, back)
	eventually(t, "the agent is back", func() bool { return count[event.CallAgentBack](r.journal) == 1 })
	speak(t, time.Second)
	customer.hangup()
	r.callEnds(event.ByCustomer)
	r.finished(true)
	select {
	case e := <-r.owner.rings:
		t.Errorf("the owner was told of a ring that it did not ask for: %+v", e)
	case agent := <-r.owner.lost:
		t.Errorf("the owner lost %s", agent)
	default:
	}
	if rows := facts[event.CallLegEnded](r.journal); len(rows) != 2 || rows[0].LegID == rows[1].LegID || rows[1].StartedAt.Equal(rows[0].StartedAt) {
		t.Errorf("CDRs %+v", rows)
	}
	_, right := r.recording()
	if b, silent, _ := parts(right, toneB); b < 15 || silent < 5 {
		t.Errorf("the agent's side has %d tenths with the tone, %d silent", b, silent)
	}
}

// A lost agent who does not come back: the owner takes the call, or the
// customer hears a prompt and the call ends.
func TestAgentLostForGood(t *testing.T) {
	t.Run("the queue takes the call", func(t *testing.T) {
		r := newRig(t)
		r.owner.take = true
		customer, agent, p, _ := r.talking()
		r.kill(p, agent)
		ring := p.next() // its phone is still registered, and rung
		ring.ring()
		select {
		case got := <-r.owner.lost:
			if got != "ana" {
				t.Errorf("lost %s", got)
			}
		case <-time.After(soon):
			t.Fatal("the owner was not told")
		}
		ring.over()
		eventually(t, "music for the customer", customer.hearsMusic)
		pb, tb := r.phone("bruno", "2102")
		b := r.ringAgent(pb, tb)
		b.accept(toneB)
		r.ringEnds("bruno", OutcomeAnswered)
		r.bothHear(customer, b)
		customer.hangup()
		r.callEnds(event.ByCustomer)
		r.finished(true)
	})
	t.Run("nobody takes the call", func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.Prompt = func(name, _ string) string { return name + "/es" } })
		r.sound("agent-lost/es", toneB)
		customer, agent, p, _ := r.talking()
		r.unregister("2101")
		r.kill(p, agent)
		eventually(t, "music for the customer", customer.hearsMusic)
		eventually(t, "the prompt", func() bool { return customer.hears(toneB) })
		customer.over()
		r.callEnds(event.BySystem)
		r.finished(true)
	})
}

// sound puts a second of a tone into the sounds folder.
func (r *rig) sound(name string, hz float64) {
	r.t.Helper()
	path := filepath.Join(r.dir, "sounds", name+".wav")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		r.t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := media.WriteWAV(f, tone(hz, 8000), 8000); err != nil {
		r.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		r.t.Fatal(err)
	}
}

// A connection that breaks and comes back under live media loses nothing.
func TestConnectionLostMediaAlive(t *testing.T) {
	r := newRig(t)
	customer, agent, p, target := r.talking()
	r.sw.FlowGone(r.flow(p))
	speak(t, 300*time.Millisecond)
	r.bothHear(customer, agent)
	r.sw.Registered(r.Bindings(target.Extension)[0])
	other := newPeer(t, "desk")
	r.sw.FlowGone(r.flow(p))
	r.sw.Registered(r.register(other, "2101", "2101-desk")) // another device of theirs
	speak(t, 300*time.Millisecond)
	r.bothHear(customer, agent)
	customer.hangup()
	r.callEnds(event.ByCustomer)
	if n := count[event.CallAgentLost](r.journal); n != 0 {
		t.Errorf("%d agents lost", n)
	}
}

// The newest sign-in takes over, and the call moves with it.
func TestCallFollowsTheAgent(t *testing.T) {
	r := newRig(t)
	customer, agent, _, _ := r.talking()
	home := newPeer(t, "home")
	b := r.register(home, "2101", "2101-home")
	r.sw.Registered(b) // before the sign-in: just another device
	speak(t, 200*time.Millisecond)
	r.bothHear(customer, agent)
	r.mu.Lock()
	r.endpoint["ana"] = Target{Agent: "ana", Extension: "2101", SIPUser: "2101-home"}
	r.mu.Unlock()
	r.sw.Registered(b)
	there := home.next()
	there.accept(toneB)
	agent.over()
	r.bothHear(customer, there)
	customer.hangup()
	r.callEnds(event.ByCustomer)
	r.finished(true)
}

// The connection of a ringing phone goes: that ring ends at once.
func TestConnectionLostWhileRinging(t *testing.T) {
	r := newRig(t)
	customer := r.waiting()
	p, target := r.phone("ana", "2101")
	ringing := r.ringAgent(p, target)
	r.sw.FlowGone(r.flow(p))
	r.ringEnds("ana", OutcomeUnreachable)
	ringing.over()
	if !customer.hearsMusic() {
		t.Error("the customer lost the music")
	}
}
