package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// The argon2id parameters of new hashes: OWASP's smallest recommended set, so
// that a sign-in takes tens of milliseconds and does not disturb audio.
const (
	argonMemory  = 19 * 1024 // KiB
	argonTime    = 2
	argonThreads = 1
	argonSalt    = 16
	argonKey     = 32
	// maxPassword bounds a password in bytes.
	maxPassword = 512
	// maxWaiting bounds how many sign-ins wait for a free hasher.
	maxWaiting = 64
)

// errHash says that a stored hash is not a PHC string of argon2id.
var errHash = errors.New("stored password hash is damaged")

// phc is a parsed "$argon2id$v=19$m=…,t=…,p=…$salt$hash".
type phc struct {
	memory, time uint32
	threads      uint8
	salt, hash   []byte
}

func (p phc) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.time, p.threads,
		base64.RawStdEncoding.EncodeToString(p.salt), base64.RawStdEncoding.EncodeToString(p.hash))
}

func parsePHC(s string) (phc, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return phc{}, errHash
	}
	var p phc
	params := strings.Split(parts[3], ",")
	if len(params) != 3 {
		return phc{}, errHash
	}
	for i, name := range []string{"m=", "t=", "p="} {
		v, ok := strings.CutPrefix(params[i], name)
		n, err := strconv.ParseUint(v, 10, 32)
		if !ok || err != nil || n == 0 {
			return phc{}, errHash
		}
		switch i {
		case 0:
			p.memory = uint32(n)
		case 1:
			p.time = uint32(n)
		default:
			if n > 16 {
				return phc{}, errHash
			}
			p.threads = uint8(n)
		}
	}
	// a hash from elsewhere must not make a sign-in cost seconds
	if p.memory < 8*uint32(p.threads) || p.memory > 256*1024 || p.time > 16 {
		return phc{}, errHash
	}
	var err1, err2 error
	p.salt, err1 = base64.RawStdEncoding.Strict().DecodeString(parts[4])
	p.hash, err2 = base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(p.salt) < 8 || len(p.salt) > 64 || len(p.hash) < 16 || len(p.hash) > 64 {
		return phc{}, errHash
	}
	return p, nil
}

// hasher makes and checks password hashes, few at a time: each takes 19 MiB and
// a core.
type hasher struct {
	slots   chan struct{}
	waiting atomic.Int64
	dummy   string
}

func newHasher() *hasher {
	h := &hasher{slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	h.dummy = hashNow(rand.Text())
	return h
}

func (h *hasher) acquire(ctx context.Context) (release func(), err error) {
	if h.waiting.Add(1) > maxWaiting {
		h.waiting.Add(-1)
		return nil, ErrBusy
	}
	defer h.waiting.Add(-1)
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Hash returns the PHC string of a new password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	release, err := h.acquire(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	return hashNow(password), nil
}

func hashNow(password string) string {
	p := phc{memory: argonMemory, time: argonTime, threads: argonThreads, salt: make([]byte, argonSalt)}
	_, _ = rand.Read(p.salt)
	p.hash = argon2.IDKey([]byte(password), p.salt, p.time, p.memory, p.threads, argonKey)
	return p.String()
}

// verify reports whether the password belongs to the hash. An empty hash costs
// the same as a full one and never matches.
func (h *hasher) verify(ctx context.Context, stored, password string) (bool, error) {
	release, err := h.acquire(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	real := stored != ""
	if !real {
		stored = h.dummy
	}
	p, err := parsePHC(stored)
	if err != nil {
		return false, err
	}
	got := argon2.IDKey([]byte(password), p.salt, p.time, p.memory, p.threads, uint32(len(p.hash)))
	return subtle.ConstantTimeCompare(got, p.hash) == 1 && real, nil
}

// PasswordRules are the rules for new passwords (SEC-09).
type PasswordRules struct {
	MinLength                    int
	Lower, Upper, Digit, Special bool
}

// Check returns a *RuleError that names every broken rule.
func (r PasswordRules) Check(username, password string) error {
	var lower, upper, digit, special bool
	for _, c := range password {
		switch {
		case unicode.IsLower(c):
			lower = true
		case unicode.IsUpper(c):
			upper = true
		case unicode.IsDigit(c):
			digit = true
		default:
			special = true
		}
	}
	var need []string
	for _, c := range []struct {
		broken bool
		text   string
	}{
		{utf8.RuneCountInString(password) < r.MinLength, fmt.Sprintf("have %d characters at least", r.MinLength)},
		{len(password) > maxPassword || !utf8.ValidString(password), fmt.Sprintf("be text of %d bytes at most", maxPassword)},
		{r.Lower && !lower, "have a lower-case letter"},
		{r.Upper && !upper, "have a capital letter"},
		{r.Digit && !digit, "have a digit"},
		{r.Special && !special, "have a character that is no letter and no digit"},
		{username != "" && strings.EqualFold(username, password), "differ from the user name"},
	} {
		if c.broken {
			need = append(need, c.text)
		}
	}
	if len(need) > 0 {
		return &RuleError{Field: "password", Reason: "must " + strings.Join(need, ", ")}
	}
	return nil
}
