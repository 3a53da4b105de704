package media

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/gateway/media/sdp"
)

// Payload types that we offer (RFC 3551; the dynamic ones as phones usually have them).
const (
	offerOpus        = 111
	offerEvents      = 101
	offerEventsAt48k = 110
)

// security is the part of negotiation in which the two kinds of leg differ.
type security interface {
	// offer fills in what we offer beside codecs.
	offer(s *sdp.Session, m *sdp.Media) error
	// answer looks at the far side's offer and fills in our answer to it.
	// Nothing changes before apply.
	answer(offer, answer *sdp.Media, s *sdp.Session) error
	// check looks at the far side's answer to our offer.
	check(answer *sdp.Media) error
	// apply makes the last answer or check count.
	apply(far *sdp.Media, recv *reception) error
}

// negotiation is the offer and answer exchange of a port (RFC 3264).
type negotiation struct {
	ours []sdp.Format // in our order
	sec  security

	mu      sync.Mutex
	origin  sdp.Origin
	offered []sdp.Format // of our last offer; nil once they made one
	local   []sdp.Format // what our last description says we take
	held    bool
	far     netip.AddrPort // as signalled
	epoch   uint32
	prefer  bool // choose by our order instead of the offerer's
}

func newNegotiation(n *negotiation, host netip.Addr, codecs []string, eventPT uint8) error {
	n.origin = sdp.Origin{ID: rand.Uint64() >> 1, Version: 1, Host: host.String()} //nolint:gosec // an identifier, not a secret
	clocks := map[int]bool{}
	for _, name := range codecs {
		c, ok := codec.Lookup(name)
		if !ok || kindOf(c.Name) == kindNone || c.Name == codec.TelephoneEvent {
			return fmt.Errorf("codec %q: %w", name, codec.ErrUnknown)
		}
		pt := c.PayloadType
		if !c.Static() {
			pt = offerOpus
		}
		n.ours = append(n.ours, sdp.Format{PayloadType: pt, Name: c.Name, ClockRate: c.ClockRate, Channels: c.Channels, Params: c.Fmtp})
		clocks[c.ClockRate] = true
	}
	for _, e := range []struct {
		clock int
		pt    uint8
	}{{8000, eventPT}, {48000, offerEventsAt48k}} {
		if clocks[e.clock] {
			n.ours = append(n.ours, sdp.Format{PayloadType: e.pt, Name: codec.TelephoneEvent, ClockRate: e.clock, Channels: 1, Params: "0-16"})
		}
	}
	return nil
}

// Offer makes a description to send; [Port.Answered] takes the answer to it.
func (p *Port) Offer(ctx context.Context) ([]byte, error) {
	if err := p.alive(ctx); err != nil {
		return nil, err
	}
	n := &p.neg
	n.mu.Lock()
	defer n.mu.Unlock()
	m := sdp.Media{
		Kind: "audio", Host: n.origin.Host, Formats: n.offerFormats(),
		Direction: sdp.SendRecv, Ptime: codec.FrameDuration,
	}
	s := &sdp.Session{Origin: n.origin, Host: n.origin.Host}
	if err := n.sec.offer(s, &m); err != nil {
		return nil, err
	}
	s.Media = []sdp.Media{m}
	n.origin.Version++
	n.offered = m.Formats
	return s.Write(), nil
}

// Answered takes the far side's answer to Offer, and again when another answer
// to the same offer follows (early media, then the call itself). With
// ErrNoCommonCodec or another error the port goes on as it was.
func (p *Port) Answered(answer []byte) error {
	if p.closed.Load() {
		return ErrClosed
	}
	s, err := sdp.Parse(answer)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	n := &p.neg
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.offered == nil {
		return ErrState
	}
	i := s.Audio()
	if i < 0 {
		return ErrNoCommonCodec
	}
	far := &s.Media[i]
	common, err := sdp.Choose(far, n.offered)
	if err != nil {
		return noCommon(err)
	}
	if err := n.sec.check(far); err != nil {
		return err
	}
	return p.applyLocked(far, common, n.offered)
}

// Answer answers the far side's offer, the first or a later one (hold, another
// codec, ICE restart). With ErrNoCommonCodec or ErrNotEncrypted (488) the port
// goes on as it was.
func (p *Port) Answer(ctx context.Context, offer []byte) ([]byte, error) {
	if err := p.alive(ctx); err != nil {
		return nil, err
	}
	s, err := sdp.Parse(offer)
	if err != nil {
		return nil, fmt.Errorf("offer: %w", err)
	}
	n := &p.neg
	n.mu.Lock()
	defer n.mu.Unlock()
	i := s.Audio()
	if i < 0 {
		return nil, ErrNoCommonCodec
	}
	far := &s.Media[i]
	choose := sdp.Choose
	if n.prefer {
		choose = sdp.Prefer
	}
	common, err := choose(far, n.ours)
	if err != nil {
		return nil, noCommon(err)
	}
	common = onlyOne(common)
	reply := s.Refusal(n.origin)
	reply.Host = n.origin.Host
	m := sdp.Media{
		Kind: "audio", Proto: far.Proto, Host: n.origin.Host, Formats: withOurParams(common, n.ours),
		Direction: far.Direction.Reverse(), Ptime: codec.FrameDuration, MID: far.MID,
		RTCP: sdp.RTCP{Mux: far.RTCP.Mux},
	}
	if err := n.sec.answer(far, &m, reply); err != nil {
		return nil, err
	}
	reply.Media[i] = m
	if err := p.applyLocked(far, common, m.Formats); err != nil {
		return nil, err
	}
	n.offered = nil
	n.origin.Version++
	return reply.Write(), nil
}

// applyLocked puts an agreement into effect: far is the far side's
// description, common its formats that we use, local what ours says we take.
func (p *Port) applyLocked(far *sdp.Media, common, local []sdp.Format) error {
	if p.closed.Load() {
		return ErrClosed
	}
	n := &p.neg
	speech, ok := sdp.Speech(common)
	if !ok {
		return ErrNoCommonCodec
	}
	recv := &reception{expected: far.Direction.Sends(), signalled: unmap(far.Addr()), rtcpFrom: unmap(far.RTCPAddr()), ssrc: describedSSRC(far)}
	for _, f := range slices.Concat(common, local) { // ours last: they are what counts for receiving
		recv.kinds[f.PayloadType&0x7F], recv.clocks[f.PayloadType&0x7F] = kindOf(f.Name), uint32(f.ClockRate)
	}
	if recv.signalled != n.far {
		n.far = recv.signalled
		n.epoch++
	}
	recv.epoch = n.epoch
	if err := n.sec.apply(far, recv); err != nil {
		return err
	}
	old := p.in.cfg.Load()
	if recv.expected && (old == nil || !old.expected) {
		p.expectedSince.Store(p.e.now())
	}
	n.held = far.Held()
	n.local = local

	o := &p.out
	o.mu.Lock()
	o.setCodecLocked(kindOf(speech.Name), uint32(speech.ClockRate), speech.PayloadType)
	event, events := sdp.Events(common, speech.ClockRate)
	o.eventPT, o.eventOK = event.PayloadType, events
	o.paused = !far.Direction.Receives() || !recv.ice && recv.signalled.IsValid() && recv.signalled.Addr().IsUnspecified()
	if !recv.ice && (old == nil || old.epoch != recv.epoch) {
		o.dest, o.rtcpDest = recv.signalled, recv.rtcpFrom
		if far.RTCP.Mux {
			o.rtcpDest = o.dest
		}
		p.rtcpSeen.Store(false)
	}
	o.mu.Unlock()
	p.in.cfg.Store(recv)
	p.tr.start(far.RTCP.Mux)
	p.negotiated(kindOf(speech.Name))
	return nil
}

// offerFormats are ours under the payload types of the last agreement: within
// a call a type never changes its meaning (RFC 3264 section 8.3.2).
func (n *negotiation) offerFormats() []sdp.Format {
	formats := slices.Clone(n.ours)
	used := map[uint8]bool{}
	for _, l := range n.local {
		used[l.PayloadType] = true
	}
	for i := range formats {
		f := &formats[i]
		known := slices.IndexFunc(n.local, func(l sdp.Format) bool { return l.Is(*f) })
		switch {
		case known >= 0:
			f.PayloadType = n.local[known].PayloadType
		case used[f.PayloadType]:
			for pt := uint8(96); pt < 128; pt++ {
				if !used[pt] {
					f.PayloadType = pt
					break
				}
			}
		}
		used[f.PayloadType] = true
	}
	return formats
}

func (p *Port) alive(ctx context.Context) error {
	if p.closed.Load() {
		return ErrClosed
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("negotiate media: %w", err)
	}
	return nil
}

func noCommon(err error) error {
	if errors.Is(err, sdp.ErrNoCommonCodec) {
		return ErrNoCommonCodec
	}
	return err
}

// onlyOne keeps the first codec of speech and the events of its clock: a far
// side that may send one codec cannot surprise us with another.
func onlyOne(formats []sdp.Format) []sdp.Format {
	speech, _ := sdp.Speech(formats)
	kept := []sdp.Format{speech}
	if e, ok := sdp.Events(formats, speech.ClockRate); ok {
		kept = append(kept, e)
	}
	return kept
}

// withOurParams gives chosen formats our own parameters: fmtp says what the
// describer wants to receive.
func withOurParams(chosen, ours []sdp.Format) []sdp.Format {
	out := slices.Clone(chosen)
	for i := range out {
		out[i].Feedback = nil
		for _, o := range ours {
			if out[i].Is(o) {
				out[i].Params = o.Params
			}
		}
	}
	return out
}

// describedSSRC is the source of a=ssrc (RFC 5576); 0 when not said.
func describedSSRC(m *sdp.Media) uint32 {
	v, ok := m.Attribute("ssrc")
	if !ok {
		return 0
	}
	id, _, _ := strings.Cut(v, " ")
	ssrc, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(ssrc)
}

// unmap gives an IPv4 address its plain form, so that addresses compare equal.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
