package sip_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/gateway/sip/siptest"
)

// web serves an endpoint's WebSocket over plain HTTP or TLS and returns its URL.
func (e *endpoint) web(tb testing.TB, secure bool, origins func(string, *http.Request) bool) string {
	tb.Helper()
	s := httptest.NewUnstartedServer(e.WebSocket(origins))
	s.Config.ReadHeaderTimeout = time.Second
	s.EnableHTTP2 = false
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	tb.Cleanup(s.Close)
	return strings.Replace(s.URL, "http", "ws", 1)
}

func options(n int) string {
	return fmt.Sprintf("OPTIONS sip:x@y SIP/2.0\r\nVia: SIP/2.0/WS p.invalid;branch=z9hG4bKo%d\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:x@y>\r\nCall-ID: o%d\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", n, n)
}

func TestWebSocketPingPongAndFragments(t *testing.T) {
	ep := newEndpoint(t, &handler{})
	p := siptest.WebSocket(t, ep.web(t, false, nil), nil)
	p.Send(options(1))
	p.Expect("200")

	pong := make(chan string, 4)
	p.Conn().SetPongHandler(func(s string) error { pong <- s; return nil })
	if err := p.Conn().WriteControl(websocket.PingMessage, []byte("payload"), time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	// A fragmented message, with a ping between its fragments.
	raw := options(2)
	nc := p.Conn().NetConn()
	frame := func(first byte, data string) {
		b := []byte{first, 0x80 | byte(len(data)), 0, 0, 0, 0}
		if _, err := nc.Write(append(b, data...)); err != nil {
			t.Fatal(err)
		}
	}
	frame(0x01, raw[:40])
	frame(0x00, raw[40:90])
	frame(0x89, "between")
	frame(0x80, raw[90:])
	p.Expect("200")
	if got := <-pong; got != "payload" {
		t.Fatal(got)
	}
	p.Send("\r\n\r\n") // RFC 5626 keep-alive
	if m := p.Read(); m.Start != "" {
		t.Fatal(m)
	}
}

func TestSilentWebSocketIsClosedAndDisturbsNobody(t *testing.T) {
	ep := newEndpoint(t, &handler{}, func(o *sip.Options) { o.FirstMessageTimeout = 300 * time.Millisecond })
	url := ep.web(t, false, nil)
	addr := strings.TrimPrefix(url, "ws://")
	for range 20 { // TCP connections that say nothing, before the upgrade
		nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
	}
	silent := siptest.WebSocket(t, url, nil)
	busy := siptest.WebSocket(t, url, nil)
	busy.Send(options(1))
	busy.Expect("200")
	start := time.Now()
	if _, ok := silent.Try(5 * time.Second); ok || time.Since(start) > 3*time.Second {
		t.Fatal("the silent connection was kept")
	}
	busy.Send(options(2))
	busy.Expect("200")
}

func TestWebSocketOriginAndProtocol(t *testing.T) {
	ep := newEndpoint(t, &handler{})
	url := ep.web(t, false, func(o string, _ *http.Request) bool { return o == "" || o == "https://ours.example" })
	for _, tt := range []struct {
		origin string
		sub    []string
		want   int
	}{
		{"https://evil.example", []string{"sip"}, http.StatusForbidden},
		{"https://ours.example", []string{"sip"}, http.StatusSwitchingProtocols},
		{"", []string{"sip"}, http.StatusSwitchingProtocols},
		{"", []string{"chat"}, http.StatusBadRequest},
		{"", nil, http.StatusBadRequest},
	} {
		h := http.Header{}
		if tt.origin != "" {
			h.Set("Origin", tt.origin)
		}
		d := websocket.Dialer{Subprotocols: tt.sub}
		ws, resp, err := d.DialContext(t.Context(), url, h)
		if resp == nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%+v: %d", tt, resp.StatusCode)
		}
		if ws != nil {
			_ = ws.Close()
		}
	}
}

// A client registers over TLS, is called over its own flow, and once it is
// gone a call fails at once and reaches nobody else.
func TestCallOverTheClientsOwnWebSocket(t *testing.T) {
	flows, closed := make(chan sip.Flow, 4), make(chan sip.Flow, 4)
	server := newEndpoint(t, &handler{
		request: func(r *sip.Request) { flows <- r.Flow(); _ = r.Respond(200, "") },
		closed:  func(f sip.Flow) { closed <- f },
	})
	url := server.web(t, true, nil)
	conf := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	client := func(name string, calls chan *sip.Dialog) (*endpoint, sip.Flow, sip.Flow) {
		rec := newRecorder(t)
		ep := newEndpoint(t, &handler{invite: func(d *sip.Dialog) {
			d.Accept(rec)
			calls <- d
			_ = d.Provisional(180, nil)
			_ = d.Answer([]byte(sdpB))
		}})
		f, err := ep.DialWebSocket(t.Context(), url, conf)
		if err != nil {
			t.Fatal(err)
		}
		r, err := ep.Send(t.Context(), sip.Outgoing{Method: "REGISTER", URI: mustURI("sip:host"), From: sip.Address{URI: mustURI("sip:" + name + "@host")}, To: sip.Address{URI: mustURI("sip:" + name + "@host")}, Flow: &f})
		if err != nil || r.Code != 200 {
			t.Fatal(err, r.Code)
		}
		return ep, f, <-flows
	}
	aliceCalls, bobCalls := make(chan *sip.Dialog, 4), make(chan *sip.Dialog, 4)
	alice, aliceFlow, toAlice := client("alice", aliceCalls)
	_, _, toBob := client("bob", bobCalls)
	if toAlice.Transport != "wss" || toAlice == toBob || !toAlice.Secure() {
		t.Fatal(toAlice, toBob)
	}
	invite := func() (*recorder, *sip.Dialog, error) {
		rec := newRecorder(t)
		d, err := server.Invite(t.Context(), sip.Invite{URI: mustURI("sip:alice@x1.invalid;transport=ws"), From: sip.Address{URI: mustURI("sip:q@host")}, Flow: &toAlice, SDP: []byte(sdpA)}, rec)
		return rec, d, err
	}
	rec, d, err := invite()
	if err != nil {
		t.Fatal(err)
	}
	rec.want("progress 180 -", "answered b")
	at := <-aliceCalls
	if at.Flow() != aliceFlow {
		t.Fatal("came by another flow")
	}
	// Requests go both ways over the same connection.
	if err := at.Info(t.Context(), "application/dtmf-relay", []byte("Signal=1")); err != nil {
		t.Fatal(err)
	}
	rec.want("info application/dtmf-relay Signal=1")
	if _, err := d.Reinvite(t.Context(), []byte(sdpA)); err != nil {
		t.Fatal(err)
	}
	if err := d.Hangup(sip.Cause{}); err != nil {
		t.Fatal(err)
	}
	rec.want("ended normal 200 local")

	// Ringing at the moment the connection dies.
	alice.CloseFlow(aliceFlow)
	if f := <-closed; f != toAlice {
		t.Fatal(f)
	}
	start := time.Now()
	if _, _, err := invite(); !errors.Is(err, sip.ErrFlowGone) || time.Since(start) > 100*time.Millisecond {
		t.Fatal(err, time.Since(start))
	}
	if _, err := server.Send(t.Context(), sip.Outgoing{Method: "OPTIONS", URI: mustURI("sip:alice@x1.invalid;transport=ws")}); !errors.Is(err, sip.ErrFlowGone) {
		t.Fatal("a WebSocket client cannot be dialled:", err)
	}
	if len(bobCalls) != 0 {
		t.Fatal("bob was called")
	}
}

func TestFlowLostWhileRinging(t *testing.T) {
	flows := make(chan sip.Flow, 4)
	server := newEndpoint(t, &handler{request: func(r *sip.Request) { flows <- r.Flow(); _ = r.Respond(200, "") }})
	p := siptest.WebSocket(t, server.web(t, false, nil), nil)
	p.Send(options(1))
	p.Expect("200")
	f := <-flows
	rec := newRecorder(t)
	if _, err := server.Invite(t.Context(), sip.Invite{URI: mustURI("sip:a@x.invalid"), From: sip.Address{URI: mustURI("sip:q@host")}, Flow: &f, SDP: []byte(sdpA)}, rec); err != nil {
		t.Fatal(err)
	}
	p.Reply(p.Expect("INVITE"), "180 Ringing", "x", nil, "")
	rec.want("progress 180 -")
	_ = p.Conn().Close()
	rec.want("ended transportLost 503 local")
}

func TestSlowReaderIsDisconnectedAndOthersGoOn(t *testing.T) {
	flows, closed := make(chan sip.Flow, 4), make(chan sip.Flow, 4)
	server := newEndpoint(t, &handler{
		request: func(r *sip.Request) {
			if r.Method() == "OPTIONS" {
				flows <- r.Flow()
			}
			_ = r.Respond(200, "")
		},
		closed: func(f sip.Flow) { closed <- f },
	})
	url := server.web(t, false, nil)
	slow, fast := siptest.WebSocket(t, url, nil), siptest.WebSocket(t, url, nil)
	slow.Send(options(1))
	slow.Expect("200")
	f := <-flows
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	big := []byte(strings.Repeat("x", 60000))
	for range 400 { // it reads none of this
		_, _ = server.Send(ctx, sip.Outgoing{Method: "MESSAGE", URI: mustURI("sip:a@b"), From: sip.Address{URI: mustURI("sip:a@b")}, To: sip.Address{URI: mustURI("sip:a@b")}, Flow: &f, Body: big})
	}
	select {
	case got := <-closed:
		if got != f {
			t.Fatal(got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the slow reader was kept")
	}
	fast.Send(options(2))
	fast.Expect("200")
}

func TestTooManyConnectionsOfOneAddress(t *testing.T) {
	ep := newEndpoint(t, &handler{}, func(o *sip.Options) { o.MaxConnsPerIP = 3 })
	url, addr := ep.web(t, false, nil), ep.tcp(t)
	for range 3 {
		siptest.WebSocket(t, url, nil)
	}
	d := websocket.Dialer{Subprotocols: []string{"sip"}}
	_, resp, err := d.DialContext(t.Context(), url, nil)
	if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatal(err, resp)
	}
	_ = resp.Body.Close()
	nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.SetReadDeadline(time.Now().Add(2 * time.Second))
	if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Fatal("a fourth connection was kept:", err)
	}
}

func TestGarbageAndHalfMessagesOnTCP(t *testing.T) {
	ep := newEndpoint(t, &handler{}, func(o *sip.Options) { o.FirstMessageTimeout = 200 * time.Millisecond; o.MaxMessage = 8192 })
	addr := ep.tcp(t)
	for name, tt := range map[string]struct{ send, want string }{
		"garbage":  {strings.Repeat("\x00\xff garbage", 2000), ""},
		"silent":   {"", ""},
		"half":     {"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKx\r\n", ""},
		"body":     {strings.Replace(options(1), "Content-Length: 0", "Content-Length: 100", 1), ""},
		"too big":  {strings.Replace(options(2), "Content-Length: 0", "Content-Length: 100000", 1), "SIP/2.0 413"},
		"no end":   {"OPTIONS sip:a@b SIP/2.0\r\n" + strings.Repeat("X: y\r\n", 5000), ""},
		"nolength": {strings.Replace(options(3), "Content-Length: 0\r\n", "", 1), "SIP/2.0 400"},
	} {
		nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = nc.Write([]byte(tt.send))
		_ = nc.SetReadDeadline(time.Now().Add(3 * time.Second))
		b, err := io.ReadAll(nc)
		if err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: not closed: %v", name, err)
		}
		if !strings.HasPrefix(string(b), tt.want) {
			t.Errorf("%s: %.40q, want %q", name, b, tt.want)
		}
		_ = nc.Close()
	}
	nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{options(4)[:30], options(4)[30:100], options(4)[100:] + options(5)} { // any cut is fine
		_, _ = nc.Write([]byte(part))
	}
	_ = nc.SetReadDeadline(time.Now().Add(3 * time.Second))
	got := ""
	for b := make([]byte, 4096); strings.Count(got, "SIP/2.0 200") < 2; {
		n, err := nc.Read(b)
		if err != nil {
			t.Fatal(got, err)
		}
		got += string(b[:n])
	}
	_ = nc.Close()
}
