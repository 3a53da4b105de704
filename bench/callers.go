package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// callers are customers behind one trunk, on one UDP socket.
type callers struct {
	conn    *net.UDPConn
	local   netip.AddrPort
	gateway netip.AddrPort
	done    sync.WaitGroup

	mu    sync.Mutex
	calls map[string]*customer
	next  int
}

// customer is one call.
type customer struct {
	c      *callers
	id     string
	number string
	did    string
	sent   time.Time // when the INVITE left
	sdp    string    // the gateway's answer
	remote string    // its contact
	to     string    // To with its tag

	answer chan message  // the first final response
	over   chan struct{} // a BYE of either side is done
	once   sync.Once
}

func newCallers(ctx context.Context, host string, gateway netip.AddrPort) (*callers, error) {
	conn, err := listen(ctx, host)
	if err != nil {
		return nil, err
	}
	c := &callers{conn: conn, local: localOf(conn), gateway: gateway, calls: map[string]*customer{}}
	c.done.Go(c.read)
	return c, nil
}

func (c *callers) close() {
	_ = c.conn.Close()
	c.done.Wait()
}

func (c *callers) send(s string) { _, _ = c.conn.WriteToUDPAddrPort([]byte(s), c.gateway) }

func (c *callers) read() {
	buf := make([]byte, 64<<10)
	for {
		n, _, err := c.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		m := message(buf[:n])
		c.mu.Lock()
		k := c.calls[m.header("Call-ID")]
		c.mu.Unlock()
		switch {
		case m.method() != "" && m.method() != "ACK":
			c.send(m.reply(200, "OK", "c", "", ""))
			if m.method() == "BYE" && k != nil {
				k.ended()
			}
		case k == nil:
		case m.cseq() == "BYE" && m.status() >= 200:
			k.ended()
		case m.cseq() == "INVITE" && m.status() >= 200:
			k.answered(m)
		}
	}
}

func (k *customer) ended() {
	k.once.Do(func() { close(k.over) })
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	delete(k.c.calls, k.id)
}

func (k *customer) answered(m message) {
	uri := m.contact()
	if m.status() >= 300 {
		uri = "sip:" + k.did + "@" + k.c.gateway.String()
	}
	k.c.send(k.request("ACK", uri, m.header("To"), 1, "", m.status() >= 300))
	select {
	case k.answer <- message(strings.Clone(string(m))):
	default:
	}
}

// request writes a request of this call.
func (k *customer) request(method, uri, to string, cseq int, sdp string, sameBranch bool) string {
	branch := fmt.Sprintf("z9hG4bK%s.%s", k.id, method)
	if sameBranch || method == "INVITE" {
		branch = "z9hG4bK" + k.id + ".INVITE"
	}
	s := fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;rport;branch=%s\r\nMax-Forwards: 70\r\nFrom: <sip:%s@%s>;tag=c\r\nTo: %s\r\n"+
		"Call-ID: %s\r\nCSeq: %d %s\r\nContact: <sip:%s@%s>\r\n",
		method, uri, k.c.local, branch, k.number, k.c.local.Addr(), to, k.id, cseq, method, k.number, k.c.local)
	if sdp != "" {
		s += "Content-Type: application/sdp\r\n"
	}
	return s + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(sdp), sdp)
}

// place sends an INVITE. The number of the caller tells the calls apart.
func (c *callers) place(did, sdp string) *customer {
	c.mu.Lock()
	c.next++
	k := &customer{
		c: c, id: fmt.Sprintf("c%d-%d", c.local.Port(), c.next), number: fmt.Sprintf("5989%d%05d", c.local.Port()%1000+1000, c.next), did: did,
		answer: make(chan message, 1), over: make(chan struct{}), sent: time.Now(),
	}
	c.calls[k.id] = k
	c.mu.Unlock()
	uri := "sip:" + did + "@" + c.gateway.String()
	c.send(k.request("INVITE", uri, "<"+uri+">", 1, sdp, false))
	return k
}

// wait for the answer; an error is a refusal.
func (k *customer) wait(ctx context.Context) error {
	select {
	case m := <-k.answer:
		if m.status() != 200 {
			first, _, _ := strings.Cut(string(m), "\r\n")
			return fmt.Errorf("%w: %s", errRefused, first)
		}
		k.sdp, k.remote, k.to = m.body(), m.contact(), m.header("To")
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("answer to an INVITE: %w", errLate)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// hangup ends the call and waits for the answer.
func (k *customer) hangup(ctx context.Context) error {
	for range 3 {
		k.c.send(k.request("BYE", k.remote, k.to, 2, "", false))
		select {
		case <-k.over:
			return nil
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("answer to a BYE: %w", errLate)
}
