package turn

import "sync/atomic"

// Stats are a server's present state and its counters since the start.
type Stats struct {
	Allocations int // live
	Connections int // TCP and TLS, live

	ToPeerPackets, ToPeerBytes     uint64 // relayed from clients
	ToClientPackets, ToClientBytes uint64 // relayed to clients

	PeerRefused   uint64 // packets and bindings towards anything but our own media
	Strangers     uint64 // packets to a relay from anything but our own media
	RateLimited   uint64 // messages dropped by the rate limit per address
	QuotaRefused  uint64 // allocations beyond the user's quota or the total
	Unauthorized  uint64 // requests of unknown or ended users
	Garbage       uint64 // messages that are neither STUN nor channel data, or make no sense
	ConnsRefused  uint64 // connections beyond their bounds
	AllocsStarted uint64
}

type counters struct {
	toPeer, toPeerBytes, toClient, toClientBytes                        atomic.Uint64
	peerRefused, strangers, limited, quota, unauthorized, garbage, conn atomic.Uint64
	allocs                                                              atomic.Uint64
}

// Stats returns a snapshot for metrics.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	allocs, conns := s.allocs, len(s.conns)
	s.mu.Unlock()
	c := &s.stats
	return Stats{
		Allocations: allocs, Connections: conns,
		ToPeerPackets: c.toPeer.Load(), ToPeerBytes: c.toPeerBytes.Load(),
		ToClientPackets: c.toClient.Load(), ToClientBytes: c.toClientBytes.Load(),
		PeerRefused: c.peerRefused.Load(), Strangers: c.strangers.Load(),
		RateLimited: c.limited.Load(), QuotaRefused: c.quota.Load(),
		Unauthorized: c.unauthorized.Load(), Garbage: c.garbage.Load(),
		ConnsRefused: c.conn.Load(), AllocsStarted: c.allocs.Load(),
	}
}
