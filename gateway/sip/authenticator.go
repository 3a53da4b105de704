package sip

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// AuthOptions configure an Authenticator; the zero value is good.
type AuthOptions struct {
	NonceTTL time.Duration    // how long a nonce may be used (default 5 min)
	Now      func() time.Time // default time.Now
	Proxy    bool             // 407 and Proxy-Authorization instead of 401
	// SHA256 returns a user's HA1 by SHA-256. With it clients are offered both
	// algorithms, the better first (RFC 8760).
	SHA256 func(ctx context.Context, user string) (ha1 string, ok bool)
	// Failures is how many wrong passwords for one user from one address are
	// free (default 5); after that both wait 1 s, 2 s, 4 s… up to 5 min.
	Failures int
	// MaxTracked bounds the nonces and the failures remembered, each
	// (default 100,000).
	MaxTracked int
}

// Authenticator checks digest credentials (RFC 2617, 2069, 8760). Nonces are
// signed and dated, so that a challenge costs no memory; a nonce in use is
// remembered to refuse a repeated count. Safe for concurrent use.
type Authenticator struct {
	realm  string
	secret []byte
	lookup func(ctx context.Context, user string) (ha1 string, ok bool)
	o      AuthOptions

	mu       sync.Mutex
	nonces   map[string]*nonceUse
	failures failureTable
	swept    time.Time
}

// nonceUse is a sliding window of the counts seen.
type nonceUse struct {
	expires time.Time
	high    uint32
	window  uint64 // bit i: high-i was seen
}

// ChallengeError asks the client to authenticate: respond with Code and
// Headers.
type ChallengeError struct {
	Code    int
	Headers []Header
	Stale   bool // the credentials may be right, but the nonce is old
}

// Error implements error.
func (e *ChallengeError) Error() string { return "sip authentication needed" }

// NewAuthenticator makes one. secret signs the nonces; lookup returns a user's
// MD5 HA1 in hex.
func NewAuthenticator(realm string, secret []byte, lookup func(ctx context.Context, user string) (ha1 string, ok bool), o AuthOptions) *Authenticator {
	setDefault(&o.NonceTTL, 5*time.Minute)
	setDefault(&o.Failures, 5)
	setDefault(&o.MaxTracked, 100_000)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Authenticator{
		realm: realm, secret: append([]byte("cordboard nonce "), secret...), lookup: lookup, o: o,
		nonces:   make(map[string]*nonceUse),
		failures: newFailureTable(o.Failures, o.MaxTracked),
	}
}

const (
	nonceBody = 16 // time and random
	nonceSum  = 16
)

func (a *Authenticator) sum(b []byte) []byte {
	h := hmac.New(sha256.New, a.secret)
	h.Write(b)
	return h.Sum(nil)
}

func (a *Authenticator) newNonce(now time.Time) string {
	b := make([]byte, nonceBody, nonceBody+sha256.Size)
	binary.BigEndian.PutUint64(b, uint64(now.UnixNano()))
	rnd, _ := hex.DecodeString(randomHex(8))
	copy(b[8:], rnd)
	return base64.RawURLEncoding.EncodeToString(append(b, a.sum(b)[:nonceSum]...))
}

// nonceTime verifies a nonce of ours and returns when it was made.
func (a *Authenticator) nonceTime(s string) (time.Time, bool) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != nonceBody+nonceSum || subtle.ConstantTimeCompare(b[nonceBody:], a.sum(b[:nonceBody])[:nonceSum]) != 1 {
		return time.Time{}, false
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(b))), true
}

func (a *Authenticator) challenge(stale bool) *ChallengeError {
	e := &ChallengeError{Code: 401, Stale: stale}
	name := "WWW-Authenticate"
	if a.o.Proxy {
		e.Code, name = 407, "Proxy-Authenticate"
	}
	algs := []string{algMD5}
	if a.o.SHA256 != nil {
		algs = []string{algSHA256, algMD5}
	}
	nonce := a.newNonce(a.o.Now())
	for _, alg := range algs {
		// qop=auth is quoted here and bare in the answer (RFC 2617 section 3.2.1).
		v := `Digest realm=` + quote(a.realm) + `, nonce="` + nonce + `", algorithm=` + alg + `, qop="auth"`
		if stale {
			v += ", stale=true"
		}
		e.Headers = append(e.Headers, Header{name, v})
	}
	return e
}

func quote(s string) string {
	var b strings.Builder
	writeQuoted(&b, s)
	return b.String()
}

// credentials finds those for our realm.
func (a *Authenticator) credentials(r *Request) (Params, bool) {
	name := "Authorization"
	if a.o.Proxy {
		name = "Proxy-Authorization"
	}
	for _, v := range r.m.all(name) {
		if ps, ok := parseDigest(v); ok {
			if realm, _ := ps.Get("realm"); realm == a.realm {
				return ps, true
			}
		}
	}
	return nil, false
}

// Check returns the authenticated user. The error is a *ChallengeError to be
// answered, or ErrThrottled (answer 503 with Retry-After). An unknown user
// costs and answers the same as a wrong password.
func (a *Authenticator) Check(ctx context.Context, r *Request) (user string, err error) {
	ps, ok := a.credentials(r)
	if !ok {
		return "", a.challenge(false)
	}
	get := func(name string) string { v, _ := ps.Get(name); return v }
	user = get("username")
	if user == "" || len(user) > 256 {
		return "", a.challenge(false)
	}
	now := a.o.Now()
	from := failureKey{user: user, addr: addrGroup(r.Flow().Remote.Addr())}
	a.mu.Lock()
	wait := a.failures.blocked(from, now)
	a.mu.Unlock()
	if wait {
		return "", ErrThrottled
	}
	made, ours := a.nonceTime(get("nonce"))
	if !ours {
		return "", a.challenge(true) // of an earlier process, or made up
	}
	if !a.proves(ctx, user, get, r.m) {
		a.mu.Lock()
		a.failures.failed(from, now)
		a.mu.Unlock()
		return "", a.challenge(false)
	}
	if age := now.Sub(made); age > a.o.NonceTTL || age < -time.Minute {
		return "", a.challenge(true)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.countLocked(get("nonce"), get("qop"), get("nc"), made.Add(a.o.NonceTTL), now) {
		return "", a.challenge(true)
	}
	a.failures.succeeded(from, now)
	return user, nil
}

// proves checks the response value. It does the same work for a user that does
// not exist.
func (a *Authenticator) proves(ctx context.Context, user string, get func(string) string, m *message) bool {
	alg, look := algMD5, a.lookup
	switch s := get("algorithm"); {
	case s == "" || strings.EqualFold(s, algMD5):
	case strings.EqualFold(s, algSHA256) && a.o.SHA256 != nil:
		alg, look = algSHA256, a.o.SHA256
	default:
		return false
	}
	ha1, known := look(ctx, user)
	if !known {
		ha1 = hex.EncodeToString(a.sum([]byte(user)))[:32]
	}
	qop := get("qop")
	want := digestResponse(alg, strings.ToLower(ha1), get("nonce"), get("nc"), get("cnonce"), qop, m.method, get("uri"))
	same := subtle.ConstantTimeCompare([]byte(want), []byte(strings.ToLower(get("response")))) == 1
	okQop := qop == "" || qop == "auth" && get("cnonce") != ""
	return same && known && okQop && sameTarget(get("uri"), m.uri)
}

// sameTarget reports whether the digest's uri means the Request-URI. Devices
// leave parameters out.
func sameTarget(s string, u URI) bool {
	p, err := ParseURI(s)
	return err == nil && p.Host == u.Host && (p.User == u.User || p.User == "") && p.Opaque == u.Opaque
}

// countLocked takes one use of a nonce; false if it was used like this before.
// Without qop there is no count, so that such a nonce is good for one request.
func (a *Authenticator) countLocked(nonce, qop, nc string, expires, now time.Time) bool {
	a.sweepLocked(now)
	count := uint64(1)
	if qop != "" {
		var err error
		if count, err = strconv.ParseUint(nc, 16, 32); err != nil || len(nc) != 8 || count == 0 {
			return false
		}
	}
	n := uint32(count)
	use := a.nonces[nonce]
	if use == nil {
		if len(a.nonces) >= a.o.MaxTracked {
			return false // cannot remember it, so cannot take it
		}
		a.nonces[nonce] = &nonceUse{expires: expires, high: n, window: 1}
		return true
	}
	switch {
	case n > use.high:
		shift := n - use.high
		use.window = use.window<<shift | 1 // a shift of 64 or more clears it
		use.high = n
		return qop != ""
	case use.high-n >= 64 || use.window&(1<<(use.high-n)) != 0 || qop == "":
		return false
	}
	use.window |= 1 << (use.high - n)
	return true
}

func (a *Authenticator) sweepLocked(now time.Time) {
	if now.Sub(a.swept) < a.o.NonceTTL/8 && len(a.nonces) < a.o.MaxTracked {
		return
	}
	a.swept = now
	for k, u := range a.nonces {
		if now.After(u.expires) {
			delete(a.nonces, k)
		}
	}
	a.failures.sweep(now)
}

// addrGroup is the address, of IPv6 the /64 that one subscriber has.
func addrGroup(a netip.Addr) netip.Addr {
	if a = a.Unmap(); a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
