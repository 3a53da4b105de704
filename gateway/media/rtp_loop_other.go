//go:build !linux

package media

import (
	"errors"
	"net"
	"net/netip"
	"time"
)

// loop exists on Linux only; elsewhere a goroutine reads each socket.
type loop struct{}

func newLoop() (*loop, error) { return nil, nil } //nolint:nilnil // no loop is not an error

func (*loop) run() {}
func (*loop) end() {}

func (*loop) sockets() int { return 0 }

func (*loop) adopt(*net.UDPConn, func([]byte, netip.AddrPort, time.Time)) (rtpSocket, error) {
	return nil, errors.ErrUnsupported
}
