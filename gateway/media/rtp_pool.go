package media

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
)

// Default range of RTP ports, both ends included.
const (
	defaultLowPort  = 10000
	defaultHighPort = 20000
)

// errPortRange means that a port range holds no even and odd pair.
var errPortRange = errors.New("not a port range")

// portPool hands out pairs of an even RTP port and the odd RTCP port after it
// (RFC 3550 section 11): in random order, and a pair that was given back only
// after all others, so that packets still on their way to an ended call do not
// meet a new one.
type portPool struct {
	network string
	bind    netip.Addr

	mu   sync.Mutex
	free []uint16 // a queue: taken in front, given back behind
}

func newPortPool(bind, host netip.Addr, bounds [2]uint16) (*portPool, error) {
	low, high := int(bounds[0]), int(bounds[1])
	if low == 0 && high == 0 {
		low, high = defaultLowPort, defaultHighPort
	}
	if low%2 == 1 {
		low++
	}
	if low < 2 || low+1 > high {
		return nil, fmt.Errorf("rtp ports %d-%d: %w", bounds[0], bounds[1], errPortRange)
	}
	p := &portPool{network: "udp4", bind: bind}
	if bind.Is6() || !bind.IsValid() && host.Is6() {
		p.network = "udp6"
	}
	for port := low; port < high; port += 2 {
		p.free = append(p.free, uint16(port))
	}
	rand.Shuffle(len(p.free), func(i, j int) { //nolint:gosec // a port is spread, not kept secret: the latch refuses strangers
		p.free[i], p.free[j] = p.free[j], p.free[i]
	})
	return p, nil
}

// open binds the next free pair. A port that another program holds is passed over.
func (p *portPool) open() (rtp, rtcp *net.UDPConn, port uint16, err error) {
	for range p.len() {
		next, ok := p.take()
		if !ok {
			break
		}
		if rtp, rtcp, err = p.bindPair(next); err == nil {
			return rtp, rtcp, next, nil
		}
		p.release(next)
	}
	if err == nil {
		return nil, nil, 0, ErrNoPorts
	}
	return nil, nil, 0, fmt.Errorf("%w: %w", ErrNoPorts, err)
}

func (p *portPool) bindPair(port uint16) (rtp, rtcp *net.UDPConn, err error) {
	var ip net.IP
	if p.bind.IsValid() {
		ip = p.bind.AsSlice()
	}
	rtp, err = net.ListenUDP(p.network, &net.UDPAddr{IP: ip, Port: int(port)})
	if err != nil {
		return nil, nil, fmt.Errorf("bind rtp port %d: %w", port, err)
	}
	rtcp, err = net.ListenUDP(p.network, &net.UDPAddr{IP: ip, Port: int(port) + 1})
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("bind rtcp port %d: %w", port+1, err), rtp.Close())
	}
	return rtp, rtcp, nil
}

func (p *portPool) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.free)
}

func (p *portPool) take() (uint16, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		return 0, false
	}
	port := p.free[0]
	p.free = p.free[1:]
	return port, true
}

func (p *portPool) release(port uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, port)
}
