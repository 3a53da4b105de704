package media

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/gateway/media/dtmf"
)

// kind is a codec as the packet path knows it.
type kind uint8

const (
	kindNone kind = iota
	kindPCMU
	kindPCMA
	kindOpus
	kindEvent
)

// g711 reports whether the kind is one of the two laws.
func (k kind) g711() bool { return k == kindPCMU || k == kindPCMA }

// law of a G.711 kind.
func (k kind) law() codec.Law {
	if k == kindPCMA {
		return codec.ALaw
	}
	return codec.ULaw
}

// name of the codec.
func (k kind) name() string {
	switch k {
	case kindPCMU:
		return codec.PCMU
	case kindPCMA:
		return codec.PCMA
	case kindOpus:
		return codec.Opus
	case kindEvent:
		return codec.TelephoneEvent
	case kindNone:
	}
	return ""
}

// frameNanos is one packet time: 20 ms.
const frameNanos = int64(codec.FrameDuration)

// outbound is the stream that a port sends. Whatever the port hears, one
// bridge or player after another, leaves as one stream: own SSRC, a sequence
// without holes, timestamps that go on with time. Several goroutines send
// through it, so a mutex of this port guards it.
type outbound struct {
	send func(b []byte, to netip.AddrPort) error // RTP socket
	ctrl func(b []byte, to netip.AddrPort) error // RTCP socket

	mu       sync.Mutex
	ssrc     uint32
	seq      uint16 // of the last packet
	ts       uint32 // of the last packet
	at       int64  // when that was sent, nanoseconds of the engine's clock; 0 = never
	sent     int64  // when anything was sent
	window   uint64 // sequence numbers used: bit i is seq-i
	ticks    uint32 // duration of the last packet, a guess of one frame until known
	kind     kind
	clock    uint32
	pt       uint8
	eventPT  uint8
	eventOK  bool
	paused   bool // nothing was negotiated, or the far side does not listen
	secure   bool // never without a cipher
	dest     netip.AddrPort
	rtcpDest netip.AddrPort
	cipher   *cipher

	// The source that is being passed through.
	source    uint64 // route or player; 0 = none
	sourceTag uint32 // its SSRC
	seqOff    uint16
	tsOff     uint32

	digits  *dtmf.Sender
	digitTS uint32
	keyDown bool // a digit is being sent: audio is dropped
	tones   []*Frames
	tonePos int

	quiet    [g711Frame]byte // a frame of silence
	quietLen int

	eventIn, eventTS uint32 // the relayed event: its timestamps there and here
	eventAt          int64  // of its last packet
	eventOn          bool   // one was relayed and may go on
	eventEnd         bool   // its end was relayed, though maybe not for the last time
	eventWhole       bool   // it began with its end: the digit is sent anew, its packets are not relayed

	packets uint32
	octets  uint32
	errors  uint64
	buf     [maxPacket]byte
}

// nowTSLocked is the timestamp that a packet sent now has if its source is a new one.
func (o *outbound) nowTSLocked(now int64) uint32 {
	if o.at == 0 {
		return o.ts
	}
	step := o.ticks
	if step == 0 {
		step = o.clock / 50
	}
	elapsed := uint32(uint64(max(0, now-o.at)) / 1000 * uint64(o.clock) / 1_000_000)
	// Whole frames: the far side's jitter buffer sees no odd step.
	frames := (elapsed + step/2) / step
	return o.ts + max(1, frames)*step
}

// forward passes a packet on as it is but for header fields. source names who
// sends it; a change of source or a jump of its sequence starts over with a
// marker, as a receiver expects after silence.
func (o *outbound) forward(p *rtpPacket, source uint64, now int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.paused || o.keyDown || len(p.payload) > maxPayload {
		o.source = 0 // what was dropped here must not look like loss
		return
	}
	marker := p.marker
	jump := p.seq + o.seqOff - o.seq
	if source != o.source || p.ssrc != o.sourceTag || jump >= maxDropout && jump <= 0xFFFF-maxDropout {
		o.source, o.sourceTag = source, p.ssrc
		o.seqOff = o.seq + 1 - p.seq
		o.tsOff = o.nowTSLocked(now) - p.ts
		marker = true
	}
	out := rtpPacket{pt: o.pt, marker: marker, seq: p.seq + o.seqOff, ts: p.ts + o.tsOff, ssrc: o.ssrc}
	if !o.useLocked(out.seq) {
		return // doubled on the way here, or hopelessly late
	}
	// The stream's head only moves forward; a late packet goes out under its own number.
	if int16(out.seq-o.seq) > 0 {
		if step := out.ts - o.ts; out.seq == o.seq+1 && step > 0 && step <= o.clock/8 {
			o.ticks = step
		}
		o.seq, o.ts, o.at = out.seq, out.ts, now
	}
	copy(o.buf[rtpHeaderSize:], p.payload)
	o.transmitLocked(&out, len(p.payload), now)
}

// useLocked takes a sequence number and reports whether it was free: SRTP must
// never see one number twice.
func (o *outbound) useLocked(seq uint16) bool {
	ahead := int16(seq - o.seq)
	switch {
	case ahead > 0:
		o.window = o.window<<uint(ahead) | 1
		return true
	case ahead <= -64:
		return false
	}
	bit := uint64(1) << uint(-ahead)
	if o.window&bit != 0 {
		return false
	}
	o.window |= bit
	return true
}

// nextLocked takes the next sequence number.
func (o *outbound) nextLocked() {
	o.seq++
	o.window = o.window<<1 | 1
}

// frame sends one generated frame (player, transcoder, silence) of ticks.
func (o *outbound) frame(payload []byte, source uint64, now int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	relaying := o.eventOn && !o.eventEnd && now-o.eventAt < eventPause
	if o.paused || o.keyDown || relaying || len(payload) > maxPayload {
		o.source = 0
		return
	}
	o.frameLocked(payload, source, now)
}

func (o *outbound) frameLocked(payload []byte, source uint64, now int64) {
	marker := false
	step := o.clock / 50
	ts := o.ts + step
	if source != o.source {
		o.source, o.sourceTag, marker = source, 0, true
		ts = o.nowTSLocked(now)
	}
	o.ticks = step
	o.nextLocked()
	o.ts, o.at = ts, now
	copy(o.buf[rtpHeaderSize:], payload)
	o.transmitLocked(&rtpPacket{pt: o.pt, marker: marker, seq: o.seq, ts: ts, ssrc: o.ssrc}, len(payload), now)
}

// silence keeps the path open when nothing else was sent for the given time.
func (o *outbound) silence(idle, now int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.source == silenceSource {
		idle = frameNanos
	}
	// Half a frame of tolerance: ticks are not quite even.
	if o.paused || o.keyDown || o.quietLen == 0 || now-o.sent < idle-frameNanos/2 {
		return
	}
	o.frameLocked(o.quiet[:o.quietLen], silenceSource, now)
}

// init gives the stream its random beginning (RFC 3550 section 5.1).
func (o *outbound) init() {
	o.ssrc = rand.Uint32()          //nolint:gosec // must be unlike others, not secret
	o.seq = uint16(rand.N(1 << 15)) //nolint:gosec // as above; low, so that a receiver's SRTP index starts well (RFC 3711 section 3.3.1)
	o.ts = rand.Uint32()            //nolint:gosec // as above
	o.paused = true
}

// setCodecLocked makes the stream carry f; the timestamps go on.
func (o *outbound) setCodecLocked(k kind, clock uint32, pt uint8) {
	if o.kind == k && o.clock == clock && o.pt == pt {
		return
	}
	o.kind, o.clock, o.pt, o.ticks = k, clock, pt, clock/50
	o.source, o.eventOn = 0, false
	o.digits, o.tones, o.keyDown = nil, nil, false
	switch {
	case k.g711():
		o.quietLen = len(o.quiet)
		for i := range o.quiet {
			o.quiet[i] = k.law().Silence()
		}
	case k == kindOpus:
		o.quietLen = copy(o.quiet[:], []byte{0xF8, 0xFF, 0xFE}) // one CELT frame of 20 ms that decodes to zeros
	default:
		o.quietLen = 0
	}
}

// speaksEvents reports whether telephone events were negotiated.
func (o *outbound) speaksEvents() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.eventOK
}

// queueDigits starts to send digits.
func (o *outbound) queueDigits(digits string, each time.Duration) error {
	if err := dtmf.Valid(digits); err != nil {
		return fmt.Errorf("send digits: %w", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queueLocked(digits, each)
}

func (o *outbound) queueLocked(digits string, each time.Duration) error {
	if o.kind == kindNone {
		return ErrNoDTMF
	}
	if o.eventOK {
		if o.digits == nil {
			o.digits = dtmf.NewSender(int(o.clock), codec.FrameDuration)
		}
		if err := o.digits.Queue(digits, each); err != nil {
			return fmt.Errorf("send digits: %w", err)
		}
		return nil
	}
	if len(o.tones) >= maxTones {
		return fmt.Errorf("send digits: %w", dtmf.ErrFull)
	}
	if each == 0 {
		each = dtmf.DefaultDuration
	}
	frames, err := PCMSource("digits", digitsPCM(digits, each), 8000).Frames(o.kind.name())
	if err != nil {
		return fmt.Errorf("send digits: %w: %w", ErrNoDTMF, err)
	}
	o.tones = append(o.tones, frames)
	return nil
}

// maxTones bounds the digit strings that wait to be heard as tones.
const maxTones = 8

// digitsPCM is digits as tones with a pause of 60 ms after each.
func digitsPCM(digits string, each time.Duration) []int16 {
	const rate, gap, comma = 8000, 8000 * 60 / 1000, 8000 / 2
	var pcm []int16
	for i := range len(digits) {
		if digits[i] == ',' {
			pcm = append(pcm, make([]int16, comma)...)
			continue
		}
		pcm = dtmf.AppendTone(pcm, digits[i], rate, min(max(each, dtmf.MinDuration), dtmf.MaxDuration))
		pcm = append(pcm, make([]int16, gap)...)
	}
	return pcm
}

// toneLocked sends the next frame of the digits that are sent as tones.
func (o *outbound) toneLocked(now int64) {
	f := o.tones[0]
	if o.tonePos < f.Len() {
		if !o.paused {
			o.frameLocked(f.At(o.tonePos), digitSource, now)
		}
		o.tonePos++
	}
	o.keyDown = true
	if o.tonePos >= f.Len() {
		o.tones, o.tonePos = o.tones[1:], 0
		o.keyDown = len(o.tones) > 0
	}
}

// Source numbers of what the port itself sends.
const (
	silenceSource = 1
	digitSource   = 2
)

// eventPause is how long after a packet of a relayed event audio still gives way to it.
const eventPause = int64(100 * time.Millisecond)

// event relays one telephone-event packet of another leg. Where events were
// not negotiated the digit is sent otherwise, when its end is known.
func (o *outbound) event(p *rtpPacket, inClock uint32, now int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.eventOK || o.paused || len(p.payload) < dtmf.PayloadSize || o.wholeLocked(p, inClock) || o.keyDown {
		return
	}
	marker := false
	if !o.eventOn || o.eventIn != p.ts {
		o.eventOn, o.eventIn, o.eventTS, marker = true, p.ts, o.nowTSLocked(now), true
		if o.seqOff+p.seq == o.seq+1 && p.ssrc == o.sourceTag && o.clock == inClock {
			o.eventTS = p.ts + o.tsOff // one source with its audio: keep its own time
		}
	}
	o.eventAt, o.eventEnd = now, p.payload[1]&0x80 != 0
	o.nextLocked()
	body := o.buf[rtpHeaderSize : rtpHeaderSize+dtmf.PayloadSize]
	copy(body, p.payload)
	duration := uint32(body[2])<<8 | uint32(body[3])
	if inClock != o.clock && inClock != 0 {
		duration = min(dtmf.MaxEventDuration, uint32(uint64(duration)*uint64(o.clock)/uint64(inClock)))
		body[2], body[3] = byte(duration>>8), byte(duration)
	}
	// Audio after the event goes on where the event ended; a source that
	// numbers both in one row keeps its offset.
	if p.seq+o.seqOff != o.seq {
		o.source = 0
	}
	o.transmitLocked(&rtpPacket{pt: o.eventPT, marker: marker, seq: o.seq, ts: o.eventTS, ssrc: o.ssrc}, dtmf.PayloadSize, now)
}

// wholeLocked takes an event whose first packet is its end. Browsers send such
// ones when they count its duration by the wrong clock, and phones that know no
// beginning hear nothing, so the digit is sent anew in full.
func (o *outbound) wholeLocked(p *rtpPacket, inClock uint32) bool {
	if o.eventIn == p.ts && (o.eventOn || o.eventWhole) {
		return o.eventWhole
	}
	o.eventWhole = false
	e, err := dtmf.ParseEvent(p.payload)
	if err != nil || !e.End || o.eventIn == p.ts || inClock == 0 {
		return false
	}
	digit, ok := dtmf.Digit(e.Code)
	if !ok {
		return false
	}
	o.eventIn, o.eventOn, o.eventWhole = p.ts, false, true
	each := time.Duration(e.Duration) * time.Second / time.Duration(inClock)
	return o.queueLocked(string(rune(digit)), each) == nil
}

// digit sends what the digits queued by SendDTMF have for this packet time.
func (o *outbound) digit(now int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.tones) > 0 {
		o.toneLocked(now)
		return
	}
	if o.digits == nil {
		return
	}
	if !o.keyDown {
		o.digitTS = o.nowTSLocked(now)
	}
	p, ok := o.digits.Next(o.digitTS)
	o.keyDown = ok
	if ok && !o.paused {
		o.nextLocked()
		o.source, o.eventOn = 0, false
		o.ts, o.at, o.ticks = o.digitTS, now, o.clock/50
		copy(o.buf[rtpHeaderSize:], p.Payload[:])
		o.transmitLocked(&rtpPacket{pt: o.eventPT, marker: p.Marker, seq: o.seq, ts: p.Timestamp, ssrc: o.ssrc}, dtmf.PayloadSize, now)
	}
	o.digitTS += o.clock / 50
	if !ok && !o.digits.Active() {
		o.digits = nil
	}
}

// transmitLocked writes the header before the n bytes of payload that lie in buf, encrypts and sends.
func (o *outbound) transmitLocked(p *rtpPacket, n int, now int64) {
	o.sent = now
	if !o.dest.IsValid() || o.secure && o.cipher == nil {
		return
	}
	b := o.buf[:rtpHeaderSize+n]
	p.write(b)
	if o.cipher != nil {
		sealed, err := o.cipher.seal(b)
		if err != nil {
			o.errors++
			return
		}
		b = sealed
	}
	if err := o.send(b, o.dest); err != nil {
		o.errors++ // a full socket or a path that is down: like loss on the way
		return
	}
	o.packets++
	o.octets += uint32(n)
}
