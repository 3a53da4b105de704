package softphone

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// watchEvery is how often the addresses of this machine are looked at.
const watchEvery = 2 * time.Second

// addresses are those that media could use, sorted.
func addresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of this machine: %w", err)
	}
	var out []netip.Addr
	for _, a := range list {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		if ip, ok := netip.AddrFromSlice(n.IP); ok && !ip.Unmap().IsLoopback() && !ip.IsLinkLocalUnicast() {
			out = append(out, ip.Unmap())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out, nil
}

// watch tells when the addresses of this machine change, until ctx ends.
func watch(ctx context.Context, every time.Duration, look func() ([]netip.Addr, error), changed func()) {
	last, lastErr := look()
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now, err := look()
		if err != nil {
			continue // nothing is known; the next look may tell
		}
		if lastErr == nil && !slices.Equal(now, last) {
			changed()
		}
		last, lastErr = now, nil
	}
}
