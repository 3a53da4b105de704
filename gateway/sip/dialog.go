package sip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// dialogTable finds dialogs by Call-ID and our tag.
type dialogTable struct {
	mu sync.Mutex
	m  map[string]*Dialog
}

func (t *dialogTable) init() { t.m = make(map[string]*Dialog) }

func (t *dialogTable) add(d *Dialog) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.m[d.callID+"|"+d.localTag] = d
}

func (t *dialogTable) remove(d *Dialog) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, d.callID+"|"+d.localTag)
}

func (t *dialogTable) find(callID, localTag, remoteTag string) *Dialog {
	t.mu.Lock()
	d := t.m[callID+"|"+localTag]
	t.mu.Unlock()
	if d == nil {
		return nil
	}
	if r := d.RemoteTag(); r != remoteTag && (r != "" || !d.outgoing()) {
		return nil
	}
	return d
}

func (t *dialogTable) list() []*Dialog {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*Dialog, 0, len(t.m))
	for _, d := range t.m {
		out = append(out, d)
	}
	return out
}

// Dialogs returns how many dialogs are alive.
func (e *Endpoint) Dialogs() int {
	e.dialogs.mu.Lock()
	defer e.dialogs.mu.Unlock()
	return len(e.dialogs.m)
}

// Dialog is one INVITE dialog, of a caller or of a called party. Its methods
// are safe for concurrent use.
type Dialog struct {
	e        *Endpoint
	id       string
	callID   string
	localTag string
	done     chan struct{} // closed after Ended

	core   strand // owns the fields below mu
	events strand // runs the calls of ev; paused until there is a consumer

	mu  sync.Mutex
	pub public

	ev   Events
	peer peer
	in   *incoming // called side, and re-INVITEs of the peer
	out  *caller   // our INVITEs
	sess session
}

// public is what the getters show.
type public struct {
	state     State
	remoteTag string
	flow      Flow
	accepted  bool
}

// peer is how requests in the dialog are made.
type peer struct {
	local, remote string // From and To of our requests, with tags
	user          string // of our Contact
	target        string // remote target URI
	routes        []string
	localSeq      uint32
	remoteSeq     uint32
	seqKnown      bool
	pinned        bool // the INVITE named a flow: UDP stays on it
}

// timer is a timer of the core strand; a firing after stop is ignored.
type timer struct {
	gen int
	t   *time.Timer
}

func (d *Dialog) set(t *timer, after time.Duration, fn func()) {
	t.stop()
	gen := t.gen
	t.t = time.AfterFunc(after, func() {
		d.post(func() {
			if t.gen == gen {
				fn()
			}
		})
	})
}

func (t *timer) stop() {
	t.gen++
	if t.t != nil {
		t.t.Stop()
		t.t = nil
	}
}

func (e *Endpoint) newDialog(callID, localTag string, c conn) *Dialog {
	d := &Dialog{e: e, id: e.nextID(), callID: callID, localTag: localTag, done: make(chan struct{})}
	d.core.spawn, d.events.spawn = e.spawn, e.spawn
	d.events.paused = true
	d.pub.flow = c.flowOf()
	d.pub.state = StateTrying
	d.in, d.out = &incoming{}, &caller{}
	return d
}

func (d *Dialog) outgoing() bool { return d.out.invite != nil }

// post runs fn on the core strand.
func (d *Dialog) post(fn func()) { d.core.post(fn) }

// do runs fn on the core strand and returns its error.
func (d *Dialog) do(fn func() error) error {
	res := make(chan error, 1)
	if !d.core.post(func() { res <- fn() }) {
		return ErrEnded
	}
	return <-res // fn never waits, so neither does this for long
}

// ID returns the dialog's identity, unique in the process.
func (d *Dialog) ID() string { return d.id }

// CallID returns the Call-ID.
func (d *Dialog) CallID() string { return d.callID }

// LocalTag returns our tag.
func (d *Dialog) LocalTag() string { return d.localTag }

// RemoteTag returns the peer's tag, "" before it is known.
func (d *Dialog) RemoteTag() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pub.remoteTag
}

// Flow returns the path of the dialog.
func (d *Dialog) Flow() Flow {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pub.flow
}

// UpdateFlow re-points the dialog, after its peer registered by another flow.
func (d *Dialog) UpdateFlow(f Flow) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pub.flow = f
}

// State returns where the dialog stands.
func (d *Dialog) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pub.state
}

// Done is closed after Ended was called.
func (d *Dialog) Done() <-chan struct{} { return d.done }

// Request returns the INVITE of an incoming dialog, else nil.
func (d *Dialog) Request() *Request { return d.in.req }

// Offer returns the SDP of the INVITE of an incoming dialog.
func (d *Dialog) Offer() []byte {
	if d.in.req == nil {
		return nil
	}
	return d.in.req.Body()
}

func (d *Dialog) setState(s State) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pub.state = s
}

func (d *Dialog) setRemoteTag(tag string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pub.remoteTag = tag
}

// Accept sets the consumer of an incoming dialog; before it only Reject and
// Hangup are allowed. Call it once, from Handler.Invite.
func (d *Dialog) Accept(ev Events) {
	d.mu.Lock()
	if d.pub.accepted {
		d.mu.Unlock()
		return
	}
	d.pub.accepted = true
	d.ev = ev
	d.mu.Unlock()
	d.events.resume()
}

func (d *Dialog) accepted() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pub.accepted
}

// handled runs when Handler.Invite has returned.
func (d *Dialog) handled() {
	if d.accepted() {
		return
	}
	_ = d.Reject(500, "") // does nothing if it was rejected
	d.Accept(NoEvents{})
}

// end is the only way to StateTerminated; core strand only.
func (d *Dialog) end(c Cause) {
	if d.State() == StateTerminated {
		return
	}
	d.setState(StateTerminated)
	d.in.stop()
	d.out.stop()
	d.sess.stop()
	d.e.dialogs.remove(d)
	d.events.post(func() {
		d.ev.Ended(c)
		d.ev = NoEvents{} // transactions keep the dialog for half a minute; the call behind it is free now
		close(d.done)
	})
}

// lost is told that a flow closed. An unanswered call cannot go on without; an
// answered one may get another by UpdateFlow.
func (d *Dialog) lost(f Flow) {
	if d.Flow() != f || d.outgoing() { // a caller's transaction fails by itself
		return
	}
	if s := d.State(); s == StateTrying || s == StateRinging {
		d.in.tx.tx.Terminate()
		d.end(Cause{Kind: KindTransportLost, Code: 480, Remote: true, Err: ErrFlowGone})
	}
}

// Hangup ends the dialog by CANCEL, BYE or a final response as the state asks.
// A CANCEL waits for the first 1xx (RFC 3261 section 9.1), a BYE of the called
// side for the ACK. c.Code of 300 or more is the response to an unanswered
// incoming call; Q850 and Text make a Reason header.
func (d *Dialog) Hangup(c Cause) error {
	return d.do(func() error {
		switch d.State() {
		case StateTrying, StateRinging:
			if d.outgoing() {
				d.cancelInvite(c)
				return nil
			}
			if c.Code < 300 {
				c.Code = 480
			}
			if c.Kind == KindUnknown {
				c.Kind = KindRejected
			}
			return d.rejectInvite(c, nil)
		case StateAnswered:
			if d.in.bye == nil {
				d.in.bye = &c
			}
			return nil
		case StateConfirmed:
			d.bye(c)
			return nil
		case StateTerminated, StateUnknown:
		}
		return ErrEnded
	})
}

// bye sends BYE and ends the dialog without waiting for the response.
func (d *Dialog) bye(c Cause) {
	if c.Kind == KindUnknown {
		c.Kind = KindNormal
	}
	if c.Code == 0 {
		c.Code = 200
	}
	if err := d.send(methodBye, reasonHeader(c), nil, func(*message, error) {}); err != nil {
		c.Err = errors.Join(c.Err, err)
	}
	d.end(c)
}

// reasonHeader is the Reason header of RFC 3326, if there is one to give.
func reasonHeader(c Cause) []Header {
	text := ""
	if c.Text != "" {
		text = `;text=` + quote(strings.Map(func(r rune) rune {
			if r < ' ' {
				return ' '
			}
			return r
		}, c.Text))
	}
	switch {
	case c.Q850 > 0:
		return []Header{{"Reason", "Q.850;cause=" + strconv.Itoa(c.Q850) + text}}
	case c.Code >= 300 || c.Code == 200 && text != "":
		return []Header{{"Reason", "SIP;cause=" + strconv.Itoa(c.Code) + text}}
	}
	return nil
}

// readReason fills a cause from a message's Reason headers.
func (c *Cause) readReason(m *message) {
	for _, h := range m.all("Reason") {
		for _, v := range splitList(h) {
			proto, _, _ := strings.Cut(v, ";")
			ps, _, ok := parseParams(strings.TrimPrefix(v, proto))
			if !ok {
				continue
			}
			cause, _ := ps.Get("cause")
			n, _ := parseDigits(cause, 999)
			if strings.EqualFold(strings.TrimSpace(proto), "Q.850") {
				c.Q850 = n
			}
			if text, ok := ps.Get("text"); ok && c.Text == "" {
				c.Text = text
			}
		}
	}
}

// headers are those that every request in the dialog starts with.
func (d *Dialog) headers(method string, seq uint32) []Header {
	h := []Header{
		{"From", d.peer.local},
		{"To", d.peer.remote},
		{"Call-ID", d.callID},
		{"CSeq", strconv.FormatUint(uint64(seq), 10) + " " + method},
	}
	for _, r := range d.peer.routes {
		h = append(h, Header{"Route", r})
	}
	return h
}

// contact is our Contact on a connection.
func (d *Dialog) contact(c conn) Header {
	host, port := d.e.sentBy(c)
	u := URI{Scheme: schemeSIP, User: d.peer.user, Host: host, Port: port}
	if tp := c.flowOf().Transport; tp != transportUDP {
		if tp == transportWSS {
			tp = transportWS // RFC 7118 section 5.2: one name for both
		}
		u.Params = Params{{"transport", tp}}
	}
	return Header{"Contact", "<" + u.String() + ">"}
}

// hop returns where the next request of the dialog goes: the flow, if it is a
// connection that lives; else the first route or the remote target. A name
// that must be looked up, or a connection that must be made, needs slow.
func (d *Dialog) hop(ctx context.Context, slow bool) (c conn, again bool, err error) {
	f := d.Flow()
	if f.Reliable() {
		c, err = d.e.connOf(f)
		if err == nil || f.Transport == transportWS || f.Transport == transportWSS {
			return c, false, err
		}
	}
	next := d.peer.target
	if len(d.peer.routes) > 0 {
		if a, aerr := ParseAddress(d.peer.routes[0]); aerr == nil {
			next = a.URI.String()
		}
	}
	u, uerr := ParseURI(next)
	if f.Transport == transportUDP {
		ip, isIP := u.addr()
		if uerr != nil || u.Host == "" || d.peer.pinned && len(d.peer.routes) == 0 || isIP && behindNAT(ip, f.Remote.Addr()) {
			c, err = d.e.connOf(f)
			return c, false, err
		}
		if isIP {
			port := u.Port
			if port == 0 {
				port = 5060
			}
			c, err = d.e.connOf(Flow{Transport: transportUDP, Local: f.Local, Remote: netipPort(ip, port)})
			return c, false, err
		}
	}
	if uerr != nil || u.Host == "" {
		return nil, false, fmt.Errorf("remote target %q: %w", next, ErrFlowGone)
	}
	if !slow {
		return nil, true, nil
	}
	c, err = d.e.route(ctx, nil, "", f.Transport, u)
	if err != nil && f.Transport == transportUDP {
		c, err = d.e.connOf(f)
	}
	return c, false, err
}

// behindNAT reports whether a contact's address is one that only the peer's
// own network knows, while it came from outside of it.
func behindNAT(contact, source netip.Addr) bool {
	private := contact.IsPrivate() || contact.IsLoopback() || contact.IsLinkLocalUnicast() || contact.IsUnspecified()
	return private && contact != source && !source.IsLoopback() && (!source.IsPrivate() || !contact.IsPrivate())
}

// through calls fn with the next hop, at once if it is known, else from the
// core strand when it has been found.
func (d *Dialog) through(fn func(c conn, err error)) {
	c, again, err := d.hop(d.e.ctx, false)
	if !again {
		fn(c, err)
		return
	}
	if !d.e.spawn(func() {
		c, _, err := d.hop(d.e.ctx, true)
		d.post(func() { fn(c, err) })
	}) {
		fn(nil, ErrClosed)
	}
}

// send sends a non-INVITE request in the dialog. done is called on the core
// strand with the final response or an error, unless send returned one. A
// challenge is answered.
func (d *Dialog) send(method string, h []Header, body []byte, done func(m *message, err error)) error {
	return d.sendTry(method, h, body, 0, done)
}

func (d *Dialog) sendTry(method string, h []Header, body []byte, try int, done func(m *message, err error)) error {
	d.peer.localSeq++
	r := &outRequest{method: method, uri: d.peer.target, headers: append(d.headers(method, d.peer.localSeq), h...), body: body}
	r.headers = append(r.headers, d.out.auth.headers(d.out.credentials, method, r.uri)...)
	on := func(m *message, err error) {
		if err == nil && m.code < 200 {
			return
		}
		d.post(func() {
			if err == nil && (m.code == 401 || m.code == 407) && d.out.auth.learn(d.out.credentials, m, try) {
				if err := d.sendTry(method, h, body, try+1, done); err != nil {
					done(nil, err)
				}
				return
			}
			done(m, err)
		})
	}
	var now error
	sync := true
	d.through(func(c conn, err error) {
		if err == nil {
			_, err = d.e.start(c, r, on)
		}
		if err == nil {
			return
		}
		if sync {
			now = err
		} else {
			done(nil, err)
		}
	})
	sync = false
	return now
}

// Do sends any request but INVITE, ACK, CANCEL and BYE in the dialog and waits
// for its final response, whatever its code. A body needs its Content-Type
// among the headers.
func (d *Dialog) Do(ctx context.Context, method string, h []Header, body []byte) (Response, error) {
	switch method {
	case methodInvite, methodAck, methodCancel, methodBye:
		return Response{}, fmt.Errorf("do %s: %w", method, ErrState)
	}
	m, err := d.request2(ctx, method, h, body)
	if err != nil {
		return Response{}, fmt.Errorf("%s in dialog: %w", method, err)
	}
	return responseOf(m), nil
}

// request2 sends a request from outside of the core strand and waits. A 481
// ends the dialog (RFC 3261 section 12.2.1.2).
func (d *Dialog) request2(ctx context.Context, method string, h []Header, body []byte) (*message, error) {
	type result struct {
		m   *message
		err error
	}
	res := make(chan result, 1)
	err := d.do(func() error {
		if s := d.State(); s == StateTerminated || d.RemoteTag() == "" {
			if s == StateTerminated {
				return ErrEnded
			}
			return ErrState
		}
		return d.send(method, h, body, func(m *message, err error) {
			res <- result{m, err}
			if err == nil && m.code == 481 {
				d.end(Cause{Kind: KindRejected, Code: 481, Reason: m.reason, Remote: true})
			}
		})
	})
	if err != nil {
		return nil, err
	}
	select {
	case r := <-res:
		return r.m, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-d.done:
		select {
		case r := <-res:
			return r.m, r.err
		default:
			return nil, ErrEnded
		}
	}
}

// Info sends an INFO; another response than 2xx is a *StatusError.
func (d *Dialog) Info(ctx context.Context, contentType string, body []byte) error {
	r, err := d.Do(ctx, methodInfo, []Header{{"Content-Type", contentType}}, body)
	if err != nil {
		return err
	}
	if r.Code >= 300 {
		return statusOf(r.m)
	}
	return nil
}

func statusOf(m *message) *StatusError {
	return &StatusError{Code: m.code, Reason: m.reason, RetryAfter: time.Duration(retryAfter(m)) * time.Second}
}

// glareWait is how long to wait after a 491 (RFC 3261 section 14.1): the owner
// of the Call-ID 2.1 to 4 s, the other 0 to 2 s.
func (d *Dialog) glareWait() time.Duration {
	if d.outgoing() {
		return 2100*time.Millisecond + rand.N(1900*time.Millisecond) //nolint:gosec // only spreads retries
	}
	return rand.N(2000 * time.Millisecond) //nolint:gosec // only spreads retries
}
