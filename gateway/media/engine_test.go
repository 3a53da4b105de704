package media

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/gateway/media/dtmf"
	"github.com/cordboard/cordboard/gateway/media/sdp"
)

func loopback() netip.Addr { return netip.MustParseAddr("127.0.0.1") }

// newEngine makes an engine on loopback that leaves nothing behind.
func newEngine(tb testing.TB) *Engine {
	tb.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback().AsSlice()})
	if err != nil {
		tb.Fatal(err)
	}
	e, err := New(Options{Host: loopback(), Bind: loopback(), RTPPorts: [2]uint16{13000, 20799}, WebRTC: conn})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Error(err)
		}
		_ = conn.Close()
	})
	return e
}

func noLeaks(t *testing.T) {
	t.Helper()
	opt := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, opt) })
}

// heardEvents collects the events of a port.
type heardEvents struct {
	NoPortEvents
	mu      sync.Mutex
	digits  string
	lengths []time.Duration
	log     chan string
}

func newHeard() *heardEvents { return &heardEvents{log: make(chan string, 64)} }

func (h *heardEvents) DTMF(d byte, l time.Duration) {
	h.mu.Lock()
	h.digits += string(rune(d))
	h.lengths = append(h.lengths, l)
	h.mu.Unlock()
}
func (h *heardEvents) Connected()       { h.log <- "connected" }
func (h *heardEvents) Lost()            { h.log <- "lost" }
func (h *heardEvents) Back()            { h.log <- "back" }
func (h *heardEvents) Failed(err error) { h.log <- "failed: " + err.Error() }

func (h *heardEvents) pressed() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.digits
}

func (h *heardEvents) wait(t *testing.T, want string, d time.Duration) {
	t.Helper()
	select {
	case got := <-h.log:
		if got != want {
			t.Fatalf("event %q, want %q", got, want)
		}
	case <-time.After(d):
		t.Fatalf("no event %q in %v", want, d)
	}
}

// eventually waits for what must become true soon.
func eventually(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(d)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in %v: %s", d, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// tone is a frame of a sine.
func tone(freq float64, rate, from, n int) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		pcm[i] = int16(8000 * math.Sin(2*math.Pi*freq*float64(from+i)/float64(rate)))
	}
	return pcm
}

// share is how much of the power of pcm lies at a frequency, 0 to 1 (Goertzel).
func share(pcm []int16, freq float64, rate int) float64 {
	if len(pcm) == 0 {
		return 0
	}
	c := 2 * math.Cos(2*math.Pi*freq/float64(rate))
	var s1, s2, total float64
	for _, v := range pcm {
		x := float64(v)
		s1, s2 = x+c*s1-s2, s1
		total += x * x
	}
	if total < float64(len(pcm))*100*100 { // silence
		return 0
	}
	return 2 * (s1*s1 + s2*s2 - c*s1*s2) / (total * float64(len(pcm)))
}

// ear keeps the last second that was heard.
type ear struct {
	mu      sync.Mutex
	pcm     []int16
	rate    int
	packets int
	last    rtpPacket
	jumps   []string // breaks of sequence or time
	first   bool
	clock   int
	at      time.Time
	gap     time.Duration // longest between two packets
	events  *dtmf.Receiver
	digits  string
}

func newEar(rate, clock int) *ear {
	e := &ear{rate: rate, clock: clock, first: true}
	e.events = dtmf.NewReceiver(clock, func(d byte, _ time.Duration) { e.digits += string(rune(d)) })
	return e
}

func (e *ear) hear(p *rtpPacket, pcm []int16, event bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	e.packets++
	if !e.first {
		if p.seq != e.last.seq+1 {
			e.jumps = append(e.jumps, fmt.Sprintf("seq %d after %d", p.seq, e.last.seq))
		}
		if p.ssrc != e.last.ssrc {
			e.jumps = append(e.jumps, "ssrc changed")
		}
		step := int32(p.ts - e.last.ts)
		if !event && (step <= 0 || step > int32(e.clock)) {
			e.jumps = append(e.jumps, fmt.Sprintf("timestamp step %d", step))
		}
		e.gap = max(e.gap, now.Sub(e.at))
	}
	e.at = now
	e.first = false
	seq, ts := p.seq, p.ts
	if event {
		_ = e.events.Push(p.ts, p.marker, p.payload, now)
		ts = e.last.ts
	}
	e.last = rtpPacket{seq: seq, ts: ts, ssrc: p.ssrc}
	e.pcm = append(e.pcm, pcm...)
	if over := len(e.pcm) - e.rate; over > 0 {
		e.pcm = e.pcm[over:]
	}
}

func (e *ear) hears(freq float64, d time.Duration) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := int(d.Seconds() * float64(e.rate))
	return len(e.pcm) >= n && share(e.pcm[len(e.pcm)-n:], freq, e.rate) > 0.8
}

func (e *ear) silent(d time.Duration) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := int(d.Seconds() * float64(e.rate))
	if len(e.pcm) < n {
		return false
	}
	for _, v := range e.pcm[len(e.pcm)-n:] {
		if v > 50 || v < -50 {
			return false
		}
	}
	return true
}

func (e *ear) clear() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pcm, e.jumps, e.gap, e.at = nil, nil, 0, time.Now()
}

func (e *ear) pressed() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.digits
}

func (e *ear) broken() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.jumps
}

func (e *ear) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.packets
}

// rtpPeer is a phone of our own making: it says a tone and listens.
type rtpPeer struct {
	*ear
	conn   *net.UDPConn
	freq   float64
	kind   kind
	ssrc   uint32
	send   *cipher
	recv   *cipher
	crypto []sdp.Crypto

	mu     sync.Mutex
	dest   netip.AddrPort
	drop   func(n int) bool // loses packets on the way out
	quiet  bool
	also   func(pcm []int16) // hears too
	seq    uint16
	ts     uint32
	sender *dtmf.Sender
	stop   chan struct{}
	wg     sync.WaitGroup
}

func newRTPPeer(tb testing.TB, k kind, freq float64) *rtpPeer {
	tb.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback().AsSlice()})
	if err != nil {
		tb.Fatal(err)
	}
	p := &rtpPeer{ear: newEar(8000, 8000), conn: conn, freq: freq, kind: k, ssrc: uint32(conn.LocalAddr().(*net.UDPAddr).Port), seq: 65500, stop: make(chan struct{})}
	tb.Cleanup(p.close)
	return p
}

func (p *rtpPeer) close() {
	select {
	case <-p.stop:
		return
	default:
	}
	close(p.stop)
	_ = p.conn.Close()
	p.wg.Wait()
}

func (p *rtpPeer) port() uint16 { return uint16(p.conn.LocalAddr().(*net.UDPAddr).Port) }

// describe is the peer's description.
func (p *rtpPeer) describe(dir sdp.Direction) *sdp.Session {
	c, _ := codec.Lookup(p.kind.name())
	m := sdp.Media{
		Kind: "audio", Port: p.port(), Proto: "RTP/AVP", Host: "127.0.0.1", Direction: dir,
		Formats: []sdp.Format{
			{PayloadType: c.PayloadType, Name: c.Name, ClockRate: 8000, Channels: 1},
			{PayloadType: 101, Name: "telephone-event", ClockRate: 8000, Channels: 1, Params: "0-16"},
		},
	}
	if p.crypto != nil {
		m.Proto, m.Crypto = "RTP/SAVP", p.crypto
	}
	return &sdp.Session{Origin: sdp.Origin{ID: 1, Version: 1, Host: "127.0.0.1"}, Host: "127.0.0.1", Media: []sdp.Media{m}}
}

// call offers to a port of ours and starts talking.
func (p *rtpPeer) call(tb testing.TB, port *Port) {
	tb.Helper()
	answer, err := port.Answer(tb.Context(), p.describe(sdp.SendRecv).Write())
	if err != nil {
		tb.Fatal(err)
	}
	s, err := sdp.Parse(answer)
	if err != nil {
		tb.Fatal(err)
	}
	m := &s.Media[0]
	if p.crypto != nil {
		if p.send, err = sdesCipher(p.crypto[0]); err != nil {
			tb.Fatal(err)
		}
		if p.recv, err = sdesCipher(m.Crypto[0]); err != nil {
			tb.Fatal(err)
		}
	}
	p.talk(m.Addr())
}

// talk starts to send and to listen.
func (p *rtpPeer) talk(to netip.AddrPort) {
	p.dest = to
	p.wg.Go(p.listen)
	p.wg.Go(p.speak)
}

func (p *rtpPeer) listen() {
	buf := make([]byte, maxPacket)
	for {
		n, _, err := p.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		b := buf[:n]
		if p.recv != nil {
			if b, err = p.recv.open(b); err != nil {
				continue
			}
		}
		var pkt rtpPacket
		if !pkt.parse(b) {
			continue
		}
		if pkt.pt == 101 {
			p.hear(&pkt, nil, true)
			continue
		}
		pcm := make([]int16, len(pkt.payload))
		p.kind.law().Decode(pcm, pkt.payload)
		p.mu.Lock()
		also := p.also
		p.mu.Unlock()
		if also != nil {
			also(pcm)
		}
		p.hear(&pkt, pcm, false)
	}
}

func (p *rtpPeer) speak() {
	ticker := time.NewTicker(codec.FrameDuration)
	defer ticker.Stop()
	start := time.Now()
	buf := make([]byte, maxPacket)
	n := 0
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
		}
		for due := int(time.Since(start) / codec.FrameDuration); n < due; n++ {
			p.say(n, buf)
		}
	}
}

func (p *rtpPeer) say(n int, buf []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ts += 160
	if p.quiet {
		return
	}
	p.seq++
	pkt := rtpPacket{pt: codecPT(p.kind), seq: p.seq, ts: p.ts, ssrc: p.ssrc}
	size := 160
	if p.sender != nil {
		if ev, ok := p.sender.Next(p.ts); ok {
			pkt.pt, pkt.marker, pkt.ts = 101, ev.Marker, ev.Timestamp
			size = copy(buf[rtpHeaderSize:], ev.Payload[:])
		}
	}
	if pkt.pt != 101 {
		p.kind.law().Encode(buf[rtpHeaderSize:], tone(p.freq, 8000, n*160, 160))
	}
	pkt.write(buf)
	b := buf[:rtpHeaderSize+size]
	if p.send != nil {
		var err error
		if b, err = p.send.seal(b); err != nil {
			return
		}
	}
	if p.drop != nil && p.drop(n) {
		return
	}
	_, _ = p.conn.WriteToUDPAddrPort(b, p.dest)
}

func (p *rtpPeer) set(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn()
}

func (p *rtpPeer) press(tb testing.TB, digits string) {
	tb.Helper()
	p.set(func() {
		p.sender = dtmf.NewSender(8000, codec.FrameDuration)
		if err := p.sender.Queue(digits, 0); err != nil {
			tb.Error(err)
		}
	})
}

func codecPT(k kind) uint8 {
	if k == kindPCMA {
		return 8
	}
	return 0
}

// rtpCall is a port with a peer that talks on it.
func rtpCall(tb testing.TB, e *Engine, k kind, freq float64, o RTPOptions) (*Port, *rtpPeer, *heardEvents) {
	tb.Helper()
	h := newHeard()
	port, err := e.NewRTP(o, h)
	if err != nil {
		tb.Fatal(err)
	}
	peer := newRTPPeer(tb, k, freq)
	if o.SDES {
		c, err := sdp.NewCrypto(1, sdp.AES128SHA1Tag80)
		if err != nil {
			tb.Fatal(err)
		}
		peer.crypto = []sdp.Crypto{c}
	}
	peer.call(tb, port)
	return port, peer, h
}
