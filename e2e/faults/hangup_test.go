//go:build e2e && linux

package faults

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordboard/cordboard/e2e/harness"
	"github.com/cordboard/cordboard/gateway/api"
)

// TestCallerHangsUp: at every moment the caller may go, and nothing is left
// behind: no call, entry, leg, lease, port or goroutine; the right rows are
// there (ACD: abandon; LOG-009, LOG-010, LOG-011).
func TestCallerHangsUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	before := r.idle()
	line := newStation(t, "127.0.0.1", nil)
	admin := r.Admin(t)
	expect := func(t *testing.T, from string, want ...string) {
		t.Helper()
		var got []string
		r.CDR(t, nil, func(rows []api.CDRRow) bool { // the call's last row is there
			for _, c := range rows {
				if c.Src == from {
					rows := r.QueueLog(t, harness.GUID(c.GUID), harness.Events(want...))
					for _, l := range rows {
						got = append(got, l.Event)
					}
					return true
				}
			}
			return false
		})
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("rows of %s: %v, want %v", from, got, want)
		}
	}

	t.Run("waiting", func(t *testing.T) {
		c := line.mustCall(t, r.UDP, "59899000001", nil)
		c.hangUp()
		within(t, c.ended, 5*time.Second, "BYE is answered")
		expect(t, "59899000001", "ENTERQUEUE", "ABANDON")
	})
	t.Run("before the answer", func(t *testing.T) {
		// CANCEL at once: sent before or after the 200, whichever wins.
		for n := range 20 {
			p, err := line.call(r.UDP, fmt.Sprintf("5989910%04d", n), did, nil)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(rand.IntN(4000)) * time.Microsecond)
			p.hangUp()
			within(t, p.ended, 10*time.Second, "a cancelled call ends")
		}
	})
	a := r.newDesk(t, 1)
	available := func(t *testing.T) { t.Helper(); admin.AgentIs(t, user(1), "available") }
	t.Run("ringing", func(t *testing.T) {
		available(t)
		c := line.mustCall(t, r.UDP, "59899000002", nil)
		g := a.next(t, 5*time.Second)
		c.hangUp()
		at := time.Now()
		within(t, g.ended, 5*time.Second, "the phone stops ringing")
		if d := time.Since(at); d > time.Second {
			t.Errorf("the phone rang on for %v", d)
		}
		expect(t, "59899000002", "ENTERQUEUE", "ABANDON")
	})
	t.Run("talking", func(t *testing.T) {
		available(t)
		c := line.mustCall(t, r.UDP, "59899000003", nil)
		p := a.next(t, 5*time.Second).mustAnswer(t, nil)
		c.hangUp()
		within(t, p.ended, 5*time.Second, "the agent's leg ends")
		expect(t, "59899000003", "ENTERQUEUE", "CONNECT", "COMPLETECALLER")
		available(t)
	})
	r.nothingLeft(before)
}

// TestHangUpRacesAnswer: the caller's BYE comes within 20 ms before or after
// the agent's answer, many times. Whoever wins, both legs end and the rows are
// either an abandoned call or a connected one, never half of each.
func TestHangUpRacesAnswer(t *testing.T) {
	t.Parallel()
	const agents, calls = 10, 300
	r := newRig(t, agents, func(c *company) { c.record = true })
	before := r.idle()
	line := newStation(t, "127.0.0.1", nil)
	var desks []*desk
	for i := range agents {
		desks = append(desks, r.newDesk(t, i+1))
	}
	type race struct {
		customer *party
		agent    *party
	}
	var mu sync.Mutex
	byFrom := map[string]*party{}
	races := make(chan race, 2*calls)
	var refused atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for _, a := range desks {
		wg.Go(func() {
			for {
				select {
				case g := <-a.ringing:
					mu.Lock()
					c := byFrom[g.d.Request().From().URI.User]
					mu.Unlock()
					if c == nil {
						continue
					}
					// Both on their own, from -20 to +20 ms apart.
					d := time.Duration(rand.IntN(40_000)-20_000) * time.Microsecond
					time.AfterFunc(max(0, d), c.hangUp)
					time.Sleep(max(0, -d))
					_, _ = g.answer(nil)
					races <- race{c, g.party}
				case <-stop:
					return
				}
			}
		})
	}
	room := make(chan struct{}, 30) // calls at once
	for n := range calls {
		room <- struct{}{}
		from := fmt.Sprintf("5989900%04d", n)
		mu.Lock() // the phone may ring before call returns
		p, err := line.call(r.UDP, from, did, nil)
		byFrom[from] = p
		mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			<-p.ended
			if p.cause.Code == 503 { // shed by a machine that is too busy
				refused.Add(1)
				races <- race{}
			}
			<-room
		})
		time.Sleep(15 * time.Millisecond)
	}
	for n := range calls {
		select {
		case x := <-races:
			if x.customer == nil {
				continue
			}
			within(t, x.customer.ended, 40*time.Second, "the customer's leg ends")
			within(t, x.agent.ended, 40*time.Second, "the agent's leg ends")
		case <-time.After(40 * time.Second):
			t.Fatalf("only %d of %d calls were rung", n, calls)
		}
	}
	close(stop)
	wg.Wait()
	admin := r.Admin(t)
	for _, a := range desks {
		admin.AgentIs(t, user(a.n), "available")
	}
	r.nothingLeft(before)
	if code := r.Stop(t); code != 0 {
		t.Errorf("the gateway ended with %d", code)
	}
	c := count(t, r)
	if n := int(refused.Load()); len(c.entered) != calls-n || n > calls/10 {
		t.Errorf("%d entries of %d calls, %d refused", len(c.entered), calls, n)
	}
	t.Logf("%d calls, %d of them connected", len(c.entered), len(c.connects))
	if n := len(c.connects); n < calls/20 || n > calls-calls/20 {
		t.Errorf("%d of %d calls were connected: that was no race", n, calls)
	}
}

// TestAgentHangsUpAtTheAnswer: the agent's BYE follows the answer at once.
func TestAgentHangsUpAtTheAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	before := r.idle()
	line := newStation(t, "127.0.0.1", nil)
	a := r.newDesk(t, 1)
	for n := range 25 {
		c := line.mustCall(t, r.UDP, fmt.Sprintf("5989900%04d", n), nil)
		g := a.next(t, 10*time.Second)
		p, err := g.answer(nil)
		if err != nil {
			t.Fatal(err)
		}
		within(t, p.answered, 5*time.Second, "the answer is acknowledged")
		p.hangUp()
		within(t, c.ended, 5*time.Second, "the customer's call ends")
	}
	r.nothingLeft(before)
	r.Stop(t)
	c := count(t, r)
	if len(c.connects) != 25 {
		t.Errorf("%d calls were connected, want 25", len(c.connects))
	}
}
