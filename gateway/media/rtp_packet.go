package media

import "encoding/binary"

const (
	rtpHeaderSize = 12
	// maxPacket bounds what we read: a WebRTC peer stays under 1,200 bytes, an
	// RTP peer under its MTU.
	maxPacket = 2048
	// maxPayload bounds what we send, so that tag and header stay under 1,500.
	maxPayload = 1400
)

// rtpPacket is a parsed RTP packet; payload points into the buffer read.
type rtpPacket struct {
	payload []byte
	ts      uint32
	ssrc    uint32
	seq     uint16
	pt      uint8
	marker  bool
}

// parse reads an RTP packet (RFC 3550 section 5.1) and skips contributing
// sources, header extension and padding: none of them goes on to another leg.
func (p *rtpPacket) parse(b []byte) bool {
	if len(b) < rtpHeaderSize || b[0]>>6 != 2 {
		return false
	}
	n := rtpHeaderSize + 4*int(b[0]&0x0F)
	end := len(b)
	if b[0]&0x10 != 0 {
		if n+4 > end {
			return false
		}
		n += 4 + 4*int(binary.BigEndian.Uint16(b[n+2:]))
	}
	if b[0]&0x20 != 0 {
		pad := int(b[end-1])
		if pad == 0 || n+pad > end {
			return false
		}
		end -= pad
	}
	if n > end {
		return false
	}
	p.marker = b[1]&0x80 != 0
	p.pt = b[1] & 0x7F
	p.seq = binary.BigEndian.Uint16(b[2:])
	p.ts = binary.BigEndian.Uint32(b[4:])
	p.ssrc = binary.BigEndian.Uint32(b[8:])
	p.payload = b[n:end]
	return true
}

// write puts the header in front of b, which holds rtpHeaderSize bytes and the payload.
func (p *rtpPacket) write(b []byte) {
	b[0] = 0x80
	b[1] = p.pt
	if p.marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], p.seq)
	binary.BigEndian.PutUint32(b[4:], p.ts)
	binary.BigEndian.PutUint32(b[8:], p.ssrc)
}

// isRTCP tells RTCP from RTP on one socket (RFC 5761 section 4).
func isRTCP(b []byte) bool {
	return len(b) > 1 && b[1] >= 192 && b[1] <= 223
}
