package sip

import (
	"math/rand/v2"
	"strconv"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
)

// repeatProvisional is how often an unanswered INVITE gets its last 1xx again,
// so that no proxy gives it up (RFC 3261 section 13.3.1.1).
const repeatProvisional = time.Minute

// incoming is the server half of a dialog: the INVITE and re-INVITEs of the
// peer.
type incoming struct {
	req     *Request // of an incoming dialog
	tx      *serverTx
	session []Header // Session-Expires of the 200
	repeat  timer
	ok      acceptance // of the INVITE
	re      *reoffer   // the peer's re-INVITE or UPDATE that is not done yet
	bye     *Cause     // hang up when the ACK comes
}

// reoffer is a re-INVITE or UPDATE of the peer.
type reoffer struct {
	tx       *serverTx
	delayed  bool // no offer in the re-INVITE
	session  []Header
	ok       acceptance
	answered bool
}

// acceptance is a 2xx that waits for its ACK (RFC 3261 section 13.3.1.4).
type acceptance struct {
	waiting bool
	res     *sipmsg.Response
	next    time.Duration
	resend  timer
	giveUp  timer
}

func (a *acceptance) stop() {
	a.waiting, a.res = false, nil
	a.resend.stop()
	a.giveUp.stop()
}

func (i *incoming) stop() {
	i.repeat.stop()
	i.ok.stop()
	if i.re != nil {
		i.re.ok.stop()
	}
}

// newIncoming makes the dialog of an INVITE, or answers it and returns nil.
func (e *Endpoint) newIncoming(s *serverTx) *Dialog {
	m := s.req
	c, err := e.connOf(m.flow)
	if err != nil {
		s.tx.Terminate()
		return nil
	}
	d := e.newDialog(m.callID, s.toTag, c)
	d.pub.remoteTag = m.from.Tag()
	d.in.tx, d.in.req = s, &Request{m: m, tx: s}
	to := m.to
	to.Params = to.Params.With("tag", s.toTag)
	d.peer = peer{
		local: to.String(), remote: m.header("From"), user: m.uri.User,
		target: m.from.URI.String(), routes: m.routes("Record-Route"),
		remoteSeq: m.cseq, seqKnown: true,
	}
	d.refreshTarget(m)
	d.sess.readPeer(m)
	var ok bool
	if d.in.session, ok = d.sess.fromRequest(e, m); !ok {
		_ = s.respond(422, "", []Header{minSEHeader(e.o.MinSE)}, "", nil)
		return nil
	}
	s.dialog.Store(d)
	e.dialogs.add(d)
	return d
}

// Provisional sends a 1xx, with SDP as early media.
func (d *Dialog) Provisional(code int, sdp []byte, h ...Header) error {
	return d.do(func() error {
		if s := d.State(); d.in.req == nil || !d.accepted() || s != StateTrying && s != StateRinging || code <= 100 || code > 199 {
			return ErrState
		}
		c, err := d.e.connOf(d.in.tx.req.flow)
		if err != nil {
			return err
		}
		if err := d.in.tx.respond(code, "", append([]Header{d.contact(c), allowHeader()}, h...), typeSDP, sdp); err != nil {
			return err
		}
		d.setState(StateRinging)
		var again func()
		again = func() {
			_ = d.in.tx.respond(code, "", []Header{d.contact(c)}, typeSDP, sdp)
			d.set(&d.in.repeat, repeatProvisional, again)
		}
		d.set(&d.in.repeat, repeatProvisional, again)
		return nil
	})
}

// Answer sends a 200 and repeats it until the ACK comes, which is
// Events.Answered. Without one in 64*T1 the dialog ends with a BYE. It does not
// block for that.
func (d *Dialog) Answer(sdp []byte, h ...Header) error {
	return d.do(func() error {
		if s := d.State(); d.in.req == nil || !d.accepted() || s != StateTrying && s != StateRinging {
			if s == StateTerminated {
				return ErrEnded
			}
			return ErrState
		}
		d.in.repeat.stop()
		if err := d.accept(d.in.tx, &d.in.ok, sdp, append(d.in.session, h...)); err != nil {
			return err
		}
		d.sess.local = sdp
		d.setState(StateAnswered)
		return nil
	})
}

// accept sends a 2xx to an INVITE or re-INVITE and repeats it.
func (d *Dialog) accept(s *serverTx, a *acceptance, sdp []byte, h []Header) error {
	c, err := d.e.connOf(s.req.flow)
	if err != nil {
		return err
	}
	if err := cleanHeaders(h); err != nil {
		return err
	}
	if !s.final.CompareAndSwap(0, 200) {
		return ErrAnswered
	}
	headers := append([]Header{d.contact(c), allowHeader(), {"Supported", extTimer}}, h...)
	a.res = d.e.reply(s.req, 200, "OK", s.toTag, headers, typeSDP, sdp)
	if err := s.send(a.res); err != nil {
		return err
	}
	a.waiting, a.next = true, d.e.o.T1
	var again func()
	again = func() {
		_ = s.send(a.res) // a lost flow shows in giveUp
		a.next = min(2*a.next, 8*d.e.o.T1)
		d.set(&a.resend, a.next, again)
	}
	d.set(&a.resend, a.next, again)
	d.set(&a.giveUp, 64*d.e.o.T1, func() {
		d.bye(Cause{Kind: KindNoAck, Code: 408, Text: "no ACK", Err: ErrTimeout})
	})
	return nil
}

// Reject sends a final response of 300 or more; Ended follows.
func (d *Dialog) Reject(code int, reason string, h ...Header) error {
	return d.do(func() error {
		s := d.State()
		if d.in.req == nil || s != StateTrying && s != StateRinging || code < 300 || code > 699 {
			if s == StateTerminated {
				return ErrEnded
			}
			return ErrState
		}
		return d.rejectInvite(Cause{Kind: KindRejected, Code: code, Reason: reason}, h)
	})
}

func (d *Dialog) rejectInvite(c Cause, h []Header) error {
	if c.Reason == "" {
		c.Reason = reasonOf(c.Code)
	}
	err := d.in.tx.respond(c.Code, c.Reason, append(reasonHeader(Cause{Q850: c.Q850, Text: c.Text}), h...), "", nil)
	d.end(c)
	return err
}

// acked takes an ACK of a 2xx.
func (d *Dialog) acked(m *message) {
	if re := d.in.re; re != nil && re.ok.waiting && re.tx.req.cseq == m.cseq {
		re.ok.stop()
		d.in.re = nil
		if re.delayed {
			d.events.post(func() { d.ev.Answered(m.sdp()) })
		}
		return
	}
	if !d.in.ok.waiting || d.in.tx.req.cseq != m.cseq || d.State() != StateAnswered {
		return
	}
	d.in.ok.stop()
	d.setState(StateConfirmed)
	var sdp []byte
	if len(d.in.tx.req.body) == 0 {
		sdp = m.sdp()
	}
	d.events.post(func() { d.ev.Answered(sdp) })
	d.sess.start(d)
	if bye := d.in.bye; bye != nil {
		d.bye(*bye)
	}
}

// cancelled takes a CANCEL of the INVITE or of a re-INVITE.
func (d *Dialog) cancelled(s *serverTx, m *message) {
	if s != d.in.tx {
		if re := d.in.re; re != nil && re.tx == s && !re.answered {
			_ = s.respond(487, "", nil, "", nil)
			d.in.re = nil
		}
		return
	}
	if st := d.State(); st != StateTrying && st != StateRinging {
		return
	}
	_ = s.respond(487, "", nil, "", nil)
	c := Cause{Kind: KindCancelled, Code: 487, Reason: reasonOf(487), Remote: true}
	c.readReason(m)
	d.end(c)
}

// request takes a request in the dialog, but ACK and CANCEL.
func (d *Dialog) request(s *serverTx) {
	m := s.req
	if d.State() == StateTerminated {
		_ = s.respond(481, "", nil, "", nil)
		return
	}
	if d.peer.seqKnown && m.cseq <= d.peer.remoteSeq { // RFC 3261 section 12.2.2
		_ = s.respond(500, "CSeq Out of Order", nil, "", nil)
		return
	}
	d.peer.remoteSeq, d.peer.seqKnown = m.cseq, true
	if un := unsupported(m); un != "" {
		_ = s.respond(420, "", []Header{{"Unsupported", un}}, "", nil)
		return
	}
	switch m.method {
	case methodBye:
		d.byeReceived(s)
	case methodInvite, methodUpdate:
		d.offered(s)
	case methodInfo:
		ct := m.header("Content-Type")
		if !d.events.offer(func() { d.ev.Info(ct, m.body) }) {
			_ = s.respond(503, "", nil, "", nil)
			return
		}
		_ = s.respond(200, "", nil, "", nil)
	case methodOptions:
		_ = s.respond(200, "", []Header{allowHeader(), {"Accept", typeSDP}, {"Supported", extTimer}}, "", nil)
	case methodPrack, methodRegister:
		_ = s.respond(481, "", nil, "", nil)
	default:
		ok := d.events.offer(func() {
			code := d.ev.Request(m.method, m.header, m.body)
			if code < 200 || code > 699 {
				code = 500
			}
			var h []Header
			if code == 405 {
				h = []Header{allowHeader()}
			}
			_ = s.respond(code, "", h, "", nil)
		})
		if !ok {
			_ = s.respond(503, "", nil, "", nil)
		}
	}
}

func (d *Dialog) byeReceived(s *serverTx) {
	_ = s.respond(200, "", nil, "", nil)
	c := Cause{Kind: KindNormal, Code: 200, Remote: true}
	c.readReason(s.req)
	switch st := d.State(); {
	case (st == StateTrying || st == StateRinging) && d.outgoing():
		// No BYE is due before the answer; the INVITE's end decides.
		d.cancelInvite(Cause{Kind: KindCancelled, Code: 487, Remote: true})
		return
	case st == StateTrying || st == StateRinging:
		_ = d.in.tx.respond(487, "", nil, "", nil)
		c.Kind, c.Code = KindCancelled, 487
	}
	if re := d.in.re; re != nil && !re.answered {
		_ = re.tx.respond(487, "", nil, "", nil)
	}
	d.end(c)
}

// offered takes a re-INVITE or UPDATE.
func (d *Dialog) offered(s *serverTx) {
	m := s.req
	invite := m.method == methodInvite
	refuse := func(code int, h ...Header) { _ = s.respond(code, "", h, "", nil) }
	if len(m.body) > 0 && !isSDP(m) {
		refuse(415, Header{"Accept", typeSDP})
		return
	}
	offer := m.sdp()
	if invite || offer != nil {
		switch st := d.State(); {
		case d.in.re != nil && !d.in.re.answered: // RFC 3261 section 14.2
			refuse(500, Header{"Retry-After", strconv.Itoa(rand.N(10))}) //nolint:gosec // only spreads retries
			return
		case d.out.busy || st != StateConfirmed || d.in.re != nil:
			refuse(491)
			return
		}
	}
	headers, ok := d.sess.fromRequest(d.e, m)
	if !ok {
		refuse(422, minSEHeader(d.e.o.MinSE))
		return
	}
	d.sess.readPeer(m)
	if !invite && offer == nil { // a session refresh
		d.refreshTarget(m)
		_ = s.respond(200, "", d.updateHeaders(s, headers), "", nil)
		if d.State() == StateConfirmed {
			d.sess.start(d)
		}
		return
	}
	re := &reoffer{tx: s, delayed: offer == nil, session: headers}
	d.in.re = re
	s.dialog.Store(d)
	ok = d.events.offer(func() {
		answer, code := d.ev.Offer(offer)
		d.post(func() { d.answerOffer(re, answer, code) })
	})
	if !ok {
		d.in.re = nil
		refuse(503)
	}
}

func (d *Dialog) updateHeaders(s *serverTx, h []Header) []Header {
	h = append([]Header{allowHeader(), {"Supported", extTimer}}, h...)
	if c, err := d.e.connOf(s.req.flow); err == nil {
		h = append(h, d.contact(c))
	}
	return h
}

// answerOffer answers a re-INVITE or UPDATE with what the consumer said.
func (d *Dialog) answerOffer(re *reoffer, answer []byte, code int) {
	if d.in.re != re || d.State() != StateConfirmed {
		return // cancelled, or over
	}
	re.answered = true
	if code != 0 && code != 200 || len(answer) == 0 {
		if code < 300 || code > 699 {
			code = 488
		}
		_ = re.tx.respond(code, "", nil, "", nil)
		d.in.re = nil
		return
	}
	d.refreshTarget(re.tx.req)
	d.sess.local = answer
	d.sess.start(d)
	if re.tx.req.method == methodUpdate {
		_ = re.tx.respond(200, "", d.updateHeaders(re.tx, re.session), typeSDP, answer)
		d.in.re = nil
		return
	}
	if err := d.accept(re.tx, &re.ok, answer, re.session); err != nil {
		d.in.re = nil
	}
}
