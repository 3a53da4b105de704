package sip

import (
	"strconv"
	"strings"
)

// Address is a name-addr; Params are the header's (tag, expires…).
type Address struct {
	Name   string
	URI    URI
	Params Params
}

// Tag returns the tag parameter.
func (a Address) Tag() string {
	t, _ := a.Params.Get("tag")
	return t
}

// Contact is one contact; Star is "*".
type Contact struct {
	Address
	Star    bool
	Expires int     // seconds; -1 if not given or not a number
	Q       float64 // 1 if not given
}

// ParseAddress parses a From, To or single Contact value.
func ParseAddress(s string) (Address, error) {
	a, rest, err := parseAddress(s)
	if err == nil && rest != "" {
		err = syntaxErr("address", s)
	}
	return a, err
}

// ParseContacts parses a Contact value, a list or "*".
func ParseContacts(s string) ([]Contact, error) {
	if strings.TrimSpace(s) == "*" {
		return []Contact{{Star: true, Expires: -1, Q: 1}}, nil
	}
	var out []Contact
	for {
		a, rest, err := parseAddress(s)
		if err != nil {
			return nil, err
		}
		c := Contact{Address: a, Expires: -1, Q: 1}
		if v, ok := a.Params.Get("expires"); ok {
			// An absurd number means "as long as you can" (RFC 4475 section 3.1.2.4).
			if n, ok := parseDigits(v, 1<<31-1); ok {
				c.Expires = n
			} else if isDigits(v) {
				c.Expires = 1<<31 - 1
			}
		}
		if v, ok := a.Params.Get("q"); ok {
			if q, err := strconv.ParseFloat(v, 64); err == nil && q >= 0 && q <= 1 {
				c.Q = q
			}
		}
		out = append(out, c)
		if rest == "" {
			return out, nil
		}
		s = rest[1:]
	}
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func skipSpace(s string) string { return strings.TrimLeft(s, " \t") }

// parseAddress parses one address; rest is empty or starts with the comma.
func parseAddress(s string) (a Address, rest string, err error) {
	whole := s
	s = skipSpace(s)
	if strings.HasPrefix(s, `"`) {
		var ok bool
		if a.Name, s, ok = parseQuoted(s); !ok {
			return Address{}, "", syntaxErr("display name", whole)
		}
		if s = skipSpace(s); !strings.HasPrefix(s, "<") {
			return Address{}, "", syntaxErr("address", whole)
		}
	} else if i := strings.IndexAny(s, "<;,\"?"); i >= 0 && s[i] == '<' {
		a.Name = strings.TrimSpace(s[:i])
		s = s[i:]
		for j := range len(a.Name) {
			if c := a.Name[j]; c == '>' || c < ' ' && c != '\t' {
				return Address{}, "", syntaxErr("display name", whole)
			}
		}
	}
	var uri string
	if strings.HasPrefix(s, "<") {
		i := strings.IndexByte(s, '>')
		if i < 0 {
			return Address{}, "", syntaxErr("address", whole)
		}
		uri, s = s[1:i], s[i+1:]
	} else {
		// Without brackets a question mark may not be in the URI, and what
		// follows a semicolon belongs to the header (RFC 3261 section 20).
		i := strings.IndexAny(s, ";, \t?\"")
		if i < 0 {
			i = len(s)
		}
		uri, s = s[:i], s[i:]
	}
	if a.URI, err = ParseURI(uri); err != nil {
		return Address{}, "", err
	}
	var ok bool
	if a.Params, rest, ok = parseParams(s); !ok {
		return Address{}, "", syntaxErr("parameters", whole)
	}
	return a, rest, nil
}

// parseQuoted reads a quoted string at the start of s.
func parseQuoted(s string) (text, rest string, ok bool) {
	if i := strings.IndexAny(s[1:], `"\`); i >= 0 && s[1+i] == '"' {
		return s[1 : 1+i], s[2+i:], true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			i++
			if i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

func writeQuoted(b *strings.Builder, s string) {
	b.WriteByte('"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
}

// parseParams reads ;name=value… until the end or a comma, which stays in rest.
// One semicolon without a parameter is forgiven at the end.
func parseParams(s string) (ps Params, rest string, ok bool) {
	for {
		s = skipSpace(s)
		if s == "" || s[0] == ',' {
			return ps, s, true
		}
		if s[0] != ';' {
			return nil, "", false
		}
		s = skipSpace(s[1:])
		if s == "" {
			return ps, "", true
		}
		i := strings.IndexAny(s, "=;, \t\"")
		if i < 0 {
			i = len(s)
		}
		p := Param{Name: s[:i]}
		if !isToken(p.Name) {
			return nil, "", false
		}
		s = skipSpace(s[i:])
		if strings.HasPrefix(s, "=") {
			s = skipSpace(s[1:])
			if strings.HasPrefix(s, `"`) {
				if p.Value, s, ok = parseQuoted(s); !ok {
					return nil, "", false
				}
			} else {
				if i = strings.IndexAny(s, ";, \t\""); i < 0 {
					i = len(s)
				}
				if p.Value, s = s[:i], s[i:]; p.Value == "" {
					return nil, "", false
				}
			}
		}
		ps = append(ps, p)
	}
}

func writeParams(b *strings.Builder, ps Params) {
	for _, p := range ps {
		b.WriteByte(';')
		b.WriteString(p.Name)
		if p.Value == "" {
			continue
		}
		b.WriteByte('=')
		if plainValue(p.Value) {
			b.WriteString(p.Value)
		} else {
			writeQuoted(b, p.Value)
		}
	}
}

// plainValue reports whether a parameter's value needs no quotes: a token or a
// host.
func plainValue(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && strings.IndexByte(charsWord+"[]:/@", s[i]) < 0 {
			return false
		}
	}
	return true
}

// String returns the address's text.
func (a Address) String() string {
	var b strings.Builder
	if a.Name != "" {
		writeQuoted(&b, a.Name)
		b.WriteByte(' ')
	}
	b.WriteByte('<')
	b.WriteString(a.URI.String())
	b.WriteByte('>')
	writeParams(&b, a.Params)
	return b.String()
}

// splitList splits a comma-separated value outside of quotes and brackets.
func splitList(s string) []string {
	if !strings.Contains(s, ",") {
		if s = strings.TrimSpace(s); s == "" {
			return nil
		}
		return []string{s}
	}
	var out []string
	start, quoted, angle := 0, false, false
	for i := 0; i <= len(s); i++ {
		if i < len(s) {
			switch c := s[i]; {
			case quoted && c == '\\' && i+1 < len(s):
				i++
				continue
			case c == '"':
				quoted = !quoted
			case !quoted && c == '<':
				angle = true
			case !quoted && c == '>':
				angle = false
			}
			if quoted || angle || s[i] != ',' {
				continue
			}
		}
		if part := strings.TrimSpace(s[min(start, len(s)):min(i, len(s))]); part != "" {
			out = append(out, part)
		}
		start = i + 1
	}
	return out
}
