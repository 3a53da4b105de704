package report

import (
	"time"

	"github.com/cordboard/cordboard/gateway/event"
)

// agentFact applies what happens to agents and members.
func (c *changing) agentFact() (done bool, err error) {
	switch c.f.Type { //nolint:exhaustive // the other kinds belong to others
	case event.KindAgentSignedIn:
		return true, on(c, c.signedIn)
	case event.KindAgentSignedOut:
		return true, on(c, c.signedOut)
	case event.KindAgentPaused:
		return true, on(c, c.paused)
	case event.KindAgentUnpaused:
		return true, on(c, c.unpaused)
	case event.KindBreakStarted:
		return true, on(c, c.breakStarted)
	case event.KindBreakEnded:
		return true, on(c, c.breakEnded)
	case event.KindWrapUpStarted:
		return true, on(c, c.wrapUpStarted)
	case event.KindWrapUpFinished:
		return true, on(c, c.wrapUpFinished)
	case event.KindMemberAdded:
		return true, on(c, func(p event.MemberAdded) error {
			c.log(QueueLogRow{Event: "ADDMEMBER", QueueName: p.Queue, Agent: p.Agent})
			return nil
		})
	case event.KindMemberRemoved:
		return true, on(c, func(p event.MemberRemoved) error {
			c.log(QueueLogRow{Event: "REMOVEMEMBER", QueueName: p.Queue, Agent: p.Agent})
			return nil
		})
	case event.KindQueueCreated:
		return true, on(c, func(p event.QueueCreated) error {
			c.log(QueueLogRow{Event: "CREATEDQUEUE", QueueName: p.Queue})
			return nil
		})
	}
	return false, nil
}

// agent changes what is going on with an agent.
func (c *changing) agent(name string, fn func(*openAgent)) error {
	a := c.m.st.agents[name]
	if a == nil {
		a = &openAgent{}
		c.m.st.agents[name] = a
	}
	fn(a)
	if a.idle() {
		delete(c.m.st.agents, name)
		a = nil
	}
	it, err := keep(itemAgent, name, a)
	c.Open = append(c.Open, it)
	return err
}

func (c *changing) signedIn(p event.AgentSignedIn) error {
	err := c.agent(p.Agent, func(a *openAgent) { a.SignIn, a.At = &p, c.f.Time })
	c.log(QueueLogRow{Event: "AGENTLOGIN", Agent: p.Agent, OrigID: p.Session})
	return err
}

func (c *changing) signedOut(p event.AgentSignedOut) error {
	// data3 is where the old product wrote that nobody asked for it.
	c.log(QueueLogRow{
		Event: "AGENTLOGOFF", Agent: p.Agent, OrigID: p.Session, Times: Times{TalkSeconds: p.LoginSeconds},
	}, num(p.LoginSeconds), "", p.Message)
	return c.agent(p.Agent, func(a *openAgent) { a.SignIn, a.At = nil, time.Time{} })
}

func (c *changing) paused(p event.AgentPaused) error {
	c.log(QueueLogRow{Event: "REALPAUSE", Agent: p.Agent}, "", p.Reason)
	return c.agent(p.Agent, func(a *openAgent) { a.Pause = &spell{At: c.f.Time, Reason: p.Reason} })
}

func (c *changing) unpaused(p event.AgentUnpaused) error {
	c.log(QueueLogRow{Event: "REALUNPAUSE", Agent: p.Agent, Times: Times{TalkSeconds: p.PausedSeconds}},
		num(p.PausedSeconds), p.Reason)
	return c.agent(p.Agent, func(a *openAgent) { a.Pause = nil })
}

func (c *changing) breakStarted(p event.BreakStarted) error {
	c.log(QueueLogRow{Event: "BREAK", Agent: p.Agent}, p.Motive, p.Comment)
	return c.agent(p.Agent, func(a *openAgent) {
		a.Break = &spell{At: c.f.Time, Reason: p.Motive, Comment: p.Comment}
	})
}

func (c *changing) breakEnded(p event.BreakEnded) error {
	c.log(QueueLogRow{Event: "UNBREAK", Agent: p.Agent, Times: Times{TalkSeconds: p.Seconds}},
		p.Motive, p.Comment, num(p.Seconds))
	return c.agent(p.Agent, func(a *openAgent) { a.Break = nil })
}

func (c *changing) wrapUpStarted(p event.WrapUpStarted) error {
	return c.agent(p.Agent, func(a *openAgent) {
		a.WrapUp, a.WrapUpEnd = &p, c.f.Time.Add(time.Duration(p.Seconds)*time.Second)
	})
}

func (c *changing) wrapUpFinished(p event.WrapUpFinished) error {
	if p.SecondsLeft > 0 {
		c.log(QueueLogRow{Event: "FINISHWRAPUP", Agent: p.Agent, QueueName: p.Campaign, CallID: p.CallID}, num(p.SecondsLeft))
	}
	return c.agent(p.Agent, func(a *openAgent) { a.WrapUp, a.WrapUpEnd = nil, time.Time{} })
}
