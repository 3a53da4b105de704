//go:build e2e && linux

package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

// The ports of the tests lie above and below those that the kernel gives to
// others (32768 to 60999), where no other test or default of ours is.
const (
	blockSize = 200
	// peerPorts is how many ports of a block peers and phones may take; the
	// gateway's RTP has blockSize minus that.
	peerPorts = 60

	aboveFirst, aboveBlocks = 61000, 22
	belowFirst, belowBlocks = 30000, 13
)

// block is a range of ports that nobody else has while the test runs. A
// listener on its first port is the lock, between processes too.
type block struct {
	base, next int
}

// newBlock takes a free block for as long as the test runs, and waits for one
// when all are taken.
func newBlock(tb testing.TB) *block {
	tb.Helper()
	var b *block
	start := rand.IntN(aboveBlocks) //nolint:gosec // no secret
	Until(tb, 2*time.Minute, "a block of ports is free", func() bool {
		for i := range aboveBlocks + belowBlocks {
			base := aboveFirst + (start+i)%aboveBlocks*blockSize
			if i >= aboveBlocks {
				base = belowFirst + (i-aboveBlocks)*blockSize
			}
			l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", base)) //nolint:noctx // does not block
			if err != nil {
				continue
			}
			tb.Cleanup(func() { _ = l.Close() })
			b = &block{base: base, next: base + 1}
			return true
		}
		return false
	})
	return b
}

// take returns the next port that is free for UDP and TCP on 127.0.0.1.
func (b *block) take(tb testing.TB) int {
	tb.Helper()
	for b.next < b.base+peerPorts {
		p := b.next
		b.next++
		if free(p) {
			return p
		}
	}
	tb.Fatalf("all ports from %d to %d are taken", b.base, b.base+peerPorts)
	return 0
}

// takeEven returns an even port whose successor is free as well, for RTP.
func (b *block) takeEven(tb testing.TB) int {
	tb.Helper()
	for {
		if p := b.take(tb); p%2 == 0 && p+1 < b.base+peerPorts && free(p+1) {
			b.next = p + 2
			return p
		}
	}
}

func free(port int) bool {
	addr := fmt.Sprintf("127.0.0.1:%d", port)
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
