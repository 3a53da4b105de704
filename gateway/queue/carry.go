package queue

import (
	"context"
	"slices"
	"time"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/event"
)

// carryOut does what one command says. It runs on the runner's goroutine and
// waits for nothing.
func (r *Runner) carryOut(ctx context.Context, now time.Time, c Command) {
	rec, ok := r.records[c.CallID]
	if !ok {
		if c.Kind == CommandRefused {
			r.stopRinging(c.CallID, c.Agent, c.Why)
		}
		return
	}
	switch c.Kind {
	case CommandEntered:
		r.fact(rec, now, event.QueueEntered{
			CallID: c.CallID, Queue: c.Queue, Caller: rec.caller.From, URL: rec.caller.URL, Position: c.Position,
		}, Decision{What: "entered", Why: "place " + itoa(c.Position)}, func(v *EntryView) {
			v.State, v.Since, v.OriginalPosition = StateWaiting, now, c.OriginalPosition
		})
	case CommandOffer:
		r.offer(now, rec, c)
	case CommandOfferEnded:
		r.offerEnded(now, rec, c)
	case CommandOverdue:
		r.count.repairs.Add(1)
		r.log.WarnContext(ctx, "offer had no result", "call_id", c.CallID, "agent_id", c.Agent)
	case CommandRefused:
		r.stopRinging(c.CallID, c.Agent, c.Why)
	case CommandPause:
		if err := r.o.Agents.PauseNoAnswer(c.Agent); err != nil {
			r.log.WarnContext(ctx, "agent not paused", "agent_id", c.Agent, "err", err)
		}
		rec.note(Decision{At: now, What: "agent paused", Agent: c.Agent, Why: c.Why})
	case CommandConnected:
		r.connected(ctx, now, rec, c)
	case CommandReentered:
		rec.release(c.Agent, 0, "")
		r.fact(rec, now, event.QueueReentered{CallID: c.CallID, Queue: c.Queue},
			Decision{What: "reentered", Agent: c.Agent, Why: "the agent was lost"}, func(v *EntryView) {
				v.State, v.Since, v.Agents = StateWaiting, now, nil
			})
	case CommandLeft:
		r.fact(rec, now, event.QueueLeft{
			CallID: c.CallID, Queue: c.Queue, Reason: c.Reason, Key: c.Key, Position: c.Position,
			OriginalPosition: c.OriginalPosition, WaitSeconds: seconds(c.Hold),
		}, Decision{What: "left", Why: string(c.Reason)}, goneView)
		r.end(rec, c)
	case CommandCompleted:
		rec.release(c.Agent, c.WrapUp, c.Queue)
		r.fact(rec, now, event.QueueCompleted{
			CallID: c.CallID, Queue: c.Queue, Agent: c.Agent, By: c.By, HoldSeconds: seconds(c.Hold),
			TalkSeconds: seconds(c.Talk), OriginalPosition: c.OriginalPosition, Cause: c.Cause,
		}, Decision{What: "completed", Agent: c.Agent, Why: "by " + string(c.By)}, goneView)
		r.end(rec, c)
	}
}

func goneView(v *EntryView) { v.State, v.Agents = StateGone, nil }

// offer takes a lease on the agent and rings, or takes the decision back.
func (r *Runner) offer(now time.Time, rec *record, c Command) {
	if !r.core.holds(c.CallID, c.Agent) {
		return // the entry ended while earlier commands were carried out
	}
	kind := agent.KindOffer
	if c.InUse {
		kind = agent.KindOfferInUse
	}
	l, err := r.o.Agents.Lease(c.Agent, c.CallID, kind, c.Queue, c.RingFor+RingGrace+leaseGrace)
	if err != nil {
		rec.note(Decision{At: now, What: "not offered", Agent: c.Agent, Why: err.Error()})
		r.decided(r.core.Withdraw(now, c.CallID, c.Agent))
		return
	}
	rec.leases[c.Agent] = l
	r.count.offers.Add(1)
	first := !rec.rung && c.Hold < time.Millisecond
	rec.rung = true
	r.actions.Do(c.CallID, func(ctx context.Context) {
		if first {
			r.count.ringDelay.add(time.Since(rec.asked))
		}
		err := r.o.Calls.Ring(ctx, c.CallID, c.Agent, RingOptions{
			Campaign: c.Queue, RingFor: c.RingFor, AutoAnswer: c.AutoAnswer, WaitedFor: c.Hold, Why: c.Why,
		})
		if err != nil {
			r.log.WarnContext(ctx, "agent not rung", "call_id", c.CallID, "agent_id", c.Agent, "err", err)
			r.Result(c.CallID, c.Agent, RingResult{Outcome: Unreachable})
		}
	})
	r.fact(rec, now, event.OfferMade{CallID: c.CallID, Queue: c.Queue, Agent: c.Agent, Why: c.Why},
		Decision{What: "offered", Agent: c.Agent, Why: c.Why}, func(v *EntryView) {
			if v.State != StateRinging {
				v.State, v.Since, v.Agents = StateRinging, now, nil
			}
			v.Agents = append(slices.Clip(v.Agents), c.Agent)
		})
}

func (r *Runner) offerEnded(now time.Time, rec *record, c Command) {
	if _, ok := rec.leases[c.Agent]; !ok {
		return // it was never made
	}
	rec.release(c.Agent, 0, "")
	if c.Stop {
		r.stopRinging(c.CallID, c.Agent, c.Why)
	}
	why := string(c.Outcome)
	if c.Why != "" {
		why += ": " + c.Why
	}
	r.fact(rec, now, event.OfferEnded{
		CallID: c.CallID, Queue: c.Queue, Agent: c.Agent, Outcome: string(c.Outcome), RingMs: max(0, c.Ring.Milliseconds()),
	}, Decision{What: "offer ended", Agent: c.Agent, Why: why}, func(v *EntryView) {
		left := make([]string, 0, len(v.Agents))
		for _, a := range v.Agents {
			if a != c.Agent {
				left = append(left, a)
			}
		}
		v.Agents = left
		if len(left) == 0 && v.State == StateRinging {
			v.State, v.Since = StateWaiting, now
		}
	})
}

func (r *Runner) connected(ctx context.Context, now time.Time, rec *record, c Command) {
	l, ok := rec.leases[c.Agent]
	if !ok || l.Answered() != nil {
		// The lease ended under the answer: hold the agent by a new one.
		if !c.Late {
			r.count.repairs.Add(1)
		}
		l, err := r.o.Agents.Lease(c.Agent, c.CallID, agent.KindDialled, c.Queue, 0)
		if err != nil {
			r.log.WarnContext(ctx, "agent not held", "call_id", c.CallID, "agent_id", c.Agent, "err", err)
		} else {
			rec.leases[c.Agent] = l
		}
	}
	r.fact(rec, now, event.QueueConnected{
		CallID: c.CallID, Queue: c.Queue, Agent: c.Agent, LegID: c.LegID,
		HoldSeconds: seconds(c.Hold), RingSeconds: seconds(c.Ring), Reattached: c.Again,
	}, Decision{What: "connected", Agent: c.Agent, Why: "answered"}, func(v *EntryView) {
		v.State, v.Since, v.Agents = StateTalking, now, []string{c.Agent}
	})
}

// fact appends a call's fact in its turn, then shows it to viewers.
func (r *Runner) fact(rec *record, now time.Time, p event.Payload, d Decision, show func(*EntryView)) {
	d.At = now
	rec.note(d)
	r.facts.Do(rec.caller.CallID, func(ctx context.Context) {
		r.append(ctx, now, p)
		v := EntryView{CallID: rec.caller.CallID, Queue: rec.caller.Queue, From: rec.caller.From, EnteredAt: now}
		if old := rec.view.Load(); old != nil {
			v = *old
		}
		show(&v)
		rec.view.Store(&v)
	})
}

func (r *Runner) append(ctx context.Context, now time.Time, p ...event.Payload) {
	if err := r.o.Journal.Append(ctx, now, p...); err != nil {
		r.count.failed.Add(uint64(len(p)))
		r.log.ErrorContext(ctx, "queue facts not journaled", "kind", string(p[0].Kind()), "facts", len(p), "err", err)
	}
}

// end forgets a call that is out of its queue, after its last fact was given.
func (r *Runner) end(rec *record, c Command) {
	for name := range rec.leases {
		rec.release(name, 0, "")
	}
	delete(r.records, c.CallID)
	if c.Drop {
		why := c.Reason
		if why == "" {
			why = event.LeftClosed
		}
		// On the facts' lane first: the caller is told after the fact.
		r.facts.Do(c.CallID, func(context.Context) {
			r.actions.Do(c.CallID, func(context.Context) { r.o.Calls.Drop(c.CallID, why) })
		})
	}
	if len(r.ended) < keptEnded {
		r.ended = append(r.ended, rec)
	} else {
		old := r.ended[r.endedNext]
		if r.endedByID[old.caller.CallID] == old {
			delete(r.endedByID, old.caller.CallID)
		}
		r.ended[r.endedNext] = rec
		r.endedNext = (r.endedNext + 1) % keptEnded
	}
	r.endedByID[c.CallID] = rec
}

func (r *Runner) stopRinging(callID, agentName, why string) {
	r.actions.Do(callID, func(context.Context) { r.o.Calls.StopRinging(callID, agentName, why) })
}

// note remembers a decision, the last keptDecisions of them.
func (rec *record) note(d Decision) {
	if len(rec.decisions) == keptDecisions {
		rec.decisions = append(rec.decisions[:1], rec.decisions[2:]...)
	}
	rec.decisions = append(rec.decisions, d)
}

func (rec *record) release(agentName string, wrapUp time.Duration, campaignName string) {
	if l, ok := rec.leases[agentName]; ok {
		delete(rec.leases, agentName)
		l.Release(wrapUp, campaignName)
	}
}

// campaignFacts writes what changed between two sets of campaigns.
func (r *Runner) campaignFacts(now time.Time, campaigns []campaign.Campaign) {
	first := r.configured == nil
	next := make(map[string]campaign.Campaign, len(campaigns))
	for _, c := range campaigns {
		next[c.Name] = c
		if first {
			continue
		}
		var facts []event.Payload
		old, known := r.configured[c.Name]
		if !known {
			facts = append(facts, event.QueueCreated{Queue: c.Name})
		}
		before, after := members(old), members(c)
		for _, m := range c.Members {
			if !before[m.User] {
				facts = append(facts, event.MemberAdded{Queue: c.Name, Agent: m.User})
			}
		}
		for _, m := range old.Members {
			if !after[m.User] {
				facts = append(facts, event.MemberRemoved{Queue: c.Name, Agent: m.User})
			}
		}
		if len(facts) > 0 {
			r.facts.Do("queue "+c.Name, func(ctx context.Context) { r.append(ctx, now, facts...) })
		}
	}
	r.configured = next
}

func members(c campaign.Campaign) map[string]bool {
	out := make(map[string]bool, len(c.Members))
	for _, m := range c.Members {
		out[m.User] = true
	}
	return out
}

// seconds are whole seconds, as the queue log counts them.
func seconds(d time.Duration) int64 { return max(0, int64(d/time.Second)) }
