//go:build e2e && linux

package faults

import (
	"crypto/tls"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/cordboard/cordboard/e2e/harness"
	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/softphone"
	"github.com/cordboard/cordboard/softphone/audio"
)

// app starts an agent's app (bin/softphone, signed in) that answers by itself
// when told so, saying a tone.
func (r *rig) app(t *testing.T, n int, tone float64, args ...string) *harness.Phone {
	t.Helper()
	o := harness.PhoneOptions{Login: user(n), Password: password, Args: args}
	if tone > 0 {
		o.Play = harness.ToneFile(t, tone, 20*time.Second)
	}
	p := r.Phone(t, o)
	p.Next(t, "registered")
	r.Admin(t).AgentIs(t, user(n), "available")
	return p
}

// crash ends an app as a power failure would.
func (r *rig) crash(t *testing.T, p *harness.Phone) {
	t.Helper()
	r.crashed++
	p.Signal(syscall.SIGKILL)
	p.Wait(t, harness.Patience)
}

// TestAppKilledWhileRinging: the next agent is rung at once, not after the
// ring time.
func TestAppKilledWhileRinging(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, func(c *company) { c.ring = 30 })
	before := r.idle()
	app := r.app(t, 1, 0) // does not answer
	line := newStation(t, "127.0.0.1", nil)
	c := line.mustCall(t, r.UDP, "59899000001", nil)
	app.Next(t, "incoming")
	second := r.newDesk(t, 2)
	at := time.Now()
	r.crash(t, app)
	g := second.next(t, 10*time.Second)
	if took := g.at.Sub(at); took > 1500*time.Millisecond {
		t.Errorf("the next agent was rung after %v", took)
	}
	p := g.mustAnswer(t, nil)
	c.hangUp()
	within(t, p.ended, 5*time.Second, "the call ends")
	rows := r.QueueLog(t, harness.GUID(g.guid), harness.Events("COMPLETECALLER"))
	t.Log(harness.Show(rows))
	if n := events(rows, "RINGNOANSWER"); n != 0 {
		t.Errorf("%d RINGNOANSWER for an app that was gone", n)
	}
	// The dead app is not rung for the next caller, and its agent shows offline.
	if a := r.Admin(t).Agent(t, user(1)); a.State != "offline" || a.Reachable {
		t.Errorf("the agent of the dead app is %s, reachable %v", a.State, a.Reachable)
	}
	r.nothingLeft(before)
}

func events(rows []api.QueueLogRow, name string) int {
	n := 0
	for _, r := range rows {
		if r.Event == name {
			n++
		}
	}
	return n
}

// TestAppKilledWhileTalking: the customer hears comfort audio, the app that
// starts again is rung and answers by itself; one guid, one recording, one
// CONNECT (contract: agent lost in a call).
func TestAppKilledWhileTalking(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, func(c *company) { c.record = true })
	before := r.idle()
	facts := r.Facts(t)
	app := r.app(t, 1, 1000, "--answer")
	line := newStation(t, "127.0.0.1", nil)
	cv := newVoice(t, 440)
	c := line.mustCall(t, r.UDP, "59899000001", cv)
	app.Next(t, "answered")
	cv.hears(t, "the customer", 1000, 10*time.Second)
	con, _ := harness.Fact(t, facts, 0, func(event.QueueConnected) bool { return true })

	time.Sleep(1500 * time.Millisecond) // for the recording
	killed := time.Now()
	r.crash(t, app)
	lost, e := harness.Fact(t, facts, 0, func(f event.CallAgentLost) bool { return f.CallID == con.CallID })
	t.Logf("lost after %v: %s", e.Time.Sub(killed), lost.Cause)
	if d := e.Time.Sub(killed); d > 3*time.Second {
		t.Errorf("the loss was noticed after %v", d)
	}
	comfortable(t, cv, 1000)
	if c.over() {
		t.Fatalf("the customer was hung up on: %+v", c.cause)
	}

	app = r.Phone(t, harness.PhoneOptions{Login: user(1), Password: password, Play: harness.ToneFile(t, 700, 20*time.Second)})
	app.Next(t, "answered") // by itself: there is no --answer
	back, _ := harness.Fact(t, facts, e.Seq, func(event.CallAgentBack) bool { return true })
	if back.CallID != con.CallID || back.Agent != user(1) {
		t.Errorf("the agent is back in %s as %s", back.CallID, back.Agent)
	}
	cv.hears(t, "the customer", 700, 10*time.Second)
	time.Sleep(1500 * time.Millisecond) // for the recording
	c.hangUp()
	app.Next(t, "ended")

	rows := r.QueueLog(t, harness.GUID(con.CallID), harness.Events("COMPLETECALLER"))
	t.Log(harness.Show(rows))
	for name, want := range map[string]int{"ENTERQUEUE": 1, "CONNECT": 1, "COMPLETECALLER": 1, "COMPLETEAGENT": 0, "ABANDON": 0} {
		if n := events(rows, name); n != want {
			t.Errorf("%d %s, want %d", n, name, want)
		}
	}
	_, audio := r.Recording(t, con.CallID, "wav")
	audio.WantTone(t, "the agent before", 1, 1000, time.Second)
	audio.WantTone(t, "the agent afterwards, in the same file", 1, 700, time.Second)
	audio.WantTone(t, "the customer", 0, 440, 4*time.Second)
	if code := app.Close(t); code != 0 {
		t.Errorf("the app ended with %d", code)
	}
	r.nothingLeft(before)
}

// comfortable asserts that a customer hears something that is not the lost
// agent, within two seconds and then without a gap longer than the pauses of
// the comfort audio.
func comfortable(t *testing.T, v *voice, gone float64) {
	t.Helper()
	end := time.Now().Add(5 * time.Second)
	for v.loudness(400*time.Millisecond) < 100 || v.share(gone, 400*time.Millisecond) > 0.5 {
		if time.Now().After(end) {
			t.Fatalf("the customer hears nothing: loudness %.0f, packets %d", v.loudness(time.Second), v.got.Load())
		}
		time.Sleep(20 * time.Millisecond)
	}
	v.forget()
	time.Sleep(3 * time.Second)
	pcm := v.last(3 * time.Second)
	if len(pcm) < 2*rate {
		t.Errorf("the customer got %d ms of audio in 3 s", len(pcm)/8)
	}
	quiet, longest := 0, 0
	for ; len(pcm) >= frame; pcm = pcm[frame:] {
		if rms(pcm[:frame]) < 50 {
			if quiet++; quiet > longest {
				longest = quiet
			}
		} else {
			quiet = 0
		}
	}
	t.Logf("longest silence in the comfort audio: %d ms, loudness %.0f", longest*20, v.loudness(3*time.Second))
	if longest*20 > 1800 {
		t.Errorf("the comfort audio is silent for %d ms", longest*20)
	}
}

// TestAppDoesNotComeBack: after the time the caller is at the head of the queue
// with the same entry, and another agent takes the call.
func TestAppDoesNotComeBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, func(c *company) { c.record = true }, `reattach: 3s`)
	before := r.idle()
	facts := r.Facts(t)
	app := r.app(t, 1, 1000, "--answer")
	line := newStation(t, "127.0.0.1", nil)
	cv, av := newVoice(t, 440), newVoice(t, 700)
	c := line.mustCall(t, r.UDP, "59899000001", cv)
	app.Next(t, "answered")
	cv.hears(t, "the customer", 1000, 10*time.Second)
	con, _ := harness.Fact(t, facts, 0, func(event.QueueConnected) bool { return true })
	time.Sleep(time.Second) // for the recording
	// Somebody else waits: they came later.
	other := line.mustCall(t, r.UDP, "59899000002", nil)
	killed := time.Now()
	r.crash(t, app)
	re, e := harness.Fact(t, facts, 0, func(event.QueueReentered) bool { return true })
	if re.CallID != con.CallID {
		t.Errorf("call %s is back in the queue, not %s", re.CallID, con.CallID)
	}
	if d := e.Time.Sub(killed); d < 3*time.Second || d > 8*time.Second {
		t.Errorf("the caller is back in the queue after %v", d)
	}
	second := r.newDesk(t, 2)
	g := second.next(t, 10*time.Second)
	if g.guid != con.CallID {
		t.Fatalf("the agent is rung for %s before %s, who was there first", g.guid, con.CallID)
	}
	p := g.mustAnswer(t, av)
	cv.hears(t, "the customer", 700, 5*time.Second)
	av.hears(t, "the second agent", 440, 5*time.Second)
	time.Sleep(1200 * time.Millisecond)
	p.hangUp()
	within(t, c.ended, 5*time.Second, "the customer's call ends")
	g = second.next(t, 10*time.Second) // the other caller's turn
	p = g.mustAnswer(t, nil)
	other.hangUp()
	within(t, p.ended, 5*time.Second, "the other call ends")

	rows := r.QueueLog(t, harness.GUID(con.CallID), harness.Events("COMPLETEAGENT"))
	t.Log(harness.Show(rows))
	for name, want := range map[string]int{"ENTERQUEUE": 1, "CONNECT": 1, "COMPLETEAGENT": 1, "COMPLETECALLER": 0, "ABANDON": 0} {
		if n := events(rows, name); n != want {
			t.Errorf("%d %s, want %d", n, name, want)
		}
	}
	cdrs := r.CDR(t, harness.GUID(con.CallID), func(rows []api.CDRRow) bool { return len(rows) >= 2 })
	if len(cdrs) != 2 {
		t.Errorf("%d CDRs, want one for each agent: %+v", len(cdrs), cdrs)
	}
	_, audio := r.Recording(t, con.CallID, "wav")
	audio.WantTone(t, "the first agent", 1, 1000, 500*time.Millisecond)
	audio.WantTone(t, "the second agent, in the same file", 1, 700, 500*time.Millisecond)
	r.nothingLeft(before)
}

// TestCustomerHangsUpWhileAgentIsLost: nothing is left, and the agent who comes
// back is not rung.
func TestCustomerHangsUpWhileAgentIsLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	before := r.idle()
	facts := r.Facts(t)
	app := r.app(t, 1, 1000, "--answer")
	line := newStation(t, "127.0.0.1", nil)
	cv := newVoice(t, 440)
	c := line.mustCall(t, r.UDP, "59899000001", cv)
	app.Next(t, "answered")
	cv.hears(t, "the customer", 1000, 10*time.Second)
	r.crash(t, app)
	lost, _ := harness.Fact(t, facts, 0, func(event.CallAgentLost) bool { return true })
	c.hangUp()
	rows := r.QueueLog(t, harness.GUID(lost.CallID), harness.Events("CONNECT", "COMPLETECALLER"))
	t.Log(harness.Show(rows))
	r.nothingLeft(before)
	a := r.app(t, 1, 0) // available again
	if code := a.Close(t); code != 0 {
		t.Errorf("the app ended with %d", code)
	}
}

// proxy is a TCP relay whose connections can be cut.
type proxy struct {
	l     net.Listener
	conns chan net.Conn
}

// newProxy relays to addr.
func newProxy(t *testing.T, addr string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, conns: make(chan net.Conn, 64)}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", addr)
			if err != nil {
				_ = a.Close()
				continue
			}
			p.conns <- a
			go pipe(a, b)
			go pipe(b, a)
		}
	}()
	return p
}

func pipe(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
}

// cut closes all connections with a reset.
func (p *proxy) cut() int {
	n := 0
	for {
		select {
		case c := <-p.conns:
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = c.Close()
			n++
		default:
			return n
		}
	}
}

// TestWebSocketLostMediaAlive: the call goes on over a lost WebSocket, the phone
// registers again, and hold and BYE work over the new connection.
func TestWebSocketLostMediaAlive(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	before := r.idle()
	facts := r.Facts(t)
	px := newProxy(t, r.WSS)
	// A device's phone over WebSocket through the relay, signed in as such.
	p := r.Gateway.Phone(t, harness.PhoneOptions{
		Device: extension(1) + "-desk", Password: secret, Play: harness.ToneFile(t, 1000, 30*time.Second),
		Args: []string{"--answer", "--server", "wss://" + px.l.Addr().String() + "/ws"},
	})
	p.Next(t, "registered")
	r.SignIn(t, api.SignIn{Username: user(1), Password: password, Device: "desk"})
	admin := r.Admin(t)
	admin.AgentIs(t, user(1), "available")

	line := newStation(t, "127.0.0.1", nil)
	cv := newVoice(t, 440)
	c := line.mustCall(t, r.UDP, "59899000001", cv)
	p.Next(t, "answered")
	cv.hears(t, "the customer", 1000, 10*time.Second)
	for range 3 {
		if n := px.cut(); n == 0 {
			t.Fatal("there was no WebSocket to cut")
		}
		p.Next(t, "registered")
		if c.over() {
			t.Fatalf("the call ended with its WebSocket: %+v", c.cause)
		}
	}
	cv.forget()
	time.Sleep(4 * time.Second) // longer than it takes to call media lost
	cv.hears(t, "the customer after the cuts", 1000, time.Second)
	for _, f := range harness.FactsOf[event.CallAgentLost](t, facts) {
		t.Errorf("the agent counts as lost: %+v", f)
	}
	// The gateway's own BYE reaches the phone over the new connection.
	c.hangUp()
	e := p.Next(t, "ended")
	if e.Cause != "farHangup" {
		t.Errorf("the phone's call ended by %q", e.Cause)
	}
	admin.AgentIs(t, user(1), "available")
	r.QueueLog(t, nil, harness.Events("CONNECT", "COMPLETECALLER"))

	// And the phone's: cut the WebSocket of a second call, then the app hangs up.
	c = line.mustCall(t, r.UDP, "59899000002", cv)
	p.Next(t, "answered")
	px.cut()
	p.Next(t, "registered")
	if code := p.Close(t); code != 0 {
		t.Errorf("the phone ended with %d", code)
	}
	within(t, c.ended, 10*time.Second, "the customer's call ends by the agent's BYE")
	r.QueueLog(t, nil, harness.Events("COMPLETEAGENT"))
	r.nothingLeft(before)
}

// TestHoldAfterWebSocketLost: hold, resume and hang up work over the connection
// that took the place of the lost one.
func TestHoldAfterWebSocketLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	before := r.idle()
	px := newProxy(t, r.WSS)
	events := harness.NewLog[softphone.Event]()
	phone, err := softphone.New(softphone.Config{
		Server: "wss://" + px.l.Addr().String() + "/ws", User: extension(1) + "-desk", AoR: extension(1), Domain: "cordboard", Password: secret,
		TLS: &tls.Config{InsecureSkipVerify: true}, Device: &audio.Files{Play: harness.ToneFile(t, 1000, 5*time.Second), Loop: true}, OnEvent: events.Add,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := phone.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = phone.Close() })
	seen := 0
	next := func(what string, match func(softphone.Event) bool) softphone.Event {
		t.Helper()
		at := seen
		e, ok := events.Wait(t.Context(), harness.Patience, seen, func(e softphone.Event) bool {
			at++
			return match(e)
		})
		if !ok {
			t.Fatalf("the phone does not say %s: %+v", what, events.All())
		}
		seen = at
		return e
	}
	registered := func(e softphone.Event) bool { _, ok := e.(softphone.Registered); return ok }
	next("registered", registered)
	r.SignIn(t, api.SignIn{Username: user(1), Password: password, Device: "desk"})
	r.Admin(t).AgentIs(t, user(1), "available")
	line := newStation(t, "127.0.0.1", nil)
	cv := newVoice(t, 440)
	c := line.mustCall(t, r.UDP, "59899000001", cv)
	in, _ := next("incoming", func(e softphone.Event) bool { _, ok := e.(softphone.Incoming); return ok }).(softphone.Incoming)
	if err := phone.Answer(in.Call); err != nil {
		t.Fatal(err)
	}
	cv.hears(t, "the customer", 1000, 10*time.Second)
	for n := range 3 {
		px.cut()
		next("registered", registered)
		if err := phone.Hold(in.Call); err != nil {
			t.Fatalf("hold %d: %v", n, err)
		}
		next("held", func(e softphone.Event) bool { _, ok := e.(softphone.Held); return ok })
		comfortable(t, cv, 1000) // music on hold
		px.cut()
		next("registered", registered)
		if err := phone.Unhold(in.Call); err != nil {
			t.Fatalf("resume %d: %v", n, err)
		}
		next("resumed", func(e softphone.Event) bool { _, ok := e.(softphone.Resumed); return ok })
		cv.hears(t, "the customer", 1000, 10*time.Second)
	}
	px.cut()
	next("registered", registered)
	if err := phone.Hangup(in.Call); err != nil {
		t.Fatal(err)
	}
	within(t, c.ended, 5*time.Second, "the customer's call ends by the agent's BYE")
	rows := r.QueueLog(t, nil, harness.Events("CONNECT", "COMPLETEAGENT"))
	t.Log(harness.Show(rows))
	if err := phone.Close(); err != nil {
		t.Error(err)
	}
	r.nothingLeft(before)
}
