package sip

// DigestForTest lets tests of the outside compute responses.
func DigestForTest(alg, ha1, nonce, nc, cnonce, qop, method, uri string) string {
	return digestResponse(alg, ha1, nonce, nc, cnonce, qop, method, uri)
}
