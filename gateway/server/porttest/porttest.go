// Package porttest gives tests ports that no other test and no outgoing
// connection of this machine takes meanwhile.
package porttest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Blocks lie below the ports that the kernel gives out by itself (32768 and
// above) and beside those of the end-to-end tests. The first port of a block
// is its lock, between processes too.
const (
	first  = 24000
	size   = 20
	blocks = 150
)

// Addrs returns n addresses on 127.0.0.1, at most 19, each free for UDP and
// TCP. They belong to the test until it ends.
func Addrs(tb testing.TB, n int) []string {
	tb.Helper()
	start := rand.IntN(blocks) //nolint:gosec // no secret
	for i := range blocks {
		base := first + (start+i)%blocks*size
		if out := take(tb, base, n); len(out) == n {
			return out
		}
	}
	tb.Fatal("no block of ports is free")
	return nil
}

// take locks a block and returns up to n free addresses of it; fewer when it
// is somebody else's or partly in use.
func take(tb testing.TB, base, n int) []string {
	tb.Helper()
	lock, err := net.Listen("tcp4", addr(base)) //nolint:noctx // does not block
	if err != nil {
		return nil
	}
	out := make([]string, 0, n)
	for p := base + 1; p < base+size && len(out) < n; p++ {
		if free(addr(p)) {
			out = append(out, addr(p))
		}
	}
	if len(out) < n {
		_ = lock.Close()
		return nil
	}
	tb.Cleanup(func() { _ = lock.Close() })
	return out
}

func addr(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

func free(addr string) bool {
	u, err := net.ListenPacket("udp4", addr) //nolint:noctx // does not block
	if err != nil {
		return false
	}
	defer func() { _ = u.Close() }()
	l, err := net.Listen("tcp4", addr) //nolint:noctx // does not block
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}
