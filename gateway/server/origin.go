package server

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// originAllowed lets pages of this gateway connect, and clients that are no
// page. Others are refused: a foreign page must not use a user's network. The
// pages come from http.listen, and their phone may use sip.wss of the same host.
func (s *Server) originAllowed(origin string, r *http.Request) bool {
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	if strings.EqualFold(u.Host, r.Host) {
		return true
	}
	addr, secure := s.c.HTTP.Addr()
	_, ui, err := net.SplitHostPort(addr)
	if err != nil || secure != (u.Scheme == "https") {
		return false
	}
	port := u.Port()
	if port == "" {
		port = map[bool]string{true: "443", false: "80"}[secure]
	}
	return port == ui && strings.EqualFold(u.Hostname(), (&url.URL{Host: r.Host}).Hostname())
}
