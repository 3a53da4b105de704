package softphone_test

import (
	"context"
	"crypto/tls"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/softphone"
	"github.com/cordboard/cordboard/softphone/audio"
	"github.com/cordboard/cordboard/softphone/rtc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	realm    = "cordboard"
	user     = "2101"
	password = "Rio-Negro-58"
)

// gateway is a small SIP server in the place of the real one: it registers by digest, calls the phone and
// answers it, with media of its own.
type gateway struct {
	t     *testing.T
	ep    *sip.Endpoint
	auth  *sip.Authenticator
	srv   *httptest.Server
	media *rtc.Engine

	mu        sync.Mutex
	registers []*sip.Request
	flow      sip.Flow
	contact   sip.URI
	expires   string
	legs      chan *leg // made by calls of the phone
	refuse    int       // code for the phone's calls
	onReg     func(r *sip.Request) bool
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{t: t, legs: make(chan *leg, 16), expires: "300"}
	var err error
	g.ep, err = sip.New(sip.Options{Handler: g, UserAgent: "stub"})
	if err != nil {
		t.Fatal(err)
	}
	g.auth = sip.NewAuthenticator(realm, []byte("secret of the stub"), func(_ context.Context, u string) (string, bool) {
		return sip.HA1(u, realm, password), u == user
	}, sip.AuthOptions{})
	g.media, err = rtc.NewEngine(rtc.Options{Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	g.srv = httptest.NewUnstartedServer(g.ep.WebSocket(func(string, *http.Request) bool { return true }))
	g.srv.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	g.srv.StartTLS()
	t.Cleanup(func() {
		g.srv.Close()
		if err := g.ep.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func (g *gateway) url() string { return strings.Replace(g.srv.URL, "https", "wss", 1) + "/ws" }

// Invite implements sip.Handler: the phone calls.
func (g *gateway) Invite(d *sip.Dialog) {
	g.mu.Lock()
	refuse := g.refuse
	g.mu.Unlock()
	if refuse != 0 {
		_ = d.Reject(refuse, "")
		return
	}
	l := newLeg(g, d)
	d.Accept(l)
	_ = d.Provisional(180, nil)
	answer, err := l.s.Answer(context.Background(), d.Offer(), false)
	if err != nil {
		_ = d.Reject(488, "")
		return
	}
	if err := d.Answer(answer); err != nil {
		g.t.Error(err)
	}
	g.legs <- l
}

// Request implements sip.Handler.
func (g *gateway) Request(r *sip.Request) {
	if r.Method() != "REGISTER" {
		_ = r.Respond(200, "OK")
		return
	}
	g.mu.Lock()
	on, expires := g.onReg, g.expires
	g.mu.Unlock()
	if on != nil && on(r) {
		return
	}
	if _, err := g.auth.Check(context.Background(), r); err != nil {
		if ce, ok := errors.AsType[*sip.ChallengeError](err); ok {
			_ = r.Respond(ce.Code, "Unauthorized", ce.Headers...)
			return
		}
		_ = r.Respond(403, "Forbidden")
		return
	}
	g.mu.Lock()
	g.registers = append(g.registers, r)
	g.flow, g.contact = r.Flow(), r.Contacts()[0].URI
	g.mu.Unlock()
	if r.Header("Expires") == "0" {
		expires = "0"
	}
	_ = r.Respond(200, "OK", sip.Header{Name: "Contact", Value: "<" + r.Contacts()[0].URI.String() + ">;expires=" + expires})
}

// FlowClosed implements sip.Handler.
func (g *gateway) FlowClosed(sip.Flow) {}

func (g *gateway) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.registers)
}

func (g *gateway) drop() {
	g.mu.Lock()
	f := g.flow
	g.mu.Unlock()
	g.ep.CloseFlow(f)
}

// call calls the phone.
func (g *gateway) call(headers ...sip.Header) *leg {
	g.t.Helper()
	l := newLeg(g, nil)
	offer, err := l.s.Offer(g.t.Context(), false, false)
	if err != nil {
		g.t.Fatal(err)
	}
	g.mu.Lock()
	flow, contact := g.flow, g.contact
	g.mu.Unlock()
	from, _ := sip.ParseURI("sip:59899123456@cordboard")
	d, err := g.ep.Invite(g.t.Context(), sip.Invite{
		URI: contact, From: sip.Address{Name: "Customer", URI: from}, To: sip.Address{URI: contact}, Flow: &flow,
		SDP: offer, Headers: headers,
	}, l)
	if err != nil {
		g.t.Fatal(err)
	}
	l.mu.Lock()
	l.d = d
	l.mu.Unlock()
	return l
}

// leg is the gateway's side of a call: it says 1000 Hz and keeps what it hears.
type leg struct {
	sip.NoEvents

	g        *gateway
	s        *rtc.Session
	answered chan struct{}
	ended    chan sip.Cause

	mu     sync.Mutex
	d      *sip.Dialog
	heard  []int16
	digits string
	codes  []int
}

func newLeg(g *gateway, d *sip.Dialog) *leg {
	g.t.Helper()
	l := &leg{g: g, d: d, answered: make(chan struct{}), ended: make(chan sip.Cause, 1)}
	s, err := g.media.NewSession(rtc.Callbacks{
		OnState: func() {},
		OnDigit: func(b byte, _ time.Duration) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.digits += string(b)
		},
	})
	if err != nil {
		g.t.Fatal(err)
	}
	l.s = s
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { l.run(stop) })
	g.t.Cleanup(func() {
		close(stop)
		wg.Wait()
		_ = s.Close()
	})
	return l
}

func (l *leg) run(stop <-chan struct{}) {
	p := audio.NewPacer()
	mic, ear := make([]int16, 160), make([]int16, 160)
	n := 0
	for {
		skipped, ok := p.Wait(stop)
		if !ok {
			return
		}
		for i := range mic {
			mic[i] = int16(8000 * math.Sin(2*math.Pi*1000*float64(n)/8000))
			n++
		}
		_ = l.s.Send(mic, 8000, rtc.Speak, skipped)
		l.s.Receive(ear, 8000)
		l.mu.Lock()
		l.heard = append(l.heard, ear...)
		l.mu.Unlock()
	}
}

func (l *leg) Progress(code int, _ string, _ []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.codes = append(l.codes, code)
}

func (l *leg) Answered(sdp []byte) {
	if len(sdp) > 0 {
		if err := l.s.Answered(sdp); err != nil {
			l.g.t.Error(err)
		}
	}
	close(l.answered)
}

func (l *leg) Offer(offer []byte) ([]byte, int) {
	answer, err := l.s.Answer(context.Background(), offer, false)
	if err != nil {
		l.g.t.Error(err)
		return nil, 500
	}
	return answer, 200
}

func (l *leg) Ended(c sip.Cause) { l.ended <- c }

func (l *leg) dialog() *sip.Dialog {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.d
}

func (l *leg) wait(what <-chan struct{}) {
	l.g.t.Helper()
	select {
	case <-what:
	case c := <-l.ended:
		l.g.t.Fatalf("leg ended: %+v", c)
	case <-time.After(10 * time.Second):
		l.g.t.Fatal("nothing within 10 s")
	}
}

func (l *leg) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = nil
}

// hears waits until the leg hears the phone's tone of 440 Hz, or does not.
func (l *leg) hears(want bool) {
	l.g.t.Helper()
	eventually(l.g.t, "gateway hears the phone", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		n := len(l.heard)
		return n >= 1600 && (tone(l.heard[n-1600:], 8000, 440) > 0.5) == want
	})
}

func (l *leg) reinvite(hold, restart bool) {
	l.g.t.Helper()
	offer, err := l.s.Offer(l.g.t.Context(), hold, restart)
	if err != nil {
		l.g.t.Fatal(err)
	}
	answer, err := l.dialog().Reinvite(l.g.t.Context(), offer)
	if err != nil {
		l.g.t.Fatal(err)
	}
	if err := l.s.Answered(answer); err != nil {
		l.g.t.Fatal(err)
	}
}

// speaker is a device whose microphone hears 440 Hz and that keeps what it is given to play.
type speaker struct {
	mu    sync.Mutex
	rate  int
	heard []int16
	open  int
}

func (d *speaker) Open(rate int) (audio.Stream, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rate, d.heard = rate, nil
	d.open++
	return &speakerStream{d: d, rate: rate}, nil
}

type speakerStream struct {
	d    *speaker
	rate int
	n    int
	once sync.Once
}

func (s *speakerStream) ReadFrame(pcm []int16) error {
	for i := range pcm {
		pcm[i] = int16(8000 * math.Sin(2*math.Pi*440*float64(s.n)/float64(s.rate)))
		s.n++
	}
	return nil
}

func (s *speakerStream) WriteFrame(pcm []int16) error {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.heard = append(s.d.heard, pcm...)
	return nil
}

func (s *speakerStream) Close() error {
	s.once.Do(func() {
		s.d.mu.Lock()
		defer s.d.mu.Unlock()
		s.d.open--
	})
	return nil
}

func (d *speaker) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.heard = nil
}

// hears waits until the loudspeaker plays the tone, or does not.
func (d *speaker) hears(t *testing.T, hz float64, want bool) {
	t.Helper()
	eventually(t, "phone hears the gateway", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		n, k := len(d.heard), d.rate/5
		return k > 0 && n >= k && (tone(d.heard[n-k:], float64(d.rate), hz) > 0.5) == want
	})
}

// tone is the share of hz in the energy of pcm; 0 for silence.
func tone(pcm []int16, rate, hz float64) float64 {
	var re, im, sum float64
	for i, v := range pcm {
		a := 2 * math.Pi * hz * float64(i) / rate
		re += float64(v) * math.Cos(a)
		im += float64(v) * math.Sin(a)
		sum += float64(v) * float64(v)
	}
	if sum/float64(len(pcm)) < 1000 {
		return 0
	}
	return 2 * (re*re + im*im) / float64(len(pcm)) / sum
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 15 s: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// phone is a softphone whose events are kept.
type phone struct {
	*softphone.Phone
	t      *testing.T
	dev    *speaker
	events chan softphone.Event
}

func newPhone(t *testing.T, g *gateway, change func(*softphone.Config)) *phone {
	t.Helper()
	ph := &phone{t: t, dev: &speaker{}, events: make(chan softphone.Event, 1024)}
	c := softphone.Config{
		Server: g.url(), User: user, Password: password, Device: ph.dev, DisplayName: "Ana",
		TLS:     &tls.Config{InsecureSkipVerify: true},
		OnEvent: func(e softphone.Event) { ph.events <- e },
	}
	if change != nil {
		change(&c)
	}
	p, err := softphone.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ph.Phone = p
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
		if ph.dev.open != 0 {
			t.Errorf("%d streams of the device are still open", ph.dev.open)
		}
	})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ph
}

// next waits for the next event of type E; others are passed over, but never an unexpected end.
func next[E softphone.Event](p *phone) E {
	p.t.Helper()
	timeout := time.After(15 * time.Second)
	for {
		select {
		case e := <-p.events:
			if want, ok := e.(E); ok {
				return want
			}
			switch e := e.(type) {
			case softphone.Ended:
				p.t.Fatalf("call ended: %+v", e)
			case softphone.Problem:
				p.t.Fatalf("problem: %v", e.Err)
			}
		case <-timeout:
			var want E
			p.t.Fatalf("no %T within 15 s", want)
		}
	}
}
