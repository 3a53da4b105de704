//go:build !linux

package turn

import (
	"errors"
	"net"
	"net/netip"
)

// loop exists on Linux only; elsewhere a goroutine reads each socket.
type loop struct{}

type rawSocket struct{}

func newLoop() (*loop, error) { return nil, nil } //nolint:nilnil // no loop is not an error

func (*loop) run()                           {}
func (*loop) end()                           {}
func (*loop) watch(*rawSocket, func()) error { return errors.ErrUnsupported }

func (*loop) adopt(*net.UDPConn) (*rawSocket, error) {
	return nil, errors.ErrUnsupported
}

func (*rawSocket) Close() error                      { return nil }
func (*rawSocket) localAddr() *net.UDPAddr           { return nil }
func (*rawSocket) send([]byte, netip.AddrPort) error { return errors.ErrUnsupported }
func (*rawSocket) recv([]byte) (int, netip.AddrPort, error) {
	return 0, netip.AddrPort{}, errors.ErrUnsupported
}
