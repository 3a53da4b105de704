package sip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// caller is the client half of a dialog: its INVITE and re-INVITEs.
type caller struct {
	invite      *Invite // nil on the called side
	credentials *Credentials
	auth        clientAuth
	conn        conn
	tx          *clientTx
	seq         uint32 // CSeq of the last INVITE
	provisional bool   // a 1xx came, so a CANCEL may go
	cancel      *Cause // hang up as soon as possible
	cancelSent  bool
	tries       int
	giveUp      timer
	acks        map[uint32]*ackSent // by CSeq, to repeat them
	busy        bool                // an offer of ours waits for its answer
}

type ackSent struct {
	conn conn
	req  *outRequest
}

func (o *caller) stop() { o.giveUp.stop() }

// Invite starts a call. It returns when the INVITE was handed to the
// transport; ctx bounds only that. ev gets what follows, Ended in any case,
// but nothing if Invite returns an error.
func (e *Endpoint) Invite(ctx context.Context, i Invite, ev Events) (*Dialog, error) {
	if e.isClosing() {
		return nil, ErrClosed
	}
	c, err := e.route(ctx, i.Flow, i.Destination, i.Transport, i.URI)
	if err != nil {
		return nil, fmt.Errorf("invite: %w", err)
	}
	if i.CallID == "" {
		i.CallID = randomHex(16)
	}
	if i.To.URI.Scheme == "" {
		i.To.URI = i.URI
	}
	if i.MinSE <= 0 {
		i.MinSE = e.o.MinSE
	}
	i.SDP, i.Headers = slices.Clone(i.SDP), slices.Clone(i.Headers)
	tag := randomHex(8)
	i.From.Params = Params{{"tag", tag}}
	i.To.Params = nil
	d := e.newDialog(i.CallID, tag, c)
	d.out.invite, d.out.credentials, d.out.conn = &i, i.Credentials, c
	d.peer = peer{
		local: i.From.String(), remote: i.To.String(), user: i.From.URI.User,
		target: i.URI.String(), pinned: i.Flow != nil,
	}
	d.sess.wanted = i.SessionExpires
	d.sess.local = i.SDP
	e.dialogs.add(d)
	if err := d.do(d.sendInvite); err != nil {
		e.dialogs.remove(d)
		d.setState(StateTerminated)
		close(d.done)
		return nil, fmt.Errorf("invite: %w", err)
	}
	d.Accept(ev)
	return d, nil
}

// sendInvite sends the INVITE, the first time or again with credentials.
func (d *Dialog) sendInvite() error {
	i, o := d.out.invite, d.out
	d.peer.localSeq++
	o.seq, o.provisional = d.peer.localSeq, false
	uri := i.URI.String()
	r := &outRequest{method: methodInvite, uri: uri, headers: d.headers(methodInvite, o.seq), body: i.SDP}
	r.headers = append(r.headers, d.contact(o.conn), allowHeader())
	r.headers = append(r.headers, d.sess.askHeaders(i.SessionExpires, i.MinSE, "")...)
	if len(i.SDP) > 0 {
		r.headers = append(r.headers, Header{"Content-Type", typeSDP})
	}
	r.headers = append(r.headers, i.Headers...)
	r.headers = append(r.headers, o.auth.headers(i.Credentials, methodInvite, uri)...)
	var t *clientTx // set before a response is handled: that is on this strand, too
	t, err := d.e.start(o.conn, r, d.onInvite(func(m *message, err error) { d.inviteResponse(t, m, err) }))
	o.tx = t
	return err
}

// onInvite brings responses to an INVITE to the core strand; only provisional
// ones may be lost, when there are too many.
func (d *Dialog) onInvite(fn func(m *message, err error)) func(m *message, err error) {
	return func(m *message, err error) {
		if err == nil && m.code < 200 {
			d.core.offer(func() { fn(m, nil) })
			return
		}
		d.post(func() { fn(m, err) })
	}
}

func (d *Dialog) inviteResponse(t *clientTx, m *message, err error) {
	o := d.out
	if err != nil {
		if t == o.tx {
			d.inviteFailed(err)
		}
		return
	}
	if m.code >= 200 && m.code < 300 {
		d.inviteAnswered(m)
		return
	}
	if t != o.tx || d.State() != StateTrying && d.State() != StateRinging {
		return
	}
	switch {
	case m.code < 200:
		first := !o.provisional
		o.provisional = true
		if o.cancel != nil {
			if first {
				d.sendCancel()
			}
			return
		}
		if m.code == 100 {
			return
		}
		if tag := m.to.Tag(); tag != "" && d.RemoteTag() == "" {
			d.learnPeer(m)
		}
		d.setState(StateRinging)
		d.events.offer(func() { d.ev.Progress(m.code, m.reason, m.sdp()) })
	case o.cancel == nil && o.tries < 4 && d.again(m):
		o.tries++
		d.setRemoteTag("")
		if err := d.sendInvite(); err != nil {
			d.inviteFailed(err)
		}
	case o.cancel != nil:
		d.end(d.cancelCause())
	default:
		c := Cause{Kind: KindRejected, Code: m.code, Reason: m.reason, Remote: true, Err: statusOf(m)}
		c.readReason(m)
		d.end(c)
	}
}

// again reports whether a refused INVITE is worth another try.
func (d *Dialog) again(m *message) bool {
	i := d.out.invite
	switch m.code {
	case 401, 407:
		return d.out.auth.learn(i.Credentials, m, d.out.tries)
	case 422: // RFC 4028 section 7.3
		if n, ok := parseDigits(m.header("Min-SE"), 86400); ok && time.Duration(n)*time.Second > i.SessionExpires {
			i.MinSE = time.Duration(n) * time.Second
			i.SessionExpires = i.MinSE
			d.sess.wanted = i.MinSE
			return true
		}
	}
	return false
}

func (d *Dialog) inviteFailed(err error) {
	c := Cause{Kind: KindTransportLost, Code: 503, Err: err}
	switch {
	case d.out.cancel != nil:
		c = d.cancelCause()
		c.Err = err
	case errors.Is(err, ErrTimeout):
		c.Kind, c.Code = KindTimeout, 408
	}
	d.end(c)
}

// learnPeer takes tag, target and routes from a response that makes a dialog.
func (d *Dialog) learnPeer(m *message) {
	d.setRemoteTag(m.to.Tag())
	d.peer.remote = m.header("To")
	d.refreshTarget(m)
	d.peer.routes = m.routes("Record-Route")
	slices.Reverse(d.peer.routes)
}

// refreshTarget takes the remote target from a target refresh request or its
// response (RFC 3261 section 12.2).
func (d *Dialog) refreshTarget(m *message) {
	if cs, err := ParseContacts(m.header("Contact")); err == nil && !cs[0].Star {
		if u := cs[0].URI; u.Scheme == schemeSIP || u.Scheme == schemeSIPS {
			u.Headers = nil
			d.peer.target = u.String()
		}
	}
}

func (m *message) sdp() []byte {
	if len(m.body) == 0 || !isSDP(m) {
		return nil
	}
	return m.body
}

// inviteAnswered takes a 2xx: the first, a repeated one, or one of a fork.
func (d *Dialog) inviteAnswered(m *message) {
	if s := d.State(); s == StateConfirmed || s == StateTerminated || s == StateAnswered {
		if m.to.Tag() == d.RemoteTag() && d.ackAgain(m.cseq) {
			return
		}
		if m.to.Tag() == d.RemoteTag() && s != StateTerminated {
			return // the ACK is still being made
		}
		d.refuseFork(m)
		return
	}
	d.learnPeer(m)
	d.out.giveUp.stop()
	d.sess.readPeer(m)
	if d.out.cancel != nil { // it crossed the CANCEL
		d.setState(StateConfirmed)
		d.ack(m.cseq, nil)
		d.bye(d.cancelCause())
		return
	}
	if len(d.out.invite.SDP) > 0 {
		d.setState(StateConfirmed)
		d.ack(m.cseq, nil)
		d.sess.fromResponse(d, m)
		d.events.post(func() { d.ev.Answered(m.sdp()) })
		return
	}
	// Delayed offer: the ACK carries the answer.
	d.setState(StateAnswered)
	d.events.post(func() {
		answer, code := d.ev.Offer(m.sdp())
		d.post(func() {
			if d.State() != StateAnswered {
				return
			}
			d.setState(StateConfirmed)
			d.ack(m.cseq, answer)
			if bye := d.in.bye; bye != nil {
				d.bye(*bye)
				return
			}
			if code >= 300 || len(answer) == 0 {
				d.bye(Cause{Kind: KindRejected, Code: 488, Text: "no common codec"})
				return
			}
			d.sess.local = answer
			d.sess.fromResponse(d, m)
			d.events.post(func() { d.ev.Answered(nil) })
		})
	})
}

// ack acknowledges a 2xx and remembers how.
func (d *Dialog) ack(seq uint32, sdp []byte) {
	r := &outRequest{method: methodAck, uri: d.peer.target, headers: d.headers(methodAck, seq), body: sdp}
	if len(sdp) > 0 {
		r.headers = append(r.headers, Header{"Content-Type", typeSDP})
	}
	d.through(func(c conn, err error) {
		if err == nil {
			err = d.e.write(c, r)
		}
		if err != nil {
			d.e.log.Debug("ack", "sip_call_id", d.callID, "err", err)
			return
		}
		if d.out.acks == nil || len(d.out.acks) > 8 {
			d.out.acks = make(map[uint32]*ackSent, 1)
		}
		d.out.acks[seq] = &ackSent{conn: c, req: r}
	})
}

func (d *Dialog) ackAgain(seq uint32) bool {
	a := d.out.acks[seq]
	if a == nil {
		return false
	}
	_ = d.e.write(a.conn, a.req) // the 2xx is repeated if this is lost
	return true
}

// refuseFork ends what a second called party made by its 2xx: ACK, then BYE
// (RFC 3261 section 13.2.2.4).
func (d *Dialog) refuseFork(m *message) {
	f := d.e.newDialog(d.callID, d.localTag, d.out.conn)
	f.out.invite, f.out.credentials, f.out.auth = d.out.invite, d.out.credentials, d.out.auth
	f.peer = d.peer
	f.peer.localSeq = m.cseq
	f.learnPeer(m)
	f.ack(m.cseq, nil)
	if err := f.send(methodBye, nil, nil, func(*message, error) {}); err != nil {
		d.e.log.Debug("bye to a fork", "sip_call_id", d.callID, "err", err)
	}
}

// cancelInvite wants the call gone.
func (d *Dialog) cancelInvite(c Cause) {
	if d.out.cancel != nil {
		return
	}
	if c.Kind == KindUnknown {
		c.Kind = KindCancelled
	}
	if c.Code == 0 {
		c.Code = 487
	}
	d.out.cancel = &c
	if d.out.provisional {
		d.sendCancel()
		return
	}
	// Without any response the transaction ends by its timer B.
	d.set(&d.out.giveUp, 65*d.e.o.T1, func() { d.end(d.cancelCause()) })
}

func (d *Dialog) cancelCause() Cause { return *d.out.cancel }

// sendCancel sends CANCEL for the INVITE (RFC 3261 section 9.1).
func (d *Dialog) sendCancel() {
	o := d.out
	if o.cancelSent {
		return
	}
	o.cancelSent = true
	inv := o.tx.req
	r := &outRequest{method: methodCancel, uri: inv.uri, branch: inv.branch}
	for _, h := range inv.headers {
		switch h.Name {
		case "From", "To", "Call-ID", "Route":
			r.headers = append(r.headers, h)
		case "CSeq":
			num, _, _ := strings.Cut(h.Value, " ")
			r.headers = append(r.headers, Header{"CSeq", num + " " + methodCancel})
		}
	}
	r.headers = append(r.headers, reasonHeader(*o.cancel)...)
	if _, err := d.e.start(o.conn, r, func(*message, error) {}); err != nil {
		d.inviteFailed(err)
		return
	}
	// A peer that accepts the CANCEL but never ends the INVITE is given up.
	d.set(&o.giveUp, 64*d.e.o.T1, func() {
		d.end(d.cancelCause())
		o.tx.fail(ErrEnded)
	})
}

// Reinvite sends a re-INVITE with an offer and returns the answer; with a nil
// offer the far side offers and Events.Offer answers. Glare (491) is retried
// as RFC 3261 section 14.1 says, until ctx ends. Another refusal is a
// *StatusError, after which the session is as it was.
func (d *Dialog) Reinvite(ctx context.Context, sdp []byte) (answer []byte, err error) {
	return d.modify(ctx, sdp, nil)
}

var errGlare = errors.New("offers crossed")

func (d *Dialog) modify(ctx context.Context, sdp []byte, extra []Header) ([]byte, error) {
	for {
		m, err := d.tryModify(ctx, sdp, extra)
		var se *StatusError
		if errors.As(err, &se) && se.Code == 491 || errors.Is(err, errGlare) {
			t := time.NewTimer(d.glareWait())
			select {
			case <-t.C:
				continue
			case <-ctx.Done():
				t.Stop()
				return nil, context.Cause(ctx)
			case <-d.done:
				t.Stop()
				return nil, ErrEnded
			}
		}
		if err != nil {
			return nil, fmt.Errorf("re-INVITE: %w", err)
		}
		return m.sdp(), nil
	}
}

func (d *Dialog) tryModify(ctx context.Context, sdp []byte, extra []Header) (*message, error) {
	type result struct {
		m   *message
		err error
	}
	res := make(chan result, 1)
	err := d.do(func() error { //nolint:contextcheck // a later refresh belongs to the dialog, not to this call
		switch d.State() {
		case StateConfirmed:
		case StateTerminated:
			return ErrEnded
		case StateUnknown, StateTrying, StateRinging, StateAnswered:
			return ErrState
		}
		if d.out.busy || d.in.re != nil {
			return errGlare
		}
		d.out.busy = true
		d.sendReinvite(sdp, extra, 0, func(m *message, err error) {
			d.out.busy = false
			select {
			case res <- result{m, err}:
			default:
			}
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	select {
	case r := <-res:
		return r.m, r.err
	case <-ctx.Done(): // the transaction goes on by itself
		return nil, context.Cause(ctx)
	case <-d.done:
		return nil, ErrEnded
	}
}

// sendReinvite sends one re-INVITE; done gets the 2xx or an error, on the core
// strand.
func (d *Dialog) sendReinvite(sdp []byte, extra []Header, try int, done func(m *message, err error)) {
	d.peer.localSeq++
	seq := d.peer.localSeq
	r := &outRequest{method: methodInvite, uri: d.peer.target, headers: d.headers(methodInvite, seq), body: sdp}
	finished := false
	over := func(m *message, err error) {
		if !finished {
			finished = true
			done(m, err)
		}
	}
	on := d.onInvite(func(m *message, err error) {
		switch {
		case err != nil:
			over(nil, err)
			if errors.Is(err, ErrTimeout) {
				d.bye(Cause{Kind: KindTimeout, Code: 408, Err: err})
			}
		case m.code < 200:
		case m.code < 300:
			if finished {
				d.ackAgain(m.cseq)
				return
			}
			d.reinviteAnswered(m, sdp, over)
		case (m.code == 401 || m.code == 407) && d.out.auth.learn(d.out.credentials, m, try):
			finished = true
			d.sendReinvite(sdp, extra, try+1, done)
		default:
			over(nil, statusOf(m))
			if m.code == 481 || m.code == 408 {
				d.bye(Cause{Kind: KindRejected, Code: m.code, Reason: m.reason, Remote: true})
			}
		}
	})
	d.through(func(c conn, err error) {
		if err == nil {
			r.headers = append(r.headers, d.contact(c), allowHeader())
			if extra == nil {
				r.headers = append(r.headers, d.sess.askHeaders(d.sess.interval, d.e.o.MinSE, d.sess.refresher())...)
			}
			r.headers = append(r.headers, extra...)
			if len(sdp) > 0 {
				r.headers = append(r.headers, Header{"Content-Type", typeSDP})
			}
			r.headers = append(r.headers, d.out.auth.headers(d.out.credentials, methodInvite, r.uri)...)
			_, err = d.e.start(c, r, on)
		}
		if err != nil {
			over(nil, err)
		}
	})
}

func (d *Dialog) reinviteAnswered(m *message, sdp []byte, over func(m *message, err error)) {
	d.refreshTarget(m)
	d.sess.readPeer(m)
	d.sess.fromResponse(d, m)
	if len(sdp) > 0 {
		d.sess.local = sdp
		d.ack(m.cseq, nil)
		over(m, nil)
		return
	}
	d.events.post(func() {
		answer, _ := d.ev.Offer(m.sdp())
		d.post(func() {
			d.sess.local = answer
			d.ack(m.cseq, answer)
			over(m, nil)
		})
	})
}
