package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/demo/carrier"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/speech"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The state is whole: every member and every caller has somewhere to go.
func TestState(t *testing.T) {
	s, err := State("127.0.0.1:5080", func(username, device string) (string, error) { return username + "/" + device, nil })
	if err != nil {
		t.Fatal(err)
	}
	users, dids := map[string]bool{}, map[string]bool{}
	for _, u := range s.Users {
		users[u.Username] = true
		if deref(u.Password) != u.Username+"/" || u.MustChangePassword == nil || *u.MustChangePassword {
			t.Errorf("user %s: password %q", u.Username, deref(u.Password))
		}
	}
	for _, c := range s.Campaigns {
		if c.DID != nil {
			for _, d := range *c.DID {
				dids[d] = true
			}
		}
		if c.Members == nil || len(*c.Members) == 0 {
			t.Errorf("campaign %s has no members", c.Name)
			continue
		}
		for _, m := range *c.Members {
			if !users[m.User] {
				t.Errorf("campaign %s: no user %s", c.Name, m.User)
			}
		}
	}
	languages := map[string]bool{}
	for _, c := range Customers() {
		languages[c.Language] = true
		if !dids[c.DID] {
			t.Errorf("%s calls %s, which is nobody's", c.Number, c.DID)
		}
	}
	if len(languages) != 4 {
		t.Errorf("languages %v", languages)
	}
	failure := errors.New("for the test")
	if _, err := State("", func(string, string) (string, error) { return "", failure }); !errors.Is(err, failure) {
		t.Errorf("State: %v", err)
	}
}

func TestPassphrase(t *testing.T) {
	a, err := passphrase()
	if err != nil {
		t.Fatal(err)
	}
	b, err := passphrase()
	if err != nil || a == b || len(strings.Split(a, "-")) != 4 || len(a) < 10 {
		t.Errorf("%q, %q %v", a, b, err)
	}
}

// Two customers of one number each learn of their own agent, and who is gone
// takes nobody's turn.
func TestCustomersOfOneNumber(t *testing.T) {
	d := &show{waiting: map[string][]chan struct{}{}}
	first, second, third := make(chan struct{}), make(chan struct{}), make(chan struct{})
	d.waiting["anonymous"] = []chan struct{}{first, second, third}
	d.left("anonymous", first)
	d.met("")
	select {
	case <-second:
	default:
		t.Error("the second customer was not told")
	}
	select {
	case <-first:
		t.Error("the customer who left was told")
	case <-third:
		t.Error("the third customer was told")
	default:
	}
	d.left("anonymous", third)
	d.met("anonymous")
	if len(d.waiting["anonymous"]) != 0 {
		t.Errorf("waiting %v", d.waiting)
	}
}

// gateway plays the gateway: its calls are answered by a carrier of the test.
type gateway struct {
	mu    sync.Mutex
	state api.State
	facts chan event.Fact
}

func (g *gateway) Apply(_ context.Context, s api.State) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state = s
	return nil
}

func (g *gateway) Last() uint64 { return 0 }

func (g *gateway) Read(ctx context.Context, _ uint64, fn func(event.Fact) error) error {
	for {
		select {
		case f := <-g.facts:
			if err := fn(f); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// screen collects what people are told.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *screen) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.b.String(), text)
}

// The demonstration writes its accounts, keeps them over a restart, and sends
// customers who speak once an agent is there.
func TestStart(t *testing.T) {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	calls := make(chan string, 16)
	far, err := carrier.New(t.Context(), carrier.Options{
		Log: log, Conn: conn, RTPPorts: [2]uint16{12700, 12799}, Gateway: netip.MustParseAddrPort("127.0.0.1:9"),
		Answer: func(number string) carrier.Behaviour { calls <- number; return carrier.Behaviour{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = far.Close() }()
	dir := t.TempDir()
	var before File
	for run := range 2 {
		g, out := &gateway{facts: make(chan event.Fact)}, &screen{}
		stop, err := Start(t.Context(), Options{
			Log: log, Gateway: g, Out: out, Data: dir, Config: "demo.yaml",
			Addresses: File{URL: "http://127.0.0.1:8080", SIP: SIP{UDP: far.Addr().String()}},
		})
		if errors.Is(err, speech.ErrMissing) && os.Getenv("CI") != "true" {
			t.Skip("espeak-ng is missing")
		}
		if err != nil {
			t.Fatal(err)
		}
		if !out.has("\nready\n") {
			t.Errorf("the screen says %q", out.b.String())
		}
		var f File
		b, err := os.ReadFile(filepath.Join(dir, "demo.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &f); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(filepath.Join(dir, "demo.json")); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("demo.json: %v %v", st, err)
		}
		if len(f.Accounts) == 0 || len(f.Accounts) != len(g.state.Users) || f.Carrier == "" {
			t.Errorf("demo.json %s", b)
		}
		if run == 1 && f.Accounts[0].Password != before.Accounts[0].Password {
			t.Error("a restart changed the passwords")
		}
		before = f
		select {
		case to := <-calls:
			if to != Customers()[0].DID {
				t.Errorf("the first customer called %s", to)
			}
		case <-time.After(20 * time.Second):
			t.Error("no customer called")
		}
		data, err := json.Marshal(event.QueueEntered{CallID: "1", Queue: "Support<-", Caller: Customers()[0].Number, Position: 1})
		if err != nil {
			t.Fatal(err)
		}
		g.facts <- event.Fact{Type: event.KindQueueEntered, Data: data}
		g.facts <- event.Fact{Type: event.KindQueueEntered, Data: []byte("{")} // not readable: passed over
		if !out.has("waits in Support<-, place 1") {
			t.Errorf("the screen says %q", out.b.String())
		}
		stop()
	}
}
