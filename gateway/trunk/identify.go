package trunk

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/cordboard/cordboard/gateway/sip"
)

// request is what of a *sip.Request tells whose it is.
type request interface {
	URI() sip.URI
	From() sip.Address
	To() sip.Address
	Header(name string) string
	Headers(name string) []string
	Flow() sip.Flow
}

// Identify returns the trunk that a request came from: by the source's address
// first, the longest prefix winning, else by digest. Its errors are
// *sip.ChallengeError (respond with it), sip.ErrThrottled, ErrUnknown (respond
// 403) and ErrSilence (do not respond at all).
func (t *Trunks) Identify(ctx context.Context, r *sip.Request) (*Line, error) {
	src := r.Flow().Remote.Addr().Unmap().WithZone("")
	if l := pick(t.at(src), r); l != nil {
		return l, nil
	}
	l, err := t.byDigest(ctx, r)
	if err == nil {
		t.strangers.trust(src)
		return l, nil
	}
	if !t.strangers.answer(src) {
		return nil, ErrSilence
	}
	t.log.WarnContext(ctx, "request from unknown source", "source", src, "method", r.Method())
	return nil, err
}

// Silenced reports whether a source is no trunk and has had its answers: what
// it sends may be dropped unread.
func (t *Trunks) Silenced(src netip.Addr) bool {
	src = src.Unmap().WithZone("")
	return t.strangers.silenced(src) && len(t.at(src)) == 0
}

// byDigest asks for and checks the proof of a trunk without fixed address.
func (t *Trunks) byDigest(ctx context.Context, r *sip.Request) (*Line, error) {
	t.mu.RLock()
	none := len(t.ha1) == 0
	t.mu.RUnlock()
	if none {
		return nil, ErrUnknown
	}
	user, err := t.auth.Check(ctx, r)
	var challenge *sip.ChallengeError
	switch {
	case errors.As(err, &challenge), errors.Is(err, sip.ErrThrottled):
		return nil, err //nolint:wrapcheck // the caller responds with it as it is
	case err != nil:
		return nil, fmt.Errorf("identify trunk: %w", err)
	}
	for _, l := range t.all() {
		if l.cfg.Username == user && l.cfg.ha1 != "" && len(l.cfg.Allow) == 0 {
			return l, nil
		}
	}
	return nil, ErrUnknown
}

// at returns the trunks that an address belongs to, those with the longest
// prefix. A trunk that names none is at its carrier's own addresses.
func (t *Trunks) at(src netip.Addr) []*Line {
	var out []*Line
	best := -1
	for _, l := range t.all() {
		bits := -1
		for _, p := range l.cfg.Allow {
			if p.Contains(src) {
				bits = max(bits, p.Bits())
			}
		}
		if len(l.cfg.Allow) == 0 && l.isAt(src) {
			bits = src.BitLen()
		}
		if bits > best {
			best, out = bits, out[:0]
		}
		if bits == best && bits >= 0 {
			out = append(out, l)
		}
	}
	return out
}

// pick tells trunks at one address apart: by the contact that we registered,
// then the account, then the carrier's name in To or From; else it is the one
// with the highest priority.
func pick(lines []*Line, r request) *Line {
	if len(lines) <= 1 {
		if len(lines) == 1 {
			return lines[0]
		}
		return nil
	}
	uri, to, from := r.URI(), r.To().URI, r.From().URI
	for _, is := range []func(*Line) bool{
		func(l *Line) bool { return uri.User == l.token() },
		func(l *Line) bool {
			return l.cfg.Username != "" && (uri.User == l.cfg.Username || to.User == l.cfg.Username)
		},
		func(l *Line) bool {
			return strings.EqualFold(from.Host, l.cfg.uriHost()) || strings.EqualFold(to.Host, l.cfg.uriHost())
		},
	} {
		var hit []*Line
		for _, l := range lines {
			if is(l) {
				hit = append(hit, l)
			}
		}
		if len(hit) == 1 {
			return hit[0]
		}
		if len(hit) > 1 {
			lines = hit
		}
	}
	return lines[0]
}

// DID is the number that a request from this trunk calls: of the Request-URI,
// else of To (as when the Request-URI is the contact we registered).
func (l *Line) DID(r *sip.Request) string { return l.did(r) }

func (l *Line) did(r request) string {
	u := r.URI()
	user := number(u)
	if user == "" || user == l.token() || (l.cfg.Username != "" && user == l.cfg.Username) {
		if to := number(r.To().URI); to != "" && to != l.token() {
			user = to
		}
	}
	return l.t.o.Normalize(l.cfg.Country, user)
}

// Caller is who calls by this trunk: P-Asserted-Identity, which only trunks
// are believed, else From. Who asks for privacy stays anonymous even if the
// carrier tells us the number.
func (l *Line) Caller(r *sip.Request) Caller { return l.caller(r) }

func (l *Line) caller(r request) Caller {
	if hidden(r) {
		return Caller{Anonymous: true}
	}
	from := r.From()
	for _, v := range asserted(r) {
		if number(v.URI) != "" {
			if v.Name == "" {
				v.Name = from.Name
			}
			from = v
			break
		}
	}
	n := number(from.URI)
	if n == "" {
		return Caller{Anonymous: true}
	}
	name := from.Name
	if name == n || strings.TrimPrefix(name, "+") == strings.TrimPrefix(n, "+") {
		name = ""
	}
	return Caller{Number: l.t.o.Normalize(l.cfg.Country, n), Name: name}
}

// hidden reports whether the caller asks not to be shown (RFC 3323, RFC 3325,
// and what carriers write into From instead).
func hidden(r request) bool {
	for _, h := range r.Headers("Privacy") {
		for v := range strings.FieldsFuncSeq(h, func(c rune) bool { return c == ';' || c == ',' || c == ' ' }) {
			switch strings.ToLower(v) {
			case "id", "user", "header":
				return true
			}
		}
	}
	from := r.From().URI
	if strings.EqualFold(from.Host, anonymousHost) {
		return true
	}
	switch strings.ToLower(from.User) {
	case anonymous, "restricted", "private", "unavailable", "unknown":
		return true
	}
	return false
}

// asserted returns the identities of all P-Asserted-Identity headers.
func asserted(r request) []sip.Address {
	var out []sip.Address
	for _, h := range r.Headers("P-Asserted-Identity") {
		for _, v := range splitList(h) {
			if a, err := sip.ParseAddress(v); err == nil {
				out = append(out, a)
			}
		}
	}
	return out
}

// splitList splits at commas outside of quotes and angle brackets.
func splitList(s string) []string {
	var out []string
	quoted, angle, from := false, false, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '<':
			angle = true
		case c == '>':
			angle = false
		case c == ',' && !angle:
			out = append(out, strings.TrimSpace(s[from:i]))
			from = i + 1
		}
	}
	return append(out, strings.TrimSpace(s[from:]))
}

// number is the telephone number of a SIP or tel URI, without its parameters.
func number(u sip.URI) string {
	n := u.User
	if n == "" && u.Scheme == "tel" {
		n = u.Opaque
	}
	n, _, _ = strings.Cut(n, ";")
	return n
}
