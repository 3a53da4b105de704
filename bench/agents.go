package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// settle lets a gateway give memory back that it does not use: the garbage
// collector runs at least every two minutes, transactions live for half a one.
func (b *bench) settle(ctx context.Context) error {
	return wait(ctx, time.Duration(b.short(10, 150))*time.Second)
}

// registerRate is the goal's rate of registrations a second.
const registerRate = 300

// agents measures goal c's idle process, idle agents and registrations.
func (b *bench) agents(ctx context.Context) error {
	n := b.short(300, 1000)
	g, err := b.start(ctx, "idle")
	if err != nil {
		return err
	}
	if err := wait(ctx, time.Duration(b.short(10, 30))*time.Second); err != nil {
		return errors.Join(err, g.stop())
	}
	kb, err := memory(g.pid)
	if err != nil {
		return errors.Join(err, g.stop())
	}
	b.add("memory idle process", float64(kb)/1000, "MB", 1, "PSS of a gateway without state; goal 100")
	// The state is made by one process and used by the next: hashing passwords
	// leaves memory behind that would hide what agents need.
	if _, err = g.apply.Apply(ctx, state(n), false, false); err != nil {
		return errors.Join(fmt.Errorf("apply: %w", err), g.stop())
	}
	if err := g.stop(); err != nil {
		return err
	}
	if g, err = b.start(ctx, "idle"); err != nil {
		return err
	}
	defer func() { _ = g.stop() }()
	if err := b.settle(ctx); err != nil {
		return err
	}
	idle, err := g.idle(ctx, 5*time.Second)
	if err != nil {
		return err
	}
	before, err := memory(g.pid)
	if err != nil {
		return err
	}
	socks := make([]*socket, n)
	defer func() {
		for _, s := range socks {
			if s != nil {
				_ = s.ws.Close()
			}
		}
	}()
	first, took, failed, err := b.registrations(ctx, g, n, func(i int) error {
		s, err := dialSocket(ctx, g)
		if err != nil {
			return err
		}
		socks[i] = s
		return s.register(i, 1)
	})
	if err != nil {
		return err
	}
	b.add("registration with tls cpu", (ms(first)-idle*ms(took))/float64(n), "ms", n, "TLS and WebSocket handshake, REGISTER, 401, REGISTER, 200 at %d/s; %d failed", registerRate, failed)
	again, took, failed, err := b.registrations(ctx, g, n, func(i int) error { return socks[i].register(i, 3) })
	if err != nil {
		return err
	}
	b.add("registration cpu", (ms(again)-idle*ms(took))/float64(n), "ms", n, "REGISTER, 401, REGISTER, 200 on an open WebSocket at %d/s (%.0f/s reached); %d failed; goal 1.5", registerRate, float64(n)/took.Seconds(), failed)
	if err := b.settle(ctx); err != nil {
		return err
	}
	after, err := memory(g.pid)
	if err != nil {
		return err
	}
	b.add("memory idle agent", float64(after-before)/float64(n), "KB", n, "growth of PSS with %d phones registered over WebSocket with TLS, from %.1f to %.1f MB in all; goal 100", n, float64(before)/1000, float64(after)/1000)
	return nil
}

// registrations runs n registrations at the goal's rate.
func (b *bench) registrations(ctx context.Context, g *gateway, n int, one func(i int) error) (used, took time.Duration, failed int, err error) {
	m, err := measure(g.pid)
	if err != nil {
		return 0, 0, 0, err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var first error
	for i := range n {
		if err := wait(ctx, time.Until(m.from.Add(time.Duration(i)*time.Second/registerRate))); err != nil {
			return 0, 0, 0, err
		}
		wg.Go(func() {
			if err := one(i); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed++
				first = err
			}
		})
	}
	wg.Wait()
	if failed > n/10 {
		return 0, 0, failed, fmt.Errorf("%d of %d registrations failed: %w", failed, n, first)
	}
	used, took, err = m.read()
	return used, took, failed, err
}

// socket is a phone's WebSocket.
type socket struct {
	ws    *websocket.Conn
	local string
}

func dialSocket(ctx context.Context, g *gateway) (*socket, error) {
	d := websocket.Dialer{
		TLSClientConfig: g.tls.Clone(), Subprotocols: []string{"sip"}, HandshakeTimeout: 20 * time.Second,
		NetDialContext: (&net.Dialer{}).DialContext,
	}
	ws, res, err := d.DialContext(ctx, g.wss, http.Header{"Origin": {g.http}})
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	_ = res.Body.Close()
	return &socket{ws: ws, local: "phone.invalid"}, nil
}

// register registers the i-th agent's desk phone with two requests, the first
// of them numbered cseq.
func (s *socket) register(i, cseq int) error {
	auth := ""
	for n := cseq; n < cseq+2; n++ {
		contact := fmt.Sprintf("sip:%s@%d.invalid;transport=ws", extension(i), i)
		if err := s.ws.WriteMessage(websocket.TextMessage, []byte(register(i, n, "WSS "+s.local, contact, auth))); err != nil {
			return fmt.Errorf("register: %w", err)
		}
		if err := s.ws.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return fmt.Errorf("register: %w", err)
		}
		_, raw, err := s.ws.ReadMessage()
		if err != nil {
			return fmt.Errorf("register: %w", err)
		}
		m := message(raw)
		switch m.status() {
		case 200:
			return nil
		case 401:
			auth = m.authorization(extension(i)+"-"+device, "sip:"+realm)
		default:
			first, _, _ := strings.Cut(string(m), "\r\n")
			return fmt.Errorf("register: %w: %s", errRefused, first)
		}
	}
	return fmt.Errorf("register: %w", errRefused)
}

// growth measures goal c's memory after many calls.
func (b *bench) growth(ctx context.Context) error {
	d, err := b.desk(ctx, "growth", queueAgents)
	if err != nil {
		return err
	}
	defer d.close()
	few, many := b.short(200, 1000), b.short(2000, 10_000)
	after := func(n int) (int, error) {
		s, err := b.sipp(ctx, "queue-call.xml", d.g.sip, 100, n)
		if err != nil {
			return 0, err
		}
		if s.failed > 0 {
			b.say("   %d of %d calls failed", s.failed, n)
		}
		if err := b.settle(ctx); err != nil {
			return 0, err
		}
		return memory(d.g.pid)
	}
	first, err := after(few)
	if err != nil {
		return err
	}
	second, err := after(many - few)
	if err != nil {
		return err
	}
	b.add("memory after many calls", float64(second)/float64(first), "x", many, "PSS after %d calls (%.1f MB) to that after %d (%.1f MB); goal 1.2", many, float64(second)/1000, few, float64(first)/1000)
	return nil
}

// turn measures goal e with the package's own benchmark, which alternates with
// coturn.
func (b *bench) turn(ctx context.Context) error {
	times := strconv.Itoa(b.short(1, max(b.rounds, 3)))
	//nolint:gosec // a fixed command
	cmd := exec.CommandContext(ctx, "go", "test", "-tags", "e2e", "-run", "^$", "-bench", "^BenchmarkRelay$", "-benchtime", times+"x", "./gateway/turn")
	cmd.Env = append(os.Environ(), "CI=true") // coturn must be there
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("turn: %w: %s", err, last(out, 500))
	}
	for _, v := range []struct{ metric, name, unit, note string }{
		{"cordboard-µs/packet", "turn cpu", "µs", "a relayed packet at 100 clients x 50 packets/s"},
		{"coturn-µs/packet", "turn coturn cpu", "µs", "the same through coturn, in alternation"},
		{"ratio", "turn ratio", "x", "of the CPU to coturn's; goal 1.3"},
		{"cordboard-lost", "turn lost", "packets", "in the last round; goal 0"},
	} {
		f := regexp.MustCompile(`([0-9.e+-]+) ` + regexp.QuoteMeta(v.metric) + `\b`).FindStringSubmatch(string(out))
		if f == nil {
			return fmt.Errorf("turn: no %s: %w: %s", v.metric, errProc, last(out, 500))
		}
		x, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			return fmt.Errorf("turn: %w", err)
		}
		n, err := strconv.Atoi(times)
		if err != nil {
			return fmt.Errorf("turn: %w", err)
		}
		b.add(v.name, x, v.unit, n, "%s", v.note)
	}
	return nil
}
