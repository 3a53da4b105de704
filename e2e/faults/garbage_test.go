//go:build e2e && linux

package faults

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/cordboard/cordboard/e2e/harness"
)

// garbage is what no parser likes; half messages of the protocols among it.
func garbage() [][]byte {
	noise := func(n int) []byte {
		b := make([]byte, n)
		_, _ = rand.Read(b)
		return b
	}
	invite := "INVITE sip:59825550111@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:1;branch=z9hG4bKx\r\nFrom: <sip:1@127.0.0.1>;tag=a\r\nTo: <sip:59825550111@127.0.0.1>\r\nCall-ID: g1\r\nCSeq: 1 INVITE\r\nContact: <sip:1@127.0.0.1:1>\r\n"
	out := [][]byte{
		{0},
		noise(1), noise(20), noise(1200), bytes.Repeat([]byte{0}, 1000), bytes.Repeat([]byte{0xff}, 1000),
		[]byte("\r\n\r\n\r\n\r\n"), []byte("INVITE"), []byte("INVITE sip:"), []byte("SIP/2.0 200 OK\r\n\r\n"), []byte("SIP/2.0 999999999999 \r\n\r\n"),
		[]byte("INVITE sip:1@ SIP/2.0\r\nVia: \r\nCSeq: -1 INVITE\r\nContent-Length: -5\r\n\r\n"),
		[]byte("REGISTER sip:cordboard SIP/2.0\r\nVia: SIP/2.0/UDP [::1\r\nContact: <<>>;expires=99999999999999999999\r\n\r\n"),
		[]byte(strings.Repeat("A", 1400)), []byte(strings.Repeat("Via: SIP/2.0/UDP a;branch=z9hG4bK\r\n", 30)),
		[]byte(invite + "Content-Type: application/sdp\r\nContent-Length: 4\r\n\r\nv=0\r\n"),
		[]byte(invite + "Content-Type: application/sdp\r\nContent-Length: 99999\r\n\r\nv=0\r\nm=audio 99999999 RTP/AVP 8\r\n"),
		[]byte(invite + "Content-Length: 0\r\n"),
		[]byte("BYE sip:1@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:1;branch=z9hG4bKb\r\nFrom: <sip:1@x>;tag=1\r\nTo: <sip:2@x>;tag=2\r\nCall-ID: none\r\nCSeq: 2 BYE\r\n\r\n"),
		[]byte("GET / HTTP/1.1\r\nHost:"), []byte("GET /api/v1/events HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 99\r\n\r\n"),
		[]byte("POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"user"),
		[]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		{0x16, 3, 1, 0x40, 0, 1, 0, 0},
		append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, noise(200)...),           // TLS hello, cut off
		append([]byte{0x16, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100}, noise(50)...), // DTLS
		append([]byte{0x80, 8, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1}, noise(160)...),           // RTP
		{0xbf, 8, 0, 1},
		append([]byte{0x80, 200, 0xff, 0xff}, noise(10)...),                    // RTP with 15 CSRCs, RTCP that lies
		append([]byte{0, 1, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42}, noise(40)...), // STUN that lies about its length
		append([]byte{0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42}, noise(20)...),
		{0x40, 0, 0xff, 0xff},
		{0x40, 1, 0, 4, 1, 2, 3, 4}, // TURN: allocate, channel data
	}
	for range 200 {
		out = append(out, noise(1+mrand.IntN(600)))
	}
	for range 100 { // a message with some octets changed, cut anywhere
		b := []byte(invite + "Content-Type: application/sdp\r\nContent-Length: 150\r\n\r\n" + string(describe(4000, "8", "a=rtpmap:8 PCMA/8000")))
		for range 4 {
			b[mrand.IntN(len(b))] = byte(mrand.IntN(256))
		}
		out = append(out, b[:mrand.IntN(len(b))])
	}
	return out
}

// conversation is a call that must not notice what happens around it.
type conversation struct {
	customer, agent *party
	cv, av          *voice
	guid            string
}

func (r *rig) talk(t *testing.T, a *desk, line *station, from string) *conversation {
	t.Helper()
	c := &conversation{cv: newVoice(t, 440), av: newVoice(t, 1000)}
	c.customer = line.mustCall(t, r.UDP, from, c.cv)
	g := a.next(t, 15*time.Second)
	c.guid = g.guid
	c.agent = g.mustAnswer(t, c.av)
	c.sounds(t)
	return c
}

// sounds asserts that both hear each other, now.
func (c *conversation) sounds(t *testing.T) {
	t.Helper()
	c.cv.forget()
	c.av.forget()
	c.cv.hears(t, "the customer", 1000, 5*time.Second)
	c.av.hears(t, "the agent", 440, 5*time.Second)
}

func (c *conversation) end(t *testing.T) {
	t.Helper()
	if c.customer.over() || c.agent.over() {
		t.Fatal("the call ended by itself")
	}
	c.customer.hangUp()
	within(t, c.agent.ended, 5*time.Second, "the agent's leg ends")
}

// TestGarbageOnEveryPort: noise and half messages on every port disturb nobody,
// crash nothing and leave nothing.
func TestGarbageOnEveryPort(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	line := newStation(t, "127.0.0.1", nil)
	before := r.idle()
	a := r.newDesk(t, 1)
	c := r.talk(t, a, line, "59899000001")
	app := r.Gateway.Phone(t, harness.PhoneOptions{Device: extension(1) + "-desk", Password: secret}) // for the WebRTC port's mux
	app.Next(t, "registered")

	udp := []string{r.UDP, r.TURNUDP, r.WebRTC, c.cv.to.Load().String(), c.av.to.Load().String()}
	var wg sync.WaitGroup
	for _, to := range udp {
		wg.Go(func() {
			s, err := net.ListenPacket("udp", "127.0.0.9:0")
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = s.Close() }()
			dst, err := net.ResolveUDPAddr("udp", to)
			if err != nil {
				t.Error(err)
				return
			}
			for range 3 {
				for _, b := range garbage() {
					_, _ = s.WriteTo(b, dst)
					time.Sleep(200 * time.Microsecond)
				}
			}
		})
	}
	for _, to := range []string{r.TCP, r.TLS, r.WSS, r.HTTP, r.TURNTCP, r.TURNTLS} {
		wg.Go(func() { streams(to, false) })
		if to != r.TCP && to != r.TURNTCP {
			wg.Go(func() { streams(to, true) })
		}
	}
	wg.Go(func() { badFrames(t, r) })
	wg.Wait()
	c.sounds(t)
	c.end(t)
	d := r.talk(t, a, line, "59899000002")
	d.end(t)
	if log := r.Process().Tail(100000); strings.Contains(log, "panick") || strings.Contains(log, "goroutine ") {
		t.Error("something panicked")
	}
	app.Close(t)
	r.nothingLeft(before)
}

// streams sends garbage over connections, and leaves them in the middle.
func streams(to string, secure bool) {
	for _, b := range garbage() {
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}, Timeout: 5 * time.Second}).Dial("tcp", to)
		if err != nil {
			continue
		}
		if secure {
			c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		}
		_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
		_, _ = c.Write(b)
		if mrand.IntN(4) == 0 {
			_, _ = io.ReadAll(c)
		}
		_ = c.Close()
	}
}

// badFrames speaks WebSocket and then nonsense inside of it.
func badFrames(t *testing.T, r *rig) {
	t.Helper()
	d := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Subprotocols: []string{"sip"}, HandshakeTimeout: 10 * time.Second}
	for i, b := range garbage() {
		ws, res, err := d.DialContext(t.Context(), "wss://"+r.WSS+"/ws", nil)
		if res != nil {
			_ = res.Body.Close()
		}
		if err != nil {
			t.Errorf("WebSocket %d: %v", i, err)
			return
		}
		switch i % 4 {
		case 0:
			_ = ws.WriteMessage(websocket.TextMessage, b)
		case 1:
			_ = ws.WriteMessage(websocket.BinaryMessage, b)
		case 2:
			_, _ = ws.NetConn().Write(b) // no frame at all
		case 3:
			_, _ = ws.NetConn().Write([]byte{0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) // a frame of 2^63 octets
		}
		_ = ws.Close()
	}
}

// TestNoCommonCodec: 488, and nothing left of the call (7.2).
func TestNoCommonCodec(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	before := r.idle()
	line := newStation(t, "127.0.0.1", nil)
	for name, body := range map[string][]byte{
		"G.729 only": describe(4000, "18", "a=rtpmap:18 G729/8000"), "video only": bytes.Replace(describe(4000, "96", "a=rtpmap:96 VP8/90000"), []byte("m=audio"), []byte("m=video"), 1),
	} {
		res := raw(t, r.UDP, inviteWith(body, "application/sdp"))
		if !strings.HasPrefix(res, "SIP/2.0 488 ") {
			t.Errorf("%s: answered %q, want 488", name, firstLine(res))
		}
	}
	for name, m := range map[string]string{
		"no SDP at all":      inviteWith([]byte("this is no SDP"), "application/sdp"),
		"another type":       inviteWith([]byte("<xml/>"), "application/xml"),
		"unknown number":     strings.ReplaceAll(inviteWith(describe(4000, "8", "a=rtpmap:8 PCMA/8000"), "application/sdp"), did, "59825559999"),
		"unsupported option": strings.Replace(inviteWith(describe(4000, "8", "a=rtpmap:8 PCMA/8000"), "application/sdp"), "Max-Forwards", "Require: no-such-thing\r\nMax-Forwards", 1),
		"too many hops":      strings.Replace(inviteWith(describe(4000, "8", "a=rtpmap:8 PCMA/8000"), "application/sdp"), "Max-Forwards: 70", "Max-Forwards: 0", 1),
	} {
		res := raw(t, r.UDP, m)
		if !strings.HasPrefix(res, "SIP/2.0 4") {
			t.Errorf("%s: answered %q, want a 4xx", name, firstLine(res))
		}
		t.Logf("%s: %s", name, firstLine(res))
	}
	_ = line
	r.nothingLeft(before)
}

func firstLine(s string) string {
	l, _, _ := strings.Cut(s, "\r\n")
	return l
}

func inviteWith(body []byte, kind string) string {
	n := mrand.Uint64()
	return fmt.Sprintf("INVITE sip:%s@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5999;rport;branch=z9hG4bK%x\r\nMax-Forwards: 70\r\nFrom: <sip:59899000009@127.0.0.1>;tag=%x\r\n"+
		"To: <sip:%s@127.0.0.1>\r\nCall-ID: %x\r\nCSeq: 1 INVITE\r\nContact: <sip:9@127.0.0.1:5999>\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		did, n, n, did, n, kind, len(body), body)
}

// raw sends one message over UDP and returns its final response.
func raw(t *testing.T, to, m string) string {
	t.Helper()
	c, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte(m)); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 65536)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return ""
		}
		if s := string(buf[:n]); !strings.HasPrefix(s, "SIP/2.0 1") {
			return s
		}
	}
}

// TestOversized: a header or a body that is too large is refused, its
// connection closed, and memory does not grow with what is promised.
func TestOversized(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	before := r.idle()
	line := newStation(t, "127.0.0.1", nil)
	a := r.newDesk(t, 1)
	head := "INVITE sip:59825550111@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:1;branch=z9hG4bKx\r\n"
	for name, m := range map[string]string{
		"header of 10 MB": head + "X-Big: " + strings.Repeat("a", 10<<20) + "\r\n\r\n",
		"100,000 headers": head + strings.Repeat("X-H: 1\r\n", 100_000) + "\r\n",
		"body of 1 GB":    head + "From: <sip:1@x>;tag=1\r\nTo: <sip:2@x>\r\nCall-ID: big\r\nCSeq: 1 INVITE\r\nContent-Length: 1000000000\r\n\r\n" + strings.Repeat("b", 4<<20),
		"no end":          head + strings.Repeat("c", 10<<20),
	} {
		c, err := net.Dial("tcp", r.TCP)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		go func() { _, _ = io.WriteString(c, m) }()
		if _, err := io.ReadAll(c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: the connection is still open after 20 s", name)
		}
		_ = c.Close()
	}
	for name, req := range map[string]func() (*http.Request, error){
		"header of 1 MB": func() (*http.Request, error) {
			q, err := http.NewRequest(http.MethodGet, r.URL()+"/api/v1/calls", nil)
			if err == nil {
				q.Header.Set("X-Big", strings.Repeat("a", 1<<20))
			}
			return q, err
		},
		"body of 30 MB": func() (*http.Request, error) {
			return http.NewRequest(http.MethodPost, r.URL()+"/api/v1/sessions", strings.NewReader(`{"username":"`+strings.Repeat("a", 30<<20)+`","password":"x"}`))
		},
		"path of 1 MB": func() (*http.Request, error) {
			return http.NewRequest(http.MethodGet, r.URL()+"/api/v1/"+strings.Repeat("a", 1<<20), nil)
		},
	} {
		q, err := req()
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Content-Type", "application/json")
		res, err := r.http.Do(q)
		if err != nil {
			t.Logf("%s: %v", name, err) // closed while we were still sending
			continue
		}
		_ = res.Body.Close()
		t.Logf("%s: %d", name, res.StatusCode)
		if res.StatusCode < 400 || res.StatusCode > 431 {
			t.Errorf("%s: answered %d", name, res.StatusCode)
		}
	}
	if rss := r.metrics()["process_resident_memory_bytes"]; rss > 250<<20 {
		t.Errorf("the process has %d MB", int(rss)>>20)
	}
	r.talk(t, a, line, "59899000001").end(t)
	r.nothingLeft(before)
}

// TestWrongJSON: a clear problem, one for each kind of wrong.
func TestWrongJSON(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	for body, want := range map[string]int{
		`{`: 400, `null`: 422, `[]`: 422, `{"username": 5}`: 422, `{"username":"a1"}`: 422, `{"username":"a1","password":"x","admin":true}`: 422,
		`{"username":"a1","password":"` + strings.Repeat("x", 600) + `"}`: 422, "\xff\xfe": 400, strings.Repeat(`{"a":`, 20000): 400,
	} {
		res, err := r.http.Post(r.URL()+"/api/v1/sessions", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if len(body) > 60 {
			body = body[:60] + "…"
		}
		if res.StatusCode != want || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s %s, want %d", body, res.StatusCode, res.Header.Get("Content-Type"), b, want)
		}
	}
}

// TestStateWithUnknownKeys: the error names file, line and key, and nothing has
// changed.
func TestStateWithUnknownKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, nil)
	export := func() string { return strings.TrimSpace(r.run(t, "export", "--config", r.Config)) }
	was := export()
	for _, x := range []struct{ state, key, line string }{
		{"users:\n  - {username: new1, fullName: New, extension: \"2999\", passwort: \"Rio-Negro-58\"}\n", "passwort", "2"},
		{"users:\n  - username: new2\n    extension: \"2998\"\ncampaignz: []\n", "campaignz", "4"},
		{"trunks:\n  - name: t2\n    address: 127.0.0.1\n    allow: [\"127.0.0.0/8\"]\n    colour: red\n", "colour", "5"},
		{"campaigns:\n  - {name: \"X<-\", direction: inbound, ringSeconds: soon}\n", "ringSeconds", "2"},
	} {
		out, err := r.tryApply(t, x.state)
		if err == nil {
			t.Errorf("apply took the key %s:\n%s", x.key, out)
		}
		if !strings.Contains(out, x.key) || !strings.Contains(out, ":"+x.line) {
			t.Errorf("the error names not key %s and line %s: %s", x.key, x.line, out)
		}
	}
	if now := export(); now != was {
		t.Errorf("the state has changed:\n%s\nwas\n%s", now, was)
	}
}

// TestStrangersRTP: what a stranger sends to the ports of a call reaches nobody
// and moves no stream (rules of safety 4).
func TestStrangersRTP(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	before := r.idle()
	line := newStation(t, "127.0.0.1", nil)
	a := r.newDesk(t, 1)
	c := r.talk(t, a, line, "59899000001")
	// Strangers: from another address and from another port of the same one;
	// with SSRCs of their own and, worse, with a guess at the sequence.
	const evil = 2500.0
	for _, ip := range []string{"127.0.0.7", "127.0.0.1"} {
		for _, to := range []string{c.cv.to.Load().String(), c.av.to.Load().String()} {
			shout(t, ip, to, evil)
		}
	}
	time.Sleep(3 * time.Second)
	for who, v := range map[string]*voice{"customer": c.cv, "agent": c.av} {
		if s := v.share(evil, 2*time.Second); s > 0.02 {
			t.Errorf("the %s hears the stranger: share %.2f", who, s)
		}
	}
	c.sounds(t) // and the streams still go where they went
	// The customer falls silent: the stranger does not get the stream even then.
	c.cv.mute.Store(true)
	time.Sleep(3 * time.Second)
	if s := c.av.share(evil, 2*time.Second); s > 0.02 {
		t.Errorf("the agent hears the stranger in the customer's silence: share %.2f", s)
	}
	c.cv.hears(t, "the silent customer", 1000, 2*time.Second)
	c.cv.mute.Store(false)
	c.sounds(t)
	c.end(t)
	r.nothingLeft(before)
}

// shout sends a tone as RTP to a port until the test ends.
func shout(t *testing.T, ip, to string, freq float64) {
	t.Helper()
	s, err := net.ListenPacket("udp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	dst, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	v := newVoice(t, freq) // makes the tone
	stop := make(chan struct{})
	var wg sync.WaitGroup
	t.Cleanup(func() {
		close(stop)
		wg.Wait()
		_ = s.Close()
	})
	addr := v.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	tap, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	_ = addr
	out := tap.LocalAddr().(*net.UDPAddr).AddrPort()
	v.to.Store(&out)
	wg.Go(func() {
		defer func() { _ = tap.Close() }()
		buf := make([]byte, 1500)
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = tap.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			n, err := tap.Read(buf)
			if err != nil {
				continue
			}
			_, _ = s.WriteTo(buf[:n], dst)
			binary.BigEndian.PutUint32(buf[8:], 0xdeadbeef) // a second source
			_, _ = s.WriteTo(buf[:n], dst)
		}
	})
}
