package sip

import (
	"errors"
	"strconv"
	"strings"

	sipmsg "github.com/emiago/sipgo/sip"
)

// Extensions that we understand (RFC 4028).
const (
	extTimer = "timer"
	allow    = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, REFER, NOTIFY, MESSAGE"
	typeSDP  = "application/sdp"
)

func allowHeader() Header { return Header{"Allow", allow} }

// input takes one whole message from a connection. It reports whether it was
// valid SIP. It does not block.
func (e *Endpoint) input(b []byte, c conn) bool {
	if len(strings.Trim(string(b[:min(len(b), 8)]), "\r\n\x00")) == 0 && len(b) <= 8 {
		return false // keep-alive
	}
	m, bad := parseMessage(b)
	if m == nil {
		return false
	}
	m.flow = c.flowOf()
	if bad != nil {
		if m.method != "" && m.via.host != "" {
			e.answer(m, c, bad.code, bad.reason)
		}
		return false
	}
	if m.method == "" {
		e.receiveResponse(m)
	} else {
		e.receiveRequest(m, c)
	}
	return true
}

func (e *Endpoint) receiveResponse(m *message) {
	t := e.txs.client(m.via.branch() + "|" + m.cseqMethod)
	if t == nil {
		return // late, or not ours
	}
	// Only the connection that the request went over may answer it; over UDP
	// the branch is the proof.
	if f := t.conn.flowOf(); f.ID != m.flow.ID {
		return
	}
	t.receive(m)
}

func (e *Endpoint) receiveRequest(m *message, c conn) {
	switch m.method {
	case methodAck:
		e.receiveAck(m)
		return
	case methodCancel:
		e.receiveCancel(m, c)
		return
	}
	s, old, err := e.newServerTx(m, serverKey(m, m.method), c)
	var se *StatusError
	switch {
	case errors.As(err, &se):
		e.answer(m, c, se.Code, se.Reason)
		return
	case err != nil:
		e.log.Debug("request not taken", "method", m.method, "err", err)
		return
	case old != nil:
		_ = old.tx.Receive(sipmsg.NewRequest(sipmsg.RequestMethod(m.method), sipmsg.Uri{})) // sends the last response again
		return
	}
	if m.method == methodInvite {
		_ = s.respond(100, "", nil, "", nil)
	}
	if m.to.Tag() != "" {
		if d := e.dialogs.find(m.callID, m.to.Tag(), m.from.Tag()); d == nil || !d.core.offer(func() { d.request(s) }) {
			_ = s.respond(481, "", nil, "", nil)
		}
		return
	}
	if e.isClosing() {
		_ = s.respond(503, "", []Header{{"Retry-After", "30"}}, "", nil)
		return
	}
	if code, headers := checkInitial(m); code != 0 {
		_ = s.respond(code, "", headers, "", nil)
		return
	}
	e.handle(s)
}

// checkInitial checks a request outside of dialogs as RFC 3261 section 8.2
// asks. Code 0 means that it may pass.
func checkInitial(m *message) (code int, headers []Header) {
	switch m.method {
	case methodInvite, methodRegister, methodOptions, "MESSAGE", "SUBSCRIBE", "NOTIFY", "PUBLISH", "REFER", methodInfo:
	case methodBye, methodUpdate, methodPrack:
		return 481, nil // they belong to a dialog
	default:
		return 501, []Header{allowHeader()}
	}
	switch m.uri.Scheme {
	case schemeSIP, schemeSIPS, schemeTel:
	default:
		return 416, nil
	}
	if un := unsupported(m); un != "" {
		return 420, []Header{{"Unsupported", un}}
	}
	if m.method != methodInvite {
		return 0, nil
	}
	if m.header("Max-Forwards") != "" && strings.Trim(m.header("Max-Forwards"), "0") == "" {
		return 483, nil // the call would be forwarded
	}
	if len(m.body) > 0 && !isSDP(m) {
		return 415, []Header{{"Accept", typeSDP}, {"Accept-Encoding", "identity"}}
	}
	if m.has("Accept") && !m.lists("Accept", typeSDP) && !m.lists("Accept", "*/*") && !m.lists("Accept", "application/*") {
		return 406, nil // it could not read our answer
	}
	return 0, nil
}

func isSDP(m *message) bool {
	t, _, _ := strings.Cut(m.header("Content-Type"), ";")
	enc := m.header("Content-Encoding")
	return strings.EqualFold(strings.TrimSpace(t), typeSDP) && (enc == "" || strings.EqualFold(enc, "identity"))
}

// unsupported lists the required extensions that we do not have.
func unsupported(m *message) string {
	var out []string
	for _, t := range m.tokens("Require") {
		if !strings.EqualFold(t, extTimer) {
			out = append(out, t)
		}
	}
	return strings.Join(out, ", ")
}

// handle gives a new request to the Handler on a goroutine of its own.
func (e *Endpoint) handle(s *serverTx) {
	select {
	case e.slots <- struct{}{}:
	default:
		_ = s.respond(503, "", []Header{{"Retry-After", "5"}}, "", nil)
		return
	}
	var d *Dialog
	if s.req.method == methodInvite {
		if d = e.newIncoming(s); d == nil {
			<-e.slots
			return
		}
	}
	ok := e.spawn(func() {
		defer func() { <-e.slots }()
		if d != nil {
			e.o.Handler.Invite(d)
			d.handled()
			return
		}
		e.o.Handler.Request(&Request{m: s.req, tx: s})
		if s.final.Load() == 0 {
			_ = s.respond(500, "", nil, "", nil)
		}
	})
	if !ok {
		<-e.slots
	}
}

func (e *Endpoint) receiveAck(m *message) {
	if s := e.txs.server(serverKey(m, methodAck)); s != nil && s.final.Load() >= 300 {
		_ = s.tx.Receive(sipmsg.NewRequest(sipmsg.ACK, sipmsg.Uri{}))
		return
	}
	if d := e.dialogs.find(m.callID, m.to.Tag(), m.from.Tag()); d != nil {
		d.core.offer(func() { d.acked(m) })
	}
}

func (e *Endpoint) receiveCancel(m *message, c conn) {
	s := e.txs.server(serverKey(m, methodInvite))
	if s == nil {
		e.answer(m, c, 481, reasonOf(481))
		return
	}
	if err := replyConn(c, m).WriteMsg(e.reply(m, 200, "OK", s.toTag, nil, "", nil)); err != nil {
		e.log.Debug("answer to CANCEL", "err", err)
	}
	if d := s.dialog.Load(); d != nil {
		d.core.offer(func() { d.cancelled(s, m) })
	}
}

// flowClosed ends what cannot go on without the flow and tells the Handler.
func (e *Endpoint) flowClosed(f Flow) {
	for _, d := range e.dialogs.list() {
		if d.Flow() == f {
			d.post(func() { d.lost(f) })
		}
	}
	if !e.isClosing() {
		e.o.Handler.FlowClosed(f)
	}
}

// retryAfter reads a Retry-After header in seconds, 0 if there is none.
func retryAfter(m *message) int {
	v := m.header("Retry-After")
	if i := strings.IndexAny(v, " ;("); i >= 0 {
		v = v[:i]
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return 0
	}
	return min(n, 86400)
}
