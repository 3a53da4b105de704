package turn

import (
	"net"
	"net/netip"
	"time"
)

// socket is a UDP socket to send by.
type socket interface {
	send(b []byte, to netip.AddrPort) error
	localAddr() *net.UDPAddr
	Close() error
}

// netSocket is one of package net.
type netSocket struct{ *net.UDPConn }

func (s netSocket) send(b []byte, to netip.AddrPort) error {
	_, err := s.WriteToUDPAddrPort(b, to)
	return err //nolint:wrapcheck // only its presence matters
}

func (s netSocket) localAddr() *net.UDPAddr {
	if a, ok := s.LocalAddr().(*net.UDPAddr); ok {
		return a
	}
	return &net.UDPAddr{}
}

// packet is a datagram on its way to the library.
type packet struct {
	data []byte
	from netip.AddrPort
}

// noDeadline completes net.PacketConn with what the library never calls.
type noDeadline struct{}

// SetDeadline implements net.PacketConn.
func (noDeadline) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn.
func (noDeadline) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.PacketConn.
func (noDeadline) SetWriteDeadline(time.Time) error { return nil }

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
