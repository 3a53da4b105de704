package sdp

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Write gives the text of a description.
func (s *Session) Write() []byte {
	b := make([]byte, 0, 1024)
	b = append(b, "v=0\r\n"...)
	b = fmt.Appendf(b, "o=%s %d %d IN %s\r\n", orDash(s.Origin.Username), s.Origin.ID, s.Origin.Version, address(s.Origin.Host))
	b = append(append(append(b, "s="...), orDash(s.Name)...), "\r\n"...)
	if s.Host != "" {
		b = fmt.Appendf(b, "c=IN %s\r\n", address(s.Host))
	}
	b = append(b, "t=0 0\r\n"...)
	if len(s.Bundle) > 0 {
		b = appendAttribute(b, "group", "BUNDLE "+strings.Join(s.Bundle, " "))
	}
	if s.ICELite {
		b = appendAttribute(b, "ice-lite", "")
	}
	for _, a := range s.Attributes {
		b = appendAttribute(b, a.Name, a.Value)
	}
	for i := range s.Media {
		b = s.Media[i].appendTo(b, s.Host)
	}
	return b
}

func (m *Media) appendTo(b []byte, sessionHost string) []byte {
	b = append(append(b, "m="...), m.Kind...)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(m.Port), 10)
	b = append(append(b, ' '), m.Proto...)
	for _, f := range m.Formats {
		b = strconv.AppendUint(append(b, ' '), uint64(f.PayloadType), 10)
	}
	for _, o := range m.Other {
		b = append(append(b, ' '), o...)
	}
	b = append(b, "\r\n"...)
	if m.Host != "" && m.Host != sessionHost {
		b = fmt.Appendf(b, "c=IN %s\r\n", address(m.Host))
	}
	if m.MID != "" {
		b = appendAttribute(b, "mid", m.MID)
	}
	for _, f := range m.Formats {
		b = f.appendTo(b)
	}
	if m.Ptime > 0 {
		b = fmt.Appendf(b, "a=ptime:%d\r\n", m.Ptime.Milliseconds())
	}
	if m.MaxPtime > 0 {
		b = fmt.Appendf(b, "a=maxptime:%d\r\n", m.MaxPtime.Milliseconds())
	}
	b = m.RTCP.appendTo(b)
	for _, c := range m.Crypto {
		b = c.appendTo(b)
	}
	b = m.DTLS.appendTo(b)
	b = m.ICE.appendTo(b)
	b = appendAttribute(b, m.Direction.String(), "")
	for _, a := range m.Attributes {
		b = appendAttribute(b, a.Name, a.Value)
	}
	return b
}

func (f Format) appendTo(b []byte) []byte {
	if f.Name != "" {
		b = fmt.Appendf(b, "a=rtpmap:%d %s/%d", f.PayloadType, f.Name, f.ClockRate)
		if f.Channels > 1 {
			b = fmt.Appendf(b, "/%d", f.Channels)
		}
		b = append(b, "\r\n"...)
	}
	if f.Params != "" {
		b = fmt.Appendf(b, "a=fmtp:%d %s\r\n", f.PayloadType, f.Params)
	}
	for _, fb := range f.Feedback {
		b = fmt.Appendf(b, "a=rtcp-fb:%d %s\r\n", f.PayloadType, fb)
	}
	return b
}

func (r RTCP) appendTo(b []byte) []byte {
	if r.Port != 0 {
		b = fmt.Appendf(b, "a=rtcp:%d", r.Port)
		if r.Host != "" {
			b = fmt.Appendf(b, " IN %s", address(r.Host))
		}
		b = append(b, "\r\n"...)
	}
	if r.Mux {
		b = appendAttribute(b, "rtcp-mux", "")
	}
	if r.ReducedSize {
		b = appendAttribute(b, "rtcp-rsize", "")
	}
	return b
}

func (d DTLS) appendTo(b []byte) []byte {
	for _, f := range d.Fingerprints {
		b = fmt.Appendf(b, "a=fingerprint:%s %s\r\n", f.Hash, f.Value)
	}
	if d.Setup != "" {
		b = appendAttribute(b, "setup", d.Setup)
	}
	return b
}

func (i ICE) appendTo(b []byte) []byte {
	if i.Ufrag != "" {
		b = appendAttribute(b, "ice-ufrag", i.Ufrag)
	}
	if i.Pwd != "" {
		b = appendAttribute(b, "ice-pwd", i.Pwd)
	}
	if i.Options != "" {
		b = appendAttribute(b, "ice-options", i.Options)
	}
	for _, c := range i.Candidates {
		b = appendAttribute(b, "candidate", c)
	}
	if i.EndOfCandidates {
		b = appendAttribute(b, "end-of-candidates", "")
	}
	return b
}

func appendAttribute(b []byte, name, value string) []byte {
	b = append(append(b, "a="...), name...)
	if value != "" {
		b = append(append(b, ':'), value...)
	}
	return append(b, "\r\n"...)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// address is "IP4 a.b.c.d", "IP6 …" or "IP4 name".
func address(host string) string {
	a, err := netip.ParseAddr(host)
	switch {
	case host == "":
		return "IP4 0.0.0.0"
	case err == nil && a.Is6() && !a.Is4In6():
		return "IP6 " + host
	}
	return "IP4 " + host
}
