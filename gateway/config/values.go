package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nyaruka/phonenumbers"
)

// minRTPPorts is the smallest range of media ports: a call needs four.
const minRTPPorts = 16

// String writes a range as FIRST-LAST.
func (p Ports) String() string { return fmt.Sprintf("%d-%d", p.First, p.Last) }

// UnmarshalText reads FIRST-LAST.
func (p *Ports) UnmarshalText(b []byte) error {
	bad := errors.New(`must be ports such as "10000-20000"`)
	lo, hi, ok := strings.Cut(string(b), "-")
	if !ok {
		return bad
	}
	first, err1 := strconv.ParseUint(strings.TrimSpace(lo), 10, 16)
	last, err2 := strconv.ParseUint(strings.TrimSpace(hi), 10, 16)
	switch {
	case err1 != nil || err2 != nil:
		return bad
	case first < 1024:
		return errors.New("must begin at port 1024 or above")
	case first+minRTPPorts-1 > last:
		return fmt.Errorf("must hold %d ports at least", minRTPPorts)
	}
	p.First, p.Last = uint16(first), uint16(last)
	return nil
}

// Contains reports whether the port lies in the range.
func (p Ports) Contains(port uint16) bool { return port >= p.First && port <= p.Last }

func free(s string) error {
	if strings.ContainsAny(s, "\x00\n\r") {
		return errors.New("must be one line of text")
	}
	return nil
}

func required(s string) error {
	if strings.TrimSpace(s) == "" {
		return errors.New("must not be empty")
	}
	return free(s)
}

// address checks a listen address: host:port, :port, or empty for off. Port 0
// takes a free one.
func address(s string) error {
	if s == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New(`must be an address such as ":5060" or "192.0.2.1:5060", or empty to turn it off`)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errors.New("must have a port from 0 to 65535")
	}
	if host == "" || host == "localhost" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return errors.New("must have an IP address of this machine, or none, before the port")
	}
	return nil
}

func httpAddress(s string) error {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return address(s)
	}
	rest = strings.TrimSuffix(rest, "/")
	if scheme != "http" && scheme != "https" {
		return errors.New("must be HOST:PORT or http://LOOPBACK:PORT")
	}
	if rest == "" {
		return errors.New("must have an address after ://")
	}
	if err := address(rest); err != nil {
		return err
	}
	if scheme == "https" {
		return nil
	}
	host, _, err := net.SplitHostPort(rest)
	if err != nil {
		return errors.New("must be http://LOOPBACK:PORT")
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return errors.New("may be plain http:// on a loopback address only; leave http:// off for TLS")
	}
	return nil
}

func hostName(s string) error {
	if s == "" {
		return nil
	}
	if len(s) > 253 || !strings.Contains(s, ".") || strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.'
	}) {
		return errors.New("must be a host name such as voice.example.com")
	}
	return nil
}

func realm(s string) error {
	if s == "" || len(s) > 128 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' || r == ':' }) {
		return errors.New("must be 1 to 128 plain characters without quotes or colons")
	}
	return nil
}

func schemes(allowed ...string) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		u, err := url.Parse(s)
		if err != nil || !slices.Contains(allowed, u.Scheme) || (u.Host == "" && u.Path == "") {
			// the URL itself may hold a password: never repeat it
			return fmt.Errorf("must be empty or a URL that begins with %s://", strings.Join(allowed, ":// or "))
		}
		return nil
	}
}

func natsURLs(s string) error {
	if s == "" {
		return nil
	}
	check := schemes("nats", "tls", "ws", "wss")
	for u := range strings.SplitSeq(s, ",") {
		if u = strings.TrimSpace(u); u == "" {
			return errors.New("must not have an empty address between commas")
		} else if err := check(u); err != nil {
			return err
		}
	}
	return nil
}

func syncMode(s string) error {
	if s == "always" {
		return nil
	}
	if d, err := time.ParseDuration(s); err != nil || d < 10*time.Millisecond || d > time.Minute {
		return errors.New(`must be "always" or a duration from 10ms to 1m`)
	}
	return nil
}

func oneOf(allowed ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(allowed, s) {
			return fmt.Errorf("must be one of %s", strings.Join(allowed, ", "))
		}
		return nil
	}
}

func timezone(s string) error {
	if s == "" || s == "Local" {
		return errors.New("must be an IANA name such as America/Montevideo")
	}
	if _, err := time.LoadLocation(s); err != nil {
		return errors.New("is not a known time zone; use an IANA name such as America/Montevideo")
	}
	return nil
}

func country(s string) error {
	if s != "" && (len(s) != 2 || phonenumbers.GetCountryCodeForRegion(s) == 0) {
		return errors.New("must be a country code of two capitals such as UY, or empty")
	}
	return nil
}
