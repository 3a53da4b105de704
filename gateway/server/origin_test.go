package server

import (
	"net/http"
	"testing"

	"github.com/cordboard/cordboard/gateway/config"
)

func TestPagesOfThisGatewayMayConnectAndNoOthers(t *testing.T) {
	c := config.Default()
	c.HTTP.Listen = ":8443"
	s := &Server{c: c}
	for _, tt := range []struct {
		name, origin, host string
		want               bool
	}{
		{"no page", "", "pbx.example:8089", true},
		{"the listener's own page", "https://pbx.example:8089", "pbx.example:8089", true},
		{"the page of http.listen", "https://PBX.example:8443", "pbx.example:8089", true},
		{"an address of version 6", "https://[::1]:8443", "[::1]:8089", true},
		{"the page of http.listen without TLS", "http://pbx.example:8443", "pbx.example:8089", false},
		{"another port of this machine", "https://pbx.example:9000", "pbx.example:8089", false},
		{"the default port", "https://pbx.example", "pbx.example:8089", false},
		{"a foreign page", "https://evil.example:8443", "pbx.example:8089", false},
		{"a name that begins alike", "https://pbx.example:8443.evil.example", "pbx.example:8089", false},
		{"no origin at all", "null", "pbx.example:8089", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := s.originAllowed(tt.origin, &http.Request{Host: tt.host}); got != tt.want {
				t.Errorf("allowed %v, want %v", got, tt.want)
			}
		})
	}
}
