package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// desk is a gateway with agents at desk phones and customers behind the plain
// trunk.
type desk struct {
	g       *gateway
	phones  *phones
	callers *callers
	idle    float64
}

func (b *bench) desk(ctx context.Context, name string, agents int) (*desk, error) {
	g, err := b.start(ctx, name)
	if err != nil {
		return nil, err
	}
	d := &desk{g: g}
	if _, err := g.apply.Apply(ctx, state(agents), false, false); err != nil {
		d.close()
		return nil, fmt.Errorf("apply: %w", err)
	}
	if d.phones, err = newPhones(ctx, g.sip); err != nil {
		d.close()
		return nil, err
	}
	if err := d.phones.staff(ctx, g, agents); err != nil {
		d.close()
		return nil, err
	}
	if d.callers, err = newCallers(ctx, hostTrunk, g.sip); err != nil {
		d.close()
		return nil, err
	}
	if err := wait(ctx, 2*time.Second); err != nil {
		d.close()
		return nil, err
	}
	if d.idle, err = g.idle(ctx, 5*time.Second); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *desk) close() {
	if d.callers != nil {
		d.callers.close()
	}
	_ = d.g.stop()
	if d.phones != nil {
		d.phones.close()
	}
}

// queueRate is the goal's rate of calls a second; the latency is measured at
// latencyRate.
const (
	queueAgents = 300
	queueRate   = 130
	latencyRate = 40
)

// queue measures goal a: what a call through a queue costs, and how fast it
// reaches an agent.
func (b *bench) queue(ctx context.Context) error {
	d, err := b.desk(ctx, "queue", queueAgents)
	if err != nil {
		return err
	}
	defer d.close()
	var per []float64
	calls, failed := 0, 0
	n := queueRate * b.short(5, 15)
	for range max(b.rounds, 1) {
		if err := b.calm(ctx); err != nil {
			return err
		}
		before := d.phones.ended.Load()
		m, err := measure(d.g.pid)
		if err != nil {
			return err
		}
		s, err := b.sipp(ctx, "queue-call.xml", d.g.sip, queueRate, n)
		if err != nil {
			return err
		}
		if err := until(ctx, 10*time.Second, "agents hang up", func() bool { return d.phones.ended.Load()-before >= int64(s.succeeded) }); err != nil {
			b.say("   %v", err)
		}
		used, took, err := m.read()
		if err != nil {
			return err
		}
		reached := int(d.phones.ended.Load() - before)
		calls += s.succeeded
		failed += s.failed + max(0, s.succeeded-reached)
		net := ms(used) - d.idle*ms(took)
		per = append(per, net/float64(max(1, reached)))
		b.say("   %d calls at %d/s: %d failed, %d reached an agent, %.2f ms CPU a call", s.succeeded, queueRate, s.failed, reached, per[len(per)-1])
	}
	b.add("queue call cpu", median(per), "ms", calls, "INVITE, queue, agent, BYE without media at %d calls/s; idle share %.1f %% subtracted; goal 4", queueRate, 100*d.idle)
	b.add("queue call failures", float64(failed), "calls", calls, "at %d calls/s; goal 0", queueRate)
	return b.latency(ctx, d)
}

// latency measures the time from a customer's INVITE to the agent's.
func (b *bench) latency(ctx context.Context, d *desk) error {
	if err := b.calm(ctx); err != nil {
		return err
	}
	var mu sync.Mutex
	rang := map[string]time.Time{}
	d.phones.ringing = func(number string, at time.Time) {
		mu.Lock()
		defer mu.Unlock()
		rang[number] = at
	}
	defer func() { d.phones.ringing = nil }()
	sent := map[string]time.Time{}
	var errs []error
	var wg sync.WaitGroup
	t := time.NewTicker(time.Second / latencyRate)
	defer t.Stop()
	n := latencyRate * b.short(4, 15)
	sink, err := listen(ctx, hostTrunk)
	if err != nil {
		return err
	}
	defer func() { _ = sink.Close() }()
	sdp := describe(localOf(sink), "")
	for range n {
		select {
		case <-t.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		k := d.callers.place(didPlain, sdp)
		mu.Lock()
		sent[k.number] = k.sent
		mu.Unlock()
		wg.Go(func() {
			err := k.wait(ctx)
			if err == nil {
				if err = wait(ctx, 200*time.Millisecond); err == nil {
					err = k.hangup(ctx)
				}
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	var took []float64
	for number := range maps.Keys(sent) {
		if at, ok := rang[number]; ok {
			took = append(took, ms(at.Sub(sent[number])))
		}
	}
	slices.Sort(took)
	b.add("invite to agent invite p50", percentile(took, 50), "ms", len(took), "at %d calls/s, %d of %d calls failed; goal 2", latencyRate, len(errs)+n-len(took), n)
	b.add("invite to agent invite p99", percentile(took, 99), "ms", len(took), "as above")
	return nil
}

// overload measures what callers above the capacity are told, and how fast.
func (b *bench) overload(ctx context.Context) error {
	d, err := b.desk(ctx, "overload", queueAgents)
	if err != nil {
		return err
	}
	defer d.close()
	for _, rate := range []int{400, 800} {
		if err := b.calm(ctx); err != nil {
			return err
		}
		s, err := b.sipp(ctx, "overload-call.xml", d.g.sip, rate, rate*b.short(5, 15))
		if err != nil {
			return err
		}
		b.add(fmt.Sprintf("overload %d/s served", rate), float64(s.succeeded-len(s.refused)), "calls", s.total, "%d calls/s; the others were refused or failed", rate)
		b.add(fmt.Sprintf("overload %d/s failed", rate), float64(s.failed), "calls", s.total, "neither served nor refused with 503")
		b.add(fmt.Sprintf("overload %d/s answer p99", rate), percentile(s.answered, 99), "ms", len(s.answered), "INVITE to 200 of those served, p50 %.1f", percentile(s.answered, 50))
		b.add(fmt.Sprintf("overload %d/s refusal p50", rate), percentile(s.refused, 50), "ms", len(s.refused), "INVITE to 503; goal 50")
		b.add(fmt.Sprintf("overload %d/s refusal p99", rate), percentile(s.refused, 99), "ms", len(s.refused), "as above")
		if err := wait(ctx, 5*time.Second); err != nil {
			return err
		}
	}
	return nil
}
