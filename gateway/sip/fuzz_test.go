package sip

import (
	"net/netip"
	"strings"
	"testing"
)

func FuzzURI(f *testing.F) {
	for _, s := range []string{
		"sip:a@b", "sips:a:p%40@[2001:db8::1]:5061;lr;x=%3b?a=b&c=", "tel:+1-201;phone-context=x", "isbn:2983792873",
		"sip:user;par=u%40example.net@example.com", "sip:sips%3Auser%40example.com@example.net", "sip:*21#@h", "sip:%00@h;%6C%72",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURI(s)
		if err != nil {
			return
		}
		w := u.String()
		if strings.ContainsAny(w, "\r\n <>\"") {
			t.Fatalf("%q writes %q", s, w)
		}
		v, err := ParseURI(w)
		if err != nil {
			t.Fatalf("%q writes %q: %v", s, w, err)
		}
		if v.String() != w {
			t.Fatalf("%q → %q → %q", s, w, v.String())
		}
	})
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{`"A \" B" <sip:a@b;lr>;tag=1;x="y z"`, "sip:a@b;tag=2", "caller<sip:c@d>", `"%Z%45" <sip:r@e>`, "<sip:a@b>, <sip:c@d>;expires=3;q=0.5", "*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if cs, err := ParseContacts(s); err == nil && len(cs) == 0 {
			t.Fatal("no contacts and no error")
		}
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		w := a.String()
		b, err := ParseAddress(w)
		if err != nil {
			t.Fatalf("%q writes %q: %v", s, w, err)
		}
		if b.String() != w {
			t.Fatalf("%q → %q → %q", s, w, b.String())
		}
	})
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte("OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1;rport\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:x@y>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nContent-Length: 2\r\n\r\nhi"))
	f.Add([]byte("SIP/2.0 200 OK\r\nv: SIP / 2.0 / TCP [::1]:5060 ; branch = x , SIP/2.0/UDP b\r\nf:a<sip:a@b>\r\nt: sip:a@b;tag=2\r\ni: 1\r\nCSeq: 1\r\n INVITE\r\n\r\n"))
	f.Add([]byte("INVITE <sip:a@b> SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n\r\n"))
	e := &Endpoint{}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, bad := parseMessage(b)
		if m == nil {
			return
		}
		m.flow = Flow{Transport: transportUDP, Remote: netip.MustParseAddrPort("192.0.2.1:5060")}
		_ = serverKey(m, m.method)
		if m.method == "" {
			return
		}
		code := 200
		if bad != nil {
			code = bad.code
		}
		res := e.reply(m, code, "x", "tag", nil, "", nil).String()
		r, rbad := parseMessage([]byte(res))
		if bad == nil && (r == nil || rbad != nil) {
			t.Fatalf("the answer to a valid request is not valid: %q", res)
		}
		if r != nil && bad == nil && (r.callID != m.callID || r.cseq != m.cseq || r.via.branch() != m.via.branch()) {
			t.Fatalf("answer %q", res)
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte("\r\n\r\nOPTIONS sip:a@b SIP/2.0\r\nl:\r\n 2\r\n\r\nhiX"))
	f.Add([]byte("A\r\nContent-Length: -1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		skip, n, bad := nextFrame(b, 4096)
		if skip < 0 || n < 0 || skip+n > len(b) || n > 4096 || bad != nil && n != 0 {
			t.Fatalf("%d %d %v", skip, n, bad)
		}
		if n > 0 { // the same frame, whatever follows
			if _, m, _ := nextFrame(b[skip:skip+n], 4096); m != n {
				t.Fatalf("%d then %d", n, m)
			}
		}
	})
}

func FuzzDigest(f *testing.F) {
	f.Add(`Digest username="a\"b", realm="r", nonce=x, qop=auth, nc=00000001, stale=true, algorithm=MD5`)
	f.Fuzz(func(t *testing.T, s string) {
		ps, ok := parseDigest(s)
		if !ok {
			return
		}
		for _, p := range ps {
			switch strings.ToLower(p.Name) {
			case "algorithm", "nc", "stale", "qop": // written without quotes: tokens only
				if !isToken(p.Value) {
					return
				}
			}
		}
		w := digestString(ps)
		again, ok := parseDigest(w)
		if !ok || digestString(again) != w {
			t.Fatalf("%q → %q", s, w)
		}
	})
}
