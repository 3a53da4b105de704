package sdp

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Parse reads a description. It takes what real peers write: bare line feeds,
// unknown lines and attributes, lines out of order, missing s= and t= lines.
func Parse(text []byte) (*Session, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("%d bytes: %w", len(text), ErrTooLarge)
	}
	p := parser{s: &Session{}}
	n := 0
	for line := range strings.SplitSeq(string(text), "\n") {
		line = strings.TrimRight(line, "\r \t\x00")
		n++
		if line == "" {
			continue
		}
		if n > MaxLines {
			return nil, fmt.Errorf("%d lines: %w", n, ErrTooLarge)
		}
		if err := p.line(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if !p.version {
		return nil, fmt.Errorf("no v= line: %w", ErrSyntax)
	}
	if !p.origin {
		return nil, fmt.Errorf("no o= line: %w", ErrSyntax)
	}
	p.inherit()
	return p.s, nil
}

type parser struct {
	s               *Session
	m               *Media // nil before the first m= line
	version, origin bool
	defaults        Media // what the session says for its media
	directed        []bool
}

func (p *parser) line(line string) error {
	if len(line) < 2 || line[1] != '=' {
		return fmt.Errorf("%.40q: %w", line, ErrSyntax)
	}
	value := line[2:]
	if strings.ContainsAny(value, "\r\x00") {
		return fmt.Errorf("control character: %w", ErrSyntax)
	}
	switch line[0] {
	case 'v':
		if strings.TrimSpace(value) != "0" {
			return fmt.Errorf("version %.20q: %w", value, ErrSyntax)
		}
		p.version = true
	case 'o':
		return p.originLine(value)
	case 's':
		if p.m == nil {
			p.s.Name = strings.TrimSpace(value)
			if p.s.Name == "-" {
				p.s.Name = ""
			}
		}
	case 'c':
		return p.connection(value)
	case 'm':
		return p.mediaLine(value)
	case 'a':
		return p.attribute(value)
	}
	return nil
}

func (p *parser) originLine(v string) error {
	f := strings.Fields(v)
	if len(f) < 6 {
		return fmt.Errorf("o= with %d fields: %w", len(f), ErrSyntax)
	}
	o := Origin{Username: f[0], Host: f[5]}
	if o.Username == "-" {
		o.Username = ""
	}
	o.ID, o.Version = number(f[1]), number(f[2])
	p.s.Origin, p.origin = o, true
	return nil
}

// number reads a decimal; what is none or too large counts as 0, because peers
// write anything here and nothing depends on it but a change of it.
func number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (p *parser) connection(v string) error {
	f := strings.Fields(v)
	if len(f) < 3 || !strings.EqualFold(f[0], "IN") {
		return fmt.Errorf("c= %.60q: %w", v, ErrSyntax)
	}
	host, _, _ := strings.Cut(f[2], "/") // multicast TTL
	if p.m == nil {
		p.s.Host = host
		return nil
	}
	if p.m.Host == "" { // more than one c= is for layered multicast
		p.m.Host = host
	}
	return nil
}

func (p *parser) mediaLine(v string) error {
	if len(p.s.Media) == MaxMedia {
		return fmt.Errorf("more than %d media: %w", MaxMedia, ErrTooLarge)
	}
	f := strings.Fields(v)
	if len(f) < 4 {
		return fmt.Errorf("m= with %d fields: %w", len(f), ErrSyntax)
	}
	if len(f)-3 > MaxFormats {
		return fmt.Errorf("%d formats: %w", len(f)-3, ErrTooLarge)
	}
	port, _, _ := strings.Cut(f[1], "/")
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("port %.20q: %w", f[1], ErrSyntax)
	}
	m := Media{Kind: strings.ToLower(f[0]), Port: uint16(n), Proto: f[2]}
	for _, s := range f[3:] {
		if !strings.Contains(m.Proto, "RTP/") {
			m.Other = append(m.Other, s)
			continue
		}
		pt, err := strconv.ParseUint(s, 10, 8)
		if err != nil || pt > 127 {
			return fmt.Errorf("payload type %.20q: %w", s, ErrSyntax)
		}
		if hasType(m.Formats, uint8(pt)) {
			continue
		}
		m.Formats = append(m.Formats, static(uint8(pt), m.Kind))
	}
	p.s.Media = append(p.s.Media, m)
	p.directed = append(p.directed, false)
	p.m = &p.s.Media[len(p.s.Media)-1]
	return nil
}

// static fills in what RFC 3551 says of a payload type without an rtpmap.
func static(pt uint8, kind string) Format {
	f := Format{PayloadType: pt, Channels: 1}
	if kind != "audio" {
		return f
	}
	switch pt {
	case 0:
		f.Name, f.ClockRate = "PCMU", 8000
	case 3:
		f.Name, f.ClockRate = "GSM", 8000
	case 4:
		f.Name, f.ClockRate = "G723", 8000
	case 8:
		f.Name, f.ClockRate = "PCMA", 8000
	case 9:
		f.Name, f.ClockRate = "G722", 8000
	case 13:
		f.Name, f.ClockRate = "CN", 8000
	case 18:
		f.Name, f.ClockRate = "G729", 8000
	}
	return f
}

func (p *parser) attribute(v string) error {
	name, value, _ := strings.Cut(v, ":")
	name = strings.TrimSpace(name)
	value = strings.TrimSpace(value)
	if name == "" {
		return fmt.Errorf("attribute without a name: %w", ErrSyntax)
	}
	m := p.m
	if m == nil {
		if p.sessionAttribute(name, value) {
			return nil
		}
		m = &p.defaults
	}
	done, err := p.mediaAttribute(m, strings.ToLower(name), value)
	if done || err != nil {
		return err
	}
	to := &p.s.Attributes
	if p.m != nil {
		to = &p.m.Attributes
	}
	if len(*to) == MaxAttributes {
		return fmt.Errorf("more than %d attributes: %w", MaxAttributes, ErrTooLarge)
	}
	*to = append(*to, Attribute{Name: name, Value: value})
	return nil
}

// sessionAttribute takes the attributes that only a session has.
func (p *parser) sessionAttribute(name, value string) bool {
	switch strings.ToLower(name) {
	case "ice-lite":
		p.s.ICELite = true
		return true
	case "group":
		f := strings.Fields(value)
		if len(f) > 1 && strings.EqualFold(f[0], "BUNDLE") && p.s.Bundle == nil {
			p.s.Bundle = f[1:]
			return true
		}
	}
	return false
}

// mediaAttribute takes the attributes that have a field; m is the defaults of
// the session before the first m= line.
func (p *parser) mediaAttribute(m *Media, name, value string) (bool, error) {
	switch name {
	case "sendrecv", "sendonly", "recvonly", "inactive":
		m.Direction = direction(name)
		if p.m != nil {
			p.directed[len(p.directed)-1] = true
		}
	case "ice-ufrag":
		m.ICE.Ufrag = value
	case "ice-pwd":
		m.ICE.Pwd = value
	case "ice-options":
		m.ICE.Options = value
	case "fingerprint":
		hash, fp, ok := strings.Cut(value, " ")
		if !ok {
			return false, fmt.Errorf("fingerprint: %w", ErrSyntax)
		}
		if len(m.DTLS.Fingerprints) == MaxFormats {
			return false, fmt.Errorf("fingerprints: %w", ErrTooLarge)
		}
		m.DTLS.Fingerprints = append(m.DTLS.Fingerprints, Fingerprint{Hash: strings.ToLower(hash), Value: strings.ToUpper(strings.TrimSpace(fp))})
	case "setup":
		m.DTLS.Setup = strings.ToLower(value)
	case "ptime":
		m.Ptime = milliseconds(value)
	case "maxptime":
		m.MaxPtime = milliseconds(value)
	default:
		if p.m == nil {
			return false, nil
		}
		return p.mediaOnly(m, name, value)
	}
	return true, nil
}

func (p *parser) mediaOnly(m *Media, name, value string) (bool, error) {
	switch name {
	case "mid":
		m.MID = value
	case "rtcp-mux":
		m.RTCP.Mux = true
	case "rtcp-rsize":
		m.RTCP.ReducedSize = true
	case "rtcp":
		return true, rtcpAttribute(m, value)
	case "rtpmap":
		return true, rtpmap(m, value)
	case "fmtp":
		pt, params, _ := strings.Cut(value, " ")
		if f := m.find(pt); f != nil && f.Params == "" {
			f.Params = strings.TrimSpace(params)
		}
	case "rtcp-fb":
		pt, fb, _ := strings.Cut(value, " ")
		f := m.find(pt)
		if f == nil {
			return false, nil // "*" and others are kept as they came
		}
		if fb = strings.TrimSpace(fb); fb != "" && len(f.Feedback) < MaxFormats {
			f.Feedback = append(f.Feedback, fb)
		}
	case "crypto":
		c, err := parseCrypto(value)
		if err != nil {
			return false, err
		}
		if len(m.Crypto) == MaxFormats {
			return false, fmt.Errorf("crypto lines: %w", ErrTooLarge)
		}
		m.Crypto = append(m.Crypto, c)
	case "candidate":
		if len(m.ICE.Candidates) == MaxAttributes {
			return false, fmt.Errorf("candidates: %w", ErrTooLarge)
		}
		m.ICE.Candidates = append(m.ICE.Candidates, value)
	case "end-of-candidates":
		m.ICE.EndOfCandidates = true
	default:
		return false, nil
	}
	return true, nil
}

func (m *Media) find(pt string) *Format {
	n, err := strconv.ParseUint(pt, 10, 8)
	if err != nil {
		return nil
	}
	for i := range m.Formats {
		if m.Formats[i].PayloadType == uint8(n) {
			return &m.Formats[i]
		}
	}
	return nil
}

func rtpmap(m *Media, value string) error {
	pt, enc, _ := strings.Cut(value, " ")
	f := m.find(pt)
	if f == nil {
		return nil // a map for a type that the m= line does not have
	}
	parts := strings.Split(strings.TrimSpace(enc), "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || strings.ContainsAny(parts[0], " \t") {
		return fmt.Errorf("rtpmap %.60q: %w", value, ErrSyntax)
	}
	clock, err := strconv.ParseUint(parts[1], 10, 31)
	if err != nil || clock == 0 {
		return fmt.Errorf("rtpmap clock %.60q: %w", value, ErrSyntax)
	}
	f.Name, f.ClockRate, f.Channels = parts[0], int(clock), 1
	if len(parts) == 3 {
		ch, err := strconv.ParseUint(parts[2], 10, 8)
		if err != nil || ch == 0 {
			return fmt.Errorf("rtpmap channels %.60q: %w", value, ErrSyntax)
		}
		f.Channels = int(ch)
	}
	return nil
}

func rtcpAttribute(m *Media, value string) error {
	f := strings.Fields(value)
	if len(f) == 0 {
		return fmt.Errorf("rtcp without a port: %w", ErrSyntax)
	}
	port, err := strconv.ParseUint(f[0], 10, 16)
	if err != nil {
		return fmt.Errorf("rtcp port %.20q: %w", f[0], ErrSyntax)
	}
	m.RTCP.Port, m.RTCP.Host = uint16(port), ""
	if len(f) >= 4 && port != 0 {
		m.RTCP.Host = f[3]
	}
	return nil
}

func direction(name string) Direction {
	switch name {
	case "sendonly":
		return SendOnly
	case "recvonly":
		return RecvOnly
	case "inactive":
		return Inactive
	}
	return SendRecv
}

// milliseconds reads a ptime; peers write 20, 20.0 and nonsense, which counts as not said.
func milliseconds(v string) time.Duration {
	whole, _, _ := strings.Cut(v, ".")
	n, err := strconv.ParseUint(whole, 10, 16)
	if err != nil || n > 1000 {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

// inherit gives each media what the session said and the media did not.
func (p *parser) inherit() {
	d := &p.defaults
	for i := range p.s.Media {
		m := &p.s.Media[i]
		if !p.directed[i] {
			m.Direction = d.Direction
		}
		if m.Host == "" {
			m.Host = p.s.Host
		}
		if m.ICE.Ufrag == "" && m.ICE.Pwd == "" {
			m.ICE.Ufrag, m.ICE.Pwd = d.ICE.Ufrag, d.ICE.Pwd
		}
		if m.ICE.Options == "" {
			m.ICE.Options = d.ICE.Options
		}
		if len(m.DTLS.Fingerprints) == 0 {
			m.DTLS.Fingerprints = append([]Fingerprint(nil), d.DTLS.Fingerprints...)
		}
		if m.DTLS.Setup == "" {
			m.DTLS.Setup = d.DTLS.Setup
		}
		if m.Ptime == 0 {
			m.Ptime = d.Ptime
		}
		if m.MaxPtime == 0 {
			m.MaxPtime = d.MaxPtime
		}
	}
}
