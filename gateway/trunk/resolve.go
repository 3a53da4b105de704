package trunk

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	portSIP  = 5060
	portSIPS = 5061

	// lookupFor bounds one look-up of a name.
	lookupFor = 5 * time.Second

	// maxPlaces bounds what a look-up may bring.
	maxPlaces = 16
)

// splitAddress reads host, host:port, [v6]:port and v6.
func splitAddress(s string) (host string, port int, err error) {
	bare := strings.Trim(s, "[]")
	if a, err := netip.ParseAddr(bare); err == nil {
		return a.String(), 0, nil
	}
	if !strings.Contains(s, ":") {
		return s, 0, nil
	}
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, fmt.Errorf("%w: address %q", ErrOptions, s)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, fmt.Errorf("%w: address %q", ErrOptions, s)
	}
	return host, int(n), nil
}

// fallback is where the carrier is if no look-up says better.
func (c *config) fallback() string {
	def := portSIP
	if c.Transport == TLS {
		def = portSIPS
	}
	return net.JoinHostPort(c.host, strconv.Itoa(cmp.Or(c.port, def)))
}

// uriHost is the carrier's name in a URI.
func (c *config) uriHost() string {
	if strings.Contains(c.host, ":") {
		return "[" + c.host + "]"
	}
	return c.host
}

// resolve looks up where the carrier is: by SRV (RFC 3263 section 4.2) if the
// address is a name without port. What was found before stays if nothing is
// found now; the place in use stays first as long as it is still named.
func (l *Line) resolve(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookupFor)
	defer cancel()
	var found []place
	if _, err := netip.ParseAddr(l.cfg.host); err != nil && l.cfg.port == 0 {
		found = l.lookupSRV(ctx)
	}
	if len(found) == 0 {
		found = []place{{dest: l.cfg.fallback(), addrs: l.lookupIP(ctx, l.cfg.host)}}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.places) > 0 {
		for i, p := range found {
			if p.dest == l.places[0].dest {
				if len(p.addrs) == 0 {
					p.addrs = l.places[0].addrs
				}
				copy(found[1:i+1], found[:i])
				found[0] = p
				break
			}
		}
	}
	l.places = found
}

// lookupSRV returns the targets in the order of priority and weight that the
// resolver gives them.
func (l *Line) lookupSRV(ctx context.Context) []place {
	service, proto := "sip", "udp"
	switch l.cfg.Transport {
	case UDP:
	case TCP:
		proto = "tcp"
	case TLS:
		service, proto = "sips", "tcp"
	}
	_, records, err := l.t.o.Resolver.LookupSRV(ctx, service, proto, l.cfg.host)
	if err != nil {
		return nil
	}
	var out []place
	for _, r := range records {
		host := strings.TrimSuffix(r.Target, ".")
		if host == "" || r.Port == 0 || len(out) == maxPlaces {
			continue
		}
		out = append(out, place{
			dest:  net.JoinHostPort(host, strconv.Itoa(int(r.Port))),
			addrs: l.lookupIP(ctx, host),
		})
	}
	return out
}

// lookupIP returns the addresses of a host, none if it has none now.
func (l *Line) lookupIP(ctx context.Context, host string) []netip.Addr {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}
	}
	addrs, err := l.t.o.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs[:min(len(addrs), maxPlaces)]
}

// nextPlace turns to the carrier's next place after a failure.
func (l *Line) nextPlace() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.places) > 1 {
		l.places = append(l.places[1:len(l.places):len(l.places)], l.places[0])
	}
}

// isAt reports whether the carrier has an address.
func (l *Line) isAt(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.places {
		if slices.Contains(p.addrs, a) {
			return true
		}
	}
	return false
}
