package call

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/sip"
)

// mailboxSize bounds what waits for a call's goroutine. Its senders are the
// call's own dialogs and ports, a handful of events each.
const mailboxSize = 64

// Info is what a call is about; it does not change during the call.
type Info struct {
	ID        string // guid, call id, name of the recording
	Direction event.Direction
	From      string // as digits in E.164, or an extension
	FromName  string
	To        string
	Trunk     string
	Campaign  string
	// Agent dialled an outbound or internal call; empty for inbound ones.
	Agent string
	// Urgent calls are admitted whatever the load and while draining
	// (emergency numbers).
	Urgent bool
	// Record says whether the call is recorded from its connection on.
	Record bool
	// MusicOnHold names what the customer hears on hold; empty = the built-in.
	MusicOnHold string
}

// Call is one conversation. All fields below the mailbox belong to its goroutine.
type Call struct {
	Info

	sw      *Switch
	log     *slog.Logger
	owner   Owner
	mailbox chan func()
	done    chan struct{}

	started   time.Time
	connected time.Time     // when the present agent was joined; zero = nobody
	talked    time.Duration // with agents before the present one
	customer  *leg
	rings     map[string]*ring // by agent
	agent     *leg             // who is joined with the customer
	legs      map[string]*leg  // all that are not given back
	keep      *keep            // a lost agent's place
	held      bool
	late      bool // the owner took the present agent's offer back as they answered
	dropping  bool // the last prompt is played
	begun     bool // CallStarted was written, or should have been
	over      bool
	told      bool // the owner knows that the call is over
	closed    bool // CallEnded was written
	rec       *recording
	timers    timers
	pairs     int // CDRs written
	out       *out
	localSDP  []byte // our description for the customer, sent with the 200
	lastAgent string
	echo      bool // the phone hears itself; nothing of it is journaled
}

// newCall makes a call and starts its goroutine.
func (s *Switch) newCall(info Info, owner Owner) (*Call, error) {
	if info.ID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("make a call id: %w", err)
		}
		info.ID = id.String()
	}
	c := &Call{
		Info:    info,
		sw:      s,
		log:     s.o.Log.With("call_id", info.ID),
		owner:   owner,
		mailbox: make(chan func(), mailboxSize),
		done:    make(chan struct{}),
		started: s.o.Now(),
		rings:   map[string]*ring{},
		legs:    map[string]*leg{},
	}
	if err := s.admit(c); err != nil {
		return nil, err
	}
	go c.run() // forget releases the switch's wait group
	return c, nil
}

// run owns the call. It ends once the call is over.
func (c *Call) run() {
	defer c.sw.forget(c)
	defer close(c.done)
	for !c.over {
		if !c.step(<-c.mailbox) {
			c.step(func() { c.finish(event.BySystem, "internal error", internalError()) })
			c.over = true
		}
	}
	c.sweep()
}

func internalError() sip.Cause { return sip.Cause{Code: 500, Text: "internal error"} }

// step runs one piece of work; it reports false after a panic, which ends this
// call alone.
func (c *Call) step(fn func()) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("call panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	fn()
	return true
}

// sweep gives back what the end of the call has left: nothing, unless that
// panicked.
func (c *Call) sweep() {
	c.timers.stopAll()
	for _, l := range c.legs {
		c.log.Error("leg was left", "leg_id", l.id)
		if !c.step(func() { c.endLeg(l, internalError()) }) {
			c.step(func() { l.port.Close() })
		}
	}
	c.step(func() { c.stopRecording() })
	c.step(func() { c.tellOwner(event.BySystem, "internal error") })
	c.step(func() { c.writeEnd(event.BySystem, "internal error") })
}

// post hands fn to the call's goroutine. It is dropped only when the call is over.
func (c *Call) post(fn func()) {
	select {
	case c.mailbox <- fn:
	case <-c.done:
	}
}

// do runs fn on the call's goroutine and returns its error. If ctx ends first,
// fn may still run.
func (c *Call) do(ctx context.Context, fn func() error) error {
	res := make(chan error, 1)
	select {
	case c.mailbox <- func() { res <- fn() }:
	case <-c.done:
		return ErrEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-res:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.done: // fn may have been what ended the call
		select {
		case err := <-res:
			return err
		default:
			return ErrEnded
		}
	}
}

// now is the switch's clock.
func (c *Call) now() time.Time { return c.sw.o.Now() }

// journal appends facts that happen now. The stream keeps what it could not
// take at once; an error means that a fact is lost, which a person must see.
func (c *Call) journal(p ...event.Payload) {
	if c.echo {
		return
	}
	if err := c.sw.o.Journal.Append(c.sw.ctx, c.now(), p...); err != nil {
		c.log.Error("fact lost", "err", err)
	}
}

// newLeg makes a leg of this call in state trying.
func (c *Call) newLeg(s side, port *media.Port, far party) (*leg, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make a leg id: %w", err)
	}
	if t, ok := c.sw.o.Endpoint(far.agent); ok && far.agent != "" {
		far.endpoint = t.SIPUser
	}
	l := &leg{id: id.String(), side: s, port: port, far: far}
	l.times.started = c.now()
	c.legs[l.id] = l
	return l, nil
}

// finish ends the whole call: every leg, the recording, the facts. cause is
// what the legs that are still up are told.
func (c *Call) finish(by event.By, why string, cause sip.Cause) {
	if c.over {
		return
	}
	c.over = true
	c.timers.stopAll()
	c.disconnect(by, cause)
	for _, g := range c.rings {
		c.endRing(g, by, RingResult{Outcome: OutcomeCancelled, Cause: cancelCause(false)})
	}
	c.keep = nil
	c.finishOut(by, cause)
	if c.agent != nil {
		c.endLeg(c.agent, cause)
		c.agent = nil
	}
	if c.customer != nil {
		if c.pairs == 0 {
			c.customer.because(cause)
			c.cdr(c.customer, nil, by)
		}
		c.endLeg(c.customer, cause)
	}
	c.stopRecording()
	c.tellOwner(by, why)
	c.writeEnd(by, why)
}

// tellOwner says once that the call is over.
func (c *Call) tellOwner(by event.By, why string) {
	if c.told || c.owner == nil {
		return
	}
	c.told = true
	c.owner.Gone(c.ID, by, why)
}

// writeEnd writes the last facts, once, of a call that has begun.
func (c *Call) writeEnd(by event.By, why string) {
	if c.closed || !c.begun {
		return
	}
	c.closed = true
	facts := make([]event.Payload, 0, 2)
	if c.Direction == event.Outbound {
		facts = append(facts, c.outCall())
	}
	facts = append(facts, event.CallEnded{
		CallID: c.ID, Campaign: c.Campaign, Agent: c.lastAgent, By: by, Cause: why,
		DurationMs: c.now().Sub(c.started).Milliseconds(), TalkMs: c.talked.Milliseconds(),
	})
	c.journal(facts...)
	c.log.Info("call ended", "by", string(by), "cause", why)
}

// endLeg ends one leg: its dialog, its media, its trunk channel; and writes
// what its media was like. It does nothing for a leg that has ended.
func (c *Call) endLeg(l *leg, cause sip.Cause) {
	if l.gone {
		return
	}
	l.gone = true
	l.set(StateEnded, c.now())
	l.because(cause)
	if l.dialog != nil {
		if err := l.dialog.Hangup(cause); err != nil {
			c.log.Debug("hang up", "leg_id", l.id, "err", err)
		}
	}
	if l.release != nil {
		l.release()
		l.release = nil
	}
	codec := l.port.Codec()
	q := l.port.Close()
	delete(c.legs, l.id)
	if l.times.answered.IsZero() || codec == "" {
		return
	}
	c.journal(event.CallQuality{
		CallID: c.ID, LegID: l.id, Side: l.side.String(), Codec: codec,
		PacketsIn: q.Received.Packets, PacketsOut: q.Sent.Packets, LostIn: q.Received.Lost,
		LossInPct: q.Received.LossPercent(), LossOutPct: q.Sent.LossPercent(),
		JitterInMs: milliseconds(q.Received.Jitter), JitterOutMs: milliseconds(q.Sent.Jitter),
		RTTMs: milliseconds(q.RTT), MOS: worse(q.Received.MOS, q.Sent.MOS),
	})
}

// milliseconds is d with its fraction.
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// worse is the lower of two scores of which either may be unknown (0).
func worse(a, b float64) float64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// timers are a call's own; a stale firing is ignored by its generation.
type timers struct {
	gen   uint64
	armed map[uint64]*time.Timer
}

// after runs fn on the call's goroutine in d, unless the returned stop is
// called first.
func (c *Call) after(d time.Duration, fn func()) (stop func()) {
	t := &c.timers
	t.gen++
	gen := t.gen
	if t.armed == nil {
		t.armed = map[uint64]*time.Timer{}
	}
	t.armed[gen] = time.AfterFunc(d, func() {
		c.post(func() {
			if _, ok := t.armed[gen]; !ok {
				return
			}
			delete(t.armed, gen)
			fn()
		})
	})
	return func() {
		if timer, ok := t.armed[gen]; ok {
			timer.Stop()
			delete(t.armed, gen)
		}
	}
}

func (t *timers) stopAll() {
	for gen, timer := range t.armed {
		timer.Stop()
		delete(t.armed, gen)
	}
}
