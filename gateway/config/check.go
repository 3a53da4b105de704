package config

import (
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
)

// listener is a socket that the configuration asks for.
type listener struct {
	key, network, host string
	port               uint16
}

// crossCheck finds what is wrong between keys.
func (r *reader) crossCheck() {
	c := r.config
	switch t := c.HTTP.TLS; {
	case t.ACME != "" && (t.Cert != "" || t.Key != ""):
		r.at("http.tls.acme", "cannot be set together with cert and key")
	case (t.Cert == "") != (t.Key == ""):
		key, other := "http.tls.cert", "http.tls.key"
		if t.Cert == "" {
			key, other = other, key
		}
		r.at(key, "cannot be set without "+other)
	case t.Cert != "":
		if _, err := tls.LoadX509KeyPair(t.Cert, t.Key); err != nil {
			r.at("http.tls.cert", fmt.Sprintf("cannot be used: %v", err))
		}
	}
	if c.Auth.SessionIdle > c.Auth.SessionMax {
		r.at("auth.session_idle", "must not be longer than auth.session_max")
	}
	r.checkListeners()
}

func (r *reader) checkListeners() {
	c := r.config
	httpAddr, _ := c.HTTP.Addr()
	var all []listener
	for _, l := range []struct{ key, network, addr string }{
		{"http.listen", "tcp", httpAddr},
		{"sip.udp", "udp", c.SIP.UDP},
		{"sip.tcp", "tcp", c.SIP.TCP},
		{"sip.tls", "tcp", c.SIP.TLS},
		{"sip.wss", "tcp", c.SIP.WSS},
		{"turn.udp", "udp", c.TURN.UDP},
		{"turn.tcp", "tcp", c.TURN.TCP},
		{"turn.tls", "tcp", c.TURN.TLS},
		{"media.webrtc_udp", "udp", c.Media.WebRTCUDP},
	} {
		host, port, err := net.SplitHostPort(l.addr)
		n, err2 := strconv.ParseUint(port, 10, 16)
		if err != nil || err2 != nil || n == 0 {
			continue // off, any port, or named as a problem already
		}
		this := listener{key: l.key, network: l.network, host: host, port: uint16(n)}
		for _, o := range all {
			if o.network == this.network && o.port == this.port && (o.host == this.host || wide(o.host) || wide(this.host)) {
				r.at(this.key, fmt.Sprintf("takes %s port %d, which %s has already", this.network, this.port, o.key))
			}
		}
		if this.network == "udp" && c.Media.RTPPorts.Contains(this.port) {
			r.at(this.key, fmt.Sprintf("lies within media.rtp_ports (%s)", c.Media.RTPPorts))
		}
		all = append(all, this)
	}
}

func wide(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }
