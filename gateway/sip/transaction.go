package sip

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	sipmsg "github.com/emiago/sipgo/sip"
)

// maxServerTx bounds the server transactions; above it new requests get a
// stateless 503.
const maxServerTx = 1 << 16

// transactions knows the live transactions by their keys (RFC 3261 sections
// 17.1.3 and 17.2.3).
type transactions struct {
	mu      sync.Mutex
	servers map[string]*serverTx
	clients map[string]*clientTx
	merged  map[string]string // identity of an initial request → server key
	log     *slog.Logger
}

func (t *transactions) init() {
	t.servers = make(map[string]*serverTx)
	t.clients = make(map[string]*clientTx)
	t.merged = make(map[string]string)
	t.log = slog.New(slog.DiscardHandler) // sipgo logs whole messages
}

func (t *transactions) server(key string) *serverTx {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.servers[key]
}

func (t *transactions) client(key string) *clientTx {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.clients[key]
}

func (t *transactions) closeAll() {
	t.mu.Lock()
	var ends []func()
	for _, s := range t.servers {
		ends = append(ends, s.tx.Terminate)
	}
	for _, c := range t.clients {
		ends = append(ends, func() { c.fail(ErrClosed) })
	}
	t.mu.Unlock()
	for _, end := range ends {
		end()
	}
}

// serverKey is the key of RFC 3261 section 17.2.3. The source is part of it, so
// that nobody can touch another's transaction by naming its branch.
func serverKey(m *message, method string) string {
	if method == methodAck {
		method = methodInvite
	}
	src := m.flow.ID
	if src == "" {
		src = m.flow.Remote.Addr().String()
	}
	branch := m.via.branch()
	if len(branch) > len(branchCookie) && strings.HasPrefix(branch, branchCookie) {
		return src + "|" + branch + "|" + m.via.host + ":" + strconv.Itoa(m.via.port) + "|" + method
	}
	// RFC 2543; an ACK's To tag is not compared, as it is ours.
	return src + "|" + m.callID + "|" + m.from.Tag() + "|" + strconv.FormatUint(uint64(m.cseq), 10) + "|" +
		m.via.host + ":" + strconv.Itoa(m.via.port) + "|" + method
}

// serverTx is one server transaction.
type serverTx struct {
	e      *Endpoint
	key    string
	merge  string
	tx     *sipmsg.ServerTx
	req    *message
	toTag  string
	final  atomic.Int32 // status of the final response, 0 before
	dialog atomic.Pointer[Dialog]
}

// newServerTx makes the transaction of a request. existing is the one that the
// request belongs to already.
func (e *Endpoint) newServerTx(m *message, key string, c conn) (tx, existing *serverTx, err error) {
	s := &serverTx{e: e, key: key, req: m, toTag: m.to.Tag()}
	if s.toTag == "" {
		s.toTag = randomHex(8)
		s.merge = m.callID + "|" + m.from.Tag() + "|" + strconv.FormatUint(uint64(m.cseq), 10) + "|" + m.method
	}
	origin := sipmsg.NewRequest(sipmsg.RequestMethod(m.method), sipmsg.Uri{})
	origin.SetTransport(strings.ToUpper(m.flow.Transport))
	s.tx = sipmsg.NewServerTx(key, origin, replyConn(c, m), e.txs.log)
	t := &e.txs
	t.mu.Lock()
	if old := t.servers[key]; old != nil {
		t.mu.Unlock()
		return nil, old, nil
	}
	if len(t.servers) >= maxServerTx {
		t.mu.Unlock()
		return nil, nil, &StatusError{Code: 503, Reason: reasonOf(503)}
	}
	if s.merge != "" {
		if other := t.merged[s.merge]; other != "" && m.from.Tag() != "" {
			t.mu.Unlock()
			return nil, nil, &StatusError{Code: 482, Reason: "Loop Detected"} // RFC 3261 section 8.2.2.2
		}
		t.merged[s.merge] = key
	}
	t.servers[key] = s
	t.mu.Unlock()
	s.tx.OnTerminate(func(string, error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.servers, key)
		if t.merged[s.merge] == key {
			delete(t.merged, s.merge)
		}
	})
	if err := s.tx.Init(); err != nil {
		s.tx.Terminate()
		return nil, nil, fmt.Errorf("server transaction: %w", err)
	}
	return s, nil, nil
}

// respond sends a response; 2xx to an INVITE may be sent again.
func (s *serverTx) respond(code int, reason string, headers []Header, contentType string, body []byte) error {
	if err := cleanHeaders(headers); err != nil {
		return err
	}
	if reason == "" {
		reason = reasonOf(code)
	}
	if strings.ContainsAny(reason, "\r\n") || code < 100 || code > 699 {
		return syntaxErr("response", strconv.Itoa(code)+" "+reason)
	}
	if code >= 200 {
		if !s.final.CompareAndSwap(0, int32(code)) {
			return ErrAnswered
		}
	} else if s.final.Load() != 0 {
		return ErrAnswered
	}
	return s.send(s.e.reply(s.req, code, reason, s.toTag, headers, contentType, body))
}

func (s *serverTx) send(res *sipmsg.Response) error {
	if err := s.tx.Respond(res); err != nil {
		return fmt.Errorf("respond %d: %w", res.StatusCode, err)
	}
	return nil
}

// replyConn returns where responses to m go (RFC 3261 section 18.2.2, RFC 3581).
func replyConn(c conn, m *message) conn {
	p, ok := c.(*udpPeer)
	if !ok {
		return c
	}
	if _, rport := m.via.params.Get("rport"); rport {
		return p
	}
	port := m.via.port
	if port == 0 {
		port = 5060
	}
	return &udpPeer{sock: p.sock, remote: netipPort(p.remote.Addr(), port)}
}

// reply builds a response to m.
func (e *Endpoint) reply(m *message, code int, reason, toTag string, headers []Header, contentType string, body []byte) *sipmsg.Response {
	res := sipmsg.NewResponse(code, reason)
	first, to := true, false
	for _, h := range m.headers {
		switch strings.ToLower(h.Name) {
		case "via":
			if first {
				first = false
				h.Value = m.replyVia()
			}
		case "to":
			if to {
				continue
			}
			to = true
			if code > 100 && toTag != "" && m.to.URI.Scheme != "" && m.to.Tag() == "" {
				h.Value += ";tag=" + toTag
			}
		case "from", "call-id", "cseq":
			if to && code == 400 && res.GetHeader(h.Name) != nil {
				continue
			}
		case "timestamp":
			if code != 100 {
				continue
			}
		case "record-route":
			if m.method != methodInvite || code == 100 || code >= 300 {
				continue
			}
		default:
			continue
		}
		res.AppendHeader(sipmsg.NewHeader(h.Name, h.Value))
	}
	for _, h := range headers {
		res.AppendHeader(sipmsg.NewHeader(h.Name, h.Value))
	}
	if e.o.UserAgent != "" && code != 100 {
		res.AppendHeader(sipmsg.NewHeader("Server", e.o.UserAgent))
	}
	if len(body) > 0 {
		res.AppendHeader(sipmsg.NewHeader("Content-Type", contentType))
	}
	res.SetBody(body)
	return res
}

// replyVia is the first Via line with received and rport filled in.
func (m *message) replyVia() string {
	v := m.via
	ip := m.flow.Remote.Addr().String()
	if _, ok := v.params.Get("rport"); ok {
		v.params = v.params.With("rport", strconv.Itoa(int(m.flow.Remote.Port()))).With("received", ip)
	} else if v.host != ip {
		v.params = v.params.With("received", ip)
	}
	s := v.String()
	if m.viaRest != "" {
		s += "," + m.viaRest
	}
	return s
}

func (v via) String() string {
	var b strings.Builder
	b.WriteString(version + "/" + v.transport + " " + v.host)
	if v.port > 0 {
		b.WriteString(":" + strconv.Itoa(v.port))
	}
	writeParams(&b, v.params)
	return b.String()
}

// refuse answers a message that cannot be taken, without a transaction.
func (e *Endpoint) refuse(b []byte, bad *parseError, c conn) {
	m, _ := parseMessage(b)
	if m == nil || m.method == "" || m.method == methodAck {
		return
	}
	m.flow = c.flowOf()
	e.answer(m, c, bad.code, bad.reason)
}

// answer sends a stateless response.
func (e *Endpoint) answer(m *message, c conn, code int, reason string) {
	if m.method == methodAck || code == 0 {
		return
	}
	err := replyConn(c, m).WriteMsg(e.reply(m, code, reason, randomHex(8), nil, "", nil))
	if err != nil && !errors.Is(err, ErrFlowGone) {
		e.log.Debug("stateless response", "code", code, "err", err)
	}
}
