//go:build e2e && linux

package faults

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cordboard/cordboard/e2e/harness"
	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/sip"
)

// station is a SIP endpoint of a test on UDP at an address of 127.0.0.0/8.
type station struct {
	ep   *sip.Endpoint
	addr netip.AddrPort
	// invite takes calls; nil refuses them.
	invite func(*sip.Dialog)
}

func newStation(t *testing.T, ip string, invite func(*sip.Dialog)) *station {
	t.Helper()
	c, err := net.ListenPacket("udp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	s := &station{invite: invite, addr: netip.MustParseAddrPort(c.LocalAddr().String())}
	s.ep, err = sip.New(sip.Options{Handler: s, Host: ip, Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.ep.ServeUDP(context.Background(), c) })
	t.Cleanup(func() {
		_ = s.ep.Close()
		_ = c.Close()
		wg.Wait()
	})
	// The endpoint is ready once it answers itself.
	self := sip.URI{Scheme: "sip", Host: ip, Port: int(s.addr.Port())}
	harness.Until(t, 10*time.Second, "a SIP endpoint of the test is up", func() bool {
		_, err := s.ep.Send(t.Context(), sip.Outgoing{
			Method: "OPTIONS", URI: self, From: sip.Address{URI: self}, To: sip.Address{URI: self}, Destination: s.addr.String(), Transport: "udp",
		})
		return err == nil
	})
	return s
}

// Invite implements sip.Handler.
func (s *station) Invite(d *sip.Dialog) {
	if s.invite == nil {
		_ = d.Reject(480, "")
		return
	}
	s.invite(d)
}

// Request implements sip.Handler: keep-alives.
func (s *station) Request(r *sip.Request) { _ = r.Respond(200, "OK") }

// FlowClosed implements sip.Handler.
func (s *station) FlowClosed(sip.Flow) {}

// party is one end of one call.
type party struct {
	sip.NoEvents

	d        *sip.Dialog
	voice    *voice // nil = has no media
	answered chan struct{}
	ended    chan struct{}
	cause    sip.Cause
	upAt     time.Time
	once     sync.Once
}

func newParty(v *voice) *party {
	return &party{voice: v, answered: make(chan struct{}), ended: make(chan struct{})}
}

func (p *party) sdp() []byte {
	if p.voice != nil {
		return p.voice.sdp()
	}
	return describe(9, "8", "a=rtpmap:8 PCMA/8000")
}

// Answered implements sip.Events.
func (p *party) Answered(body []byte) {
	if p.voice != nil && len(body) > 0 {
		_ = p.voice.aim(body)
	}
	p.once.Do(func() {
		p.upAt = time.Now()
		close(p.answered)
	})
}

// Offer implements sip.Events.
func (p *party) Offer([]byte) (answer []byte, code int) { return p.sdp(), 200 }

// Ended implements sip.Events.
func (p *party) Ended(c sip.Cause) {
	p.cause = c
	close(p.ended)
}

func (p *party) hangUp() { _ = p.d.Hangup(sip.Cause{Code: 200, Q850: 16}) }

// over reports whether the call has ended.
func (p *party) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// within waits for a channel.
func within(t *testing.T, ch <-chan struct{}, d time.Duration, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(d):
		t.Fatalf("not within %s: %s", d, what)
	}
}

// call sends a customer's INVITE to a DID of the gateway.
func (s *station) call(gateway, from, to string, v *voice) (*party, error) {
	p := newParty(v)
	host, port, err := net.SplitHostPort(gateway)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	uri := sip.URI{Scheme: "sip", User: to, Host: host, Port: n}
	p.d, err = s.ep.Invite(context.Background(), sip.Invite{
		URI: uri, To: sip.Address{URI: uri}, From: sip.Address{URI: sip.URI{Scheme: "sip", User: from, Host: s.addr.Addr().String()}},
		Destination: gateway, Transport: "udp", SDP: p.sdp(),
	}, p)
	if err != nil {
		return nil, fmt.Errorf("call: %w", err)
	}
	return p, nil
}

// mustCall is call for a test that needs it to be answered.
func (s *station) mustCall(t *testing.T, gateway, from string, v *voice) *party {
	t.Helper()
	p, err := s.call(gateway, from, did, v)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.answered:
	case <-p.ended:
		t.Fatalf("the call from %s was refused: %d %s", from, p.cause.Code, p.cause.Reason)
	case <-time.After(10 * time.Second):
		t.Fatalf("the call from %s was not answered", from)
	}
	return p
}

// desk is an agent with a desk phone.
type desk struct {
	*station

	r       *rig
	n       int
	client  *harness.Client
	ringing chan *ringing
}

// ringing is a call that rings at a desk phone.
type ringing struct {
	*party

	guid string
	auto bool
	at   time.Time
}

// newDesk registers the agent's phone and signs the agent in.
func (r *rig) newDesk(t *testing.T, n int) *desk {
	t.Helper()
	a := &desk{r: r, n: n, ringing: make(chan *ringing, 256)}
	a.station = newStation(t, "127.0.0.1", func(d *sip.Dialog) {
		req := d.Request()
		p := newParty(nil)
		p.d = d
		d.Accept(p)
		_ = d.Provisional(180, nil)
		a.ringing <- &ringing{party: p, guid: req.Header("X-Cordboard-Call"), auto: req.Header("Answer-Mode") == "Auto", at: time.Now()}
	})
	a.register(t)
	a.client = r.SignIn(t, api.SignIn{Username: user(n), Password: password, Device: "desk"})
	harness.Until(t, harness.Patience, user(n)+" can be rung", func() bool {
		v := r.Admin(t).Agent(t, user(n))
		return v.SignedIn && v.Reachable && v.State != "offline"
	})
	return a
}

// register registers the phone, as often as it takes.
func (a *desk) register(t *testing.T) {
	t.Helper()
	if err := a.tryRegister(t.Context(), 600); err != nil {
		t.Fatal(err)
	}
}

func (a *desk) tryRegister(ctx context.Context, expires int) error {
	ext := extension(a.n)
	host, port, err := net.SplitHostPort(a.r.UDP)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	me := sip.Address{URI: sip.URI{Scheme: "sip", User: ext, Host: "cordboard"}}
	res, err := a.ep.Send(ctx, sip.Outgoing{
		Method: "REGISTER", URI: sip.URI{Scheme: "sip", Host: host, Port: n}, From: me, To: me, Destination: a.r.UDP, Transport: "udp",
		Headers: []sip.Header{
			{Name: "Contact", Value: fmt.Sprintf("<sip:%s@%s>;expires=%d", ext, a.addr, expires)},
			{Name: "Expires", Value: strconv.Itoa(expires)},
		},
		Credentials: &sip.Credentials{Username: ext + "-desk", Password: secret},
	})
	if err != nil {
		return fmt.Errorf("register %s: %w", ext, err)
	}
	if res.Code != 200 {
		return fmt.Errorf("register %s: %d %s", ext, res.Code, res.Reason)
	}
	return nil
}

// next waits for the next call that rings.
func (a *desk) next(t *testing.T, d time.Duration) *ringing {
	t.Helper()
	select {
	case g := <-a.ringing:
		return g
	case <-time.After(d):
		t.Fatalf("nothing rings at %s within %s", user(a.n), d)
		return nil
	}
}

// answer takes a call; v may be nil.
func (g *ringing) answer(v *voice) (*party, error) {
	g.voice = v
	if v != nil {
		if err := v.aim(g.d.Offer()); err != nil {
			return nil, err
		}
	}
	return g.party, g.d.Answer(g.sdp())
}

// mustAnswer takes a call and waits for the ACK.
func (g *ringing) mustAnswer(t *testing.T, v *voice) *party {
	t.Helper()
	p, err := g.answer(v)
	if err != nil {
		t.Fatal(err)
	}
	within(t, p.answered, 5*time.Second, "the agent's answer is acknowledged")
	return p
}
