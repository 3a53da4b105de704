package media

import (
	"sync"
	"sync/atomic"
	"time"
)

// PortEvents is told what happens on a port. The calls come one at a time, in
// order, from a goroutine of the port; they may call methods of the port.
// Nothing is told after Close.
type PortEvents interface {
	// DTMF is a digit that the far side pressed.
	DTMF(digit byte, d time.Duration)
	// Connected says that the first valid packet came.
	Connected()
	// Lost says that neither RTP nor RTCP came for two seconds though expected.
	Lost()
	// Back says that packets come again after Lost.
	Back()
	// Failed says that media can never flow on this port (DTLS failed for good).
	Failed(err error)
}

// NoPortEvents ignores every event; embed it to handle some.
type NoPortEvents struct{}

// DTMF implements PortEvents.
func (NoPortEvents) DTMF(byte, time.Duration) {}

// Connected implements PortEvents.
func (NoPortEvents) Connected() {}

// Lost implements PortEvents.
func (NoPortEvents) Lost() {}

// Back implements PortEvents.
func (NoPortEvents) Back() {}

// Failed implements PortEvents.
func (NoPortEvents) Failed(error) {}

// RTPOptions of a port for a trunk or a desk phone.
type RTPOptions struct {
	// Codecs in our order of preference; PCMA and PCMU when empty.
	Codecs []string
	// SDES offers and requires SDES-SRTP (RFC 4568); without it the leg is plain
	// RTP and an offer of SRTP only is refused, so that keys never travel unasked.
	SDES bool
	// DTMFPayload is the payload type we offer for telephone-event (101 when zero).
	DTMFPayload uint8
	// Label names the leg in logs.
	Label string
}

// WebRTCOptions of a port for a WebRTC phone.
type WebRTCOptions struct {
	// Codecs in our order of preference; opus, PCMU and PCMA when empty.
	Codecs []string
	// Label names the leg in logs.
	Label string
}

// PlayOptions say how a source is played.
type PlayOptions struct {
	// Loop starts the source again when it ends.
	Loop bool
	// Done is called once, on the port's event goroutine: nil when the source
	// ended, ErrInterrupted when something else replaced it.
	Done func(error)
}

const (
	// lostAfter is how long neither RTP nor RTCP may come while media is expected.
	lostAfter = 1500 * time.Millisecond
	// watchEvery is how often that is looked at, in ticks.
	watchEvery = 10
	// idleFill is how long nobody may be heard on a bridge before silence is
	// sent in place: long enough for any jitter of the other leg.
	idleFill = int64(time.Second)
)

// transport is what carries the packets of a port.
type transport interface {
	// start is called once, when something was negotiated; ready tells that
	// RTCP shares the socket of RTP.
	start(mux bool)
	// close stops receiving and waits until nothing is received any more.
	close()
}

// Port is the media of one leg. Its methods are safe for concurrent use.
type Port struct {
	e     *Engine
	ev    PortEvents
	label string
	box   mailbox
	shard *shard
	tr    transport

	in  inbound
	out outbound

	connected atomic.Bool
	lost      atomic.Bool
	rtcpSeen  atomic.Bool
	asked     atomic.Bool // a decode unit was asked for
	heard     atomic.Bool // a partner is being heard

	expectedSince atomic.Int64 // when packets came to be expected
	player        atomic.Pointer[player]
	rtcp          rtcpState
	neg           negotiation
	ticks         uint64 // of the shard

	// Guarded by the engine's routing lock.
	partner *Port
	spoken  kind // what the far side sends

	closing sync.Once
	closed  atomic.Bool
	final   Quality
}

func (e *Engine) newPort(label string, ev PortEvents) *Port {
	if ev == nil {
		ev = NoPortEvents{}
	}
	p := &Port{e: e, ev: ev, label: label}
	p.box.wg = &e.wg
	p.out.init()
	p.rtcp.init()
	return p
}

// tick is called every 20 ms by the shard.
func (p *Port) tick(at time.Time) {
	if p.closed.Load() {
		return
	}
	now := p.e.nanos(at)
	p.ticks++
	p.out.digit(now)
	if pl := p.player.Load(); pl != nil {
		pl.tick(p, now)
	}
	if u := p.in.unit.Load(); u != nil {
		u.tick(p, at)
	}
	p.keepAlive(now)
	p.in.mu.Lock()
	if p.in.digits != nil {
		p.in.digits.Tick(at)
	}
	p.in.mu.Unlock()
	if p.ticks%watchEvery == 0 {
		p.watch(now)
	}
	p.rtcpTick(at)
}

// keepAlive sends silence while nobody is heard: the far side's latch, its NAT
// and its own watch want packets.
func (p *Port) keepAlive(now int64) {
	idle := frameNanos
	if p.heard.Load() {
		idle = idleFill
	}
	p.out.silence(idle, now)
}

// watch tells Lost. The clock starts with the first packet: before it, the
// signalling has its own timers.
func (p *Port) watch(now int64) {
	cfg := p.in.cfg.Load()
	if cfg == nil || !cfg.expected || !p.connected.Load() || p.lost.Load() {
		return
	}
	if now-max(p.in.last.Load(), p.expectedSince.Load()) > int64(lostAfter) && p.lost.CompareAndSwap(false, true) {
		p.box.post(p.ev.Lost)
	}
}

// Held reports whether the far side holds the call (sendonly or inactive).
func (p *Port) Held() bool {
	p.neg.mu.Lock()
	defer p.neg.mu.Unlock()
	return p.neg.held
}

// Codec is the name of the codec that is sent: "opus", "PCMU" or "PCMA"; empty
// before the answer.
func (p *Port) Codec() string {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	return p.out.kind.name()
}

// Strangers is how many packets came from an address or source that is not the
// far side; they were dropped.
func (p *Port) Strangers() uint64 { return p.in.strangers.Load() }

// SendDTMF sends digits one after another, each for the given time (100 ms
// when zero), as telephone events where these were negotiated, else as tones.
// A comma is a pause. It does not wait for their end.
func (p *Port) SendDTMF(digits string, each time.Duration) error {
	if p.closed.Load() {
		return ErrClosed
	}
	return p.out.queueDigits(digits, each)
}

// Close ends the port and returns what its media was like. The bridge ends for
// the partner too.
func (p *Port) Close() Quality {
	p.closing.Do(func() {
		p.closed.Store(true)
		done := p.detach()
		p.sayBye()
		p.final = p.Quality()
		p.neg.mu.Lock() // an agreement on its way starts nothing any more
		p.tr.close()
		p.neg.mu.Unlock()
		p.e.remove(p)
		p.box.close(done...)
	})
	return p.final
}

// Closed reports whether Close was called.
func (p *Port) Closed() bool { return p.closed.Load() }
