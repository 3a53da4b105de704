package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/apply"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/config"
	"github.com/cordboard/cordboard/gateway/demo/carrier"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/report"
	"github.com/cordboard/cordboard/gateway/server/porttest"
	"github.com/cordboard/cordboard/softphone"
	"github.com/cordboard/cordboard/softphone/audio"
)

// soon bounds what must happen at once on a busy machine.
const soon = 30 * time.Second

const password = "Rio-Negro-58"

// house is a whole gateway with a carrier beside it.
type house struct {
	t       *testing.T
	s       *Server
	c       *config.Config
	carrier *carrier.Carrier
	called  chan string // numbers that reached the carrier
}

func newHouse(t *testing.T) *house {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	p := porttest.Addrs(t, 7)
	c := config.Demo()
	c.Data, c.Country = t.TempDir(), "UY"
	c.HTTP.Listen = "http://" + p[0]
	c.SIP.UDP, c.SIP.TCP, c.SIP.TLS, c.SIP.WSS = p[1], p[1], p[2], p[3]
	c.TURN.UDP, c.TURN.TCP, c.TURN.TLS = p[4], p[4], p[5]
	c.Media.WebRTCUDP = p[6]
	c.Media.RTPPorts = config.Ports{First: 12000, Last: 12499}
	h := &house{t: t, c: c, called: make(chan string, 8)}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	var err error
	if h.s, err = New(t.Context(), Options{Config: c, Log: log, Version: "test", Out: io.Discard}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.close)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.carrier, err = carrier.New(t.Context(), carrier.Options{
		Log: log.With("who", "carrier"), Conn: conn, RTPPorts: [2]uint16{20800, 20999}, Gateway: netip.MustParseAddrPort(c.SIP.UDP),
		Answer: func(number string) carrier.Behaviour {
			h.called <- number
			return carrier.Behaviour{Lines: []media.Source{saying(time.Second)}, HangsUp: true}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.carrier.Close(); err != nil {
			t.Error(err)
		}
	})
	state, err := apply.Parse("state", fmt.Appendf(nil, `
trunks:
  - {name: carrier, address: %q, transport: udp, allow: ["127.0.0.1/32"], codecs: [PCMA, PCMU], maxChannels: 10, country: UY}
users:
  - {username: ana, fullName: Ana Example, extension: "2101", password: %q, mustChangePassword: false, roles: [agent]}
  - {username: bruno, fullName: Bruno Example, extension: "2102", password: %q, mustChangePassword: false, roles: [agent]}
campaigns:
  - {name: "Support<-", channel: voice, direction: inbound, did: ["59825550111"], strategy: leastrecent, ringSeconds: 15, wrapUpSeconds: 0, schedule: ["sun-sat;00:00-23:59"], record: true, members: [{user: ana}]}
  - {name: "Sales->", channel: voice, direction: outbound, trunk: carrier, callerId: ["18885550100"], wrapUpSeconds: 0, schedule: ["sun-sat;00:00-23:59"], members: [{user: ana}]}
`, h.carrier.Addr().String(), password, password))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.s.state.Apply(t.Context(), apply.Request{State: state.State, By: "test"}); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) close() {
	if err := h.s.Close(); err != nil {
		h.t.Error(err)
	}
	if err := h.s.Close(); err != nil { // idempotent
		h.t.Error(err)
	}
}

// saying is a tone that a person says.
func saying(d time.Duration) media.Source {
	pcm := make([]int16, int(d.Seconds()*8000))
	for i := range pcm {
		pcm[i] = int16(8000 * math.Sin(2*math.Pi*440*float64(i)/8000))
	}
	return media.PCMSource("speech", pcm, 8000)
}

// desk is an agent at work: signed in, with a phone.
type desk struct {
	t      *testing.T
	phone  *softphone.Phone
	events chan softphone.Event
}

func (h *house) desk(name, extension string) *desk {
	h.t.Helper()
	t := h.t
	in, err := h.s.auth.SignIn(t.Context(), auth.SignIn{Username: name, Password: password, Remote: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	agents := apiAgents{h.s.agents, h.s}
	if err := agents.SignIn(t.Context(), agent.SignIn{Agent: name, Extension: extension, Session: in.Session.ID, Endpoint: appEndpoint}); err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, events: make(chan softphone.Event, 1000)}
	d.phone, err = softphone.New(softphone.Config{
		Log: slog.New(slog.DiscardHandler), Server: "wss://" + h.c.SIP.WSS + "/ws", User: in.Session.SIPUser, AoR: extension, Password: in.SIPPassword,
		TLS: &tls.Config{InsecureSkipVerify: true}, Device: audio.Null{}, OnEvent: func(e softphone.Event) { d.events <- e },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.phone.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := d.phone.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait[softphone.Registered](d)
	h.state(name, agent.Available)
	return d
}

// wait waits for an event of the phone.
func wait[T softphone.Event](d *desk) T {
	d.t.Helper()
	limit := time.After(soon)
	for {
		select {
		case e := <-d.events:
			if got, ok := e.(T); ok {
				return got
			}
			d.t.Logf("%T %+v", e, e)
		case <-limit:
			var want T
			d.t.Fatalf("no %T", want)
			return want
		}
	}
}

// state waits until an agent is in a state.
func (h *house) state(name string, want agent.State) {
	h.t.Helper()
	h.eventually(fmt.Sprintf("%s is %s", name, want), func() bool {
		v, ok := h.s.agents.Current(name)
		return ok && v.State == want
	})
}

func (h *house) eventually(what string, ok func() bool) {
	h.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(soon)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			h.t.Fatalf("not in time: %s", what)
		}
	}
}

// calls places a customer's call and returns how it went.
func (h *house) calls(to string, b carrier.Behaviour) <-chan carrier.Result {
	done := make(chan carrier.Result, 1)
	ctx := context.WithoutCancel(h.t.Context())
	go func() {
		defer close(done)
		res, err := h.carrier.Call(ctx, carrier.Call{From: "59899123456", FromName: "Marta", To: to, Behaviour: b})
		if err != nil {
			h.t.Error(err)
		}
		done <- res
	}()
	return done
}

// settled waits until the tables show everything.
func (h *house) settled() {
	h.t.Helper()
	h.eventually("no call is left", func() bool { return h.s.calls.Count() == 0 })
	h.eventually("no entry is left", func() bool { return h.s.queues.Stats().Entries == 0 && h.s.queues.Stats().Facts == 0 })
	if err := h.s.projector.Wait(h.t.Context(), h.s.stream.Last()); err != nil {
		h.t.Fatal(err)
	}
}

// The whole way: a customer's call waits, rings at a phone over WSS, is
// answered, recorded, and leaves its rows.
func TestCallFromTrunkToAgent(t *testing.T) {
	h := newHouse(t)
	ana := h.desk("ana", "2101")
	done := h.calls("59825550111", carrier.Behaviour{Lines: []media.Source{saying(2 * time.Second)}, HangsUp: true})
	in := wait[softphone.Incoming](ana)
	if in.From != "59899123456" {
		t.Errorf("incoming %+v", in)
	}
	h.state("ana", agent.Ringing)
	if err := ana.phone.Answer(in.Call); err != nil {
		t.Fatal(err)
	}
	wait[softphone.Answered](ana)
	h.state("ana", agent.OnCall)
	if res := <-done; !res.Answered {
		t.Errorf("the customer's call %+v", res)
	}
	wait[softphone.Ended](ana)
	h.state("ana", agent.Available)
	h.settled()
	cdr, err := h.s.db.CDR(t.Context(), report.Filter{Limit: 10})
	if err != nil || len(cdr.Rows) != 1 || cdr.Rows[0].Disposition != "ANSWERED" || cdr.Rows[0].Campaign != "Support<-" || cdr.Rows[0].Agent != "ana" {
		t.Fatalf("CDR %+v %v", cdr.Rows, err)
	}
	log, err := h.s.db.QueueLog(t.Context(), report.Filter{GUID: cdr.Rows[0].GUID, Limit: 50})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, r := range log.Rows {
		seen[r.Event]++
	}
	for _, want := range []string{"ENTERQUEUE", "CONNECT", "COMPLETECALLER"} {
		if seen[want] != 1 {
			t.Errorf("%d %s in %v", seen[want], want, seen)
		}
	}
	recs, err := h.s.db.Recordings(t.Context(), report.Filter{GUID: cdr.Rows[0].GUID, Limit: 5})
	if err != nil || len(recs.Rows) != 1 || recs.Rows[0].DurationMs < 1000 {
		t.Fatalf("recordings %+v %v", recs.Rows, err)
	}
	audio, err := recordings{h.s.recordingsDir()}.Open(t.Context(), recs.Rows[0].Path, "wav")
	if err != nil {
		t.Fatal(err)
	}
	if err := audio.Close(); err != nil {
		t.Error(err)
	}
	if s := h.s.queues.Stats(); s.Repairs != 0 {
		t.Errorf("%d repairs", s.Repairs)
	}
}

// An agent dials out; a user without an outbound campaign may not, but for
// help; numbers that are none get their status.
func TestDialling(t *testing.T) {
	h := newHouse(t)
	ana, bruno := h.desk("ana", "2101"), h.desk("bruno", "2102")
	dial := func(d *desk, to string) softphone.Ended {
		t.Helper()
		if _, err := d.phone.Dial(to, softphone.DialOptions{}); err != nil {
			t.Fatal(err)
		}
		return wait[softphone.Ended](d)
	}
	if end := dial(ana, "099000111"); end.Code >= 300 {
		t.Errorf("outbound call ended %+v", end)
	}
	if got := <-h.called; got != "59899000111" {
		t.Errorf("the carrier got %s", got)
	}
	for _, tt := range []struct {
		d    *desk
		to   string
		code int
	}{
		{bruno, "099000111", 403}, // no outbound campaign
		{ana, "nobody", 404},
		{ana, "*99", 404},
		{ana, "12", 484},
		{ana, "2101", 486}, // herself
	} {
		if end := dial(tt.d, tt.to); end.Code != tt.code {
			t.Errorf("%s ended %+v, want %d", tt.to, end, tt.code)
		}
	}
	for _, help := range []string{"911", "112"} {
		if end := dial(bruno, help); end.Code >= 300 {
			t.Errorf("a call for help ended %+v", end)
		}
		if got := <-h.called; got != help {
			t.Errorf("the carrier got %s, want %s", got, help)
		}
	}
	h.state("ana", agent.Available)
	h.settled()
	cdr, err := h.s.db.CDR(t.Context(), report.Filter{Limit: 10})
	if err != nil || len(cdr.Rows) != 3 {
		t.Errorf("CDR %+v %v", cdr.Rows, err)
	}
}

// An internal call makes both agents busy for queues, without wrap-up after.
func TestInternalCallKeepsBothBusy(t *testing.T) {
	h := newHouse(t)
	ana, bruno := h.desk("ana", "2101"), h.desk("bruno", "2102")
	id, err := bruno.phone.Dial("2101", softphone.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	in := wait[softphone.Incoming](ana)
	h.state("ana", agent.Ringing)
	if err := ana.phone.Answer(in.Call); err != nil {
		t.Fatal(err)
	}
	wait[softphone.Answered](bruno)
	h.state("ana", agent.OnCall)
	h.state("bruno", agent.OnCall)
	done := h.calls("59825550111", carrier.Behaviour{Lines: []media.Source{saying(time.Second)}, HangsUp: true, Spoken: make(chan struct{}), Patience: time.Second})
	if res := <-done; !res.Answered { // by the queue; ana was not offered it
		t.Errorf("the customer's call %+v", res)
	}
	if offers := h.s.queues.Stats().Offers; offers != 0 {
		t.Errorf("%d offers to a busy agent", offers)
	}
	if err := bruno.phone.Hangup(id); err != nil {
		t.Fatal(err)
	}
	wait[softphone.Ended](ana)
	h.state("ana", agent.Available)
	h.state("bruno", agent.Available)
	h.settled()
}

// An unknown number is 404, while draining it is 503 with Retry-After, and the
// probes say so.
func TestRefusedCalls(t *testing.T) {
	h := newHouse(t)
	if res := <-h.calls("59825559999", carrier.Behaviour{}); res.Cause.Code != 404 {
		t.Errorf("unknown number %+v", res)
	}
	if code := h.get("/readyz"); code != http.StatusOK {
		t.Errorf("readyz %d", code)
	}
	if err := h.s.calls.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if res := <-h.calls("59825550111", carrier.Behaviour{}); res.Cause.Code != 503 {
		t.Errorf("while draining %+v", res)
	}
	if code := h.get("/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("readyz while draining %d", code)
	}
	if code := h.get("/healthz"); code != http.StatusOK {
		t.Errorf("healthz %d", code)
	}
	if code := h.get("/metrics"); code != http.StatusOK {
		t.Errorf("metrics %d", code)
	}
}

// A gateway that stops says goodbye to everybody, whatever their call's state.
func TestCloseSaysGoodbye(t *testing.T) {
	h := newHouse(t)
	ana := h.desk("ana", "2101")
	talking := h.calls("59825550111", carrier.Behaviour{})
	if err := ana.phone.Answer(wait[softphone.Incoming](ana).Call); err != nil {
		t.Fatal(err)
	}
	h.state("ana", agent.OnCall)
	waiting := h.calls("59825550111", carrier.Behaviour{})
	h.eventually("a customer waits", func() bool { return h.s.queues.Stats().Waiting == 1 })
	if err := h.s.Close(); err != nil {
		t.Error(err)
	}
	for _, c := range []<-chan carrier.Result{talking, waiting} {
		select {
		case res := <-c:
			if !res.Answered || !res.Cause.Remote {
				t.Errorf("result %+v", res)
			}
		case <-time.After(5 * time.Second):
			t.Error("the carrier was not told")
		}
	}
	wait[softphone.Ended](ana)
}

func (h *house) get(path string) int {
	h.t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	res, err := http.Get(h.c.HTTP.URL() + path)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		h.t.Error(err)
	}
	if err := res.Body.Close(); err != nil {
		h.t.Error(err)
	}
	return res.StatusCode
}

// A gateway that cannot open a listener says which, and leaves nothing.
func TestPortTaken(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	defer goleak.VerifyNone(t, leaks)
	p := porttest.Addrs(t, 3)
	l, err := net.Listen("tcp", p[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c := config.Demo()
	c.Data = t.TempDir()
	c.HTTP.Listen = "http://" + p[1]
	c.SIP.UDP, c.SIP.TCP, c.SIP.TLS, c.SIP.WSS = p[2], "", "", p[0]
	c.TURN.UDP, c.TURN.TCP, c.TURN.TLS, c.Media.WebRTCUDP = "", "", "", ""
	_, err = New(t.Context(), Options{Config: c, Log: slog.New(slog.DiscardHandler), Version: "test"})
	if err == nil || !strings.Contains(err.Error(), "sip.wss") {
		t.Errorf("New: %v", err)
	}
}
