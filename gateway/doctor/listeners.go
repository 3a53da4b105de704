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
)

const (
	// listenWithin is how long a listener may take to answer, askAgain how long
	// a datagram may be on its way.
	listenWithin = 5 * time.Second
	askAgain     = 500 * time.Millisecond
)

var (
	errNoSTUN = errors.New("what answers is no STUN server")
	errNoSIP  = errors.New("what answers speaks no SIP")
)

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

// options asks a SIP listener what it can do. Any answer will do.
func (r *run) options(ctx context.Context, addr, transport string) error {
	c, err := r.open(ctx, addr, transport)
	if err != nil {
		return err
	}
	id := rand.Text()
	ask := fmt.Sprintf("OPTIONS sip:%s SIP/2.0\r\nVia: SIP/2.0/%s %s;branch=z9hG4bK%s;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:doctor@doctor.invalid>;tag=%s\r\nTo: <sip:%s>\r\nCall-ID: %s\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
		addr, strings.ToUpper(transport), c.LocalAddr(), id, id[:8], addr, id)
	return r.converse(ctx, c, transport, []byte(ask), func(answer []byte) error {
		if !bytes.HasPrefix(answer, []byte("SIP/2.0 ")) || !bytes.Contains(answer, []byte(id)) {
			return errNoSIP
		}
		return nil
	})
}

// STUN (RFC 8489 section 5): what a Binding request and its answer begin with.
const (
	stunHeader   = 20
	stunCookie   = 0x2112A442
	stunRequest  = 0x0001
	stunResponse = 0x0101
)

// binding asks a STUN listener for our address.
func (r *run) binding(ctx context.Context, addr, transport string) error {
	c, err := r.open(ctx, addr, transport)
	if err != nil {
		return err
	}
	var ask [stunHeader]byte
	binary.BigEndian.PutUint16(ask[0:], stunRequest)
	binary.BigEndian.PutUint32(ask[4:], stunCookie)
	_, _ = rand.Read(ask[8:]) // never fails
	return r.converse(ctx, c, transport, ask[:], func(answer []byte) error {
		if binary.BigEndian.Uint16(answer) != stunResponse || !bytes.Equal(answer[4:stunHeader], ask[4:]) {
			return errNoSTUN
		}
		return nil
	})
}

// open connects by udp, tcp or tls.
func (r *run) open(ctx context.Context, addr, transport string) (net.Conn, error) {
	if transport == "udp" {
		return (&net.Dialer{}).DialContext(ctx, "udp", addr)
	}
	return r.dial(ctx, addr, transport == "tls")
}

// converse sends ask, over UDP again and again, until an answer comes, and
// closes the connection.
func (r *run) converse(ctx context.Context, c net.Conn, transport string, ask []byte, check func([]byte) error) (err error) {
	defer func() { err = errors.Join(err, c.Close()) }()
	answer := make([]byte, 4096)
	for {
		if _, err := c.Write(ask); err != nil {
			return fmt.Errorf("ask: %w", err)
		}
		wait := time.Now().Add(askAgain)
		if end, ok := ctx.Deadline(); transport != "udp" && ok {
			wait = end
		}
		if err := c.SetReadDeadline(wait); err != nil {
			return fmt.Errorf("ask: %w", err)
		}
		n, err := io.ReadAtLeast(c, answer, stunHeader)
		switch {
		case err == nil:
			return check(answer[:n])
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
