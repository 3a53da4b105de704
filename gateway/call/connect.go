package call

import (
	"context"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/sip"
)

// defaultMusic is the built-in music on hold.
const defaultMusic = "music/default"

// agentAnswered joins the first phone that answered with the customer; all
// other ringing stops.
func (c *Call) agentAnswered(g *ring, l *leg) {
	agent := g.req.Target.Agent
	if c.agent != nil || c.dropping || !c.customer.live() {
		c.ringingLegEnded(g, l, cancelCause(true))
		return
	}
	if err := c.answerCustomer(); err != nil {
		c.log.Debug("answer the customer with the agent", "err", err)
		c.ringingLegEnded(g, l, cancelCause(false))
		return
	}
	delete(c.rings, agent)
	g.stop()
	l.set(StateAnswered, c.now())
	for _, other := range g.legs {
		if other != l {
			c.endLeg(other, cancelCause(true))
		}
	}
	c.join(l)
	c.ringDone(g, RingResult{Outcome: OutcomeAnswered, LegID: l.id, Channel: l.far.channel, Cause: sip.Cause{Code: 200}})
	for _, other := range c.rings {
		c.endRing(other, event.BySystem, RingResult{Outcome: OutcomeCancelled, Cause: cancelCause(true)})
	}
	if g.back {
		c.agentReturned()
	}
}

// join connects an agent's leg with the customer's: media first, facts after,
// because the two people do not wait for the journal.
func (c *Call) join(l *leg) {
	c.agent = l
	c.lastAgent = l.far.agent
	c.held, c.late = false, false
	c.bridge(l)
	c.connected = c.now()
	c.startRecording()
	c.rec.agent(l.port)
	c.journal(event.CallAnswered{CallID: c.ID, LegID: later(c.customer, l).id, Agent: l.far.agent})
	if l.port.Held() { // by a re-INVITE before there was anybody to hold
		c.holdChanged(l, true)
	}
}

// bridge lets customer and agent hear each other and nothing else.
func (c *Call) bridge(l *leg) {
	c.customer.sound++
	if err := media.Join(c.customer.port, l.port); err != nil {
		c.log.Error("join", "leg_id", l.id, "err", err)
	}
}

// disconnect undoes the join, adds up the talk time and writes the CDR of the
// pair. by is who ended it, cause why.
func (c *Call) disconnect(by event.By, cause sip.Cause) {
	if c.connected.IsZero() {
		return
	}
	c.talked += c.now().Sub(c.connected)
	c.connected = time.Time{}
	c.rec.agent(nil)
	if c.agent == nil {
		return
	}
	c.agent.port.Leave()
	c.agent.set(StateEnded, c.now())
	c.agent.because(cause)
	near, far := c.pair(c.agent)
	c.cdr(near, far, by)
}

// takeOff ends the joined agent's leg; the customer stays.
func (c *Call) takeOff(by event.By, cause sip.Cause) {
	l := c.agent
	c.disconnect(by, cause)
	c.agent, c.held, c.late = nil, false, false
	c.endLeg(l, cause)
}

// holdChanged follows a re-INVITE of the agent's phone: the customer hears
// music, and the agent's microphone is neither sent nor recorded.
func (c *Call) holdChanged(l *leg, held bool) {
	if c.over || c.dropping || l != c.agent || held == c.held {
		return
	}
	c.held = held
	fact := event.CallHeld{
		CallID: c.ID, Campaign: c.Campaign, Agent: l.far.agent,
		Channel: l.far.channel, From: c.From, FromName: c.FromName,
	}
	l.port.Mute(held)
	if held {
		c.playMusic()
		c.journal(fact)
		return
	}
	c.bridge(l)
	c.journal(event.CallUnheld(fact))
}

// playMusic gives the customer music on hold until something else is played
// or joined.
func (c *Call) playMusic() { c.play(c.customer, c.music(), true, nil) }

func (c *Call) music() string {
	if c.MusicOnHold == "" {
		return defaultMusic
	}
	return c.MusicOnHold
}

// play lets a leg hear a sound. A sound that cannot be had is logged, and done
// is still called, so that nobody waits for it. done is not called when
// something else is played or joined before the sound has ended.
func (c *Call) play(l *leg, name string, loop bool, done func()) {
	if !l.live() {
		return
	}
	src, err := c.sw.o.Sounds.Source(name)
	if err != nil {
		c.log.Warn("sound is missing", "sound", name, "err", err)
		if name != defaultMusic && loop {
			c.play(l, defaultMusic, true, done)
			return
		}
		if done != nil {
			done()
		}
		return
	}
	l.sound++
	sound := l.sound
	l.port.Play(src, media.PlayOptions{Loop: loop, Done: func(err error) {
		if done == nil || err != nil {
			return
		}
		c.post(func() {
			if !c.over && l.sound == sound {
				done()
			}
		})
	}})
}

// relayDigit sends a digit that came by SIP INFO to the other side. Those that
// come with the media go their way with it.
func (c *Call) relayDigit(l *leg, digit byte, d time.Duration) {
	var to *leg
	switch {
	case c.over || c.held:
	case l == c.agent:
		to = c.customer
	case l == c.customer:
		to = c.agent
	case c.out != nil && l == c.out.caller: // an announcement before the answer may ask for digits
		to = c.out.early
	}
	if !to.live() {
		return
	}
	if err := to.port.SendDTMF(string(digit), d); err != nil {
		c.log.Warn("digit not sent", "leg_id", to.id, "err", err)
	}
}

// Drop plays a prompt to the customer, if there is one, and ends the call.
func (s *Switch) Drop(callID, prompt, why string) {
	c, err := s.find(callID)
	if err != nil {
		return
	}
	c.post(func() { c.drop(prompt, why) })
}

// promptLimit ends a call whose last prompt does not end by itself.
const promptLimit = time.Minute

func (c *Call) drop(prompt, why string) {
	if c.over || c.dropping {
		return
	}
	c.dropping = true
	c.stopWaiting()
	end := func() { c.finish(event.BySystem, why, sip.Cause{Code: 200, Q850: 16, Text: why}) }
	if prompt == "" || !c.customer.live() || c.answerCustomer() != nil {
		end()
		return
	}
	name := c.sw.o.Prompt(prompt, c.Campaign)
	if c.agent.live() {
		c.play(c.agent, name, false, nil)
	}
	c.after(promptLimit, end)
	c.play(c.customer, name, false, end)
}

// stopWaiting gives up on every agent who is rung or waited for.
func (c *Call) stopWaiting() {
	if c.keep != nil {
		c.keep.stop()
		c.keep = nil
	}
	for _, g := range c.rings {
		c.endRing(g, event.BySystem, RingResult{Outcome: OutcomeCancelled, Cause: cancelCause(false)})
	}
}

// Hangup ends a call at an agent's or a supervisor's wish.
func (s *Switch) Hangup(ctx context.Context, callID string, by event.By) error {
	c, err := s.find(callID)
	if err != nil {
		return err
	}
	return c.do(ctx, func() error {
		c.finish(by, "hung up", sip.Cause{Code: 200, Q850: 16, Text: "hung up"})
		return nil
	})
}
