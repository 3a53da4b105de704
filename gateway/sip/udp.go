package sip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	sipmsg "github.com/emiago/sipgo/sip"
)

// conn is where a transaction sends: a connection, or a peer of a UDP socket.
type conn interface {
	sipmsg.Connection
	flowOf() Flow
	// attach ties a client transaction to the connection, which fails it when
	// it closes.
	attach(t *clientTx) error
	detach(t *clientTx)
}

type udpSocket struct {
	pc    net.PacketConn
	local netip.AddrPort
}

func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return unmap(a.AddrPort())
	case *net.TCPAddr:
		return unmap(a.AddrPort())
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return unmap(ap)
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// ServeUDP serves pc until ctx ends or Close; it closes pc.
func (e *Endpoint) ServeUDP(ctx context.Context, pc net.PacketConn) error {
	s := &udpSocket{pc: pc, local: addrPort(pc.LocalAddr())}
	if !e.register(pc) {
		_ = pc.Close()
		return ErrClosed
	}
	defer e.unregister(pc)
	stop := context.AfterFunc(ctx, func() { _ = pc.Close() })
	defer stop()
	defer func() { _ = pc.Close() }()
	e.net.mu.Lock()
	e.net.udp = append(e.net.udp, s)
	e.net.mu.Unlock()
	defer func() {
		e.net.mu.Lock()
		defer e.net.mu.Unlock()
		for i, x := range e.net.udp {
			if x == s {
				e.net.udp = append(e.net.udp[:i:i], e.net.udp[i+1:]...)
				break
			}
		}
	}()

	buf := make([]byte, 65536)
	uc, _ := pc.(*net.UDPConn)
	for {
		var n int
		var from netip.AddrPort
		var err error
		if uc != nil {
			n, from, err = uc.ReadFromUDPAddrPort(buf)
		} else {
			var a net.Addr
			if n, a, err = pc.ReadFrom(buf); err == nil {
				from = addrPort(a)
			}
		}
		if err != nil {
			if ctx.Err() != nil || e.isClosing() || errors.Is(err, net.ErrClosed) {
				return nil
			}
			// An ICMP error of an earlier send; the socket lives.
			if _, ok := errors.AsType[net.Error](err); ok {
				continue
			}
			return fmt.Errorf("read udp %s: %w", s.local, err)
		}
		peer := &udpPeer{sock: s, remote: unmap(from)}
		if n > e.o.MaxMessage || (e.o.Silenced != nil && e.o.Silenced(peer.remote.Addr())) {
			continue
		}
		e.input(buf[:n], peer) //nolint:contextcheck // what it starts lives as long as the endpoint
	}
}

// udpPeer is one remote address of a UDP socket.
type udpPeer struct {
	sock   *udpSocket
	remote netip.AddrPort
}

func (p *udpPeer) flowOf() Flow {
	return Flow{Transport: transportUDP, Local: p.sock.local, Remote: p.remote}
}

func (p *udpPeer) attach(*clientTx) error          { return nil }
func (p *udpPeer) detach(*clientTx)                {}
func (p *udpPeer) LocalAddr() net.Addr             { return p.sock.pc.LocalAddr() }
func (p *udpPeer) Ref(int) int                     { return 1 }
func (p *udpPeer) TryClose() (int, error)          { return 1, nil }
func (p *udpPeer) Close() error                    { return nil }
func (p *udpPeer) WriteMsg(m sipmsg.Message) error { return p.write([]byte(m.String())) }

func (p *udpPeer) write(b []byte) error {
	var err error
	if uc, ok := p.sock.pc.(*net.UDPConn); ok {
		_, err = uc.WriteToUDPAddrPort(b, p.remote)
	} else {
		_, err = p.sock.pc.WriteTo(b, net.UDPAddrFromAddrPort(p.remote))
	}
	if err != nil {
		return fmt.Errorf("send to %s: %w", p.remote, err)
	}
	return nil
}
