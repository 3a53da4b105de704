package carrier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/sip"
)

// Options make a Carrier.
type Options struct {
	Log *slog.Logger
	// Conn is where the carrier speaks SIP; the carrier closes it.
	Conn net.PacketConn
	// RTPPorts bounds its media's ports.
	RTPPorts [2]uint16
	// Gateway is where calls are sent.
	Gateway netip.AddrPort
	// Answer says what a called number does; nil refuses every call with 480.
	Answer func(number string) Behaviour
	// Codecs in the carrier's order of preference; PCMA and PCMU when empty.
	Codecs []string
}

// Behaviour is what a simulated person does in a call.
type Behaviour struct {
	// Lines are heard one after another once the call is up, Pause apart.
	Lines []media.Source
	Pause time.Duration
	// Digits are pressed after the first line.
	Digits string
	// HangsUp ends the call after the last line; else the other side does.
	HangsUp bool
	// Patience is how long a caller waits until somebody speaks to them after
	// the answer; 0 = for ever. It has no meaning for a called person.
	Patience time.Duration
	// RingFor is how long a called person lets it ring; Refuse, a SIP status,
	// makes them not answer at all.
	RingFor time.Duration
	Refuse  int
	// Spoken tells a caller that an agent is there: see Carrier.Call.
	Spoken <-chan struct{}
}

// Call is a call to place.
type Call struct {
	Behaviour

	From, FromName string // "anonymous" hides the number
	To             string // a DID of the gateway
}

// Result is how a call went.
type Result struct {
	Answered bool
	// Waited is from the INVITE to the answer; Lasted from the answer to the end.
	Waited, Lasted time.Duration
	Cause          sip.Cause
	Quality        media.Quality
}

// Carrier is a simulated carrier.
type Carrier struct {
	o        Options
	endpoint *sip.Endpoint
	engine   *media.Engine
	ctx      context.Context //nolint:containedctx // the carrier's own life, ended by Close
	stop     context.CancelFunc
	wg       sync.WaitGroup
	addr     netip.AddrPort

	mu     sync.Mutex
	calls  sync.WaitGroup
	closed bool
}

// errClosed says that the carrier takes no more calls.
var errClosed = errors.New("the carrier is closed")

// begin counts a call, which Close waits for until done is called.
func (c *Carrier) begin() (done func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	c.calls.Add(1)
	return c.calls.Done, nil
}

// New starts a carrier on o.Conn.
func New(ctx context.Context, o Options) (*Carrier, error) {
	addr, err := netip.ParseAddrPort(o.Conn.LocalAddr().String())
	if err != nil {
		return nil, fmt.Errorf("address of the carrier: %w", err)
	}
	if len(o.Codecs) == 0 {
		o.Codecs = []string{"PCMA", "PCMU"}
	}
	ctx, stop := context.WithCancel(ctx)
	c := &Carrier{o: o, addr: addr, ctx: ctx, stop: stop}
	c.engine, err = media.New(media.Options{Log: o.Log, Host: addr.Addr(), Bind: addr.Addr(), RTPPorts: o.RTPPorts})
	if err != nil {
		stop()
		return nil, fmt.Errorf("media of the carrier: %w", err)
	}
	c.endpoint, err = sip.New(sip.Options{Log: o.Log, UserAgent: "carrier", Host: addr.Addr().String(), Handler: handler{c}})
	if err != nil {
		stop()
		return nil, errors.Join(fmt.Errorf("signalling of the carrier: %w", err), c.engine.Close())
	}
	serve := context.WithoutCancel(ctx) // until the endpoint closes: calls say goodbye first
	c.wg.Go(func() {
		if err := c.endpoint.ServeUDP(serve, o.Conn); err != nil && ctx.Err() == nil {
			o.Log.ErrorContext(ctx, "carrier stopped", "err", err)
		}
	})
	if err := c.ready(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// startTimeout bounds how long the carrier's socket takes to be served.
const startTimeout = 10 * time.Second

// ready returns once the carrier is served: its own OPTIONS comes through.
func (c *Carrier) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	self := sip.Address{URI: sip.URI{Scheme: "sip", Host: c.addr.Addr().String(), Port: int(c.addr.Port())}}
	for {
		_, err := c.endpoint.Send(ctx, sip.Outgoing{
			Method: "OPTIONS", URI: self.URI, From: self, To: self, Destination: c.addr.String(), Transport: "udp",
		})
		if err == nil {
			return nil
		}
		t := time.NewTimer(time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("carrier does not serve %s: %w", c.addr, err)
		}
	}
}

// Addr is where the carrier listens.
func (c *Carrier) Addr() netip.AddrPort { return c.addr }

// Close ends all calls and returns when everything has stopped.
func (c *Carrier) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.calls.Wait() // they hang up first
	err := c.endpoint.Close()
	c.wg.Wait()
	return errors.Join(err, c.engine.Close())
}

// Call places a call and returns when it is over. A caller whose Spoken channel
// is set says nothing until it is closed; without it they speak at the answer.
func (c *Carrier) Call(ctx context.Context, call Call) (Result, error) {
	done, err := c.begin()
	if err != nil {
		return Result{}, err
	}
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)() //nolint:contextcheck // the carrier's end is the call's, too
	p := newParty(call.Behaviour, true)
	port, err := c.engine.NewRTP(media.RTPOptions{Codecs: c.o.Codecs, Label: "carrier"}, p)
	if err != nil {
		return Result{}, fmt.Errorf("media of a call: %w", err)
	}
	p.port = port
	offer, err := port.Offer(ctx)
	if err != nil {
		port.Close()
		return Result{}, fmt.Errorf("offer of a call: %w", err)
	}
	from := sip.Address{Name: call.FromName, URI: sip.URI{Scheme: "sip", User: call.From, Host: c.addr.Addr().String()}}
	if call.From == "anonymous" {
		from = sip.Address{Name: "Anonymous", URI: sip.URI{Scheme: "sip", User: "anonymous", Host: "anonymous.invalid"}}
	}
	to := sip.URI{Scheme: "sip", User: call.To, Host: c.o.Gateway.Addr().String(), Port: int(c.o.Gateway.Port())}
	start := time.Now()
	d, err := c.endpoint.Invite(ctx, sip.Invite{
		URI: to, To: sip.Address{URI: to}, From: from, Destination: c.o.Gateway.String(), Transport: "udp", SDP: offer,
	}, p)
	if err != nil {
		port.Close()
		return Result{}, fmt.Errorf("place a call: %w", err)
	}
	return p.run(ctx, d, start)
}

// handler takes the calls that come from the gateway.
type handler struct{ c *Carrier }

// Invite implements sip.Handler.
func (h handler) Invite(d *sip.Dialog) {
	if err := h.c.answer(d); err != nil {
		h.c.o.Log.Warn("carrier refuses a call", "err", err)
		if err := d.Reject(500, "Server Internal Error"); err != nil {
			h.c.o.Log.Debug("refuse", "err", err)
		}
	}
}

// Request implements sip.Handler: keep-alives and registrations are welcome.
func (h handler) Request(r *sip.Request) {
	code, reason := 405, "Method Not Allowed"
	if m := r.Method(); m == "OPTIONS" || m == "REGISTER" {
		code, reason = 200, "OK"
	}
	if err := r.Respond(code, reason); err != nil {
		h.c.o.Log.Debug("respond", "err", err)
	}
}

// FlowClosed implements sip.Handler.
func (handler) FlowClosed(sip.Flow) {}

// answer is a called person: it rings, and is answered or refused.
func (c *Carrier) answer(d *sip.Dialog) error {
	done, err := c.begin()
	if err != nil {
		return err
	}
	defer done()
	b := Behaviour{Refuse: 480}
	if c.o.Answer != nil {
		b = c.o.Answer(d.Request().URI().User)
	}
	p := newParty(b, false)
	port, err := c.engine.NewRTP(media.RTPOptions{Codecs: c.o.Codecs, Label: "carrier"}, p)
	if err != nil {
		return fmt.Errorf("media of a call: %w", err)
	}
	p.port = port
	sdp, err := port.Answer(c.ctx, d.Offer())
	if err != nil {
		port.Close()
		return fmt.Errorf("answer an offer: %w", err)
	}
	d.Accept(p)
	if err := d.Provisional(180, nil); err != nil {
		return fmt.Errorf("ring: %w", err)
	}
	ring := time.NewTimer(b.RingFor)
	defer ring.Stop()
	select {
	case <-ring.C:
	case <-p.ended:
		port.Close()
		return nil
	case <-c.ctx.Done():
		port.Close()
		return d.Reject(480, "")
	}
	if b.Refuse != 0 {
		port.Close()
		return d.Reject(b.Refuse, "")
	}
	start := time.Now()
	if err := d.Answer(sdp); err != nil {
		port.Close()
		return fmt.Errorf("answer: %w", err)
	}
	_, err = p.run(c.ctx, d, start)
	return err
}
