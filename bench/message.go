package main

import (
	"crypto/md5" //nolint:gosec // what RFC 2617 digest asks for
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// message is a SIP message as it came: enough of a parser for a peer whose far
// side is the gateway alone.
type message string

// header is the first value of a header; the gateway writes long names.
func (m message) header(name string) string {
	head, _, _ := strings.Cut(string(m), "\r\n\r\n")
	for line := range strings.SplitSeq(head, "\r\n") {
		if n, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(n), name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// headers are the whole lines of a header, in order.
func (m message) headers(name string) string {
	var b strings.Builder
	head, _, _ := strings.Cut(string(m), "\r\n\r\n")
	for line := range strings.SplitSeq(head, "\r\n") {
		if n, _, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(n), name) {
			b.WriteString(line + "\r\n")
		}
	}
	return b.String()
}

// method of a request, empty of a response.
func (m message) method() string {
	if strings.HasPrefix(string(m), "SIP/2.0 ") {
		return ""
	}
	method, _, _ := strings.Cut(string(m), " ")
	return method
}

// status of a response, 0 of a request.
func (m message) status() int {
	if !strings.HasPrefix(string(m), "SIP/2.0 ") || len(m) < 11 {
		return 0
	}
	n, err := strconv.Atoi(string(m[8:11]))
	if err != nil {
		return 0
	}
	return n
}

// cseq is the method that CSeq names.
func (m message) cseq() string {
	_, method, _ := strings.Cut(m.header("CSeq"), " ")
	return method
}

func (m message) body() string {
	_, body, _ := strings.Cut(string(m), "\r\n\r\n")
	return body
}

// user is the user part of an address header.
func (m message) user(name string) string {
	_, rest, _ := strings.Cut(m.header(name), "sip:")
	user, _, _ := strings.Cut(rest, "@")
	return user
}

// contact is the URI of the Contact.
func (m message) contact() string {
	_, rest, ok := strings.Cut(m.header("Contact"), "<")
	if !ok {
		return m.header("Contact")
	}
	uri, _, _ := strings.Cut(rest, ">")
	return uri
}

// reply makes a response.
func (m message) reply(code int, reason, tag, contact, sdp string) string {
	to := m.header("To")
	if !strings.Contains(to, "tag=") && code > 100 {
		to += ";tag=" + tag
	}
	s := fmt.Sprintf("SIP/2.0 %d %s\r\n", code, reason) + m.headers("Via") + m.headers("Record-Route") +
		"From: " + m.header("From") + "\r\nTo: " + to + "\r\nCall-ID: " + m.header("Call-ID") + "\r\nCSeq: " + m.header("CSeq") + "\r\n"
	if contact != "" {
		s += "Contact: <" + contact + ">\r\n"
	}
	if sdp != "" {
		s += "Content-Type: application/sdp\r\n"
	}
	return s + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(sdp), sdp)
}

// authorization answers a digest challenge (MD5, qop=auth).
func (m message) authorization(user, uri string) string {
	nonce := ""
	for line := range strings.Lines(m.headers("WWW-Authenticate")) {
		if strings.Contains(line, "algorithm=MD5") {
			_, rest, _ := strings.Cut(line, `nonce="`)
			nonce, _, _ = strings.Cut(rest, `"`)
		}
	}
	const nc, cnonce = "00000001", "0a4f113b"
	sum := func(parts ...string) string {
		h := md5.Sum([]byte(strings.Join(parts, ":"))) //nolint:gosec // what RFC 2617 digest asks for
		return hex.EncodeToString(h[:])
	}
	response := sum(sum(user, realm, secret), nonce, nc, cnonce, "auth", sum("REGISTER", uri))
	return fmt.Sprintf(`Authorization: Digest username="%s", realm="%s", nonce="%s", uri="%s", response="%s", algorithm=MD5, cnonce="%s", qop=auth, nc=%s`+"\r\n",
		user, realm, nonce, uri, response, cnonce, nc)
}

// register makes a REGISTER of the i-th agent's device.
func register(i, cseq int, via, contact, authorization string) string {
	return fmt.Sprintf("REGISTER sip:%[1]s SIP/2.0\r\nVia: SIP/2.0/%[2]s;rport;branch=z9hG4bK%[3]d.%[4]d\r\nMax-Forwards: 70\r\n"+
		"From: <sip:%[5]s@%[1]s>;tag=r%[3]d\r\nTo: <sip:%[5]s@%[1]s>\r\nCall-ID: reg-%[3]d\r\nCSeq: %[4]d REGISTER\r\n"+
		"Contact: <%[6]s>\r\nExpires: 3600\r\nUser-Agent: bench\r\n%[7]sContent-Length: 0\r\n\r\n",
		realm, via, i, cseq, extension(i), contact, authorization)
}

// mediaOf reads where a session description wants RTP, and its SDES key.
func mediaOf(sdp string) (to netip.AddrPort, key string, err error) {
	var host netip.Addr
	port := 0
	for line := range strings.SplitSeq(strings.ReplaceAll(sdp, "\r\n", "\n"), "\n") {
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "c=IN IP4 ") && len(f) == 3:
			if host, err = netip.ParseAddr(f[2]); err != nil {
				return to, "", fmt.Errorf("address of media: %w", err)
			}
		case strings.HasPrefix(line, "m=audio ") && len(f) > 2:
			if port, err = strconv.Atoi(f[1]); err != nil {
				return to, "", fmt.Errorf("port of media: %w", err)
			}
		case strings.HasPrefix(line, "a=crypto:") && key == "" && len(f) > 2 && f[1] == suite:
			key, _, _ = strings.Cut(strings.TrimPrefix(f[2], "inline:"), "|")
		}
	}
	if !host.IsValid() || port == 0 {
		return to, "", fmt.Errorf("description without media: %w", errRefused)
	}
	return netip.AddrPortFrom(host, uint16(port)), key, nil
}

const suite = "AES_CM_128_HMAC_SHA1_80"

// describe makes a session description of PCMU; with a key it is SRTP.
func describe(at netip.AddrPort, key string) string {
	proto, crypto := "RTP/AVP", ""
	if key != "" {
		proto, crypto = "RTP/SAVP", "a=crypto:1 "+suite+" inline:"+key+"\r\n"
	}
	return fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %[1]s\r\ns=-\r\nc=IN IP4 %[1]s\r\nt=0 0\r\nm=audio %[2]d %[3]s 0 101\r\n"+
		"a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n%[4]s",
		at.Addr(), at.Port(), proto, crypto)
}
