package server

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/cordboard/cordboard/gateway/config"
)

// The authority asks for the certificate's name by a protocol of its own, which
// the listener must speak.
func TestAuthorityCanAskForTheName(t *testing.T) {
	c := config.Default()
	c.Data = t.TempDir()
	c.HTTP.TLS.ACME = "voice.example.com"
	conf, path, err := certificate(c, time.Now())
	if err != nil || path != "" {
		t.Fatalf("%q, %v", path, err)
	}
	if got := webTLS(conf).NextProtos; !slices.Equal(got, []string{"http/1.1", acme.ALPNProto}) {
		t.Errorf("protocols %v", got)
	}
	c.HTTP.TLS.ACME = ""
	if conf, _, err = certificate(c, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := webTLS(conf).NextProtos; !slices.Equal(got, []string{"http/1.1"}) {
		t.Errorf("protocols %v", got)
	}
}
