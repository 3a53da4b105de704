package demo

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/demo/carrier"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
)

// print tells a newcomer where everything is; its last line is "ready".
func (d *show) print() {
	f := d.accounts
	d.out.printf("Cordboard demo: %s", f.URL)
	d.out.printf("  SIP over WebSocket %s · SIP udp %s · TURN udp %s", f.SIP.WSS, f.SIP.UDP, f.TURN.UDP)
	d.out.printf("  simulated carrier on udp %s · everything about it in %s", f.Carrier, d.o.path("demo.json"))
	d.out.printf("  other commands: gateway doctor --config %s", d.o.Config)
	d.out.printf("  accounts:")
	for _, a := range f.Accounts {
		d.out.printf("    %-10s %-28s extension %s  %s", a.Username, a.Password, a.Extension, strings.Join(a.Roles, ", "))
	}
	d.out.printf("ready")
}

// answer is what a number that an agent calls does.
func (d *show) answer(string) carrier.Behaviour {
	people := Answers()
	d.mu.Lock()
	i := d.turn % len(people)
	d.turn++
	d.mu.Unlock()
	return carrier.Behaviour{Lines: d.answers[i], Pause: 2 * time.Second, HangsUp: people[i].HangsUp, RingFor: 2 * time.Second}
}

// call lets the customers call one after another, two at most at once.
func (d *show) call(ctx context.Context) {
	people := Customers()
	slots := make(chan struct{}, 2)
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := 0; ; i++ {
		wait := 6 * time.Second
		if i == 0 {
			wait = 2 * time.Second
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		c, said := people[i%len(people)], d.said[i%len(people)]
		wg.Go(func() {
			defer func() { <-slots }()
			d.place(ctx, c, said)
		})
	}
}

// place is one customer's call.
func (d *show) place(ctx context.Context, c Customer, said []media.Source) {
	spoken := make(chan struct{})
	d.mu.Lock()
	d.waiting[c.Number] = append(d.waiting[c.Number], spoken)
	d.mu.Unlock()
	defer d.left(c.Number, spoken)
	res, err := d.carrier.Call(ctx, carrier.Call{
		From: c.Number, FromName: c.Name, To: c.DID,
		Behaviour: carrier.Behaviour{
			Lines: said, Pause: 1500 * time.Millisecond, Digits: c.Digits, HangsUp: c.HangsUp,
			Patience: time.Duration(c.Patience) * time.Second, Spoken: spoken,
		},
	})
	switch {
	case err != nil && ctx.Err() == nil:
		d.out.printf("%s  a simulated call failed: %v", now(), err)
	case err == nil && !res.Answered:
		d.out.printf("%s  %s was refused: %d", now(), c.Number, res.Cause.Code)
	}
}

func now() string { return time.Now().Format(time.TimeOnly) }

// follow tells what happens, and tells a customer that an agent is there.
func (d *show) follow(ctx context.Context) {
	names := map[string]string{} // call id: number
	err := d.o.Gateway.Read(ctx, d.o.Gateway.Last(), func(f event.Fact) error {
		switch f.Type { //nolint:exhaustive // the rest is not for this screen
		case event.KindQueueEntered:
			var p event.QueueEntered
			if json.Unmarshal(f.Data, &p) == nil {
				names[p.CallID] = p.Caller
				d.out.printf("%s  %s waits in %s, place %d", now(), shown(p.Caller), p.Queue, p.Position)
			}
		case event.KindOfferMade:
			var p event.OfferMade
			if json.Unmarshal(f.Data, &p) == nil {
				d.out.printf("%s  %s: %s's phone rings", now(), shown(names[p.CallID]), p.Agent)
			}
		case event.KindQueueConnected:
			var p event.QueueConnected
			if json.Unmarshal(f.Data, &p) == nil {
				d.out.printf("%s  %s talks with %s after %d s", now(), shown(names[p.CallID]), p.Agent, p.HoldSeconds)
				d.met(names[p.CallID])
			}
		case event.KindQueueLeft:
			var p event.QueueLeft
			if json.Unmarshal(f.Data, &p) == nil {
				d.out.printf("%s  %s left %s after %d s: %s", now(), shown(names[p.CallID]), p.Queue, p.WaitSeconds, p.Reason)
			}
		case event.KindQueueCompleted:
			var p event.QueueCompleted
			if json.Unmarshal(f.Data, &p) == nil {
				d.out.printf("%s  %s and %s talked for %d s; ended by the %s", now(), shown(names[p.CallID]), p.Agent, p.TalkSeconds, p.By)
			}
		case event.KindRecordingFinished:
			var p event.RecordingFinished
			if json.Unmarshal(f.Data, &p) == nil {
				d.out.printf("%s  %s: recording %s", now(), shown(names[p.CallID]), d.o.path("recordings", filepath.FromSlash(p.Path)))
			}
		case event.KindCallEnded:
			var p event.CallEnded
			if json.Unmarshal(f.Data, &p) == nil {
				d.forget(names, p.CallID)
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		d.o.Log.WarnContext(ctx, "the demo's screen stopped", "err", err)
	}
}

// forget drops a call's name once the last line about it was surely told: the
// recording and the queue's facts may follow the call's end.
func (d *show) forget(names map[string]string, callID string) {
	d.ended = append(d.ended, callID)
	const keep = 20
	if len(d.ended) > keep {
		delete(names, d.ended[0])
		d.ended = d.ended[1:]
	}
}

// shown is a caller as the screen names them.
func shown(number string) string {
	if number == "" {
		return "anonymous"
	}
	return number
}

// met tells the customer who waits longest under a number that an agent is there.
func (d *show) met(number string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := shown(number)
	if all := d.waiting[key]; len(all) > 0 {
		close(all[0])
		d.waiting[key] = all[1:]
	}
}

// left forgets a customer whose call is over.
func (d *show) left(number string, spoken chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting[number] = slices.DeleteFunc(d.waiting[number], func(c chan struct{}) bool { return c == spoken })
	if len(d.waiting[number]) == 0 {
		delete(d.waiting, number)
	}
}
