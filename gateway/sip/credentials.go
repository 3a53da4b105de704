package sip

import (
	"crypto/md5" //nolint:gosec // RFC 2617 and 3261 ask for it
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Digest algorithms (RFC 8760).
const (
	algMD5    = "MD5"
	algSHA256 = "SHA-256"
)

func digestHex(alg, s string) string {
	if alg == algSHA256 {
		h := sha256.Sum256([]byte(s))
		return hex.EncodeToString(h[:])
	}
	h := md5.Sum([]byte(s)) //nolint:gosec // as above
	return hex.EncodeToString(h[:])
}

// HA1 returns the MD5 hash of user, realm and password that digest
// authentication works with. It is a password's equal.
func HA1(user, realm, password string) string {
	return digestHex(algMD5, user+":"+realm+":"+password)
}

// HA1SHA256 is HA1 by SHA-256.
func HA1SHA256(user, realm, password string) string {
	return digestHex(algSHA256, user+":"+realm+":"+password)
}

// parseDigest reads the parameters of a Digest challenge or of credentials.
func parseDigest(s string) (Params, bool) {
	scheme, rest, ok := strings.Cut(strings.TrimSpace(s), " ")
	if !ok || !strings.EqualFold(scheme, "Digest") {
		return nil, false
	}
	var ps Params
	for _, part := range splitList(rest) {
		name, value, ok := strings.Cut(part, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || !isToken(name) {
			return nil, false
		}
		if strings.HasPrefix(value, `"`) {
			var tail string
			if value, tail, ok = parseQuoted(value); !ok || strings.TrimSpace(tail) != "" {
				return nil, false
			}
		}
		if _, twice := ps.Get(name); twice {
			return nil, false
		}
		ps = append(ps, Param{name, value})
	}
	return ps, len(ps) > 0
}

func digestString(ps Params) string {
	var b strings.Builder
	b.WriteString("Digest ")
	for i, p := range ps {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(p.Name + "=")
		switch p.Name {
		case "algorithm", "nc", "stale":
			b.WriteString(p.Value)
		case "qop":
			if p.Value == "auth" {
				b.WriteString(p.Value)
				continue
			}
			writeQuoted(&b, p.Value)
		default:
			writeQuoted(&b, p.Value)
		}
	}
	return b.String()
}

// digestResponse is the response value of RFC 2617 section 3.2.2 (with qop
// "auth") or RFC 2069 (qop "").
func digestResponse(alg, ha1, nonce, nc, cnonce, qop, method, uri string) string {
	ha2 := digestHex(alg, method+":"+uri)
	if qop == "" {
		return digestHex(alg, ha1+":"+nonce+":"+ha2)
	}
	return digestHex(alg, ha1+":"+nonce+":"+nc+":"+cnonce+":"+qop+":"+ha2)
}

// clientAuth remembers the last challenge of one peer. Not safe for concurrent
// use.
type clientAuth struct {
	name  string // Authorization or Proxy-Authorization; "" before a challenge
	realm string
	nonce string
	opaq  string
	hasOp bool
	alg   string
	qop   bool
	nc    uint32
}

// learn takes a 401 or 407. It reports whether another try makes sense: a
// second refusal of the same request does, only if it says stale.
func (a *clientAuth) learn(cr *Credentials, m *message, try int) bool {
	if cr == nil || try >= 3 {
		return false
	}
	challenge, answer := "WWW-Authenticate", "Authorization"
	if m.code == 407 {
		challenge, answer = "Proxy-Authenticate", "Proxy-Authorization"
	}
	best := clientAuth{}
	stale := false
	for _, v := range m.all(challenge) {
		ps, ok := parseDigest(v)
		if !ok {
			continue
		}
		c := clientAuth{name: answer}
		c.realm, _ = ps.Get("realm")
		c.nonce, _ = ps.Get("nonce")
		c.opaq, c.hasOp = ps.Get("opaque")
		switch alg, has := ps.Get("algorithm"); {
		case !has || strings.EqualFold(alg, algMD5):
			c.alg = algMD5
		case strings.EqualFold(alg, algSHA256) && cr.HA1 == "":
			c.alg = algSHA256
		default:
			continue
		}
		if cr.HA1 != "" && cr.Realm != "" && c.realm != cr.Realm || c.nonce == "" {
			continue
		}
		if qops, has := ps.Get("qop"); has {
			for _, q := range splitList(qops) {
				c.qop = c.qop || strings.EqualFold(q, "auth")
			}
			if !c.qop {
				continue
			}
		}
		if best.name == "" || best.alg == algMD5 && c.alg == algSHA256 {
			best = c
			st, _ := ps.Get("stale")
			stale = strings.EqualFold(st, "true")
		}
	}
	if best.name == "" || try > 0 && a.name == best.name && !stale {
		return false
	}
	*a = best
	return true
}

// headers returns the credentials for a request, none before a challenge.
func (a *clientAuth) headers(cr *Credentials, method, uri string) []Header {
	if cr == nil || a.name == "" {
		return nil
	}
	a.nc++
	ha1 := cr.HA1
	if ha1 == "" {
		ha1 = digestHex(a.alg, cr.Username+":"+a.realm+":"+cr.Password)
	}
	ps := Params{{"username", cr.Username}, {"realm", a.realm}, {"nonce", a.nonce}, {"uri", uri}, {"algorithm", a.alg}}
	nc, cnonce, qop := "", "", ""
	if a.qop {
		nc, cnonce, qop = fmt.Sprintf("%08x", a.nc), randomHex(8), "auth"
		ps = append(ps, Param{"qop", qop}, Param{"nc", nc}, Param{"cnonce", cnonce})
	}
	ps = append(ps, Param{"response", digestResponse(a.alg, ha1, a.nonce, nc, cnonce, qop, method, uri)})
	if a.hasOp {
		ps = append(ps, Param{"opaque", a.opaq})
	}
	return []Header{{a.name, digestString(ps)}}
}
