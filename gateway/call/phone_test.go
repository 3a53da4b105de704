package call

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/gateway/media/dtmf"
	"github.com/cordboard/cordboard/gateway/media/sdp"
	"github.com/cordboard/cordboard/gateway/sip"
)

// soon bounds what must happen at once on a busy machine.
const soon = 10 * time.Second

// peer is a SIP user agent with sound: a carrier, or a desk phone.
type peer struct {
	t    *testing.T
	name string
	ep   *sip.Endpoint
	addr netip.AddrPort
	in   chan *talk // calls that came
}

func newPeer(t *testing.T, name string) *peer {
	t.Helper()
	p := &peer{t: t, name: name, in: make(chan *talk, 16)}
	p.ep, p.addr = listen(t, p)
	return p
}

// listen serves SIP on a free UDP port of loopback until the test's end.
func listen(t *testing.T, h sip.Handler) (*sip.Endpoint, netip.AddrPort) {
	t.Helper()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ep, err := sip.New(sip.Options{Handler: h, Host: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- ep.ServeUDP(ctx, pc) }()
	t.Cleanup(func() {
		cancel()
		if err := ep.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	addr := netip.MustParseAddrPort(pc.LocalAddr().String())
	self := sip.URI{Scheme: "sip", Host: "127.0.0.1", Port: int(addr.Port())}
	eventually(t, "the endpoint serves", func() bool {
		_, err := ep.Send(ctx, sip.Outgoing{Method: "OPTIONS", URI: self, From: sip.Address{URI: self}, To: sip.Address{URI: self}, Destination: addr.String(), Transport: "udp"})
		return err == nil
	})
	return ep, addr
}

// Invite implements sip.Handler.
func (p *peer) Invite(d *sip.Dialog) {
	c := p.newTalk()
	c.d = d
	c.offer = d.Offer()
	d.Accept(c)
	p.in <- c
}

// Request implements sip.Handler.
func (p *peer) Request(r *sip.Request) { _ = r.Respond(200, "OK") }

// FlowClosed implements sip.Handler.
func (p *peer) FlowClosed(sip.Flow) {}

// next is the next call that comes in.
func (p *peer) next() *talk {
	p.t.Helper()
	select {
	case c := <-p.in:
		return c
	case <-time.After(soon):
		p.t.Fatalf("no call reached %s", p.name)
		return nil
	}
}

// none checks that no call comes in for a while.
func (p *peer) none(d time.Duration) {
	p.t.Helper()
	select {
	case <-p.in:
		p.t.Fatalf("a call reached %s", p.name)
	case <-time.After(d):
	}
}

// invite calls a number at the gateway; sdpless leaves the offer to it.
func (p *peer) invite(gateway netip.AddrPort, user string, sdpless bool, h ...sip.Header) *talk {
	p.t.Helper()
	c := p.newTalk()
	uri := sip.URI{Scheme: "sip", User: user, Host: gateway.Addr().String(), Port: int(gateway.Port())}
	in := sip.Invite{
		URI: uri, To: sip.Address{URI: uri}, Headers: h, Destination: gateway.String(), Transport: "udp",
		From: sip.Address{Name: "Marta", URI: sip.URI{Scheme: "sip", User: "59899123456", Host: "127.0.0.1"}},
	}
	if !sdpless {
		in.SDP = c.sdp("sendrecv")
	}
	d, err := p.ep.Invite(p.t.Context(), in, c)
	if err != nil {
		p.t.Fatal(err)
	}
	c.mu.Lock()
	c.d = d
	c.mu.Unlock()
	return c
}

// talk is a peer's side of a call: a dialog and plain RTP with a tone.
type talk struct {
	sip.NoEvents

	p     *peer
	d     *sip.Dialog
	offer []byte
	rtp   *net.UDPConn
	port  int

	progress chan int
	answered chan struct{}
	ended    chan sip.Cause
	digits   chan string

	mu      sync.Mutex
	far     netip.AddrPort
	tone    float64
	silent  bool
	heard   []int16 // the last second
	version int
	// direction is what this side says when the gateway offers.
	direction string
	pressed   string
}

func (p *peer) newTalk() *talk {
	p.t.Helper()
	var conn *net.UDPConn
	for conn == nil { // even ports, as RTP wants
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			p.t.Fatal(err)
		}
		if c.LocalAddr().(*net.UDPAddr).Port%2 == 0 {
			conn = c
		} else {
			_ = c.Close()
		}
	}
	c := &talk{
		p: p, rtp: conn, port: conn.LocalAddr().(*net.UDPAddr).Port,
		progress: make(chan int, 64), answered: make(chan struct{}, 4), ended: make(chan sip.Cause, 1), digits: make(chan string, 8),
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(c.listen)
	wg.Go(func() { c.speak(stop) })
	p.t.Cleanup(func() {
		close(stop)
		_ = conn.Close()
		wg.Wait()
	})
	return c
}

// sdp describes this side's media.
func (c *talk) sdp(direction string) []byte {
	c.mu.Lock()
	c.version++
	v := c.version
	c.mu.Unlock()
	return fmt.Appendf(nil, "v=0\r\no=- 1 %d IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/AVP 8 101\r\n"+
		"a=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=%s\r\n", v, c.port, direction)
}

// take learns where the far side listens.
func (c *talk) take(b []byte) {
	s, err := sdp.Parse(b)
	if err != nil {
		c.p.t.Errorf("%s: %v in %q", c.p.name, err, b)
		return
	}
	i := s.Audio()
	if i < 0 {
		c.p.t.Errorf("%s: no audio in %q", c.p.name, b)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.far = s.Media[i].Addr()
}

// Progress implements sip.Events.
func (c *talk) Progress(code int, _ string, sdp []byte) {
	if len(sdp) > 0 {
		c.take(sdp)
	}
	select {
	case c.progress <- code:
	default:
	}
}

// Answered implements sip.Events.
func (c *talk) Answered(sdp []byte) {
	if len(sdp) > 0 {
		c.take(sdp)
	}
	c.answered <- struct{}{}
}

// Offer implements sip.Events.
func (c *talk) Offer(offer []byte) (answer []byte, code int) {
	if len(offer) > 0 {
		c.take(offer)
	}
	c.mu.Lock()
	direction := c.direction
	c.mu.Unlock()
	return c.sdp(cmp.Or(direction, "sendrecv")), 200
}

// Info implements sip.Events.
func (c *talk) Info(_ string, body []byte) { c.digits <- string(body) }

// Ended implements sip.Events.
func (c *talk) Ended(cause sip.Cause) { c.ended <- cause }

// say makes this side send a tone from now on; 0 = nothing but silence.
func (c *talk) say(hz float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tone = hz
}

// vanish stops sending anything, as a phone that was killed.
func (c *talk) vanish(gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = gone
}

func (c *talk) speak(stop <-chan struct{}) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	pkt := make([]byte, 12+160)
	pkt[0], pkt[1] = 0x80, 8
	binary.BigEndian.PutUint32(pkt[8:], uint32(c.port))
	pcm := make([]int16, 160)
	start := time.Now()
	for n := 0; ; n++ {
		if time.Since(start) < time.Duration(n)*20*time.Millisecond { // else a busy machine is behind
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
		select {
		case <-stop:
			return
		default:
		}
		c.mu.Lock()
		far, hz, silent := c.far, c.tone, c.silent
		c.mu.Unlock()
		for i := range pcm {
			pcm[i] = int16(8000 * math.Sin(2*math.Pi*hz*float64(n*160+i)/8000))
		}
		codec.ALaw.Encode(pkt[12:], pcm)
		binary.BigEndian.PutUint16(pkt[2:], uint16(n))
		binary.BigEndian.PutUint32(pkt[4:], uint32(n*160))
		if far.IsValid() && !silent {
			_, _ = c.rtp.WriteToUDPAddrPort(pkt, far)
		}
	}
}

func (c *talk) listen() {
	buf := make([]byte, 2048)
	pcm := make([]int16, 2048)
	events := dtmf.NewReceiver(8000, func(d byte, _ time.Duration) { c.pressed += string(rune(d)) })
	for {
		n, err := c.rtp.Read(buf)
		if err != nil {
			return
		}
		if n <= 12 || buf[0]>>6 != 2 {
			continue
		}
		c.mu.Lock()
		switch buf[1] & 0x7f {
		case 8:
			m := codec.ALaw.Decode(pcm, buf[12:n])
			c.heard = append(c.heard, pcm[:m]...)
			if len(c.heard) > 8000 {
				c.heard = c.heard[len(c.heard)-8000:]
			}
		case 101:
			_ = events.Push(binary.BigEndian.Uint32(buf[4:]), buf[1]&0x80 != 0, buf[12:n], time.Now())
		}
		c.mu.Unlock()
	}
}

// hears reports whether the last 200 ms were a tone.
func (c *talk) hears(hz float64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.heard) < 1600 {
		return false
	}
	return share(c.heard[len(c.heard)-1600:], hz) > 0.7
}

// quiet reports whether the last 200 ms were silence.
func (c *talk) quiet() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.heard) >= 1600 && power(c.heard[len(c.heard)-1600:]) < 100
}

// hearsMusic reports whether the last 400 ms were sound of many tones.
func (c *talk) hearsMusic() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.heard) < 3200 {
		return false
	}
	last := c.heard[len(c.heard)-3200:]
	return power(last) > 100 && share(last, toneA) < 0.3 && share(last, toneB) < 0.3
}

func (c *talk) keys() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pressed
}

// tone is a second of a sine.
func tone(hz float64, rate int) []int16 {
	pcm := make([]int16, rate)
	for i := range pcm {
		pcm[i] = int16(8000 * math.Sin(2*math.Pi*hz*float64(i)/float64(rate)))
	}
	return pcm
}

func statusCode(err error) int {
	if se, ok := errors.AsType[*sip.StatusError](err); ok {
		return se.Code
	}
	return 0
}

func power(pcm []int16) float64 {
	var sum float64
	for _, v := range pcm {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum / float64(max(1, len(pcm))))
}

// share is how much of the power of pcm lies at a frequency, 0 to 1 (Goertzel).
func share(pcm []int16, hz float64) float64 {
	if power(pcm) < 100 {
		return 0
	}
	k := 2 * math.Cos(2*math.Pi*hz/8000)
	var s1, s2, total float64
	for _, v := range pcm {
		x := float64(v)
		s1, s2 = x+k*s1-s2, s1
		total += x * x
	}
	return 2 * (s1*s1 + s2*s2 - k*s1*s2) / (total * float64(len(pcm)))
}

// accept answers an incoming call and begins to speak.
func (c *talk) accept(hz float64) {
	c.p.t.Helper()
	if len(c.offer) > 0 {
		c.take(c.offer)
	}
	c.say(hz)
	if err := c.d.Answer(c.sdp("sendrecv")); err != nil {
		c.p.t.Fatalf("%s answers: %v", c.p.name, err)
	}
}

func (c *talk) ring() {
	c.p.t.Helper()
	if err := c.d.Provisional(180, nil); err != nil {
		c.p.t.Fatalf("%s rings: %v", c.p.name, err)
	}
}

// announce sends early media.
func (c *talk) announce(hz float64) {
	c.p.t.Helper()
	c.take(c.offer)
	c.say(hz)
	if err := c.d.Provisional(183, c.sdp("sendrecv")); err != nil {
		c.p.t.Fatalf("%s announces: %v", c.p.name, err)
	}
}

func (c *talk) reject(code int) {
	c.p.t.Helper()
	if err := c.d.Reject(code, ""); err != nil {
		c.p.t.Fatalf("%s rejects: %v", c.p.name, err)
	}
}

func (c *talk) hangup() {
	c.p.t.Helper()
	if err := c.d.Hangup(sip.Cause{Code: 200, Q850: 16}); err != nil {
		c.p.t.Fatalf("%s hangs up: %v", c.p.name, err)
	}
}

// hold puts the gateway on hold, or takes it off.
func (c *talk) hold(on bool) {
	c.p.t.Helper()
	direction := "sendrecv"
	if on {
		direction = "sendonly"
	}
	answer, err := c.d.Reinvite(c.p.t.Context(), c.sdp(direction))
	if err != nil {
		c.p.t.Fatalf("%s re-INVITE: %v", c.p.name, err)
	}
	if on && !bytes.Contains(answer, []byte("a=recvonly")) {
		c.p.t.Errorf("hold was answered with %q", answer)
	}
}

// up waits for the answer.
func (c *talk) up() {
	c.p.t.Helper()
	select {
	case <-c.answered:
	case cause := <-c.ended:
		c.p.t.Fatalf("%s: call ended with %+v instead of an answer", c.p.name, cause)
	case <-time.After(soon):
		c.p.t.Fatalf("%s: no answer", c.p.name)
	}
}

// over waits for the end.
func (c *talk) over() sip.Cause {
	c.p.t.Helper()
	select {
	case cause := <-c.ended:
		return cause
	case <-time.After(soon):
		c.p.t.Fatalf("%s: the call did not end", c.p.name)
		return sip.Cause{}
	}
}

// is waits for a provisional response.
func (c *talk) is(code int) {
	c.p.t.Helper()
	limit := time.After(soon)
	for {
		select {
		case got := <-c.progress:
			if got == code {
				return
			}
		case cause := <-c.ended:
			c.p.t.Fatalf("%s: call ended with %+v instead of %d", c.p.name, cause, code)
		case <-limit:
			c.p.t.Fatalf("%s: no %d", c.p.name, code)
		}
	}
}

// eventually waits for what must become true soon.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(soon)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not in time: %s", what)
		}
	}
}
