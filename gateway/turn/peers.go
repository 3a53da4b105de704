package turn

import "net/netip"

// peers is the gateway's own media: the only place a relay reaches or hears.
type peers struct {
	addr, local netip.Addr // as clients name it, as our sockets reach it
	ports       []PortRange
}

func (p *peers) port(n uint16) bool {
	for _, r := range p.ports {
		if n >= r.First && n <= r.Last {
			return true
		}
	}
	return false
}

// target translates a peer as a client names it into where its packets go.
func (p *peers) target(a netip.AddrPort) (netip.AddrPort, bool) {
	if a.Addr().Unmap() != p.addr || !p.port(a.Port()) {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(p.local, a.Port()), true
}

// origin translates the source of a packet into the peer as a client names it.
func (p *peers) origin(a netip.AddrPort) (netip.AddrPort, bool) {
	if a.Addr().Unmap() != p.local || !p.port(a.Port()) {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(p.addr, a.Port()), true
}
