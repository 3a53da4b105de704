package sdp

import (
	"errors"
	"net/netip"
	"strings"
	"time"
)

// Bounds of a description; anything larger is refused, not cut.
const (
	MaxSize       = 64 << 10 // bytes
	MaxLines      = 2000
	MaxMedia      = 32
	MaxFormats    = 128 // of one media
	MaxAttributes = 512 // of one media
)

var (
	// ErrSyntax means that the text is no session description.
	ErrSyntax = errors.New("sdp: bad session description")
	// ErrTooLarge means that a bound was passed.
	ErrTooLarge = errors.New("sdp: description too large")
	// ErrNoCommonCodec means that the two sides share no codec for speech.
	ErrNoCommonCodec = errors.New("sdp: no common codec")
	// ErrCrypto means that an a=crypto line cannot be used.
	ErrCrypto = errors.New("sdp: bad crypto attribute")
)

// Session is one description.
type Session struct {
	Origin     Origin
	Name       string // s=; "-" when empty
	Host       string // c= of the session: an address, seldom a name
	Bundle     []string
	ICELite    bool
	Attributes []Attribute // of the session, without those that have a field
	Media      []Media
}

// Origin is the o= line. Version goes up by one with each changed description.
type Origin struct {
	Username string // "-" when empty
	ID       uint64
	Version  uint64
	Host     string
}

// Attribute is an a= line without a field of its own; Value is empty for a flag.
type Attribute struct{ Name, Value string }

// Direction of a media as its describer sees it.
type Direction uint8

// Directions.
const (
	SendRecv Direction = iota
	SendOnly
	RecvOnly
	Inactive
)

// String is the attribute's name.
func (d Direction) String() string {
	switch d {
	case SendRecv:
		return "sendrecv"
	case SendOnly:
		return "sendonly"
	case RecvOnly:
		return "recvonly"
	case Inactive:
		return "inactive"
	}
	return "sendrecv"
}

// Sends reports whether the describer sends.
func (d Direction) Sends() bool { return d == SendRecv || d == SendOnly }

// Receives reports whether the describer wants to receive.
func (d Direction) Receives() bool { return d == SendRecv || d == RecvOnly }

// Reverse is the most a direction may be answered with (RFC 3264 section 6.1).
func (d Direction) Reverse() Direction {
	switch d {
	case SendOnly:
		return RecvOnly
	case RecvOnly:
		return SendOnly
	case SendRecv, Inactive:
	}
	return d
}

// Format is one payload type of a media.
type Format struct {
	PayloadType uint8
	Name        string // of rtpmap; static types are filled in without one
	ClockRate   int
	Channels    int      // 1 when not said
	Params      string   // a=fmtp
	Feedback    []string // a=rtcp-fb
}

// Is reports whether two formats name the same codec: name, clock and channels.
func (f Format) Is(o Format) bool {
	return strings.EqualFold(f.Name, o.Name) && f.ClockRate == o.ClockRate && max(1, f.Channels) == max(1, o.Channels)
}

// Param is the value of one fmtp parameter ("useinbandfec"), empty without it.
func (f Format) Param(name string) string {
	for p := range strings.SplitSeq(f.Params, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(k, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// Media is one m= section with what the session says for it.
type Media struct {
	Kind      string // audio, video, application, image…
	Port      uint16 // 0 = refused or off
	Proto     string // RTP/AVP, RTP/SAVP, UDP/TLS/RTP/SAVPF…
	Formats   []Format
	Other     []string // formats that are no payload types (application, image)
	Host      string   // c=
	Direction Direction
	Ptime     time.Duration // 0 when not said
	MaxPtime  time.Duration
	MID       string
	RTCP      RTCP
	Crypto    []Crypto
	DTLS      DTLS
	ICE       ICE

	Attributes []Attribute
}

// RTCP says where a media's RTCP goes.
type RTCP struct {
	Mux         bool   // a=rtcp-mux
	ReducedSize bool   // a=rtcp-rsize
	Port        uint16 // a=rtcp (RFC 3605); 0 = the port after that of RTP
	Host        string // of a=rtcp; empty = the media's
}

// DTLS is the identity of a DTLS-SRTP peer.
type DTLS struct {
	Fingerprints []Fingerprint
	Setup        string // actpass, active, passive, holdconn
}

// Fingerprint of a certificate; Hash as in RFC 8122 ("sha-256"), Value in upper case with colons.
type Fingerprint struct{ Hash, Value string }

// ICE is what RFC 8839 says of a media.
type ICE struct {
	Ufrag, Pwd      string
	Options         string
	Candidates      []string // without "candidate:"
	EndOfCandidates bool
}

// Active reports whether the media is neither refused nor switched off. A port
// of 9 with ICE (RFC 8839) is active.
func (m *Media) Active() bool { return m.Port != 0 }

// Secure reports whether the media is SRTP, by SDES or DTLS.
func (m *Media) Secure() bool { return strings.Contains(m.Proto, "SAVP") }

// Held reports whether the describer holds: it does not listen (sendonly,
// inactive) or names no address (c=0.0.0.0, RFC 2543).
func (m *Media) Held() bool {
	if !m.Direction.Receives() {
		return true
	}
	a, err := netip.ParseAddr(m.Host)
	return err == nil && a.IsUnspecified() && len(m.ICE.Candidates) == 0 && m.ICE.Ufrag == ""
}

// Addr is where the describer wants RTP; it is not valid when a name stands
// where an address should.
func (m *Media) Addr() netip.AddrPort { return addrPort(m.Host, m.Port) }

// RTCPAddr is where the describer wants RTCP.
func (m *Media) RTCPAddr() netip.AddrPort {
	if m.RTCP.Mux {
		return m.Addr()
	}
	host, port := m.RTCP.Host, m.RTCP.Port
	if host == "" {
		host = m.Host
	}
	if port == 0 {
		if m.Port == 0xFFFF {
			return netip.AddrPort{}
		}
		port = m.Port + 1
	}
	return addrPort(host, port)
}

// Format finds a payload type.
func (m *Media) Format(pt uint8) (Format, bool) {
	for _, f := range m.Formats {
		if f.PayloadType == pt {
			return f, true
		}
	}
	return Format{}, false
}

// Attribute is the value of an attribute that has no field.
func (m *Media) Attribute(name string) (value string, ok bool) {
	for _, a := range m.Attributes {
		if strings.EqualFold(a.Name, name) {
			return a.Value, true
		}
	}
	return "", false
}

// Audio is the index of the first active audio over RTP, -1 without any.
func (s *Session) Audio() int {
	for i := range s.Media {
		if m := &s.Media[i]; m.Kind == "audio" && m.Active() && strings.Contains(m.Proto, "RTP/") {
			return i
		}
	}
	return -1
}

// Refusal is an answer to the description s that refuses every media (port 0,
// RFC 3264 section 6); the caller puts in its place what it takes.
func (s *Session) Refusal(origin Origin) *Session {
	a := &Session{Origin: origin, Host: origin.Host, Media: make([]Media, len(s.Media))}
	for i := range s.Media {
		m := &s.Media[i]
		r := Media{Kind: m.Kind, Proto: m.Proto, MID: m.MID, Host: origin.Host, Direction: Inactive}
		if len(m.Formats) > 0 {
			f := m.Formats[0]
			f.Params, f.Feedback = "", nil
			r.Formats = []Format{f}
		}
		if len(m.Other) > 0 {
			r.Other = m.Other[:1]
		}
		a.Media[i] = r
	}
	return a
}

func addrPort(host string, port uint16) netip.AddrPort {
	a, err := netip.ParseAddr(host)
	if err != nil || port == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Unmap(), port)
}
