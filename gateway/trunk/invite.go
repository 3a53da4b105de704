package trunk

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"strconv"
	"strings"

	"github.com/cordboard/cordboard/gateway/sip"
)

// Caller is who calls, as shown to the called party.
type Caller struct {
	Number    string // empty if unknown or anonymous
	Name      string
	Anonymous bool
}

// anonymous is what callerID may be for a call without number.
const anonymous = "anonymous"

// anonymousHost is RFC 3323's host of a From that says nothing.
const anonymousHost = "anonymous.invalid"

// Invite makes the INVITE of a call to number. An empty or "anonymous"
// callerID hides the caller. SDP is the caller's to fill in.
func (l *Line) Invite(number, callerID string) sip.Invite {
	c := Caller{Number: callerID}
	if callerID == "" || strings.EqualFold(callerID, anonymous) {
		c = Caller{Anonymous: true}
	}
	return l.InviteAs(number, c)
}

// InviteAs is Invite with a name, or with a number that the carrier is told
// and the called party is not (RFC 3325).
func (l *Line) InviteAs(number string, c Caller) sip.Invite {
	uri := sip.URI{Scheme: "sip", User: l.outgoing(number), Host: l.cfg.uriHost(), Port: l.cfg.port}
	from := sip.Address{Name: c.Name, URI: l.fromURI(l.outgoing(c.Number))}
	var headers []sip.Header
	if c.Number != "" {
		asserted := sip.Address{Name: c.Name, URI: from.URI}
		headers = append(headers, sip.Header{Name: "P-Asserted-Identity", Value: asserted.String()})
	}
	if c.Anonymous || c.Number == "" {
		from = sip.Address{Name: "Anonymous", URI: sip.URI{Scheme: "sip", User: anonymous, Host: anonymousHost}}
		headers = append(headers, sip.Header{Name: "Privacy", Value: "id"})
	}
	return sip.Invite{
		URI: uri, From: from, To: sip.Address{URI: uri}, Headers: headers,
		Destination: l.destination(), Transport: string(l.cfg.Transport), Credentials: l.credentials(),
	}
}

// outgoing is a number as the carrier gets it: E.164 digits, with a plus sign
// only if it was dialled with one. Short numbers and service codes stay as
// dialled.
func (l *Line) outgoing(number string) string {
	number = strings.TrimSpace(number)
	if number == "" || strings.ContainsAny(number, "*#") {
		return number // a service code
	}
	n := l.t.o.Normalize(l.cfg.Country, number)
	if strings.HasPrefix(number, "+") && !strings.HasPrefix(n, "+") {
		n = "+" + n
	}
	return n
}

// fromURI is ours with a number: a carrier that knows us by a user name
// expects its own domain there.
func (l *Line) fromURI(user string) sip.URI {
	if l.cfg.Username != "" {
		return sip.URI{Scheme: "sip", User: user, Host: l.cfg.uriHost()}
	}
	u := l.ourURI(user)
	u.Port, u.Params = 0, nil
	return u
}

// ourURI is where the carrier reaches us.
func (l *Line) ourURI(user string) sip.URI {
	u := sip.URI{Scheme: "sip", User: user}
	host, port, err := net.SplitHostPort(l.t.o.Contact(l.cfg.Transport))
	if err != nil {
		host = strings.Trim(l.t.o.Contact(l.cfg.Transport), "[]")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		u.Port = int(n)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	u.Host = cmp.Or(host, "localhost")
	if l.cfg.Transport != UDP {
		u.Params = sip.Params{{Name: "transport", Value: string(l.cfg.Transport)}}
	}
	return u
}

// token is the user part of our contact at this carrier: what tells its calls
// from those of another trunk at the same address.
func (l *Line) token() string {
	h := sha256.Sum256([]byte("trunk " + l.cfg.Name))
	return "t" + hex.EncodeToString(h[:6])
}

// plainDigits is Options.Normalize by default: a number without what people
// write between its digits.
func plainDigits(_, number string) string {
	digits := strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9':
			return r
		case strings.ContainsRune("+-./() \u00a0", r):
			return -1
		}
		return 'x'
	}, number)
	if digits == "" || strings.Contains(digits, "x") {
		return number
	}
	return digits
}
