package sip_test

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/gateway/sip/siptest"
)

const tortureSDP = "v=0\no=mhandley 29739 7272939 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\nm=audio 49217 RTP/AVP 0 12\nm=video 3227 RTP/AVP 31\na=rtpmap:31 LPC"

type torture struct {
	name, udp, stream string
	raw               string
}

var (
	reHex    = regexp.MustCompile(`<hex>([0-9a-f ]*)</hex>`)
	reRepeat = regexp.MustCompile(`<repeat count=(\d+)>([^<]*)</repeat>`)
)

// loadTorture reads testdata/torture.txt, whose first lines explain it.
func loadTorture(tb testing.TB) []torture {
	tb.Helper()
	b, err := os.ReadFile("testdata/torture.txt")
	if err != nil {
		tb.Fatal(err)
	}
	var out []torture
	for _, sec := range strings.Split(string(b), "\n=== ")[1:] {
		head, text, _ := strings.Cut(sec, "\n")
		f := strings.Split(head, " | ")
		c := torture{name: f[0], udp: f[1], stream: f[1]}
		if len(f) > 2 {
			c.stream = strings.TrimPrefix(f[2], "stream: ")
		}
		text = strings.ReplaceAll(text, "<nolf/>\n", "")
		text = reRepeat.ReplaceAllStringFunc(text, func(s string) string {
			m := reRepeat.FindStringSubmatch(s)
			n, _ := strconv.Atoi(m[1])
			return strings.Repeat(m[2], n)
		})
		text = strings.ReplaceAll(text, "<sdp/>", tortureSDP)
		text = strings.ReplaceAll(text, "\n", "\r\n")
		text = reHex.ReplaceAllStringFunc(text, func(s string) string {
			raw, err := hex.DecodeString(strings.ReplaceAll(reHex.FindStringSubmatch(s)[1], " ", ""))
			if err != nil {
				tb.Fatal(c.name, err)
			}
			return string(raw)
		})
		head, body, ok := strings.Cut(text, "\r\n\r\n")
		if !ok { // no body: the section ends with the empty line
			head, body = strings.TrimSuffix(text, "\r\n"), ""
		} else if body != "" {
			body += "\r\n"
		}
		c.raw = strings.ReplaceAll(head, "<length/>", strconv.Itoa(len(body))) + "\r\n\r\n" + body
		out = append(out, c)
	}
	if len(out) != 49 {
		tb.Fatalf("%d messages, RFC 4475 has 49", len(out))
	}
	return out
}

// judge compares the final answer (0: none) with the expectation.
func judge(want, raw string, got int) bool {
	switch want {
	case "drop":
		return got == 0
	case "400 or drop":
		return got == 400 || got == 0
	case "both":
		return got == 200 || got == 486
	case "ok":
		if strings.HasPrefix(raw, "INVITE") {
			return got == 486
		}
		return got == 200
	}
	return want == strconv.Itoa(got)
}

// Via without rport answers go to port 5060 or the port of Via, so that the
// tester sits at an address of its own with all of them.
func TestTortureMessagesOverUDP(t *testing.T) {
	ep := newEndpoint(t, &handler{})
	addr := ep.udp(t)
	const host = "127.44.75.1"
	ports := []int{5060, 5050, 5070, 6000}
	in := make(chan siptest.Message, 64)
	var conns []net.PacketConn
	for _, p := range ports {
		pc, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", fmt.Sprintf("%s:%d", host, p))
		if err != nil {
			t.Skipf("the tester's address is not free: %v", err)
		}
		t.Cleanup(func() { _ = pc.Close() })
		conns = append(conns, pc)
		go func() {
			b := make([]byte, 65536)
			for {
				n, _, err := pc.ReadFrom(b)
				if err != nil {
					return
				}
				in <- siptest.Parse(string(b[:n]))
			}
		}()
	}
	send := func(raw string) int {
		if _, err := conns[0].WriteTo([]byte(raw), net.UDPAddrFromAddrPort(addr)); err != nil {
			t.Fatal(err)
		}
		// A probe behind each message: if it is answered and the message was
		// not, the message was dropped. Final answers of handlers come from
		// other goroutines, so the probe must be seen and some time pass.
		deadline := time.After(150 * time.Millisecond)
		for {
			select {
			case m := <-in:
				if m.Status() >= 200 {
					return m.Status()
				}
			case <-deadline:
				return 0
			}
		}
	}
	for i, c := range loadTorture(t) {
		if got := send(c.raw); !judge(c.udp, c.raw, got) {
			t.Errorf("%s: answered %d, want %s", c.name, got, c.udp)
		}
		if strings.HasPrefix(c.raw, "INVITE") { // stop the retransmissions of its answer
			ack := strings.Replace(c.raw, "INVITE", "ACK", 1)
			_, _ = conns[0].WriteTo([]byte(regexp.MustCompile(`(?i)(cseq *:[^I]*)INVITE`).ReplaceAllString(ack, "${1}ACK")), net.UDPAddrFromAddrPort(addr))
		}
		for drained := false; !drained; {
			select {
			case <-in:
			case <-time.After(20 * time.Millisecond):
				drained = true
			}
		}
		probe := fmt.Sprintf("OPTIONS sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKprobe%d\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:x@y>\r\nCall-ID: probe%d\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", host, i, i)
		if got := send(probe); got != 200 {
			t.Fatalf("after %s the endpoint answers %d", c.name, got)
		}
	}
}

func TestTortureMessagesOverTCP(t *testing.T) {
	ep := newEndpoint(t, &handler{})
	addr := ep.tcp(t)
	for _, c := range loadTorture(t) {
		nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Write([]byte(c.raw)); err != nil {
			t.Fatal(err)
		}
		_ = nc.SetReadDeadline(time.Now().Add(150 * time.Millisecond))
		got, buf, b := 0, "", make([]byte, 65536)
		for got < 200 {
			n, err := nc.Read(b)
			if err != nil {
				got = 0
				break
			}
			buf += string(b[:n])
			for part := range strings.SplitSeq(buf, "SIP/2.0 ") { // the first final answer
				if len(part) > 3 && got < 200 {
					if code, err := strconv.Atoi(part[:3]); err == nil {
						got = code
					}
				}
			}
		}
		_ = nc.Close()
		if !judge(c.stream, c.raw, got) {
			t.Errorf("%s: answered %d, want %s", c.name, got, c.stream)
		}
		if r, err := ep.Send(t.Context(), sip.Outgoing{
			Method: "OPTIONS", URI: mustURI("sip:probe@" + addr.String() + ";transport=tcp"),
			From: sip.Address{URI: mustURI("sip:a@b")}, To: sip.Address{URI: mustURI("sip:x@y")},
		}); err != nil || r.Code != 200 {
			t.Fatalf("after %s: %v %d", c.name, err, r.Code)
		}
	}
}
