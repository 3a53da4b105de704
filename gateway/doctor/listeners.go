package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/sip"
)

// listenWithin is how long a listener may take to answer.
const listenWithin = 5 * time.Second

var errNoSTUN = errors.New("what answers is no STUN server")

// listener tries one address at which the gateway should answer.
func (r *run) listener(ctx context.Context, l api.Listener) {
	check := l.Key + " at " + l.Address
	ctx, cancel := context.WithTimeout(ctx, listenWithin)
	defer cancel()
	begun := time.Now()
	if err := r.knock(ctx, l); err != nil {
		cure := "open the port in the firewall and see that no other program has it"
		if c := cureOf(err); c != "" && !errors.Is(err, context.DeadlineExceeded) {
			cure = c
		}
		if strings.Contains(err.Error(), "refused") {
			cure = "nothing listens there: is " + l.Key + " as you want it, and did the gateway start after the change?"
		}
		r.fail(check, cure, "%v", err)
		return
	}
	r.ok(check, "answers in %v", time.Since(begun).Round(100*time.Microsecond))
}

func (r *run) knock(ctx context.Context, l api.Listener) error {
	kind, transport, _ := strings.Cut(l.Protocol, "-")
	switch kind {
	case "http", "https", "wss":
		c, err := r.dial(ctx, l.Address, kind != "http")
		if err != nil {
			return err
		}
		return c.Close()
	case "sip":
		return r.options(ctx, l.Address, transport)
	case "stun":
		return r.binding(ctx, l.Address, transport)
	}
	return nil // a newer gateway has listeners that this doctor does not know
}

func (r *run) dial(ctx context.Context, addr string, secure bool) (net.Conn, error) {
	if !secure {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}
	return (&tls.Dialer{Config: r.o.Gateway.TLS()}).DialContext(ctx, "tcp", addr)
}

// options asks a SIP listener what it can do.
func (r *run) options(ctx context.Context, addr, transport string) (err error) {
	e, err := sip.New(sip.Options{Log: r.o.Log, Handler: nobody{}, ClientTLS: r.o.Gateway.TLS(), UserAgent: "Cordboard doctor"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if transport == "udp" {
		// The answer comes to the socket that the request left from.
		c, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", ":0")
		if err != nil {
			return err
		}
		u, ok := c.(*net.UDPConn)
		if !ok {
			return errors.Join(errors.ErrUnsupported, c.Close())
		}
		served := make(chan struct{})
		serve, stop := context.WithCancel(ctx)
		go func() {
			defer close(served)
			_ = e.ServeUDP(serve, u) // ends with stop
		}()
		defer func() { stop(); <-served }()
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	uri, err := sip.ParseURI("sip:" + net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	from := sip.Address{URI: sip.URI{Scheme: "sip", User: "doctor", Host: "doctor.invalid"}}
	res, err := e.Send(ctx, sip.Outgoing{
		Method: "OPTIONS", URI: uri, From: from, To: sip.Address{URI: uri}, Destination: addr, Transport: transport,
	})
	switch {
	case err != nil:
		return fmt.Errorf("no answer to OPTIONS: %w", err)
	case res.Code >= 500:
		return fmt.Errorf("answered %d %s", res.Code, res.Reason)
	}
	return nil
}

// nobody refuses whatever comes.
type nobody struct{}

// Invite implements sip.Handler.
func (nobody) Invite(d *sip.Dialog) { _ = d.Reject(480, "Temporarily Unavailable") }

// Request implements sip.Handler.
func (nobody) Request(r *sip.Request) { _ = r.Respond(405, "Method Not Allowed") }

// FlowClosed implements sip.Handler.
func (nobody) FlowClosed(sip.Flow) {}

// STUN (RFC 8489 section 5): what a Binding request and its answer begin with.
const (
	stunHeader   = 20
	stunCookie   = 0x2112A442
	stunRequest  = 0x0001
	stunResponse = 0x0101
	stunRetry    = 500 * time.Millisecond
)

// binding asks a STUN listener for our address.
func (r *run) binding(ctx context.Context, addr, transport string) (err error) {
	var c net.Conn
	if transport == "udp" {
		c, err = (&net.Dialer{}).DialContext(ctx, "udp", addr)
	} else {
		c, err = r.dial(ctx, addr, transport == "tls")
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	var ask [stunHeader]byte
	binary.BigEndian.PutUint16(ask[0:], stunRequest)
	binary.BigEndian.PutUint32(ask[4:], stunCookie)
	_, _ = rand.Read(ask[8:]) // never fails
	answer := make([]byte, 1500)
	for {
		if _, err := c.Write(ask[:]); err != nil {
			return fmt.Errorf("ask: %w", err)
		}
		wait := time.Now().Add(stunRetry)
		if end, ok := ctx.Deadline(); transport != "udp" && ok {
			wait = end
		}
		if err := c.SetReadDeadline(wait); err != nil {
			return fmt.Errorf("ask: %w", err)
		}
		n, err := io.ReadAtLeast(c, answer, stunHeader)
		switch {
		case err == nil && binary.BigEndian.Uint16(answer) == stunResponse && bytes.Equal(answer[4:stunHeader], ask[4:]) && n >= stunHeader:
			return nil
		case err == nil:
			return errNoSTUN
		case ctx.Err() != nil:
			return fmt.Errorf("no answer: %w", context.Cause(ctx))
		case transport != "udp" || !timeout(err):
			return fmt.Errorf("no answer: %w", err)
		}
	}
}

func timeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}
