package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/softphone"
	"github.com/cordboard/cordboard/softphone/audio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	realm  = "cordboard"
	secret = "Rio-Negro-58"
)

// server is a gateway of two phones: what one dials rings at the other, which is the user "2102".
type server struct {
	t    *testing.T
	ep   *sip.Endpoint
	auth *sip.Authenticator
	web  *httptest.Server
	code int // refuses every call

	mu      sync.Mutex
	flows   map[string]sip.Flow
	uris    map[string]sip.URI
	ended   []string // sessions that were signed out
	signIns []api.SignIn
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, flows: map[string]sip.Flow{}, uris: map[string]sip.URI{}}
	var err error
	if s.ep, err = sip.New(sip.Options{Handler: s}); err != nil {
		t.Fatal(err)
	}
	s.auth = sip.NewAuthenticator(realm, []byte("secret of the stub"), func(_ context.Context, u string) (string, bool) {
		return sip.HA1(u, realm, secret), true
	}, sip.AuthOptions{})
	mux := http.NewServeMux()
	mux.Handle("/ws", s.ep.WebSocket(func(string, *http.Request) bool { return true }))
	mux.HandleFunc("POST /api/v1/sessions", s.signIn)
	mux.HandleFunc("DELETE /api/v1/sessions/current", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		s.mu.Lock()
		s.ended = append(s.ended, "s1")
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	})
	s.web = httptest.NewUnstartedServer(mux)
	s.web.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	s.web.StartTLS()
	t.Cleanup(func() {
		s.web.Close()
		if err := s.ep.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *server) url() string { return strings.Replace(s.web.URL, "https", "wss", 1) + "/ws" }

func (s *server) signIn(w http.ResponseWriter, r *http.Request) {
	var in api.SignIn
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Password != secret {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"title":"wrong user or password","status":401}`))
		return
	}
	s.mu.Lock()
	s.signIns = append(s.signIns, in)
	s.mu.Unlock()
	b, err := json.Marshal(api.Session{
		ID: "s1", Token: "token", User: api.Me{Username: in.Username, FullName: "Ana Example"},
		SIP: &api.SIP{URLs: []string{s.url()}, AOR: "sip:2102@" + realm, Username: "2102-app", Password: secret, Realm: realm},
	})
	if err != nil {
		s.t.Error(err)
	}
	_, _ = w.Write(b)
}

// Request implements sip.Handler.
func (s *server) Request(r *sip.Request) {
	if r.Method() != "REGISTER" {
		_ = r.Respond(200, "OK")
		return
	}
	if _, err := s.auth.Check(context.Background(), r); err != nil {
		if ce, ok := errors.AsType[*sip.ChallengeError](err); ok {
			_ = r.Respond(ce.Code, "Unauthorized", ce.Headers...)
			return
		}
		_ = r.Respond(403, "Forbidden")
		return
	}
	s.mu.Lock()
	s.flows[r.To().URI.User], s.uris[r.To().URI.User] = r.Flow(), r.Contacts()[0].URI
	s.mu.Unlock()
	_ = r.Respond(200, "OK", sip.Header{Name: "Expires", Value: "300"})
}

// FlowClosed implements sip.Handler.
func (s *server) FlowClosed(sip.Flow) {}

// Invite implements sip.Handler: a call of one phone to the other, bridged by passing descriptions.
func (s *server) Invite(d *sip.Dialog) {
	if s.code != 0 {
		_ = d.Reject(s.code, "")
		return
	}
	b := &bridge{a: d}
	d.Accept(half{b: b, fromA: true})
	s.mu.Lock()
	flow, uri := s.flows["2102"], s.uris["2102"]
	s.mu.Unlock()
	var err error
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b, err = s.ep.Invite(context.Background(), sip.Invite{
		URI: uri, From: d.Request().From(), To: d.Request().To(), Flow: &flow, SDP: d.Offer(),
	}, half{b: b})
	if err != nil {
		_ = d.Reject(480, "")
	}
}

type bridge struct {
	mu   sync.Mutex
	a, b *sip.Dialog
}

type half struct {
	sip.NoEvents

	b     *bridge
	fromA bool
}

func (h half) Progress(code int, _ string, sdp []byte) { _ = h.b.a.Provisional(code, sdp) }

func (h half) Answered(sdp []byte) {
	if !h.fromA {
		_ = h.b.a.Answer(sdp)
	}
}

func (h half) Ended(c sip.Cause) {
	h.b.mu.Lock()
	other := h.b.a
	if h.fromA {
		other = h.b.b
	}
	h.b.mu.Unlock()
	if c.Kind == sip.KindRejected {
		_ = other.Reject(c.Code, "")
		return
	}
	_ = other.Hangup(sip.Cause{})
}

// program runs the command; its lines can be read while it runs.
type program struct {
	t      *testing.T
	cancel context.CancelFunc
	code   chan int
	mu     sync.Mutex
	out    bytes.Buffer
	errs   bytes.Buffer
}

func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{t: t, code: make(chan int, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	p.cancel = cancel
	go func() { p.code <- run(ctx, args, p, &p.errs) }()
	t.Cleanup(cancel)
	return p
}

func (p *program) wait() int {
	p.t.Helper()
	select {
	case c := <-p.code:
		return c
	case <-time.After(20 * time.Second):
		p.t.Fatalf("does not end; it printed\n%s", p.text())
		return 0
	}
}

func (p *program) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// events are the lines of one event; every line must be a JSON object with a time.
func (p *program) events(name string) []map[string]any {
	p.t.Helper()
	var found []map[string]any
	for l := range strings.SplitSeq(strings.TrimSpace(p.text()), "\n") {
		if l == "" {
			continue
		}
		var m map[string]any
		if err := json.Unmarshal([]byte(l), &m); err != nil {
			p.t.Fatalf("not JSON: %q", l)
		}
		if _, err := time.Parse(time.RFC3339, m["time"].(string)); err != nil {
			p.t.Errorf("time of %q: %v", l, err)
		}
		if m["event"] == name {
			found = append(found, m)
		}
	}
	return found
}

func (p *program) until(name string, n int) {
	p.t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for len(p.events(name)) < n {
		if time.Now().After(deadline) {
			p.t.Fatalf("no %d %q; it printed\n%s%s", n, name, p.text(), p.errs.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *server) certificate() string {
	s.t.Helper()
	name := filepath.Join(s.t.TempDir(), "ca.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.web.Certificate().Raw})
	if err := os.WriteFile(name, b, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return name
}

func passwordFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(name, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func wavFile(t *testing.T, hz float64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "tone.wav")
	w, err := audio.CreateWAV(name, 22050)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(audio.Tone(22050, hz, 0.3, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

// A call between two of them: speech of each is in the recording of the other, digits arrive, both end with 0.
func TestTwoPhonesTalk(t *testing.T) {
	s := newServer(t)
	dir := t.TempDir()
	ca, pw := s.certificate(), passwordFile(t)
	called := start(t, "--api", s.web.URL, "--login", "ana", "--password-file", pw, "--ca", ca, "--answer",
		"--play", wavFile(t, 700), "--record", filepath.Join(dir, "called.wav"), "--calls", "1")
	called.until("registered", 1)
	caller := start(t, "--server", s.url(), "--user", "2101-desk", "--password-file", pw, "--ca", ca, "--dial", "2102",
		"--play", wavFile(t, 440), "--record", filepath.Join(dir, "caller.wav"), "--dtmf", "1#", "--codec", "pcma",
		"--hangup-after", "2s")
	if code := caller.wait(); code != 0 {
		t.Errorf("caller ended with %d:\n%s", code, caller.text())
	}
	if code := called.wait(); code != 0 {
		t.Errorf("called ended with %d:\n%s", code, called.text())
	}
	for _, name := range []string{"registered", "ringing", "answered", "ended"} {
		if len(caller.events(name)) != 1 {
			t.Errorf("caller told %q %d times:\n%s", name, len(caller.events(name)), caller.text())
		}
	}
	in := called.events("incoming")
	if len(in) != 1 || in[0]["from"] != "2101-desk" || in[0]["callId"] == "" {
		t.Errorf("incoming %v", in)
	}
	if a := caller.events("answered"); a[0]["codec"] != "PCMA" || a[0]["setupMs"] == nil {
		t.Errorf("answered %v", a)
	}
	if d := called.events("dtmf"); len(d) != 2 || d[0]["digit"] != "1" || d[1]["digit"] != "#" {
		t.Errorf("dtmf %v", d)
	}
	if e := caller.events("ended"); e[0]["cause"] != "hangup" || e[0]["durationMs"].(float64) < 1500 || e[0]["mos"].(float64) <= 1 {
		t.Errorf("ended %v", e)
	}
	hears(t, filepath.Join(dir, "called.wav"), 440)
	hears(t, filepath.Join(dir, "caller.wav"), 700)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.signIns) != 1 || !s.signIns[0].Phone || len(s.ended) != 1 || s.ended[0] != "s1" {
		t.Errorf("sessions: in %+v, out %v", s.signIns, s.ended)
	}
}

// hears fails unless most of the last second of the recording is the tone. It is looked at frame by frame: a
// busy machine may stall a phone, and what is heard after a gap has another phase.
func hears(t *testing.T, name string, hz float64) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	snd, err := audio.ReadWAV(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(snd.Samples) < snd.Rate*3/2 {
		t.Fatalf("%s holds %d samples only", name, len(snd.Samples))
	}
	good, size := 0, snd.Rate/50
	for i := len(snd.Samples) - snd.Rate; i+size <= len(snd.Samples); i += size {
		var re, im, sum float64
		for k, v := range snd.Samples[i : i+size] {
			a := 2 * math.Pi * hz * float64(k) / float64(snd.Rate)
			re += float64(v) * math.Cos(a)
			im += float64(v) * math.Sin(a)
			sum += float64(v) * float64(v)
		}
		if sum > 1000*float64(size) && 2*(re*re+im*im)/float64(size)/sum > 0.7 {
			good++
		}
	}
	if good < 30 {
		t.Errorf("%s: a tone of %v Hz in %d of 50 frames", name, hz, good)
	}
}

func TestManyCalls(t *testing.T) {
	s := newServer(t)
	pw := passwordFile(t)
	called := start(t, "--server", s.url(), "--user", "2102", "--password-file", pw, "--insecure", "--answer", "--calls", "8")
	called.until("registered", 1)
	caller := start(t, "--server", s.url(), "--user", "2101", "--password-file", pw, "--insecure", "--dial", "2102",
		"--calls", "8", "--hangup-after", "500ms")
	if code := caller.wait(); code != 0 {
		t.Errorf("caller ended with %d:\n%s", code, caller.text())
	}
	if code := called.wait(); code != 0 || len(called.events("ended")) != 8 {
		t.Errorf("called ended with %d:\n%s", code, called.text())
	}
}

func TestExitCodes(t *testing.T) {
	s := newServer(t)
	s.code = 486
	pw := passwordFile(t)
	bad := filepath.Join(t.TempDir(), "bad.wav")
	if err := os.WriteFile(bad, []byte("no wav at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	sip := []string{"--server", s.url(), "--user", "2101", "--password-file", pw, "--insecure"}
	with := func(more ...string) []string { return append(append([]string{}, sip...), more...) }
	tests := []struct {
		name string
		args []string
		want int
		says string
	}{
		{"busy", with("--dial", "1"), 1, "busy"},
		{"wrong password", []string{"--server", s.url(), "--user", "2101", "--password", "x", "--insecure", "--dial", "1"}, 1, "wrong user or password"},
		{"wrong sign-in", []string{"--api", s.web.URL, "--login", "ana", "--password", "x", "--insecure", "--answer"}, 1, "wrong user or password"},
		{"no such sound", with("--play", "/nonexistent.wav", "--dial", "1"), 1, "nonexistent"},
		{"no sound", with("--play", bad, "--dial", "1"), 1, "wav"},
		{"no password file", []string{"--server", s.url(), "--user", "u", "--password-file", "/nonexistent"}, 1, "nonexistent"},
		{"nothing", nil, 2, ""},
		{"unknown flag", with("--speed", "9"), 2, ""},
		{"argument", with("1234"), 2, ""},
		{"both modes", with("--api", "https://x"), 2, ""},
		{"no user", []string{"--server", s.url(), "--password", "x"}, 2, ""},
		{"dial and answer", with("--dial", "1", "--answer"), 2, ""},
		{"codec", with("--codec", "speex"), 2, ""},
		{"digits", with("--dtmf", "12x"), 2, ""},
		{"time", with("--hangup-after", "soon"), 2, ""},
		{"scheme", []string{"--server", "https://x", "--user", "u", "--password", "x"}, 2, ""},
		{"clear text", []string{"--api", "http://example.com", "--login", "u", "--password", "x"}, 2, ""},
		{"help", []string{"--help"}, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, tt.args...)
			if code := p.wait(); code != tt.want {
				t.Errorf("exit code %d, want %d: %s%s", code, tt.want, p.text(), p.errs.String())
			}
			if !strings.Contains(p.text(), tt.says) {
				t.Errorf("says nothing of %q:\n%s", tt.says, p.text())
			}
			if strings.Contains(p.text()+p.errs.String(), secret) {
				t.Error("tells the password")
			}
		})
	}
}

func TestSignalEndsCallsCleanly(t *testing.T) {
	s := newServer(t)
	pw := passwordFile(t)
	called := start(t, "--server", s.url(), "--user", "2102", "--password-file", pw, "--insecure", "--answer")
	called.until("registered", 1)
	caller := start(t, "--server", s.url(), "--user", "2101", "--password-file", pw, "--insecure", "--dial", "2102")
	called.until("answered", 1)
	caller.until("answered", 1)
	called.cancel()
	if code := called.wait(); code != 0 || len(called.events("ended")) != 1 {
		t.Errorf("called ended with %d:\n%s", code, called.text())
	}
	if code := caller.wait(); code != 0 || caller.events("ended")[0]["cause"] != softphone.CauseFarHangup {
		t.Errorf("caller ended with %d:\n%s", code, caller.text())
	}
}
