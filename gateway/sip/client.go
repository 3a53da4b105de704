package sip

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"

	sipmsg "github.com/emiago/sipgo/sip"
)

func netipPort(a netip.Addr, port int) netip.AddrPort { return netip.AddrPortFrom(a, uint16(port)) }

// outRequest is a request to be sent. Via, Max-Forwards and Content-Length are
// added by write.
type outRequest struct {
	method  string
	uri     string
	branch  string
	headers []Header // From, To, Call-ID, CSeq first
	body    []byte
}

// carrier takes a response of ours through sipgo's state machine: it is the To
// header that the machine needs for an ACK, and remembers the whole message.
type carrier struct {
	sipmsg.Header
	m *message
}

func carried(r *sipmsg.Response) *message {
	for _, h := range r.Headers() {
		if c, ok := h.(carrier); ok {
			return c.m
		}
	}
	return nil
}

// clientTx is one client transaction.
type clientTx struct {
	e        *Endpoint
	key      string
	conn     conn
	tx       *sipmsg.ClientTx
	req      *outRequest
	on       func(m *message, err error)
	rejected atomic.Bool // a final response of 300 or more was seen
	why      onceError
}

// sentBy is the host and port of Via and Contact for a connection.
func (e *Endpoint) sentBy(c conn) (host string, port int) {
	f := c.flowOf()
	if l, ok := c.(*link); ok && l.client != "" {
		return l.client, 0
	}
	host, port = e.o.Host, int(f.Local.Port())
	if host == "" {
		a := f.Local.Addr()
		if a.IsUnspecified() {
			a = localAddrTo(f.Remote)
		}
		host = a.String()
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		host = "[" + host + "]"
	}
	return host, port
}

// build makes sipgo's request of ours.
func (e *Endpoint) build(r *outRequest, c conn) (*sipmsg.Request, error) {
	scheme, rest, ok := strings.Cut(r.uri, ":")
	if !ok || strings.ContainsAny(r.uri, " \t\r\n<>") {
		return nil, syntaxErr("request uri", r.uri)
	}
	if err := cleanHeaders(r.headers); err != nil {
		return nil, err
	}
	var u sipmsg.Uri
	if err := sipmsg.ParseUri("raw:"+rest, &u); err != nil { // kept as it is, written by our scheme
		return nil, fmt.Errorf("request uri: %w", err)
	}
	u.Scheme = scheme
	req := sipmsg.NewRequest(sipmsg.RequestMethod(r.method), u)
	tp := strings.ToUpper(c.flowOf().Transport)
	req.SetTransport(tp)
	host, port := e.sentBy(c)
	v := via{transport: tp, host: host, port: port, params: Params{{"branch", r.branch}, {"rport", ""}}}
	req.AppendHeader(sipmsg.NewHeader("Via", v.String()))
	req.AppendHeader(sipmsg.NewHeader("Max-Forwards", "70"))
	for _, h := range r.headers {
		req.AppendHeader(sipmsg.NewHeader(h.Name, h.Value))
	}
	if e.o.UserAgent != "" {
		req.AppendHeader(sipmsg.NewHeader("User-Agent", e.o.UserAgent))
	}
	req.SetBody(r.body)
	return req, nil
}

func newBranch() string { return branchCookie + randomHex(10) }

// start sends a request in a transaction of its own. on gets each response,
// and at most one error instead of a final response, on a goroutine that must
// not be held up. Of an INVITE it also gets further 2xx.
func (e *Endpoint) start(c conn, r *outRequest, on func(m *message, err error)) (*clientTx, error) {
	if r.branch == "" {
		r.branch = newBranch()
	}
	req, err := e.build(r, c)
	if err != nil {
		return nil, err
	}
	t := &clientTx{e: e, key: r.branch + "|" + r.method, conn: c, req: r, on: on}
	t.tx = sipmsg.NewClientTx(t.key, req, c, e.txs.log)
	if err := c.attach(t); err != nil {
		return nil, err
	}
	e.txs.mu.Lock()
	e.txs.clients[t.key] = t
	e.txs.mu.Unlock()
	t.tx.OnTerminate(func(string, error) {
		c.detach(t)
		e.txs.mu.Lock()
		defer e.txs.mu.Unlock()
		delete(e.txs.clients, t.key)
	})
	if r.method == methodInvite {
		t.tx.OnRetransmission(func(res *sipmsg.Response) {
			if m := carried(res); m != nil {
				on(m, nil)
			}
		})
	}
	if err := t.tx.Init(); err != nil {
		t.tx.Terminate()
		return nil, fmt.Errorf("send %s: %w", r.method, err)
	}
	if !e.spawn(t.consume) {
		t.tx.Terminate()
		return nil, ErrClosed
	}
	return t, nil
}

// consume hands responses on until the final one.
func (t *clientTx) consume() {
	for {
		select {
		case res := <-t.tx.Responses():
			m := carried(res)
			if m == nil {
				continue
			}
			t.on(m, nil)
			if m.code >= 200 {
				return
			}
		case <-t.tx.Done():
			err := t.why.get()
			switch txErr := t.tx.Err(); {
			case err != nil:
			case errors.Is(txErr, sipmsg.ErrTransactionTimeout):
				err = ErrTimeout
			default:
				err = fmt.Errorf("%s transaction: %w", t.req.method, txErr)
			}
			t.on(nil, err)
			return
		}
	}
}

// receive takes a response. sipgo's machine sleeps on a repeated rejection of
// an INVITE; those are acknowledged here.
func (t *clientTx) receive(m *message) {
	if t.req.method == methodInvite && m.code >= 300 && t.rejected.Swap(true) {
		t.ackAgain(m)
		return
	}
	res := sipmsg.NewResponse(m.code, m.reason)
	res.AppendHeader(carrier{sipmsg.NewHeader("To", m.header("To")), m})
	t.tx.Receive(res)
}

// ackAgain acknowledges a repeated non-2xx (RFC 3261 section 17.1.1.3).
func (t *clientTx) ackAgain(m *message) {
	ack := &outRequest{method: methodAck, uri: t.req.uri, branch: t.req.branch}
	for _, h := range t.req.headers {
		switch h.Name {
		case "From", "Call-ID", "Route":
		case "To":
			h.Value = m.header("To")
		case "CSeq":
			h.Value = strconv.FormatUint(uint64(m.cseq), 10) + " " + methodAck
		default:
			continue
		}
		ack.headers = append(ack.headers, h)
	}
	if req, err := t.e.build(ack, t.conn); err == nil {
		_ = t.conn.WriteMsg(req) // the peer repeats itself if this is lost
	}
}

// fail ends the transaction with an error.
func (t *clientTx) fail(err error) {
	t.why.set(err)
	t.tx.Terminate()
}

// write sends a request that has no transaction: the ACK of a 2xx.
func (e *Endpoint) write(c conn, r *outRequest) error {
	if r.branch == "" {
		r.branch = newBranch()
	}
	req, err := e.build(r, c)
	if err != nil {
		return err
	}
	if err := c.WriteMsg(req); err != nil {
		return fmt.Errorf("send %s: %w", r.method, err)
	}
	return nil
}
