package call

import (
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/registrar"
	"github.com/cordboard/cordboard/gateway/sip"
)

// silentFor is how long an agent whose signalling is alive may be without
// media before the customer hears comfort audio and the agent counts as lost.
// ICE restarts by the phone happen well within it.
const silentFor = 10 * time.Second

// ringBackFor is how long a returning phone is rung; it answers by itself.
const ringBackFor = 10 * time.Second

// heldGoneFor is how long a phone on hold may be without its connection and
// without sending anything.
const heldGoneFor = 20 * time.Second

// comfort names the prompt that a customer hears, before music, while a lost
// agent is waited for.
const comfort = "agent-away"

// keep is the place of a lost agent: the customer hears comfort audio while it
// is open (contract: agent lost in a call).
type keep struct {
	agent Target
	since time.Time
	stop  func() // of the timer that gives the call back to its owner
}

// mediaConnected: the first packet of a leg came.
func (c *Call) mediaConnected(l *leg) { l.mediaLost = false }

// mediaBack: packets come again.
func (c *Call) mediaBack(l *leg) { l.mediaLost = false }

// mediaGone: two seconds without media from a leg.
func (c *Call) mediaGone(l *leg) {
	if c.over {
		return
	}
	l.mediaLost = true
	if l != c.agent {
		return
	}
	if l.flowGone {
		c.loseAgent("phone is gone")
		return
	}
	c.after(silentFor, func() {
		if l == c.agent && l.mediaLost && !c.held {
			c.loseAgent("no media")
		}
	})
}

// FlowGone says that a connection has closed. Legs over it keep their media;
// an agent whose media is gone as well is lost.
func (s *Switch) FlowGone(f sip.Flow) {
	for _, c := range s.all() {
		c.post(func() { c.flowGone(f) })
	}
}

func (c *Call) flowGone(f sip.Flow) {
	if c.over {
		return
	}
	gone := sip.Cause{Code: 480, Text: "phone is gone"}
	for _, g := range c.rings {
		for _, l := range g.legs {
			if l.dialog != nil && l.dialog.Flow() == f {
				c.ringingLegEnded(g, l, gone)
			}
		}
	}
	if c.out != nil {
		c.outFlowGone(f, gone)
	}
	l := c.agent
	if c.over || l == nil || l.dialog == nil || l.dialog.Flow() != f {
		return
	}
	l.flowGone = true
	if l.mediaLost {
		c.loseAgent("phone is gone")
		return
	}
	c.watchHeld(l)
}

// watchHeld looks after a phone whose connection went while it holds the call:
// no media is expected of it then, so its loss would not show.
func (c *Call) watchHeld(l *leg) {
	packets := l.port.Quality().Received.Packets
	c.after(heldGoneFor, func() {
		if l != c.agent || !l.flowGone || !c.held {
			return
		}
		if l.port.Quality().Received.Packets != packets {
			c.watchHeld(l)
			return
		}
		c.loseAgent("phone is gone")
	})
}

// loseAgent keeps the customer while the agent is away.
func (c *Call) loseAgent(why string) {
	l := c.agent
	if c.over || l == nil {
		return
	}
	cause := sip.Cause{Code: 408, Text: why}
	c.takeOff(event.BySystem, cause)
	if c.dropping {
		return
	}
	c.playInTurn([]string{c.sw.o.Prompt(comfort, c.Campaign), c.music()})
	k := &keep{agent: Target{Agent: l.far.agent, Extension: l.far.number, SIPUser: l.far.sipUser}, since: c.now()}
	k.stop = c.after(c.sw.o.ReattachFor, func() { c.giveUp(k) })
	c.keep = k
	c.journal(event.CallAgentLost{CallID: c.ID, Agent: k.agent.Agent, Campaign: c.Campaign, Cause: why})
	c.log.Info("agent lost", "agent_id", k.agent.Agent, "cause", why)
	c.ringBack(k)
}

// ringBack rings a returning agent's phone, which answers by itself. A phone
// that is not there yet is rung when it registers.
func (c *Call) ringBack(k *keep) {
	if c.keep != k || c.rings[k.agent.Agent] != nil {
		return
	}
	if t, ok := c.sw.o.Endpoint(k.agent.Agent); ok {
		k.agent = t
	}
	err := c.ring(RingRequest{Target: k.agent, RingFor: ringBackFor, AutoAnswer: true}, true)
	if err != nil {
		c.log.Debug("lost agent is not back yet", "agent_id", k.agent.Agent, "err", err)
	}
}

// agentReturned closes the kept place: the agent is joined again.
func (c *Call) agentReturned() {
	k := c.keep
	if k == nil {
		return
	}
	k.stop()
	c.keep = nil
	c.journal(event.CallAgentBack{
		CallID: c.ID, Agent: k.agent.Agent, Campaign: c.Campaign, AwayMs: c.now().Sub(k.since).Milliseconds(),
	})
}

// giveUp ends the waiting for a lost agent: the owner takes the call back, or
// the customer is told and the call ends.
func (c *Call) giveUp(k *keep) {
	if c.keep != k {
		return
	}
	c.keep = nil
	if g, ok := c.rings[k.agent.Agent]; ok && g.back {
		c.endRing(g, event.BySystem, RingResult{Outcome: OutcomeCancelled, Cause: cancelCause(false)})
	}
	if c.owner != nil && c.owner.AgentGone(c.ID, k.agent.Agent) {
		c.playMusic()
		return
	}
	c.drop("agent-lost", "agent lost")
}

// Registered says that a phone has registered, refreshed or moved. Dialogs of
// that phone follow it; a lost agent's call rings there again.
func (s *Switch) Registered(b registrar.Binding) {
	for _, c := range s.all() {
		c.post(func() { c.registered(b) })
	}
}

func (c *Call) registered(b registrar.Binding) {
	if c.over || c.dropping {
		return
	}
	if c.keep != nil {
		if c.keep.agent.Extension == b.AoR {
			c.ringBack(c.keep)
		}
		return
	}
	l := c.agent
	if l == nil || l.dialog == nil {
		return
	}
	if l.far.sipUser == b.User && samePhone(l, b) {
		if l.dialog.Flow() != b.Flow {
			l.dialog.UpdateFlow(b.Flow)
		}
		l.flowGone = false
		return
	}
	if t, ok := c.sw.o.Endpoint(l.far.agent); !ok || t.SIPUser != b.User {
		return // another device of theirs
	}
	switch {
	case l.far.sipUser == b.User && l.flowGone:
		// The old app is gone and a new one is there: do not wait for the media's timeout.
		c.loseAgent("phone was started again")
	case l.far.sipUser != b.User && l.far.endpoint != b.User:
		// The newest sign-in takes over, and the call moves with it.
		c.loseAgent("signed in elsewhere")
	}
}

// samePhone reports whether a binding is the phone that a leg's dialog is
// with: the same instance (RFC 5626), or the same contact.
func samePhone(l *leg, b registrar.Binding) bool {
	if l.far.instance != "" && b.InstanceID != "" {
		return l.far.instance == b.InstanceID
	}
	return l.far.contact.User == b.Contact.User && l.far.contact.Host == b.Contact.Host && l.far.contact.Port == b.Contact.Port
}
