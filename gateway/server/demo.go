package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/apply"
	"github.com/cordboard/cordboard/gateway/demo"
	"github.com/cordboard/cordboard/gateway/demo/carrier"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/speech"
)

// demoCarrierAddr is where the simulated carrier listens when it can.
const demoCarrierAddr = "127.0.0.1:5080"

// demoPorts are the simulated carrier's own RTP ports.
const (
	demoPortFirst = 21000
	demoPortLast  = 22000
)

// maxSpeech bounds one spoken line, in samples.
const maxSpeech = 60 * 48000

// demoFile is demo.json: what a newcomer or a test needs to know.
type demoFile struct {
	URL      string        `json:"url"`
	Cert     string        `json:"certificate"`
	SIP      demoSIP       `json:"sip"`
	TURN     demoTURN      `json:"turn"`
	Carrier  string        `json:"carrier"`
	Accounts []demoAccount `json:"accounts"`
}

type demoSIP struct {
	UDP string `json:"udp"`
	TCP string `json:"tcp"`
	TLS string `json:"tls"`
	WSS string `json:"wss"`
}

type demoTURN struct {
	UDP string `json:"udp"`
	TCP string `json:"tcp"`
	TLS string `json:"tls"`
}

type demoAccount struct {
	Username  string            `json:"username"`
	Password  string            `json:"password"`
	Extension string            `json:"extension"`
	Roles     []string          `json:"roles"`
	Devices   map[string]string `json:"devices,omitempty"` // name: secret
}

// startDemo brings the demonstration up: its prompts, its carrier, its state,
// and customers who call until the returned stop.
func (s *Server) startDemo(ctx context.Context) (stop func(), err error) {
	d := &demonstration{s: s, out: &lines{w: s.o.Demo}, waiting: map[string]chan struct{}{}}
	if err := d.speak(ctx); err != nil {
		return nil, err
	}
	conn, err := listenPacketOr(ctx, demoCarrierAddr)
	if err != nil {
		return nil, fmt.Errorf("simulated carrier: %w", err)
	}
	gateway, err := netip.ParseAddrPort(s.c.SIP.UDP)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the demo needs sip.udp as address:port: %w", err), conn.Close())
	}
	d.carrier, err = carrier.New(ctx, carrier.Options{
		Log: s.log.With("component", "carrier"), Conn: conn, RTPPorts: [2]uint16{demoPortFirst, demoPortLast},
		Gateway: gateway, Answer: d.answer,
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := d.setUp(ctx); err != nil {
		return nil, errors.Join(err, d.carrier.Close())
	}
	d.print()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { d.follow(ctx) })
	wg.Go(func() { d.call(ctx) })
	return func() {
		cancel()
		wg.Wait()
		if err := d.carrier.Close(); err != nil {
			s.log.WarnContext(ctx, "stop the carrier", "err", err)
		}
	}, nil
}

// listenPacketOr listens where asked, or anywhere when that port is taken.
func listenPacketOr(ctx context.Context, addr string) (net.PacketConn, error) {
	if c, err := udp(ctx, addr); err == nil {
		return c, nil
	}
	return udp(ctx, "127.0.0.1:0")
}

// demonstration is what runs beside the gateway in a demo.
type demonstration struct {
	s        *Server
	out      *lines
	carrier  *carrier.Carrier
	said     [][]media.Source // by customer
	answers  [][]media.Source
	accounts demoFile
	ended    []string // the last few calls; of follow

	mu      sync.Mutex
	waiting map[string]chan struct{} // by caller's number: closed when an agent is there
	turn    int
}

// lines writes whole lines from several goroutines.
type lines struct {
	mu sync.Mutex
	w  interface{ Write([]byte) (int, error) }
}

func (l *lines) printf(format string, a ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, format+"\n", a...) //nolint:errcheck // a closed terminal is no reason to stop
}

// speak makes what is heard: the prompts of the gateway, the lines of the
// customers and of the agent.
func (d *demonstration) speak(ctx context.Context) error {
	dir := d.s.c.Path("demo")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the demo's folder: %w", err)
	}
	spoken := func(v speech.Voice, text string) (media.Source, error) {
		wav, err := speech.Synthesize(ctx, v, text)
		if err != nil {
			return nil, err
		}
		pcm, rate, err := media.ReadWAV(bytes.NewReader(wav), maxSpeech)
		if err != nil {
			return nil, fmt.Errorf("speech: %w", err)
		}
		return media.PCMSource("speech", pcm, rate), nil
	}
	all := func(people []demo.Customer) ([][]media.Source, error) {
		out := make([][]media.Source, 0, len(people))
		for _, c := range people {
			var own []media.Source
			for _, line := range c.Lines {
				src, err := spoken(speech.Voice{Language: c.Language, Pitch: c.Pitch}, line)
				if err != nil {
					return nil, fmt.Errorf("voice of a customer: %w", err)
				}
				own = append(own, src)
			}
			out = append(out, own)
		}
		return out, nil
	}
	var err error
	if d.said, err = all(demo.Customers()); err != nil {
		return err
	}
	if d.answers, err = all(demo.Answers()); err != nil {
		return err
	}
	wav, err := speech.Synthesize(ctx, speech.Voice{Language: "es", Speed: 150}, demo.AgentLine)
	if err != nil {
		return fmt.Errorf("voice of the agent: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "agent.wav"), wav, 0o600); err != nil {
		return fmt.Errorf("keep the agent's voice: %w", err)
	}
	return nil
}

// setUp writes the company's state and demo.json.
func (d *demonstration) setUp(ctx context.Context) error {
	s := d.s
	path := s.c.Path("demo.json")
	old := demoFile{}
	if b, err := os.ReadFile(path); err == nil { //nolint:gosec // a file of the data folder
		if err := json.Unmarshal(b, &old); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", path, err)
	}
	known := map[string]demoAccount{}
	for _, a := range old.Accounts {
		known[a.Username] = a
	}
	doc, err := demo.State(d.carrier.Addr().String(), func(username, device string) (string, error) {
		a := known[username]
		if device == "" && a.Password != "" {
			return a.Password, nil
		}
		if device != "" && a.Devices[device] != "" {
			return a.Devices[device], nil
		}
		return passphrase()
	})
	if err != nil {
		return err
	}
	if _, err := s.state.Apply(ctx, apply.Request{State: doc, By: "demo"}); err != nil {
		return fmt.Errorf("demo state: %w", err)
	}
	f := demoFile{
		URL: s.c.HTTP.URL(), Cert: absolute(s.certPath), Carrier: d.carrier.Addr().String(),
		SIP:  demoSIP{UDP: s.c.SIP.UDP, TCP: s.c.SIP.TCP, TLS: s.c.SIP.TLS, WSS: "wss://" + s.c.SIP.WSS + "/ws"},
		TURN: demoTURN{UDP: s.c.TURN.UDP, TCP: s.c.TURN.TCP, TLS: s.c.TURN.TLS},
	}
	for _, u := range doc.Users {
		a := demoAccount{Username: u.Username, Password: deref(u.Password), Extension: deref(u.Extension)}
		if u.Roles != nil {
			a.Roles = *u.Roles
		}
		devices := []api.Device{}
		if u.Devices != nil {
			devices = *u.Devices
		}
		for _, dev := range devices {
			if a.Devices == nil {
				a.Devices = map[string]string{}
			}
			a.Devices[dev.Name] = deref(dev.Secret)
		}
		f.Accounts = append(f.Accounts, a)
		if err := os.WriteFile(s.c.Path("demo", u.Username+".password"), []byte(a.Password+"\n"), 0o600); err != nil {
			return fmt.Errorf("keep a password: %w", err)
		}
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	d.accounts = f
	return s.keepConfiguration(s.c.Path(demoConfig))
}

// demoConfig is the demonstration's configuration in the data folder, by which
// the other commands find it.
const demoConfig = "demo.yaml"

// keepConfiguration writes the configuration in force.
func (s *Server) keepConfiguration(path string) error {
	c := *s.c
	c.Data = absolute(c.Data)
	b, err := c.YAML()
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil { // addresses of databases may hold passwords
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// passphrase makes a password that can be read aloud: three words and two digits.
func passphrase() (string, error) {
	words := demo.Words()
	var b strings.Builder
	for range 3 {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(words))))
		if err != nil {
			return "", fmt.Errorf("make a password: %w", err)
		}
		b.WriteString(words[n.Int64()] + "-")
	}
	n, err := rand.Int(rand.Reader, big.NewInt(90))
	if err != nil {
		return "", fmt.Errorf("make a password: %w", err)
	}
	fmt.Fprintf(&b, "%d", n.Int64()+10)
	return b.String(), nil
}

// print tells a newcomer where everything is; its last line is "ready".
func (d *demonstration) print() {
	f := d.accounts
	d.out.printf("Cordboard demo: %s", f.URL)
	d.out.printf("  SIP over WebSocket %s · SIP udp %s · TURN udp %s", f.SIP.WSS, f.SIP.UDP, f.TURN.UDP)
	d.out.printf("  simulated carrier on udp %s · everything about it in %s", f.Carrier, d.s.c.Path("demo.json"))
	d.out.printf("  other commands: gateway doctor --config %s", d.s.c.Path(demoConfig))
	d.out.printf("  accounts:")
	for _, a := range f.Accounts {
		d.out.printf("    %-10s %-28s extension %s  %s", a.Username, a.Password, a.Extension, strings.Join(a.Roles, ", "))
	}
	d.out.printf("ready")
}

// answer is what a number that an agent calls does.
func (d *demonstration) answer(string) carrier.Behaviour {
	people := demo.Answers()
	d.mu.Lock()
	i := d.turn % len(people)
	d.turn++
	d.mu.Unlock()
	return carrier.Behaviour{Lines: d.answers[i], Pause: 2 * time.Second, HangsUp: people[i].HangsUp, RingFor: 2 * time.Second}
}

// call lets the customers call one after another, two at most at once.
func (d *demonstration) call(ctx context.Context) {
	people := demo.Customers()
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
func (d *demonstration) place(ctx context.Context, c demo.Customer, said []media.Source) {
	spoken := make(chan struct{})
	d.mu.Lock()
	d.waiting[c.Number] = spoken
	d.mu.Unlock()
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
func (d *demonstration) follow(ctx context.Context) {
	names := map[string]string{} // call id: number
	err := d.s.stream.Read(ctx, d.s.stream.Last(), func(f event.Fact) error {
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
				d.out.printf("%s  %s: recording %s", now(), shown(names[p.CallID]), d.s.c.Path("recordings", filepath.FromSlash(p.Path)))
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
		d.s.log.WarnContext(ctx, "the demo's screen stopped", "err", err)
	}
}

// forget drops a call's name once the last line about it was surely told: the
// recording and the queue's facts may follow the call's end.
func (d *demonstration) forget(names map[string]string, callID string) {
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

// met tells a waiting customer that an agent is there.
func (d *demonstration) met(number string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := shown(number)
	if ch, ok := d.waiting[key]; ok {
		close(ch)
		delete(d.waiting, key)
	}
}
