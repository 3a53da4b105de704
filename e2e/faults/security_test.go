//go:build e2e && linux

package faults

import (
	"crypto/md5"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/sip"
)

// TestRegistrationThatIsGone: a call to it gets 480 at once (3.2), whether the
// phone said good-bye or was killed.
func TestRegistrationThatIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, nil)
	a := r.newDesk(t, 1)
	app := r.app(t, 2, 0)
	b := r.newDesk(t, 3)
	before := r.idle()
	r.crash(t, app)
	if err := b.tryRegister(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	for _, ext := range []string{extension(2), extension(3)} {
		at := time.Now()
		p := a.dial(t, ext)
		within(t, p.ended, 5*time.Second, "the call is answered")
		if p.cause.Code != 480 || time.Since(at) > time.Second {
			t.Errorf("a call to %s got %d after %v, want 480 at once", ext, p.cause.Code, time.Since(at))
		}
	}
	before.goroutines += 10
	r.nothingLeft(before)
}

// dial calls a number from the desk phone.
func (a *desk) dial(t *testing.T, number string) *party {
	t.Helper()
	p := newParty(nil)
	host, port, err := net.SplitHostPort(a.r.UDP)
	if err != nil {
		t.Fatal(err)
	}
	uri, err := sip.ParseURI("sip:" + number + "@" + host + ":" + port)
	if err != nil {
		t.Fatal(err)
	}
	ext := extension(a.n)
	p.d, err = a.ep.Invite(t.Context(), sip.Invite{
		URI: uri, To: sip.Address{URI: uri}, From: sip.Address{URI: sip.URI{Scheme: "sip", User: ext, Host: "cordboard"}},
		Destination: a.r.UDP, Transport: "udp", SDP: p.sdp(), Credentials: &sip.Credentials{Username: ext + "-desk", Password: secret},
	}, p)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// plain is a UDP client that writes its SIP by hand.
type plain struct {
	t    *testing.T
	c    *net.UDPConn
	cseq int
	id   string
}

func newPlain(t *testing.T, ip, to string) *plain {
	t.Helper()
	dst, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip)}, dst)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &plain{t: t, c: c, id: fmt.Sprintf("%x", mrand.Uint64())}
}

// register sends one REGISTER and returns its final response, or nothing.
func (p *plain) register(aor, authorization string) string {
	p.cseq++
	m := fmt.Sprintf("REGISTER sip:cordboard SIP/2.0\r\nVia: SIP/2.0/UDP %s;rport;branch=z9hG4bK%x\r\nMax-Forwards: 70\r\nFrom: <sip:%s@cordboard>;tag=f\r\nTo: <sip:%s@cordboard>\r\n"+
		"Call-ID: %s\r\nCSeq: %d REGISTER\r\nContact: <sip:%s@%s>;expires=300\r\n", p.c.LocalAddr(), mrand.Uint64(), aor, aor, p.id, p.cseq, aor, p.c.LocalAddr())
	if authorization != "" {
		m += "Authorization: " + authorization + "\r\n"
	}
	return p.send(m+"Content-Length: 0\r\n\r\n", 3*time.Second)
}

func (p *plain) send(m string, wait time.Duration) string {
	p.t.Helper()
	if _, err := p.c.Write([]byte(m)); err != nil {
		return ""
	}
	_ = p.c.SetReadDeadline(time.Now().Add(wait))
	buf := make([]byte, 65536)
	for {
		n, err := p.c.Read(buf)
		if err != nil {
			return ""
		}
		if s := string(buf[:n]); strings.HasPrefix(s, "SIP/2.0") && !strings.HasPrefix(s, "SIP/2.0 1") {
			return s
		}
	}
}

// digest answers a challenge by RFC 2617 with MD5.
func digest(challenge, user, pass string, nc int) string {
	nonce := quoted(challenge, "nonce")
	h := func(s string) string { b := md5.Sum([]byte(s)); return hex.EncodeToString(b[:]) }
	n := fmt.Sprintf("%08x", nc)
	resp := h(h(user+":cordboard:"+pass) + ":" + nonce + ":" + n + ":c0ffee:auth:" + h("REGISTER:sip:cordboard"))
	return fmt.Sprintf(`Digest username="%s", realm="cordboard", nonce="%s", uri="sip:cordboard", response="%s", algorithm=MD5, cnonce="c0ffee", qop=auth, nc=%s`, user, nonce, resp, n)
}

func quoted(s, name string) string {
	m := regexp.MustCompile(`(?i)\b` + name + `="([^"]*)"`).FindStringSubmatch(s)
	if m == nil {
		return ""
	}
	return m[1]
}

// md5Challenge picks the MD5 challenge of a 401.
func md5Challenge(res string) string {
	for line := range strings.Lines(res) {
		if strings.HasPrefix(strings.ToLower(line), "www-authenticate:") && !strings.Contains(line, "SHA-256") {
			return line
		}
	}
	return ""
}

// TestRegistrationIsGuarded: nobody registers another's number, replays a
// digest, or learns who exists; who guesses does not lock others out (rules of
// safety 3).
func TestRegistrationIsGuarded(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, nil)
	good := func(ip string) string {
		p := newPlain(t, ip, r.UDP)
		return p.register(extension(1), digest(md5Challenge(p.register(extension(1), "")), extension(1)+"-desk", secret, 1))
	}
	if res := good("127.0.0.1"); !strings.HasPrefix(res, "SIP/2.0 200 ") {
		t.Fatalf("a good registration got %q", res)
	}
	t.Run("another's number", func(t *testing.T) {
		p := newPlain(t, "127.0.0.41", r.UDP)
		res := p.register(extension(2), digest(md5Challenge(p.register(extension(2), "")), extension(1)+"-desk", secret, 1))
		if !strings.HasPrefix(res, "SIP/2.0 403 ") {
			t.Errorf("answered %q, want 403", firstLine(res))
		}
		if a := r.metrics()["cordboard_registrations"]; a != 1 {
			t.Errorf("%v registrations", a)
		}
	})
	t.Run("replay", func(t *testing.T) {
		p := newPlain(t, "127.0.0.42", r.UDP)
		auth := digest(md5Challenge(p.register(extension(1), "")), extension(1)+"-desk", secret, 1)
		if res := p.register(extension(1), auth); !strings.HasPrefix(res, "SIP/2.0 200 ") {
			t.Fatalf("answered %q", firstLine(res))
		}
		if res := p.register(extension(1), auth); !strings.HasPrefix(res, "SIP/2.0 401 ") {
			t.Errorf("the same digest again is answered %q, want 401", firstLine(res))
		}
		thief := newPlain(t, "127.0.0.43", r.UDP)
		if res := thief.register(extension(1), auth); !strings.HasPrefix(res, "SIP/2.0 401 ") {
			t.Errorf("a stolen digest is answered %q, want 401", firstLine(res))
		}
	})
	t.Run("unknown user", func(t *testing.T) {
		ask := func(ip, user string) string {
			p := newPlain(t, ip, r.UDP)
			return p.register(user, digest(md5Challenge(p.register(user, "")), user+"-desk", "wrong-password", 1))
		}
		clean := func(s string) string {
			s = regexp.MustCompile(`(nonce|branch|tag|opaque)="?[^";\r\n,]*"?|127\.0\.0\.\d+(:\d+)?|\d{4}@|rport=\d+|Call-ID: .*|Date: .*`).ReplaceAllString(s, "x")
			return s
		}
		known, unknown := ask("127.0.0.44", extension(2)), ask("127.0.0.45", "7777")
		if clean(known) != clean(unknown) {
			t.Errorf("a wrong password is answered\n%s\nan unknown user\n%s", known, unknown)
		}
	})
	t.Run("guessing locks nobody else out", func(t *testing.T) {
		p := newPlain(t, "127.0.0.46", r.UDP)
		throttled := 0
		for n := range 60 {
			res := p.register(extension(1), digest(md5Challenge(p.register(extension(1), "")), extension(1)+"-desk", fmt.Sprint("guess", n), 1))
			if !strings.HasPrefix(res, "SIP/2.0 401 ") {
				throttled++
				if !strings.Contains(res, "Retry-After") && res != "" {
					t.Errorf("a throttled guess is answered %q", firstLine(res))
				}
			}
			if throttled > 3 {
				break
			}
		}
		if throttled == 0 {
			t.Error("60 guesses were never slowed down")
		}
		if res := good("127.0.0.1"); !strings.HasPrefix(res, "SIP/2.0 200 ") {
			t.Errorf("the user's own phone is answered %q", firstLine(res))
		}
		if res := good("127.0.0.47"); !strings.HasPrefix(res, "SIP/2.0 200 ") {
			t.Errorf("the user's phone at a new address is answered %q", firstLine(res))
		}
	})
}

// TestUnknownSource: a few refusals, then silence; the trunk beside it goes on.
func TestUnknownSource(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	p := newPlain(t, "127.0.0.60", r.UDP)
	refused, silent := 0, 0
	for range 60 {
		m := inviteWith(describe(4000, "8", "a=rtpmap:8 PCMA/8000"), "application/sdp")
		res := p.send(m, 300*time.Millisecond)
		switch {
		case res == "":
			silent++
		case strings.HasPrefix(res, "SIP/2.0 403 "):
			refused++
			via := m[strings.Index(m, "Via:"):]
			via = via[:strings.Index(via, "\r\n")]
			to := regexp.MustCompile(`(?m)^To: .*$`).FindString(strings.ReplaceAll(res, "\r", ""))
			id := regexp.MustCompile(`(?m)^Call-ID: .*$`).FindString(strings.ReplaceAll(m, "\r", ""))
			_, _ = p.c.Write([]byte("ACK sip:" + did + "@127.0.0.1 SIP/2.0\r\n" + via + "\r\nFrom: <sip:59899000009@127.0.0.1>;tag=1\r\n" + to + "\r\n" + id + "\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n"))
		default:
			t.Fatalf("answered %q", firstLine(res))
		}
		if silent > 10 {
			break
		}
	}
	t.Logf("%d refusals, then silence", refused)
	if refused == 0 || refused > 40 || silent <= 10 {
		t.Errorf("%d refusals and %d times silence", refused, silent)
	}
	// Not even a 100, nor an answer to OPTIONS.
	n := mrand.Uint64()
	if res := p.send(fmt.Sprintf("OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP %s;rport;branch=z9hG4bK%x\r\nMax-Forwards: 70\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\nCall-ID: %x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
		p.c.LocalAddr(), n, n), time.Second); res != "" {
		t.Errorf("a silenced source got %q", firstLine(res))
	}
	line := newStation(t, "127.0.0.1", nil)
	line.mustCall(t, r.UDP, "59899000001", nil).hangUp()
}

// TestTrunkReachesNoTrunk: whatever a trunk's call asks for, it goes to a DID or
// nowhere (rules of safety 2).
func TestTrunkReachesNoTrunk(t *testing.T) {
	t.Parallel()
	var got atomic.Int32
	other := newStation(t, "127.0.0.77", func(d *sip.Dialog) {
		got.Add(1)
		_ = d.Reject(486, "")
	})
	r := newRig(t, 1, nil)
	r.Apply(t, fmt.Sprintf("trunks:\n  - {name: other, address: %q, transport: udp, allow: [\"127.0.0.77/32\"], codecs: [PCMA], maxChannels: 10}\n"+
		"campaigns:\n  - {name: \"Sales->\", channel: voice, direction: outbound, trunk: other, callerId: [\"18885550100\"], members: [{user: a1}]}\n", other.addr.String()))
	line := newStation(t, "127.0.0.1", nil)
	a := r.newDesk(t, 1)
	for _, number := range []string{"59899123456", "+59899123456", "0059899123456", "9" + "59899123456", extension(1), "2101-desk"} {
		p, err := line.call(r.UDP, "59899000001", number, nil)
		if err != nil {
			t.Fatal(err)
		}
		within(t, p.ended, 5*time.Second, "a trunk's call to "+number+" ends")
		if p.cause.Code < 400 {
			t.Errorf("a trunk's call to %s got %d", number, p.cause.Code)
		}
	}
	// In a call: REFER, and feature digits.
	c := r.talk(t, a, line, "59899000002")
	ctx := t.Context()
	for _, to := range []string{"<sip:59899123456@" + other.addr.String() + ">", "<sip:" + extension(1) + "@cordboard>"} {
		res, err := c.customer.d.Do(ctx, "REFER", []sip.Header{{Name: "Refer-To", Value: to}, {Name: "Contact", Value: "<sip:" + line.addr.String() + ">"}}, nil)
		if err != nil || res.Code < 400 {
			t.Errorf("a customer's REFER to %s got %d %v", to, res.Code, err)
		}
	}
	for _, code := range []string{"##59899123456#", "#0", "#3"} {
		for _, digit := range code {
			err := c.customer.d.Info(ctx, "application/dtmf-relay", fmt.Appendf(nil, "Signal=%c\r\nDuration=100\r\n", digit))
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	c.sounds(t)
	c.end(t)
	if n := got.Load(); n != 0 {
		t.Errorf("the other trunk got %d calls", n)
	}
}

// TestForeignOrigin: a page of another site opens no WebSocket.
func TestForeignOrigin(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	d := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Subprotocols: []string{"sip"}, HandshakeTimeout: 10 * time.Second}
	for _, url := range []string{"wss://" + r.WSS + "/ws", "wss://" + r.HTTP + "/ws", "wss://" + r.HTTP + "/api/v1/events?token=" + r.token(t)} {
		for origin, want := range map[string]bool{"https://evil.example": false, "null": false, "https://" + r.HTTP: true, "": true} {
			if origin == "https://"+r.HTTP && strings.Contains(url, r.WSS) {
				continue // the port differs: a question of configuration
			}
			h := http.Header{}
			if origin != "" {
				h.Set("Origin", origin)
			}
			ws, res, err := d.DialContext(t.Context(), url, h)
			if res != nil {
				_ = res.Body.Close()
			}
			if (err == nil) != want {
				t.Errorf("Origin %q at %s: %v", origin, url[:30], err)
			}
			if ws != nil {
				_ = ws.Close()
			}
		}
	}
}

// TestSecretsAreNotLogged: a whole run at level debug, with everything that is
// secret in it, and none of it in the log.
func TestSecretsAreNotLogged(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, func(c *company) { c.record = true }, "log: {level: debug}")
	secrets := map[string]string{"password": password, "device secret": secret, "admin token": r.token(t)}
	ha1 := func(user, pass string) string {
		b := md5.Sum([]byte(user + ":cordboard:" + pass))
		return hex.EncodeToString(b[:])
	}
	secrets["HA1"] = ha1(extension(1)+"-desk", secret)
	line := newStation(t, "127.0.0.1", nil)
	a := r.newDesk(t, 1)
	secrets["session token"] = a.client.Session.Token
	app := r.SignIn(t, api.SignIn{Username: user(2), Password: password, Phone: true}).Session
	secrets["app's token"] = app.Token
	if app.SIP != nil {
		secrets["SIP password"] = app.SIP.Password
		secrets["SIP HA1"] = ha1(app.SIP.Username, app.SIP.Password)
	}
	for _, i := range app.ICEServers {
		if i.Credential != "" {
			secrets["TURN credential"] = i.Credential
		}
	}
	if len(secrets) < 9 {
		t.Fatalf("secrets: %d", len(secrets))
	}
	const wrong = "Wrong-Guess-4711-x"
	secrets["wrong password"] = wrong
	if res, err := r.http.Post(r.URL()+"/api/v1/sessions", "application/json", strings.NewReader(`{"username":"a1","password":"`+wrong+`"}`)); err == nil {
		_ = res.Body.Close()
	}
	p := newPlain(t, "127.0.0.90", r.UDP)
	p.register(extension(1), digest(md5Challenge(p.register(extension(1), "")), extension(1)+"-desk", wrong, 1))
	real := r.app(t, 2, 0, "--answer")
	c := r.talk(t, a, line, "59899000001")
	for _, digit := range "8351927" {
		if err := c.customer.d.Info(t.Context(), "application/dtmf-relay", fmt.Appendf(nil, "Signal=%c\r\nDuration=100\r\n", digit)); err != nil {
			t.Fatal(err)
		}
	}
	c.end(t)
	d := line.mustCall(t, r.UDP, "59899000003", nil)
	real.Next(t, "answered")
	d.hangUp()
	real.Close(t)
	_ = r.run(t, "export", "--config", r.Config)
	r.Stop(t)
	log := r.Process().Tail(1_000_000)
	if !strings.Contains(log, `"DEBUG"`) {
		t.Fatal("there is nothing of level debug in the log")
	}
	for what, s := range secrets {
		if s != "" && strings.Contains(log, s) {
			i := strings.Index(log, s)
			t.Errorf("the %s is in the log: …%s", what, log[max(0, i-300):min(len(log), i+100)])
		}
	}
	for _, re := range []string{`(?i)authorization: `, `(?i)digest username`, `response=\\?"[0-9a-f]{32}`, `a=crypto`, `inline:`, `ice-pwd:`, `Signal=\d`, `\$argon2id\$`, `"digit":`} {
		if m := regexp.MustCompile(re).FindStringIndex(log); m != nil {
			t.Errorf("%s is in the log: …%s", re, log[max(0, m[0]-300):min(len(log), m[1]+100)])
		}
	}
	for _, s := range []string{"59899000001", "59899000003"} {
		if i := strings.Index(log, s); i >= 0 {
			t.Errorf("a caller's whole number is in the log: …%s", log[max(0, i-300):min(len(log), i+60)])
		}
	}
}
