package softphone_test

import (
	"errors"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/softphone"
)

func registered(t *testing.T, change func(*softphone.Config)) (*gateway, *phone) {
	t.Helper()
	g := newGateway(t)
	p := newPhone(t, g, change)
	next[softphone.Registered](p)
	return g, p
}

// incoming is an answered call from the gateway.
func incoming(t *testing.T, g *gateway, p *phone) (*leg, softphone.CallID) {
	t.Helper()
	l := g.call()
	in := next[softphone.Incoming](p)
	if err := p.Answer(in.Call); err != nil {
		t.Fatal(err)
	}
	l.wait(l.answered)
	a := next[softphone.Answered](p)
	if a.Call != in.Call {
		t.Fatalf("answered %q, want %q", a.Call, in.Call)
	}
	return l, in.Call
}

func TestIncomingCallIsHeardOnBothSides(t *testing.T) {
	for _, codec := range []string{"opus", "PCMA", "PCMU"} {
		t.Run(codec, func(t *testing.T) {
			g, p := registered(t, func(c *softphone.Config) { c.Codecs = []string{codec} })
			l := g.call(
				sip.Header{Name: "X-Cordboard-Call", Value: "0190-guid"},
				sip.Header{Name: "X-Cordboard-Campaign", Value: "Support<-"},
				sip.Header{Name: "X-Cordboard-Waited", Value: "12"})
			in := next[softphone.Incoming](p)
			if in.From != "59899123456" || in.Name != "Customer" || in.GUID != "0190-guid" ||
				in.Campaign != "Support<-" || in.Waited != 12*time.Second || in.AutoAnswer {
				t.Errorf("incoming %+v", in)
			}
			eventually(t, "gateway is told that it rings", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.codes) > 0 && l.codes[0] == 180 })
			if err := p.Answer(in.Call); err != nil {
				t.Fatal(err)
			}
			a := next[softphone.Answered](p)
			if a.Codec != codec || a.GUID != "0190-guid" {
				t.Errorf("answered %+v", a)
			}
			t.Logf("setup %v", a.Setup)
			p.dev.hears(t, 1000, true)
			l.hears(true)
			if err := l.dialog().Hangup(sip.Cause{}); err != nil {
				t.Fatal(err)
			}
			e := next[softphone.Ended](p)
			if !e.Normal || e.Cause != softphone.CauseFarHangup || e.Duration <= 0 || e.Duration > time.Minute {
				t.Errorf("ended %+v", e)
			}
			if err := p.Hangup(in.Call); !errors.Is(err, softphone.ErrNoCall) {
				eventually(t, "call is forgotten", func() bool { return errors.Is(p.Hangup(in.Call), softphone.ErrNoCall) })
			}
		})
	}
}

func TestDialledCall(t *testing.T) {
	g, p := registered(t, nil)
	id, err := p.Dial("5551234", softphone.DialOptions{Headers: map[string]string{"X-Test": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	if r := next[softphone.Ringing](p); r.Call != id {
		t.Errorf("ringing %+v", r)
	}
	l := <-g.legs
	if r := l.dialog().Request(); r.URI().User != "5551234" || r.Header("X-Test") != "1" || r.From().Name != "Ana" {
		t.Errorf("invite to %v from %v", r.URI(), r.From())
	}
	next[softphone.Answered](p)
	p.dev.hears(t, 1000, true)
	l.hears(true)
	if err := p.SendDTMF(id, "12#"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "digits", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.digits == "12#" })
	if err := l.s.Press("7", 0); err != nil {
		t.Fatal(err)
	}
	if d := next[softphone.Digit](p); d.Digit != '7' || d.Call != id {
		t.Errorf("digit %+v", d)
	}
	if err := p.Hangup(id); err != nil {
		t.Fatal(err)
	}
	if c := <-l.ended; c.Kind != sip.KindNormal || !c.Remote {
		t.Errorf("gateway's end %+v", c)
	}
	if e := next[softphone.Ended](p); !e.Normal || e.Cause != softphone.CauseHangup {
		t.Errorf("ended %+v", e)
	}
}

func TestRefusedCalls(t *testing.T) {
	g, p := registered(t, nil)
	for code, cause := range map[int]string{
		486: softphone.CauseBusy, 404: softphone.CauseNotFound, 603: softphone.CauseDeclined, 503: softphone.CauseRefused,
		480: softphone.CauseNoAnswer,
	} {
		g.mu.Lock()
		g.refuse = code
		g.mu.Unlock()
		if _, err := p.Dial("1", softphone.DialOptions{}); err != nil {
			t.Fatal(err)
		}
		if e := next[softphone.Ended](p); e.Cause != cause || e.Code != code || e.Normal || e.Duration != 0 {
			t.Errorf("%d: %+v", code, e)
		}
	}
}

func TestRejectAndCancel(t *testing.T) {
	g, p := registered(t, nil)
	l := g.call()
	in := next[softphone.Incoming](p)
	if err := p.Reject(in.Call, 0); err != nil {
		t.Fatal(err)
	}
	if c := <-l.ended; c.Code != 486 {
		t.Errorf("gateway's end %+v", c)
	}
	if e := next[softphone.Ended](p); !e.Normal || e.Cause != softphone.CauseRejected {
		t.Errorf("ended %+v", e)
	}
	l = g.call()
	next[softphone.Incoming](p)
	if err := l.dialog().Hangup(sip.Cause{}); err != nil {
		t.Fatal(err)
	}
	if e := next[softphone.Ended](p); !e.Normal || e.Cause != softphone.CauseCancelled {
		t.Errorf("ended %+v", e)
	}
}

func TestHoldMuteAndUnhold(t *testing.T) {
	g, p := registered(t, nil)
	l, id := incoming(t, g, p)
	l.hears(true)
	if err := p.Hold(id); err != nil {
		t.Fatal(err)
	}
	if h := next[softphone.Held](p); h.ByFar {
		t.Errorf("held %+v", h)
	}
	if !l.s.FarHold() {
		t.Error("gateway was not told of the hold")
	}
	l.hears(false)
	p.dev.hears(t, 1000, false)
	if err := p.Unhold(id); err != nil {
		t.Fatal(err)
	}
	next[softphone.Resumed](p)
	l.hears(true)
	p.dev.hears(t, 1000, true)

	l.reinvite(true, false)
	if h := next[softphone.Held](p); !h.ByFar {
		t.Errorf("held %+v", h)
	}
	l.reinvite(false, false)
	if r := next[softphone.Resumed](p); !r.ByFar {
		t.Errorf("resumed %+v", r)
	}
	l.hears(true)

	if err := p.Mute(id, true); err != nil {
		t.Fatal(err)
	}
	l.hears(false)
	if err := p.Mute(id, false); err != nil {
		t.Fatal(err)
	}
	l.hears(true)
	p.dev.hears(t, 1000, true)
}

func TestAutoAnswerBeeps(t *testing.T) {
	for _, h := range []sip.Header{
		{Name: "Answer-Mode", Value: "Auto"},
		{Name: "Call-Info", Value: "<sip:cordboard>;answer-after=0"},
		{Name: "Alert-Info", Value: "<http://x>;info=alert-autoanswer;answer-after=0"},
	} {
		g, p := registered(t, nil)
		l := g.call(h)
		if in := next[softphone.Incoming](p); !in.AutoAnswer {
			t.Errorf("%v: %+v", h, in)
		}
		l.wait(l.answered)
		next[softphone.Answered](p)
		eventually(t, "beep", func() bool {
			p.dev.mu.Lock()
			defer p.dev.mu.Unlock()
			k := p.dev.rate / 10
			return len(p.dev.heard) > 2*k && tone(p.dev.heard[:2*k], float64(p.dev.rate), 880) > 0.3
		})
		l.hears(true)
	}
}

func TestSecondCallHoldsTheFirst(t *testing.T) {
	g, p := registered(t, func(c *softphone.Config) { c.HoldOthers = true })
	first, id := incoming(t, g, p)
	first.hears(true)
	second := g.call()
	in := next[softphone.Incoming](p)
	if err := p.Answer(in.Call); err != nil {
		t.Fatal(err)
	}
	if h := next[softphone.Held](p); h.Call != id {
		t.Errorf("held %+v", h)
	}
	second.hears(true)
	first.hears(false)
}

func TestTooManyCallsAreBusy(t *testing.T) {
	g, p := registered(t, func(c *softphone.Config) { c.MaxCalls = 1 })
	incoming(t, g, p)
	l := g.call()
	if c := <-l.ended; c.Code != 486 {
		t.Errorf("second call: %+v", c)
	}
	if _, err := p.Dial("1", softphone.DialOptions{}); !errors.Is(err, softphone.ErrTooMany) {
		t.Errorf("dial: %v", err)
	}
}

func TestWrongPassword(t *testing.T) {
	g := newGateway(t)
	p := newPhone(t, g, func(c *softphone.Config) { c.Password = "wrong" })
	u := next[softphone.Unregistered](p)
	if !errors.Is(u.Err, softphone.ErrCredentials) || u.RetryIn != 0 {
		t.Errorf("unregistered %+v", u)
	}
	if _, err := p.Dial("1", softphone.DialOptions{}); !errors.Is(err, softphone.ErrNotRegistered) {
		t.Errorf("dial: %v", err)
	}
	if g.count() != 0 {
		t.Error("registered with a wrong password")
	}
}

// A dropped WebSocket does not end the call; after it the dialog lives on the new one.
func TestCallSurvivesALostConnection(t *testing.T) {
	g, p := registered(t, nil)
	l, id := incoming(t, g, p)
	l.hears(true)
	g.drop()
	if u := next[softphone.Unregistered](p); u.RetryIn <= 0 {
		t.Errorf("unregistered %+v", u)
	}
	next[softphone.Registered](p)
	p.dev.forget()
	l.forget()
	l.hears(true)
	p.dev.hears(t, 1000, true)
	// In-dialog requests work both ways over the new connection.
	g.mu.Lock()
	flow := g.flow
	g.mu.Unlock()
	l.dialog().UpdateFlow(flow)
	if err := p.Hold(id); err != nil {
		t.Fatal(err)
	}
	next[softphone.Held](p)
	l.reinvite(false, false)
	if err := l.dialog().Hangup(sip.Cause{}); err != nil {
		t.Fatal(err)
	}
	if e := next[softphone.Ended](p); !e.Normal {
		t.Errorf("ended %+v", e)
	}
}

func TestRegistrationIsRefreshed(t *testing.T) {
	g := newGateway(t)
	g.expires = "2"
	p := newPhone(t, g, nil)
	if r := next[softphone.Registered](p); r.Expires != 2*time.Second {
		t.Errorf("registered %+v", r)
	}
	eventually(t, "three registrations", func() bool { return g.count() >= 3 })
	g.mu.Lock()
	defer g.mu.Unlock()
	a, b := g.registers[0], g.registers[2]
	if a.CallID() != b.CallID() || b.CSeq() <= a.CSeq() || a.Flow() != b.Flow() {
		t.Errorf("refresh is not of the same registration: %s %d, %s %d", a.CallID(), a.CSeq(), b.CallID(), b.CSeq())
	}
	if a.Contacts()[0].URI.String() != b.Contacts()[0].URI.String() {
		t.Error("contact changed")
	}
}

func TestRetryAfterIsObeyed(t *testing.T) {
	g := newGateway(t)
	g.onReg = func(r *sip.Request) bool {
		_ = r.Respond(503, "Service Unavailable", sip.Header{Name: "Retry-After", Value: "30"})
		return true
	}
	p := newPhone(t, g, nil)
	if u := next[softphone.Unregistered](p); u.RetryIn < 30*time.Second || u.RetryIn > 35*time.Second {
		t.Errorf("unregistered %+v", u)
	}
}

func TestNewPathAfterNetworkChange(t *testing.T) {
	g, p := registered(t, nil)
	l, _ := incoming(t, g, p)
	l.hears(true)
	before := l.dialog().CallID()
	p.ChangeNetwork()
	eventually(t, "registration is checked", func() bool { return g.count() >= 2 })
	p.dev.forget()
	l.forget()
	p.dev.hears(t, 1000, true)
	l.hears(true)
	if l.dialog().CallID() != before {
		t.Error("another dialog")
	}
	// The far side may look for a new path, too.
	l.reinvite(false, true)
	p.dev.forget()
	l.forget()
	p.dev.hears(t, 1000, true)
	l.hears(true)
}

func TestCloseHangsUp(t *testing.T) {
	g, p := registered(t, nil)
	l, _ := incoming(t, g, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if c := <-l.ended; c.Kind != sip.KindNormal || !c.Remote {
		t.Errorf("gateway's end %+v", c)
	}
	if e := next[softphone.Ended](p); !e.Normal {
		t.Errorf("ended %+v", e)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if last := g.registers[len(g.registers)-1]; last.Header("Expires") != "0" {
		t.Error("did not unregister")
	}
}

func TestBadConfigurations(t *testing.T) {
	good := softphone.Config{Server: "wss://127.0.0.1:1/ws", User: "u"}
	for name, change := range map[string]func(*softphone.Config){
		"server": func(c *softphone.Config) { c.Server = "http://x" },
		"user":   func(c *softphone.Config) { c.User = "" },
		"codec":  func(c *softphone.Config) { c.Codecs = []string{"speex"} },
		"ice":    func(c *softphone.Config) { c.Servers = []softphone.Server{{URLs: []string{"http:x"}}} },
	} {
		c := good
		change(&c)
		if _, err := softphone.New(c); !errors.Is(err, softphone.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
