package rtc

import (
	"strings"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/gateway/media/dtmf"
	"github.com/cordboard/cordboard/softphone/audio"
)

// inbound is the receiving half: jitter buffer, decoder, telephone events and the counts for RTCP.
type inbound struct {
	onDigit func(byte, time.Duration)

	mu      sync.Mutex
	formats map[uint8]format
	pt      uint8
	format  format // of pt
	jitter  *audio.Jitter
	dec     codec.Decoder
	rate    int // of the frames given out
	down    *codec.Resampler
	scratch []int16
	fifo    []int16
	span    int // samples of the last packet, at the decoder's rate
	digits  *dtmf.Receiver
	counts  counts
	sr      senderReport
	pressed []pressed // found under the lock, told outside
}

type pressed struct {
	digit byte
	d     time.Duration
}

// counts are of one SSRC (RFC 3550 appendix A).
type counts struct {
	ssrc              uint32
	seen              bool
	base, top         uint16
	cycles            uint32
	received          uint64
	expectedPrior     uint64
	receivedPrior     uint64
	lostBefore        int64 // of SSRCs that are over
	expectedBefore    uint64
	jitter            float64 // in ticks
	transit           int64
	rate              int
	heardTransit      bool
	receivedAllBefore uint64
}

type senderReport struct {
	mid uint32 // middle of its NTP time
	at  time.Time
}

func newInbound(onDigit func(byte, time.Duration)) *inbound {
	return &inbound{jitter: audio.NewJitter(), onDigit: onDigit, formats: map[uint8]format{}}
}

// use sets the payload types that may arrive.
func (in *inbound) use(formats []format) {
	in.mu.Lock()
	defer in.mu.Unlock()
	clear(in.formats)
	for _, f := range formats {
		if _, ok := in.formats[f.pt]; !ok {
			in.formats[f.pt] = f
		}
	}
}

// packet takes one RTP packet.
func (in *inbound) packet(b []byte, now time.Time) {
	var p rtp.Packet
	if err := p.Unmarshal(b); err != nil {
		return
	}
	in.mu.Lock()
	f, ok := in.formats[p.PayloadType]
	if !ok {
		in.mu.Unlock()
		return
	}
	in.count(&p.Header, f.rate, now)
	switch {
	case f.event():
		if in.digits == nil {
			in.digits = dtmf.NewReceiver(f.rate, func(d byte, t time.Duration) {
				in.pressed = append(in.pressed, pressed{digit: d, d: t})
			})
		}
		// A malformed event is no event.
		_ = in.digits.Push(p.Timestamp, p.Marker, p.Payload, now)
	case codec.CanDecode(f.name):
		if in.format.name == "" || in.pt != p.PayloadType {
			in.pt, in.format, in.dec = p.PayloadType, f, nil
			in.jitter.Reset()
		}
		stamp := time.Duration(int64(p.Timestamp) * int64(time.Second) / int64(f.rate))
		in.jitter.Push(p.SequenceNumber, stamp, now, p.Payload)
	}
	in.unlockAndTell()
}

// tick ends telephone events whose end was lost.
func (in *inbound) tick(now time.Time) {
	in.mu.Lock()
	if in.digits != nil {
		in.digits.Tick(now)
	}
	in.unlockAndTell()
}

func (in *inbound) unlockAndTell() {
	told := in.pressed
	in.pressed = nil
	in.mu.Unlock()
	for _, p := range told {
		in.onDigit(p.digit, p.d)
	}
}

// receive fills pcm, one frame at rate, with what is to be heard now.
func (in *inbound) receive(pcm []int16, rate int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.format.name == "" || !in.prepare(rate) {
		clear(pcm)
		return
	}
	for len(in.fifo) < len(pcm) {
		got := in.next()
		if in.down != nil {
			in.fifo = in.down.Append(in.fifo, got)
		} else {
			in.fifo = append(in.fifo, got...)
		}
	}
	copy(pcm, in.fifo)
	in.fifo = in.fifo[:copy(in.fifo, in.fifo[len(pcm):])]
}

func (in *inbound) prepare(rate int) bool {
	if in.dec != nil && in.rate == rate {
		return true
	}
	at := encoderRate(in.format.name, rate)
	dec, err := codec.NewDecoder(in.format.name, at)
	if err != nil {
		return false
	}
	in.dec, in.rate, in.down = dec, rate, nil
	in.span = audio.FrameSize(at)
	in.fifo = in.fifo[:0]
	if len(in.scratch) == 0 {
		in.scratch = make([]int16, audio.FrameSize(at))
	}
	if at != rate {
		if in.down, err = codec.NewResampler(at, rate); err != nil {
			return false
		}
	}
	return true
}

// next decodes the packet that is due, or hides that it is not there.
func (in *inbound) next() []int16 {
	payload, verdict := in.jitter.Pop()
	if verdict == audio.Ready {
		n, err := in.decode(payload)
		if err == nil && n > 0 {
			in.span = n
			return in.scratch[:n]
		}
		verdict, payload = audio.Lost, nil // garbage is as good as lost
	}
	in.room(in.span)
	out := in.scratch[:in.span]
	if verdict != audio.Lost {
		clear(out)
		return out
	}
	var err error
	if payload != nil {
		_, err = in.dec.Recover(out, payload)
	} else {
		err = in.dec.Conceal(out)
	}
	if err != nil {
		clear(out)
	}
	return out
}

func (in *inbound) decode(payload []byte) (int, error) {
	// G.711 has a byte a sample; the frame of an Opus packet is at most 120 ms.
	if in.format.name == codec.Opus {
		in.room(in.dec.Rate() * 120 / 1000)
	} else {
		in.room(len(payload))
	}
	return in.dec.Decode(in.scratch, payload) //nolint:wrapcheck // only looked at
}

func (in *inbound) room(n int) {
	if len(in.scratch) < n {
		in.scratch = make([]int16, n)
	}
}

func (in *inbound) count(h *rtp.Header, rate int, now time.Time) {
	c := &in.counts
	if !c.seen || c.ssrc != h.SSRC {
		if c.seen {
			in.jitter.Reset()
		}
		exp := c.expected()
		c.lostBefore += int64(exp) - int64(c.received)
		c.expectedBefore += exp
		c.receivedAllBefore += c.received
		*c = counts{
			ssrc: h.SSRC, seen: true, base: h.SequenceNumber, top: h.SequenceNumber - 1, rate: rate,
			lostBefore: c.lostBefore, expectedBefore: c.expectedBefore, receivedAllBefore: c.receivedAllBefore,
		}
		if h.SequenceNumber == 0 {
			c.cycles-- // top is one before base and wraps at once
		}
	}
	d := int16(h.SequenceNumber - c.top)
	switch {
	case d > 0:
		if h.SequenceNumber < c.top {
			c.cycles++
		}
		c.top = h.SequenceNumber
	case d < -1000: // the far side began a new sequence without a new SSRC
		*c = counts{
			ssrc: h.SSRC, seen: true, base: h.SequenceNumber, top: h.SequenceNumber, rate: rate,
			lostBefore: c.lostBefore, expectedBefore: c.expectedBefore, receivedAllBefore: c.receivedAllBefore,
		}
	}
	c.received++
	if rate != c.rate {
		c.rate, c.heardTransit, c.jitter = rate, false, 0
	}
	transit := now.UnixNano()/1000*int64(rate)/1_000_000 - int64(h.Timestamp)
	if c.heardTransit {
		if d := transit - c.transit; d > -int64(rate) && d < int64(rate) {
			if d < 0 {
				d = -d
			}
			c.jitter += (float64(d) - c.jitter) / 16
		}
	}
	c.transit, c.heardTransit = transit, true
}

func (c *counts) expected() uint64 {
	if !c.seen {
		return 0
	}
	return uint64(int64(c.cycles)<<16 + int64(c.top) - int64(c.base) + 1)
}

// reportBlock makes the block of RFC 3550 section 6.4.1; ok is false before the first packet.
func (in *inbound) reportBlock(now time.Time) (r rtcp.ReceptionReport, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	c := &in.counts
	if !c.seen {
		return r, false
	}
	exp := c.expected()
	expInt, recInt := exp-c.expectedPrior, c.received-c.receivedPrior
	c.expectedPrior, c.receivedPrior = exp, c.received
	if expInt > recInt && expInt > 0 {
		r.FractionLost = uint8((expInt - recInt) << 8 / expInt)
	}
	r.SSRC = c.ssrc
	r.TotalLost = uint32(max(0, min(0x7fffff, int64(exp)-int64(c.received))))
	r.LastSequenceNumber = c.cycles<<16 + uint32(c.top)
	r.Jitter = uint32(c.jitter)
	if !in.sr.at.IsZero() {
		r.LastSenderReport = in.sr.mid
		r.Delay = uint32(now.Sub(in.sr.at).Seconds() * 65536)
	}
	return r, true
}

// quality fills in what this half knows.
func (in *inbound) quality(q *Quality) {
	in.mu.Lock()
	defer in.mu.Unlock()
	c := &in.counts
	exp := c.expectedBefore + c.expected()
	got := c.receivedAllBefore + c.received
	if exp > got {
		q.Loss = float64(exp-got) / float64(exp)
	}
	q.Received = got
	if c.rate > 0 {
		q.Jitter = time.Duration(c.jitter / float64(c.rate) * float64(time.Second))
	}
	name := in.format.name
	late := 0.0
	if s := in.jitter.Stats(); s.Received > 0 {
		late = float64(s.Late+s.Dropped) / float64(s.Received)
	}
	if name == "" {
		return
	}
	delay := q.RTT/2 + time.Duration(in.jitter.Delay()+1)*audio.FrameTime
	q.MOS = MOS(strings.ToLower(name), delay, q.Loss+late)
}

func (in *inbound) senderReport(ntp uint64, now time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.sr = senderReport{mid: uint32(ntp >> 16), at: now}
}
