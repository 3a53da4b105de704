package sip

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Param is a parameter of a URI or header; Value is unquoted and unescaped.
type Param struct{ Name, Value string }

// Params are parameters in their order.
type Params []Param

// Get returns a parameter's value; names are compared without case.
func (p Params) Get(name string) (string, bool) {
	for _, x := range p {
		if strings.EqualFold(x.Name, name) {
			return x.Value, true
		}
	}
	return "", false
}

// With returns a copy in which name has the value.
func (p Params) With(name, value string) Params {
	out := make(Params, 0, len(p)+1)
	done := false
	for _, x := range p {
		if strings.EqualFold(x.Name, name) {
			if done {
				continue
			}
			x.Value, done = value, true
		}
		out = append(out, x)
	}
	if !done {
		out = append(out, Param{name, value})
	}
	return out
}

// URI is a SIP, SIPS or TEL URI; of any other scheme only Opaque is set.
type URI struct {
	Scheme   string // lower case
	User     string // unescaped
	Password string // unescaped
	Host     string // lower case; IPv6 in brackets; empty for tel
	Port     int    // 0 if not given
	Params   Params
	Headers  Params
	Opaque   string // what follows the colon of another scheme
}

const (
	schemeSIP  = "sip"
	schemeSIPS = "sips"
	schemeTel  = "tel"

	// Characters that need no escape, RFC 3261 section 25.1.
	charsMark       = "-_.!~*'()"
	charsUser       = charsMark + "&=+$,;?/"
	charsAfterColon = charsMark + "&=+$,"
	charsParam      = charsMark + "[]/:&+$"
	charsHeader     = charsMark + "[]/?:+$"
	charsWord       = "-.!%*_+`'~"
)

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isToken(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && strings.IndexByte(charsWord, s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

func syntaxErr(what, s string) error {
	if len(s) > 80 {
		s = s[:80]
	}
	return fmt.Errorf("%s %q: %w", what, s, ErrSyntax)
}

// escape writes s so that only alphanumeric characters and those of keep stay.
func escape(b *strings.Builder, s, keep string) {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		if isAlnum(c) || strings.IndexByte(keep, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// unescape undoes %XX. It refuses broken escapes, spaces, control characters
// and what can only be a delimiter; other characters that should have been
// escaped pass, as real devices send them (# in a dialled code).
func unescape(s string) (string, bool) {
	plain := true
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c == 0x7f || c == '<' || c == '>' || c == '"' || c == '@' {
			return "", false
		}
		if c == '%' {
			plain = false
		}
	}
	if plain {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		hi, ok1 := unhex(s[i+1])
		lo, ok2 := unhex(s[i+2])
		if !ok1 || !ok2 {
			return "", false
		}
		b = append(b, hi<<4|lo)
		i += 2
	}
	return string(b), true
}

// ParseURI parses a URI without angle brackets.
func ParseURI(s string) (URI, error) {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || !isScheme(scheme) || rest == "" {
		return URI{}, syntaxErr("uri", s)
	}
	u := URI{Scheme: strings.ToLower(scheme)}
	switch u.Scheme {
	case schemeSIP, schemeSIPS:
		return parseSIPURI(u, s, rest)
	case schemeTel:
		num, params, has := strings.Cut(rest, ";")
		if u.User, ok = unescape(num); !ok || u.User == "" || strings.ContainsAny(u.User, ";") {
			return URI{}, syntaxErr("uri", s)
		}
		if has {
			if u.Params, ok = parseURIParams(params, ";"); !ok {
				return URI{}, syntaxErr("uri parameters", s)
			}
		}
		return u, nil
	}
	for i := range len(rest) {
		if c := rest[i]; c <= ' ' || c == 0x7f || c == '<' || c == '>' || c == '"' {
			return URI{}, syntaxErr("uri", s)
		}
	}
	u.Opaque = rest
	return u, nil
}

func isScheme(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && (i == 0 || strings.IndexByte("+-.", s[i]) < 0) {
			return false
		}
	}
	return s != "" && (s[0] < '0' || s[0] > '9')
}

func parseSIPURI(u URI, s, rest string) (URI, error) {
	var ok bool
	// An @ may stand only between user and host: all other places escape it.
	if i := strings.IndexByte(rest, '@'); i >= 0 {
		user, pass, hasPass := strings.Cut(rest[:i], ":")
		rest = rest[i+1:]
		if u.User, ok = unescape(user); !ok || user == "" {
			return URI{}, syntaxErr("uri user", s)
		}
		if hasPass {
			if u.Password, ok = unescape(pass); !ok {
				return URI{}, syntaxErr("uri password", s)
			}
		}
	}
	rest, headers, hasHeaders := strings.Cut(rest, "?")
	hostport, params, hasParams := strings.Cut(rest, ";")
	if u.Host, u.Port, ok = parseHostPort(hostport); !ok {
		return URI{}, syntaxErr("uri host", s)
	}
	if hasParams {
		if u.Params, ok = parseURIParams(params, ";"); !ok {
			return URI{}, syntaxErr("uri parameters", s)
		}
	}
	if hasHeaders {
		if u.Headers, ok = parseURIParams(headers, "&"); !ok {
			return URI{}, syntaxErr("uri headers", s)
		}
	}
	return u, nil
}

func parseURIParams(s, sep string) (Params, bool) {
	var ps Params
	for part := range strings.SplitSeq(s, sep) {
		name, value, has := strings.Cut(part, "=")
		n, ok1 := unescape(name)
		v, ok2 := unescape(value)
		if !ok1 || !ok2 || n == "" || has && sep == ";" && v == "" {
			return nil, false
		}
		ps = append(ps, Param{n, v})
	}
	return ps, true
}

// parseHostPort splits host[:port] without white space.
func parseHostPort(s string) (host string, port int, ok bool) {
	rest := ""
	if strings.HasPrefix(s, "[") {
		i := strings.IndexByte(s, ']')
		if i < 0 {
			return "", 0, false
		}
		a, err := netip.ParseAddr(s[1:i])
		if err != nil || !a.Is6() || a.Zone() != "" {
			return "", 0, false
		}
		host, rest = "["+a.String()+"]", s[i+1:]
	} else {
		i := strings.IndexByte(s, ':')
		if i < 0 {
			i = len(s)
		}
		host, rest = strings.ToLower(s[:i]), s[i:]
		for j := range len(host) {
			if !isAlnum(host[j]) && strings.IndexByte("-._", host[j]) < 0 {
				return "", 0, false
			}
		}
	}
	if host == "" {
		return "", 0, false
	}
	if rest == "" {
		return host, 0, true
	}
	if rest[0] != ':' {
		return "", 0, false
	}
	port, ok = parseDigits(rest[1:], 65535)
	return host, port, ok && port > 0
}

// parseDigits reads a decimal number of at most limit.
func parseDigits(s string, limit int) (int, bool) {
	if s == "" || len(s) > 19 {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
		if n > limit {
			return 0, false
		}
	}
	return n, true
}

// String returns the URI's text.
func (u URI) String() string {
	var b strings.Builder
	b.WriteString(u.Scheme)
	b.WriteByte(':')
	if u.Opaque != "" {
		b.WriteString(u.Opaque)
		return b.String()
	}
	if u.Scheme == schemeTel {
		escape(&b, u.User, charsMark+"+#")
	} else {
		if u.User != "" {
			escape(&b, u.User, charsUser)
			if u.Password != "" {
				b.WriteByte(':')
				escape(&b, u.Password, charsAfterColon)
			}
			b.WriteByte('@')
		}
		b.WriteString(u.Host)
		if u.Port > 0 {
			b.WriteByte(':')
			b.WriteString(strconv.Itoa(u.Port))
		}
	}
	for _, p := range u.Params {
		b.WriteByte(';')
		escape(&b, p.Name, charsParam)
		if p.Value != "" {
			b.WriteByte('=')
			escape(&b, p.Value, charsParam)
		}
	}
	for i, p := range u.Headers {
		b.WriteByte("?&"[min(i, 1)])
		escape(&b, p.Name, charsHeader)
		b.WriteByte('=')
		escape(&b, p.Value, charsHeader)
	}
	return b.String()
}

// addr returns the host as an IP address, if it is one.
func (u URI) addr() (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.Trim(u.Host, "[]"))
	return a.Unmap(), err == nil
}
