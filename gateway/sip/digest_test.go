package sip_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
)

// LOG-IN by digest over a real socket: both algorithms, unknown users.
func TestDigestClientAgainstServer(t *testing.T) {
	for _, sha := range []bool{false, true} {
		o := sip.AuthOptions{}
		if sha {
			o.SHA256 = func(_ context.Context, u string) (string, bool) { return sip.HA1SHA256(u, "r", "right"), u == "ana" }
		}
		a := sip.NewAuthenticator("r", []byte("secret"), func(_ context.Context, u string) (string, bool) { return sip.HA1(u, "r", "right"), u == "ana" }, o)
		server := newEndpoint(t, &handler{request: func(r *sip.Request) {
			user, err := a.Check(t.Context(), r)
			var ch *sip.ChallengeError
			switch {
			case errors.As(err, &ch):
				_ = r.Respond(ch.Code, "", ch.Headers...)
			case err != nil:
				_ = r.Respond(503, "", sip.Header{Name: "Retry-After", Value: "1"})
			default:
				_ = r.Respond(200, "Hello "+user)
			}
		}})
		addr := server.udp(t)
		client := newEndpoint(t, &handler{})
		client.udp(t)
		for _, tt := range []struct {
			user, pass string
			want       int
		}{{"ana", "right", 200}, {"ana", "wrong", 401}, {"nobody", "right", 401}} {
			r, err := client.Send(t.Context(), sip.Outgoing{
				Method: "REGISTER", URI: mustURI("sip:" + addr.String()), From: sip.Address{URI: mustURI("sip:ana@r")}, To: sip.Address{URI: mustURI("sip:ana@r")},
				Credentials: &sip.Credentials{Username: tt.user, Password: tt.pass},
			})
			if err != nil || r.Code != tt.want {
				t.Errorf("sha=%v %v: %d %v", sha, tt, r.Code, err)
			}
		}
	}
}

// authBench is an authenticator behind the bubble's endpoint.
func authBench(b *bubble, o sip.AuthOptions) func(from string, seq int, auth string) (code int, challenge string) {
	a := sip.NewAuthenticator("r", []byte("secret"), func(_ context.Context, u string) (string, bool) {
		return sip.HA1(u, "r", "right"), u == "ana" || u == "bob"
	}, o)
	b.h.request = func(r *sip.Request) {
		_, err := a.Check(b.t.Context(), r)
		var ch *sip.ChallengeError
		switch {
		case errors.As(err, &ch):
			_ = r.Respond(ch.Code, "", ch.Headers...)
		case errors.Is(err, sip.ErrThrottled):
			_ = r.Respond(503, "")
		case err != nil:
			_ = r.Respond(500, "")
		default:
			_ = r.Respond(200, "")
		}
	}
	var n atomic.Int32
	return func(from string, seq int, auth string) (int, string) {
		p := b.newPeer(fmt.Sprintf("%s:%d", from, 6000+n.Add(1)))
		h := []string{"X: y"}
		if auth != "" {
			h = append(h, "Authorization: "+auth)
		}
		m := strings.ReplaceAll(request("REGISTER", seq, "<sip:ana@r>", h, ""), "z9hG4bK", fmt.Sprintf("z9hG4bKx%d", n.Load()))
		p.Send(strings.Replace(m, "c1@peer", fmt.Sprintf("c%d@peer", n.Load()), 1))
		r := p.Read()
		return r.Status(), r.Get("WWW-Authenticate")
	}
}

var reNonce = regexp.MustCompile(`nonce="([^"]+)"`)

func credentials(user, pass, challenge, nc string) string {
	nonce := reNonce.FindStringSubmatch(challenge)[1]
	const uri = "sip:alice@10.0.0.1"
	if nc == "" { // RFC 2069
		return fmt.Sprintf(`Digest username="%s", realm="r", nonce="%s", uri="%s", response="%s"`, user, nonce, uri, sip.DigestForTest("MD5", sip.HA1(user, "r", pass), nonce, "", "", "", "REGISTER", uri))
	}
	return fmt.Sprintf(`Digest username="%s", realm="r", nonce="%s", uri="%s", qop=auth, nc=%s, cnonce="c", response="%s"`, user, nonce, uri, nc, sip.DigestForTest("MD5", sip.HA1(user, "r", pass), nonce, nc, "c", "auth", "REGISTER", uri))
}

func TestDigestReplayExpiryAndStale(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		try := authBench(b, sip.AuthOptions{NonceTTL: time.Minute})
		want := func(auth string, code int, stale bool) string {
			t.Helper()
			got, ch := try("10.0.0.9", 1, auth)
			if got != code || strings.Contains(ch, "stale=true") != stale {
				t.Fatalf("%d %s", got, ch)
			}
			return ch
		}
		ch := want("", 401, false)
		want(credentials("ana", "right", ch, "00000001"), 200, false)
		want(credentials("ana", "right", ch, "00000001"), 401, true) // replayed
		want(credentials("ana", "right", ch, "00000003"), 200, false)
		want(credentials("ana", "right", ch, "00000002"), 200, false) // overtaken on the way
		want(credentials("ana", "right", ch, "00000002"), 401, true)
		want(credentials("ana", "right", ch, "00000000"), 401, true)
		want(credentials("ana", "right", ch, ""), 401, true)
		ch = want("", 401, false)
		want(credentials("ana", "right", ch, ""), 200, false) // RFC 2069, once
		want(credentials("ana", "right", ch, ""), 401, true)
		ch = want("", 401, false)
		time.Sleep(61 * time.Second)
		want(credentials("ana", "right", ch, "00000001"), 401, true) // expired
		want(credentials("ana", "right", `nonce="AAAA"`, "00000001"), 401, true)
		want(`NoOneKnowsThisScheme opaque-data=here`, 401, false)
		want(`Digest username="ana`, 401, false)
	})
}

func TestDigestBackOffLocksOutOnlyTheGuesser(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		try := authBench(b, sip.AuthOptions{Failures: 3})
		_, ch := try("10.0.0.9", 1, "")
		nc := 0
		right := func(user, from string) int {
			nc++
			code, _ := try(from, 1, credentials(user, "right", ch, fmt.Sprintf("%08x", nc)))
			return code
		}
		if right("bob", "10.0.0.66") != 200 { // bob works behind the guesser's address
			t.Fatal("bob")
		}
		for range 3 {
			if code, _ := try("10.0.0.66", 1, credentials("ana", "guess", ch, "00000001")); code != 401 {
				t.Fatal(code)
			}
		}
		if code := right("ana", "10.0.0.66"); code != 503 {
			t.Fatal("the guesser goes on", code)
		}
		if code := right("ana", "10.0.0.9"); code != 200 {
			t.Fatal("ana is locked out by another address", code)
		}
		time.Sleep(2 * time.Second)
		if code := right("ana", "10.0.0.66"); code != 200 {
			t.Fatal("still locked", code)
		}
		for i := range 70 { // many names from one address
			_, _ = try("10.0.0.66", 1, credentials(fmt.Sprintf("u%d", i), "guess", ch, "00000001"))
		}
		if code, _ := try("10.0.0.66", 1, credentials("new", "right", ch, "00000001")); code != 503 {
			t.Fatal("the address goes on", code)
		}
		if code := right("bob", "10.0.0.66"); code != 200 {
			t.Fatal("bob is locked out by his neighbour", code)
		}
	})
}
