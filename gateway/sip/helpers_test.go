package sip_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/gateway/sip/siptest"
)

const (
	sdpA = "v=0\r\no=a 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n"
	sdpB = "v=0\r\no=b 1 1 IN IP4 10.0.0.2\r\ns=-\r\nc=IN IP4 10.0.0.2\r\nt=0 0\r\nm=audio 5000 RTP/AVP 8\r\n"
)

// handler is a sip.Handler of functions.
type handler struct {
	invite  func(d *sip.Dialog)
	request func(r *sip.Request)
	closed  func(f sip.Flow)
}

func (h *handler) Invite(d *sip.Dialog) {
	if h.invite != nil {
		h.invite(d)
		return
	}
	_ = d.Reject(486, "")
}

func (h *handler) Request(r *sip.Request) {
	if h.request != nil {
		h.request(r)
		return
	}
	_ = r.Respond(200, "")
}

func (h *handler) FlowClosed(f sip.Flow) {
	if h.closed != nil {
		h.closed(f)
	}
}

// recorder is a sip.Events that writes down what happens.
type recorder struct {
	t     testing.TB
	ch    chan string
	offer func(offer []byte) ([]byte, int)
}

func newRecorder(tb testing.TB) *recorder {
	tb.Helper()
	return &recorder{t: tb, ch: make(chan string, 10000), offer: func([]byte) ([]byte, int) { return []byte(sdpA), 200 }}
}

func first(s []byte) string {
	if len(s) == 0 {
		return "-"
	}
	for l := range strings.SplitSeq(string(s), "\r\n") {
		if v, ok := strings.CutPrefix(l, "o="); ok {
			return v[:1]
		}
	}
	return "?"
}

func (r *recorder) Progress(code int, _ string, sdp []byte) {
	r.ch <- fmt.Sprintf("progress %d %s", code, first(sdp))
}
func (r *recorder) Answered(sdp []byte) { r.ch <- "answered " + first(sdp) }
func (r *recorder) Offer(o []byte) ([]byte, int) {
	r.ch <- "offer " + first(o)
	return r.offer(o)
}
func (r *recorder) Info(ct string, body []byte) { r.ch <- "info " + ct + " " + string(body) }
func (r *recorder) Request(m string, h func(string) string, _ []byte) int {
	r.ch <- "request " + m + " " + h("Refer-To")
	return 202
}

func (r *recorder) Ended(c sip.Cause) {
	who := "local"
	if c.Remote {
		who = "remote"
	}
	r.ch <- fmt.Sprintf("ended %s %d %s", c.Kind, c.Code, who)
}

func (r *recorder) want(want ...string) {
	r.t.Helper()
	for _, w := range want {
		select {
		case got := <-r.ch:
			if got != w {
				r.t.Fatalf("event %q, want %q", got, w)
			}
		case <-time.After(time.Hour):
			r.t.Fatalf("no event, want %q", w)
		}
	}
}

func (r *recorder) none() {
	r.t.Helper()
	select {
	case got := <-r.ch:
		r.t.Fatalf("unexpected event %q", got)
	default:
	}
}

// bubble is an endpoint at 10.0.0.1:5060 and a peer at 10.0.0.2:5060, in
// virtual time.
type bubble struct {
	t    *testing.T
	net  *siptest.Net
	ep   *sip.Endpoint
	h    *handler
	peer *siptest.Peer
}

func inBubble(t *testing.T, o sip.Options, fn func(b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{t: t, net: siptest.NewNet(), h: &handler{}}
		o.Handler = b.h
		ep, err := sip.New(o)
		if err != nil {
			t.Fatal(err)
		}
		b.ep = ep
		served := make(chan error, 1)
		go func() { served <- ep.ServeUDP(t.Context(), b.net.Listen("10.0.0.1:5060")) }()
		b.peer = b.newPeer("10.0.0.2:5060")
		synctest.Wait()
		defer func() {
			if err := ep.Close(); err != nil {
				t.Error(err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		}()
		fn(b)
	})
}

func (b *bubble) newPeer(addr string) *siptest.Peer {
	return siptest.New(b.t, b.net.Listen(addr), net.UDPAddrFromAddrPort(mustAddr("10.0.0.1:5060")))
}

// call places a call to the peer and returns the INVITE that it got.
func (b *bubble) call(i sip.Invite) (*sip.Dialog, *recorder, siptest.Message) {
	b.t.Helper()
	rec := newRecorder(b.t)
	if i.SDP == nil {
		i.SDP = []byte(sdpA)
	}
	if i.URI.Host == "" {
		i.URI = mustURI("sip:bob@10.0.0.2")
	}
	i.From = sip.Address{URI: mustURI("sip:alice@10.0.0.1")}
	d, err := b.ep.Invite(b.t.Context(), i, rec)
	if err != nil {
		b.t.Fatal(err)
	}
	return d, rec, b.peer.Expect("INVITE")
}

// answered is call, answered by the peer.
func (b *bubble) answered(i sip.Invite, extra ...string) (*sip.Dialog, *recorder, siptest.Message) {
	b.t.Helper()
	d, rec, inv := b.call(i)
	b.peer.Reply(inv, "200 OK", "peer", append(extra, "Contact: <sip:bob@10.0.0.2:5060>", "Content-Type: application/sdp"), sdpB)
	b.peer.Expect("ACK")
	rec.want("answered b")
	return d, rec, inv
}

// invite is an INVITE of the peer.
func invite(seq int, toTag string, extra ...string) string {
	to := "<sip:alice@10.0.0.1>"
	if toTag != "" {
		to += ";tag=" + toTag
	}
	return request("INVITE", seq, to, append(extra, "Content-Type: application/sdp"), sdpB)
}

func request(method string, seq int, to string, extra []string, body string) string {
	s := fmt.Sprintf("%s sip:alice@10.0.0.1 SIP/2.0\n"+
		"Via: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK%s%d;rport\n"+
		"Max-Forwards: 70\nFrom: <sip:bob@10.0.0.2>;tag=peer\nTo: %s\nCall-ID: c1@peer\n"+
		"CSeq: %d %s\nContact: <sip:bob@10.0.0.2:5060>\n", method, strings.ToLower(method), seq, to, seq, method)
	for _, e := range extra {
		s += e + "\n"
	}
	return s + fmt.Sprintf("Content-Length: %d\n\n%s", len(body), body)
}

// taken lets the peer call us; the returned dialog is not answered yet.
func (b *bubble) taken(extra ...string) (*sip.Dialog, *recorder) {
	b.t.Helper()
	rec := newRecorder(b.t)
	got := make(chan *sip.Dialog, 1)
	b.h.invite = func(d *sip.Dialog) {
		d.Accept(rec)
		got <- d
	}
	b.peer.Send(invite(1, "", extra...))
	b.peer.Expect("100")
	return <-got, rec
}

// talking is taken, answered and acknowledged.
func (b *bubble) talking(extra ...string) (d *sip.Dialog, rec *recorder, ok siptest.Message) {
	b.t.Helper()
	d, rec = b.taken(extra...)
	if err := d.Answer([]byte(sdpA)); err != nil {
		b.t.Fatal(err)
	}
	ok = b.peer.Expect("200")
	b.peer.Send(request("ACK", 1, "<sip:alice@10.0.0.1>;tag="+d.LocalTag(), nil, ""))
	rec.want("answered -")
	return d, rec, ok
}
