//go:build e2e && linux

package harness

import (
	"encoding/json"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// PhoneOptions of bin/softphone.
type PhoneOptions struct {
	// Login signs in like the desktop; Device ("2101-desk") is a SIP phone with
	// the password as its secret.
	Login, Device, Password string
	// Play is what its microphone hears, Record what was heard.
	Play, Record string
	// Args are further ones: --answer, --dial NUMBER, --hangup-after 3s …
	Args []string
}

// PhoneEvent is one line of a phone.
type PhoneEvent struct {
	Time       time.Time `json:"time"`
	Event      string    `json:"event"`
	CallID     string    `json:"callId"`
	From       string    `json:"from"`
	Name       string    `json:"name"`
	Campaign   string    `json:"campaign"`
	WaitedMs   int64     `json:"waitedMs"`
	Codec      string    `json:"codec"`
	SetupMs    float64   `json:"setupMs"`
	Digit      string    `json:"digit"`
	By         string    `json:"by"`
	Cause      string    `json:"cause"`
	Text       string    `json:"text"`
	Code       int       `json:"code"`
	DurationMs int64     `json:"durationMs"`
	Error      string    `json:"error"`
	LossPct    float64   `json:"lossPct"`
	MOS        float64   `json:"mos"`
}

// Phone is a running bin/softphone.
type Phone struct {
	*Process

	events *Log[PhoneEvent]
	seen   int
}

// Phone starts a softphone that is ended with the test.
func (g *Gateway) Phone(tb testing.TB, o PhoneOptions) *Phone {
	tb.Helper()
	secret := filepath.Join(tb.TempDir(), "secret")
	write(tb, secret, o.Password)
	args := []string{"--ca", g.CA(), "--password-file", secret}
	if o.Login != "" {
		args = append(args, "--api", g.URL(), "--login", o.Login)
	} else {
		args = append(args, "--server", "wss://"+g.WSS+"/ws", "--user", o.Device)
	}
	if o.Play != "" {
		args = append(args, "--play", o.Play)
	}
	if o.Record != "" {
		args = append(args, "--record", o.Record)
	}
	p := &Phone{events: NewLog[PhoneEvent]()}
	p.Process = Run(tb, func(line string) {
		var e PhoneEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			e = PhoneEvent{Event: "not JSON", Error: line}
		}
		p.events.Add(e)
	}, Program(tb, "softphone"), append(args, o.Args...)...)
	tb.Cleanup(func() {
		if tb.Failed() {
			for _, e := range p.events.All() {
				tb.Logf("softphone: %+v", e)
			}
		}
	})
	return p
}

// Next waits for the next event of a kind: each one is given once, and those
// before it are passed over.
func (p *Phone) Next(tb testing.TB, kind string) PhoneEvent {
	tb.Helper()
	e, ok := p.next(tb, Patience, kind)
	if !ok {
		tb.Fatalf("the phone did not say %q", kind)
	}
	return e
}

func (p *Phone) next(tb testing.TB, d time.Duration, kind string) (PhoneEvent, bool) {
	tb.Helper()
	at := p.seen
	i := at - 1
	e, ok := p.events.Wait(tb.Context(), d, at, func(e PhoneEvent) bool {
		i++
		return e.Event == kind
	})
	if ok {
		p.seen = i + 1
	}
	return e, ok
}

// Events returns everything that the phone has said.
func (p *Phone) Events() []PhoneEvent { return p.events.All() }

// Close asks the phone to end and returns its exit code: what it records is
// complete then.
func (p *Phone) Close(tb testing.TB) int {
	tb.Helper()
	p.Signal(syscall.SIGTERM)
	return p.Wait(tb, Patience)
}
