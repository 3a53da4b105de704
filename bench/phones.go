package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// phones are the desk phones of all agents on one UDP socket. They ring,
// answer at once and talk until the gateway hangs up.
type phones struct {
	conn    *net.UDPConn
	sink    *net.UDPConn // takes the sound of calls without media of their own
	local   netip.AddrPort
	gateway netip.AddrPort
	// answer makes the description of a call's media; nil = one port that
	// nobody reads.
	answer func(number, offer string) (string, error)
	// ringing is told of each new INVITE with the caller's number.
	ringing func(number string, at time.Time)

	connected, ended atomic.Int64
	done             sync.WaitGroup

	mu    sync.Mutex
	calls map[string]string      // by Call-ID: the 200 that was sent
	wait  map[string]chan string // by Call-ID of a REGISTER
}

// listen opens a UDP socket with large buffers.
func listen(ctx context.Context, host string) (*net.UDPConn, error) {
	pc, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp4", host+":0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	c, ok := pc.(*net.UDPConn)
	if !ok {
		return nil, errProc
	}
	if err := c.SetReadBuffer(4 << 20); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return c, nil
}

func localOf(c *net.UDPConn) netip.AddrPort {
	a, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func newPhones(ctx context.Context, gateway netip.AddrPort) (*phones, error) {
	c, err := listen(ctx, hostPhones)
	if err != nil {
		return nil, err
	}
	sink, err := listen(ctx, hostPhones)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	p := &phones{conn: c, sink: sink, local: localOf(c), gateway: gateway, calls: map[string]string{}, wait: map[string]chan string{}}
	p.done.Go(p.read)
	return p, nil
}

func (p *phones) close() {
	_, _ = p.conn.Close(), p.sink.Close()
	p.done.Wait()
}

func (p *phones) send(s string) { _, _ = p.conn.WriteToUDPAddrPort([]byte(s), p.gateway) }

func (p *phones) contact(user string) string { return fmt.Sprintf("sip:%s@%s", user, p.local) }

func (p *phones) read() {
	buf := make([]byte, 64<<10)
	for {
		n, _, err := p.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		p.take(message(buf[:n]), time.Now())
	}
}

func (p *phones) take(m message, at time.Time) {
	id := m.header("Call-ID")
	switch m.method() {
	case "":
		p.mu.Lock()
		w := p.wait[id]
		p.mu.Unlock()
		if w != nil && m.status() >= 200 {
			select {
			case w <- string(m):
			default:
			}
		}
	case "INVITE":
		p.invited(m, id, at)
	case "ACK":
		p.connected.Add(1)
	case "CANCEL":
		p.send(m.reply(200, "OK", "p", "", ""))
		p.forget(id)
	case "BYE":
		p.ended.Add(1)
		p.send(m.reply(200, "OK", "p", "", ""))
		p.forget(id)
	default:
		p.send(m.reply(200, "OK", "p", "", ""))
	}
}

func (p *phones) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, id)
}

func (p *phones) invited(m message, id string, at time.Time) {
	p.mu.Lock()
	ok := p.calls[id]
	p.mu.Unlock()
	if ok != "" { // sent again
		p.send(ok)
		return
	}
	number := m.user("From")
	if p.ringing != nil {
		p.ringing(number, at)
	}
	sdp := describe(localOf(p.sink), "")
	if p.answer != nil {
		var err error
		if sdp, err = p.answer(number, m.body()); err != nil {
			p.send(m.reply(488, "Not Acceptable Here", "p", "", ""))
			return
		}
	}
	contact := p.contact(m.user("To"))
	p.send(m.reply(180, "Ringing", "p", contact, ""))
	ok = m.reply(200, "OK", "p", contact, sdp)
	p.mu.Lock()
	p.calls[id] = ok
	p.mu.Unlock()
	p.send(ok)
}

// register registers the i-th agent's desk phone.
func (p *phones) register(ctx context.Context, i int) error {
	id := fmt.Sprintf("reg-%d", i)
	w := make(chan string, 4)
	p.mu.Lock()
	p.wait[id] = w
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.wait, id)
	}()
	via, auth := "UDP "+p.local.String(), ""
	for cseq := 1; cseq <= 2; cseq++ {
		p.send(register(i, cseq, via, p.contact(extension(i)), auth))
		select {
		case s := <-w:
			m := message(s)
			switch m.status() {
			case 200:
				return nil
			case 401:
				auth = m.authorization(extension(i)+"-"+device, "sip:"+realm)
				continue
			}
			first, _, _ := strings.Cut(s, "\r\n")
			return fmt.Errorf("register %s: %w: %s", extension(i), errRefused, first)
		case <-time.After(5 * time.Second):
			return fmt.Errorf("register %s: %w", extension(i), errLate)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("register %s: %w", extension(i), errRefused)
}

// staff brings n agents with desk phones to a gateway.
func (p *phones) staff(ctx context.Context, g *gateway, n int) error {
	for i := range n {
		if err := p.register(ctx, i); err != nil {
			return err
		}
		if _, err := g.signIn(ctx, i, false); err != nil {
			return err
		}
	}
	return nil
}
