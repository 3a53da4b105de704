package sdp

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// SDES suites that we speak (RFC 4568, RFC 7714).
const (
	AES128SHA1Tag80 = "AES_CM_128_HMAC_SHA1_80"
	AES128SHA1Tag32 = "AES_CM_128_HMAC_SHA1_32"
	AEADAES128GCM   = "AEAD_AES_128_GCM"
	AEADAES256GCM   = "AEAD_AES_256_GCM"
)

// Crypto is one a=crypto line (SDES).
type Crypto struct {
	Tag     int
	Suite   string
	Params  string // key parameters as written, "inline:…"; more than one joined by ';'
	Session string // session parameters such as UNENCRYPTED_SRTCP; empty for none
}

// KeySize is the length of master key and salt of a suite; ok is false for suites that we do not speak.
func KeySize(suite string) (key, salt int, ok bool) {
	switch suite {
	case AES128SHA1Tag80, AES128SHA1Tag32:
		return 16, 14, true
	case AEADAES128GCM:
		return 16, 12, true
	case AEADAES256GCM:
		return 32, 12, true
	}
	return 0, 0, false
}

// NewCrypto makes a line with a fresh random key.
func NewCrypto(tag int, suite string) (Crypto, error) {
	k, s, ok := KeySize(suite)
	if !ok {
		return Crypto{}, fmt.Errorf("suite %q: %w", suite, ErrCrypto)
	}
	secret := make([]byte, k+s)
	if _, err := rand.Read(secret); err != nil {
		return Crypto{}, fmt.Errorf("make srtp key: %w", err)
	}
	return Crypto{Tag: tag, Suite: suite, Params: "inline:" + base64.StdEncoding.EncodeToString(secret)}, nil
}

// Keys are the master key and salt of the line. A line with an MKI, more than
// one key, or session parameters that change the protection is refused.
func (c Crypto) Keys() (key, salt []byte, err error) {
	k, s, ok := KeySize(c.Suite)
	if !ok {
		return nil, nil, fmt.Errorf("suite %q: %w", c.Suite, ErrCrypto)
	}
	if c.Session != "" && !strings.HasPrefix(c.Session, "WSH=") || strings.Contains(c.Session, " ") {
		return nil, nil, fmt.Errorf("session parameters: %w", ErrCrypto)
	}
	inline, found := strings.CutPrefix(c.Params, "inline:")
	if !found || strings.Contains(inline, ";") {
		return nil, nil, fmt.Errorf("key method: %w", ErrCrypto)
	}
	inline, rest, _ := strings.Cut(inline, "|")
	if strings.Contains(rest, ":") {
		return nil, nil, fmt.Errorf("mki: %w", ErrCrypto)
	}
	secret, err := base64.StdEncoding.DecodeString(inline)
	if err != nil { // some leave the padding out
		secret, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(inline, "="))
	}
	if err != nil || len(secret) != k+s {
		return nil, nil, fmt.Errorf("key of %d bytes, want %d: %w", len(secret), k+s, ErrCrypto)
	}
	return secret[:k], secret[k:], nil
}

// ChooseCrypto is the first line of an offer that we can use.
func ChooseCrypto(offered []Crypto) (Crypto, bool) {
	for _, c := range offered {
		if _, _, err := c.Keys(); err == nil {
			return c, true
		}
	}
	return Crypto{}, false
}

func parseCrypto(v string) (Crypto, error) {
	f := strings.Fields(v)
	if len(f) < 3 {
		return Crypto{}, fmt.Errorf("crypto with %d fields: %w", len(f), ErrSyntax)
	}
	tag, err := strconv.Atoi(f[0])
	if err != nil || tag < 0 || len(f[0]) > 9 {
		return Crypto{}, fmt.Errorf("crypto tag %.20q: %w", f[0], ErrSyntax)
	}
	return Crypto{Tag: tag, Suite: f[1], Params: f[2], Session: strings.Join(f[3:], " ")}, nil
}

func (c Crypto) appendTo(b []byte) []byte {
	b = fmt.Appendf(b, "a=crypto:%d %s %s", c.Tag, c.Suite, c.Params)
	if c.Session != "" {
		b = append(append(b, ' '), c.Session...)
	}
	return append(b, "\r\n"...)
}
