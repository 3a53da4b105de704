package sip

import (
	"bytes"
	"strings"
	"time"
)

// Methods that this package treats specially.
const (
	methodInvite   = "INVITE"
	methodAck      = "ACK"
	methodBye      = "BYE"
	methodCancel   = "CANCEL"
	methodOptions  = "OPTIONS"
	methodRegister = "REGISTER"
	methodUpdate   = "UPDATE"
	methodInfo     = "INFO"
	methodPrack    = "PRACK"

	version       = "SIP/2.0"
	branchCookie  = "z9hG4bK"
	maxCSeq       = 1<<31 - 1
	maxHeaderRows = 512
)

// message is one parsed message. Header values are unfolded and trimmed, names
// of known headers are in their long form.
type message struct {
	method  string // empty in a response
	code    int    // 0 in a request
	reason  string
	uri     URI
	headers []Header
	body    []byte
	flow    Flow

	via        via
	viaRest    string // what follows the top value in the first Via line
	from, to   Address
	callID     string
	cseq       uint32
	cseqMethod string
	contacts   []Contact
}

// via is one value of a Via header.
type via struct {
	transport string // upper case
	host      string
	port      int
	params    Params
}

// parseError says how to answer a message that is not valid.
type parseError struct {
	code   int // 0: drop
	reason string
}

// longName returns the long form of a header's name (RFC 3261 section 7.3.3).
func longName(s string) string {
	if len(s) == 1 {
		switch s[0] | 0x20 {
		case 'c':
			return "Content-Type"
		case 'e':
			return "Content-Encoding"
		case 'f':
			return "From"
		case 'i':
			return "Call-ID"
		case 'k':
			return "Supported"
		case 'l':
			return "Content-Length"
		case 'm':
			return "Contact"
		case 'o':
			return "Event"
		case 'r':
			return "Refer-To"
		case 'b':
			return "Referred-By"
		case 's':
			return "Subject"
		case 't':
			return "To"
		case 'u':
			return "Allow-Events"
		case 'v':
			return "Via"
		case 'x':
			return "Session-Expires"
		}
	}
	return s
}

func (m *message) header(name string) string {
	for _, h := range m.headers {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

func (m *message) has(name string) bool {
	for _, h := range m.headers {
		if strings.EqualFold(h.Name, name) {
			return true
		}
	}
	return false
}

func (m *message) all(name string) []string {
	var out []string
	for _, h := range m.headers {
		if strings.EqualFold(h.Name, name) {
			out = append(out, h.Value)
		}
	}
	return out
}

// tokens returns the elements of a list header of tokens.
func (m *message) tokens(name string) []string {
	var out []string
	for _, v := range m.all(name) {
		for _, t := range splitList(v) {
			t, _, _ = strings.Cut(t, ";")
			out = append(out, strings.TrimSpace(t))
		}
	}
	return out
}

func (m *message) lists(name, token string) bool {
	for _, t := range m.tokens(name) {
		if strings.EqualFold(t, token) {
			return true
		}
	}
	return false
}

// parseMessage parses a whole message. A request that is not valid comes back
// with the error to answer as far as it could be read; nil means drop it.
func parseMessage(b []byte) (*message, *parseError) {
	for len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
		b = b[2:]
	}
	m := &message{}
	head, body, whole := bytes.Cut(b, []byte("\r\n\r\n"))
	var bad *parseError
	fail := func(code int, reason string) {
		if bad == nil {
			bad = &parseError{code, reason}
		}
	}
	first, rest, _ := strings.Cut(string(head), "\r\n")
	if !m.parseStartLine(first, fail) {
		return nil, &parseError{}
	}
	if !whole {
		fail(400, "No End of Headers")
	}
	m.parseHeaders(rest, fail)
	m.parseCore(fail)
	m.cutBody(body, fail)
	if m.method != "" && bad == nil {
		m.checkRequest(fail)
	}
	if bad != nil {
		if m.method == "" || m.via.host == "" {
			return nil, bad // nobody to answer
		}
		return m, bad
	}
	return m, nil
}

// parseStartLine reports whether the line is SIP at all.
func (m *message) parseStartLine(line string, fail func(int, string)) bool {
	if v, rest, ok := strings.Cut(line, " "); ok && strings.EqualFold(v, version) {
		code, reason, _ := strings.Cut(rest, " ")
		n, ok := parseDigits(code, 699)
		if !ok || n < 100 || len(code) != 3 {
			return false
		}
		m.code, m.reason = n, reason
		return true
	}
	method, rest, ok := strings.Cut(line, " ")
	if !ok || !isToken(method) {
		return false
	}
	trimmed := strings.TrimRight(rest, " \t")
	i := strings.LastIndexByte(trimmed, ' ')
	if i < 0 {
		return false
	}
	uri, ver := trimmed[:i], trimmed[i+1:]
	if len(ver) < 5 || !strings.EqualFold(ver[:4], "SIP/") {
		return false
	}
	m.method = method
	if !strings.EqualFold(ver, version) {
		fail(505, "Version Not Supported")
		return true
	}
	var err error
	switch m.uri, err = ParseURI(uri); {
	case trimmed != rest || strings.ContainsAny(uri, " \t"):
		fail(400, "Bad Request-Line")
	case err != nil:
		fail(400, "Bad Request-URI")
	case len(m.uri.Headers) > 0:
		fail(400, "Headers in Request-URI")
	}
	return true
}

func (m *message) parseHeaders(s string, fail func(int, string)) {
	m.headers = make([]Header, 0, 16)
	for s != "" {
		line, rest, _ := strings.Cut(s, "\r\n")
		for strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, "\t") { // folded
			var more string
			more, rest, _ = strings.Cut(rest, "\r\n")
			line = strings.TrimRight(line, " \t") + " " + strings.TrimLeft(more, " \t")
		}
		s = rest
		name, value, ok := strings.Cut(line, ":")
		name = strings.TrimRight(name, " \t")
		if !ok || !isToken(name) || strings.ContainsAny(value, "\r\n") {
			fail(400, "Bad Header Line")
			continue
		}
		if len(m.headers) == maxHeaderRows {
			fail(400, "Too Many Headers")
			return
		}
		m.headers = append(m.headers, Header{longName(name), strings.Trim(value, " \t")})
	}
}

// parseCore reads the headers that every message must have.
func (m *message) parseCore(fail func(int, string)) {
	seen := 0
	once := func(bit int, name string) bool {
		if seen&bit != 0 {
			fail(400, "More Than One "+name)
			return false
		}
		seen |= bit
		return true
	}
	var err error
	for _, h := range m.headers {
		switch strings.ToLower(h.Name) {
		case "via":
			if seen&1 != 0 {
				continue
			}
			seen |= 1
			var ok bool
			if m.via, m.viaRest, ok = parseVia(h.Value); !ok {
				fail(400, "Bad Via")
			}
		case "from":
			if !once(2, "From") {
				continue
			}
			if m.from, err = ParseAddress(h.Value); err != nil {
				fail(400, "Bad From")
			}
		case "to":
			if !once(4, "To") {
				continue
			}
			if m.to, err = ParseAddress(h.Value); err != nil {
				fail(400, "Bad To")
			}
		case "call-id":
			if !once(8, "Call-ID") {
				continue
			}
			if m.callID = h.Value; m.callID == "" || strings.ContainsAny(m.callID, " \t") {
				fail(400, "Bad Call-ID")
			}
		case "cseq":
			if !once(16, "CSeq") {
				continue
			}
			num, method, _ := strings.Cut(strings.ReplaceAll(h.Value, "\t", " "), " ")
			n, ok := parseDigits(num, maxCSeq)
			m.cseq, m.cseqMethod = uint32(n), strings.TrimSpace(method)
			if !ok || !isToken(m.cseqMethod) || m.method != "" && m.method != m.cseqMethod {
				fail(400, "Bad CSeq")
			}
		}
	}
	if seen != 31 {
		fail(400, "Missing Header")
	}
}

// cutBody takes the body that Content-Length announces.
func (m *message) cutBody(body []byte, fail func(int, string)) {
	lengths := m.all("Content-Length")
	switch {
	case len(lengths) > 1:
		fail(400, "More Than One Content-Length")
		return
	case len(lengths) == 1:
		n, ok := parseDigits(lengths[0], 1<<30)
		if !ok || n > len(body) {
			fail(400, "Bad Content-Length")
			return
		}
		body = body[:n]
	}
	if len(body) > 0 {
		m.body = bytes.Clone(body)
	}
}

// checkRequest checks what only requests must keep.
func (m *message) checkRequest(fail func(int, string)) {
	if mf := m.all("Max-Forwards"); len(mf) > 1 {
		fail(400, "More Than One Max-Forwards")
	} else if len(mf) == 1 {
		if _, ok := parseDigits(mf[0], 255); !ok {
			fail(400, "Bad Max-Forwards")
		}
	}
	if d := m.header("Date"); d != "" {
		if _, err := time.Parse(time.RFC1123, d); err != nil || !strings.HasSuffix(d, " GMT") {
			fail(400, "Bad Date")
		}
	}
	for _, v := range m.all("Contact") {
		cs, err := ParseContacts(v)
		if err != nil {
			fail(400, "Bad Contact")
			return
		}
		m.contacts = append(m.contacts, cs...)
	}
	for _, name := range []string{"Record-Route", "Route"} {
		for _, v := range m.all(name) {
			if _, err := ParseContacts(v); err != nil {
				fail(400, "Bad "+name)
			}
		}
	}
}

// parseVia parses the top value; rest is what follows its comma.
func parseVia(s string) (v via, rest string, ok bool) {
	proto, s, _ := strings.Cut(s, "/")
	ver, s, _ := strings.Cut(s, "/")
	// A foreign version comes with a foreign Request-Line, which gets its 505.
	if !strings.EqualFold(strings.TrimSpace(proto), "SIP") || !isToken(strings.TrimSpace(ver)) {
		return via{}, "", false
	}
	s = skipSpace(s)
	i := strings.IndexAny(s, " \t")
	if i <= 0 || !isToken(s[:i]) {
		return via{}, "", false
	}
	v.transport = strings.ToUpper(s[:i])
	s = skipSpace(s[i:])
	i = strings.IndexAny(s, ";,")
	if i < 0 {
		i = len(s)
	}
	hostport := strings.Join(strings.Fields(s[:i]), "") // white space around the colon is allowed
	if v.host, v.port, ok = parseHostPort(hostport); !ok {
		return via{}, "", false
	}
	if v.params, rest, ok = parseParams(s[i:]); !ok {
		return via{}, "", false
	}
	return v, strings.TrimPrefix(rest, ","), true
}

func (v via) branch() string {
	b, _ := v.params.Get("branch")
	return b
}

// routes returns the addresses of a Route or Record-Route header in order, as
// text: a route is sent back exactly as it came.
func (m *message) routes(name string) []string {
	var out []string
	for _, v := range m.all(name) {
		out = append(out, splitList(v)...)
	}
	return out
}
