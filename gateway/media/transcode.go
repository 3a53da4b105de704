package media

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/gateway/media/dtmf"
)

const (
	// speechRate is the API rate of every decode and encode in a bridge: beside
	// a G.711 leg nothing above 4 kHz is heard, and Opus costs a fifth.
	speechRate    = 8000
	speechFrame   = speechRate / 50
	maxSpeech     = speechRate * 120 / 1000 // samples of the longest packet
	lossFollowing = 250                     // ticks between two looks at the far side's loss
)

// decodeUnit decodes what one port says, for a partner of another codec and
// for a recording: packets are put in as they come, frames come out by the tick.
type decodeUnit struct {
	kind  kind
	clock uint32

	mu    sync.Mutex
	jb    *Jitter
	dec   codec.Decoder
	to    *route // nil: decoded for the recording only
	enc   codec.Encoder
	ssrc  uint32
	begun bool

	// Of the tick.
	pcm    [maxSpeech + speechFrame]int16 // decoded and not yet sent
	have   int
	ticks  int
	packet [codec.MaxOpusPacket]byte
}

func newDecodeUnit(k kind, clock uint32) (*decodeUnit, error) {
	dec, err := codec.NewDecoder(k.name(), speechRate)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", k.name(), err)
	}
	return &decodeUnit{kind: k, clock: clock, dec: dec, jb: NewJitter(JitterOptions{ClockRate: int(clock)})}, nil
}

// encodeFor makes the unit feed a route, or none.
func (u *decodeUnit) encodeFor(r *route) error {
	var enc codec.Encoder
	if r != nil {
		var err error
		if r.kind == kindOpus {
			enc, err = codec.NewOpusEncoder(codec.OpusOptions{Rate: speechRate, FEC: true, LossPercent: 1})
		} else {
			enc, err = codec.NewEncoder(r.kind.name(), speechRate)
		}
		if err != nil {
			return fmt.Errorf("encode %s: %w", r.kind.name(), err)
		}
	}
	u.mu.Lock()
	u.to, u.enc = r, enc
	u.mu.Unlock()
	return nil
}

// push takes a packet of speech.
func (u *decodeUnit) push(p *rtpPacket, at time.Time) {
	u.mu.Lock()
	if u.begun && p.ssrc != u.ssrc {
		u.jb.Reset()
	}
	u.begun, u.ssrc = true, p.ssrc
	u.jb.Put(p.seq, p.ts, p.payload, at)
	u.mu.Unlock()
}

// skip takes the place of a telephone event in the row of packets, so that it
// does not count as lost speech.
func (u *decodeUnit) skip(p *rtpPacket, at time.Time) {
	if len(p.payload) < dtmf.PayloadSize {
		return
	}
	u.mu.Lock()
	if u.begun && p.ssrc == u.ssrc {
		u.jb.Put(p.seq, p.ts+uint32(binary.BigEndian.Uint16(p.payload[2:])), nil, at)
	}
	u.mu.Unlock()
}

// tick decodes 20 ms and gives them on.
func (u *decodeUnit) tick(p *Port, at time.Time) {
	u.mu.Lock()
	if !u.begun {
		u.mu.Unlock()
		return
	}
	track := p.in.tap.Load()
	if p.in.muted.Load() || u.kind.g711() { // G.711 is recorded as it comes
		track = nil
	}
	for u.have < speechFrame {
		u.have += u.decodeLocked(u.pcm[u.have:], track, at)
	}
	to, enc := u.to, u.enc
	u.mu.Unlock()

	if to != nil {
		u.follow(to, enc)
		if n, err := enc.Encode(u.packet[:], u.pcm[:speechFrame]); err == nil {
			to.to.out.frame(u.packet[:n], to.id, p.e.nanos(at))
		}
	}
	u.have = copy(u.pcm[:], u.pcm[speechFrame:u.have])
}

// decodeLocked decodes what the buffer gives next into pcm and returns the
// number of samples, at least one frame's part.
func (u *decodeUnit) decodeLocked(pcm []int16, track *Track, at time.Time) int {
	r := u.jb.Get(at)
	n := int(uint64(r.Ticks) * speechRate / uint64(u.clock))
	if n <= 0 || n > maxSpeech {
		n = speechFrame
	}
	switch r.Kind {
	case JitterPacket:
		got, err := 0, error(nil)
		if len(r.Payload) > 0 {
			got, err = u.dec.Decode(pcm[:maxSpeech], r.Payload)
		}
		switch {
		case err != nil || got > maxSpeech:
			u.conceal(pcm[:n])
		case got == 0:
			clear(pcm[:n])
		default:
			n = got
		}
	case JitterLost:
		if len(r.Payload) == 0 {
			u.conceal(pcm[:n])
		} else if _, err := u.dec.Recover(pcm[:n], r.Payload); err != nil {
			clear(pcm[:n])
		}
	case JitterSilence:
		clear(pcm[:n])
		return n
	}
	if track != nil {
		track.WriteLinear(r.Timestamp, int(u.clock), at.Add(-u.jb.Stats().Target), pcm[:n])
	}
	return n
}

func (u *decodeUnit) conceal(pcm []int16) {
	if err := u.dec.Conceal(pcm); err != nil {
		clear(pcm)
	}
}

// follow tells an Opus encoder how much the far side loses, for its FEC.
func (u *decodeUnit) follow(to *route, enc codec.Encoder) {
	if u.ticks++; u.ticks%lossFollowing != 0 {
		return
	}
	if o, ok := enc.(*codec.OpusEncoder); ok {
		if err := o.SetLoss(int(to.to.rtcp.fraction.Load()) * 100 / 256); err != nil {
			to.to.e.log.Debug("opus loss", "err", err)
		}
	}
}
