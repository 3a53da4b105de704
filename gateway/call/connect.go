package call

import (
	"context"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/sip"
)

// defaultMusic is the built-in music on hold; comfort is what a customer hears
// while a lost agent is waited for.
const (
	defaultMusic = "music/default"
	comfort      = "comfort"
)

// agentAnswered joins the first phone that answered with the customer; all
// other ringing stops.
func (c *Call) agentAnswered(g *ring, l *leg) {
	agent := g.req.Target.Agent
	if c.agent != nil || c.customer == nil || c.customer.port == nil {
		c.hangupRinging(g, l, cancelCause(true))
		return
	}
	delete(c.rings, agent)
	g.stop()
	l.set(StateAnswered, c.now())
	for _, other := range g.legs {
		if other != l {
			other.set(StateEnded, c.now())
			c.endLeg(other, cancelCause(true))
		}
	}
	c.join(l)
	c.ringDone(g, RingResult{Outcome: OutcomeAnswered, LegID: l.id, Channel: l.far.channel, Cause: sip.Cause{Code: 200}})
	for _, other := range c.rings {
		c.endRing(other, RingResult{Outcome: OutcomeCancelled, Cause: cancelCause(true)})
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
	c.held = false
	c.customer.port.Stop()
	if err := media.Join(c.customer.port, l.port); err != nil {
		c.log.Error("join", "leg_id", l.id, "err", err)
	}
	c.connected = c.now()
	c.startRecording()
	c.rec.agent(l.port)
	c.journal(event.CallAnswered{CallID: c.ID, LegID: l.id, Agent: l.far.agent})
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
	if c.agent != nil {
		if c.agent.port != nil {
			c.agent.port.Leave()
		}
		c.agent.set(StateEnded, c.now())
		c.agent.because(cause)
		c.cdr(c.customer, c.agent, by)
	}
}

// holdChanged follows a re-INVITE of the agent's phone: the customer hears
// music, and the agent's microphone is neither sent nor recorded.
func (c *Call) holdChanged(l *leg, held bool) {
	if c.over || l != c.agent || held == c.held {
		return
	}
	c.held = held
	fact := event.CallHeld{
		CallID: c.ID, Campaign: c.Campaign, Agent: l.far.agent,
		Channel: l.far.channel, From: c.From, FromName: c.FromName,
	}
	if held {
		l.port.Mute(true)
		c.playMusic()
		c.journal(fact)
		return
	}
	c.customer.port.Stop()
	l.port.Mute(false)
	if err := media.Join(c.customer.port, l.port); err != nil {
		c.log.Error("join after hold", "leg_id", l.id, "err", err)
	}
	c.journal(event.CallUnheld(fact))
}

// playMusic gives the customer music on hold until something else is played
// or joined.
func (c *Call) playMusic() {
	name := c.MusicOnHold
	if name == "" {
		name = defaultMusic
	}
	c.play(c.customer, name, true, nil)
}

// play lets a leg hear a sound. A sound that cannot be had is logged, and done
// is still called, so that nobody waits for it.
func (c *Call) play(l *leg, name string, loop bool, done func()) {
	if l == nil || l.port == nil {
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
	l.port.Play(src, media.PlayOptions{Loop: loop, Done: func(err error) {
		if done != nil && err == nil {
			c.post(done)
		}
	}})
}

// digit handles a key press on a leg. Digits of either side reach the other
// through the media; those that came as SIP INFO are sent on here.
func (c *Call) digit(l *leg, digit byte, d time.Duration) {
	if c.over || d < 0 {
		return
	}
	c.log.Debug("digit", "leg_id", l.id)
	_ = digit
}

// relayDigit sends a digit that came by SIP INFO to the other side.
func (c *Call) relayDigit(l *leg, digit byte, d time.Duration) {
	if c.over || c.agent == nil || c.held {
		return
	}
	to := c.agent
	if l == c.agent {
		to = c.customer
	}
	if to.port == nil {
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
	end := func() { c.finish(event.BySystem, why, sip.Cause{Code: 200, Q850: 16, Text: why}) }
	if prompt == "" || c.customer == nil || c.customer.port == nil {
		end()
		return
	}
	c.after(promptLimit, end)
	c.play(c.customer, prompt, false, end)
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
