package turn

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // MESSAGE-INTEGRITY of RFC 8489 section 14.5 is HMAC-SHA1
	"encoding/binary"
	"net/netip"
)

// The parts of STUN and TURN (RFC 8489, RFC 8656) that are looked at before and
// after the library: nothing is decided here that the library decides too.
const (
	headerLen   = 20
	magicCookie = 0x2112A442
	channelHead = 4

	// maxMessage bounds a message and a channel's packet, with its header.
	maxMessage = 2048

	classMask       = 0x0110
	classRequest    = 0x0000
	classIndication = 0x0010
	classSuccess    = 0x0100
	classError      = 0x0110

	methodBinding          = 0x001
	methodAllocate         = 0x003
	methodRefresh          = 0x004
	methodSend             = 0x006
	methodCreatePermission = 0x008
	methodChannelBind      = 0x009

	attrIntegrity          = 0x0008
	attrErrorCode          = 0x0009
	attrChannelNumber      = 0x000C
	attrXORPeerAddress     = 0x0012
	attrRequestedFamily    = 0x0017
	attrRequestedTransport = 0x0019

	protoUDP   = 17
	familyIPv4 = 1
	familyIPv6 = 2
)

// message is a STUN message that was checked to be whole.
type message struct {
	class, method uint16
	id            [12]byte
	attrs         []byte
}

// parseMessage reads the header of a STUN message and checks its length.
func parseMessage(b []byte) (message, bool) {
	if len(b) < headerLen || b[0]&0xC0 != 0 || binary.BigEndian.Uint32(b[4:8]) != magicCookie {
		return message{}, false
	}
	n := int(binary.BigEndian.Uint16(b[2:4]))
	if n%4 != 0 || headerLen+n > len(b) {
		return message{}, false
	}
	t := binary.BigEndian.Uint16(b[:2])
	m := message{class: t & classMask, method: methodOf(t), attrs: b[headerLen : headerLen+n]}
	copy(m.id[:], b[8:headerLen])
	return m, true
}

// methodOf takes the class bits out of a message type (RFC 8489 section 5).
func methodOf(t uint16) uint16 {
	return t&0x000F | (t&0x00E0)>>1 | (t&0x3E00)>>2
}

// typeOf is the reverse of methodOf.
func typeOf(method, class uint16) uint16 {
	return method&0x000F | (method&0x0070)<<1 | (method&0x0F80)<<2 | class
}

// attr returns the value of the first attribute of a type.
func (m *message) attr(t uint16) ([]byte, bool) {
	for a := m.attrs; len(a) >= 4; {
		n := int(binary.BigEndian.Uint16(a[2:4]))
		if 4+n > len(a) {
			return nil, false
		}
		if binary.BigEndian.Uint16(a[:2]) == t {
			return a[4 : 4+n], true
		}
		a = a[min(len(a), 4+(n+3)&^3):]
	}
	return nil, false
}

// peer returns the XOR-PEER-ADDRESS.
func (m *message) peer() (netip.AddrPort, bool) {
	v, ok := m.attr(attrXORPeerAddress)
	if !ok || len(v) < 8 {
		return netip.AddrPort{}, false
	}
	port := binary.BigEndian.Uint16(v[2:4]) ^ magicCookie>>16
	var x [16]byte
	binary.BigEndian.PutUint32(x[:4], magicCookie)
	copy(x[4:], m.id[:])
	switch {
	case v[1] == familyIPv4 && len(v) == 8:
		var ip [4]byte
		for i := range ip {
			ip[i] = v[4+i] ^ x[i]
		}
		return netip.AddrPortFrom(netip.AddrFrom4(ip), port), true
	case v[1] == familyIPv6 && len(v) == 20:
		var ip [16]byte
		for i := range ip {
			ip[i] = v[4+i] ^ x[i]
		}
		return netip.AddrPortFrom(netip.AddrFrom16(ip).Unmap(), port), true
	}
	return netip.AddrPort{}, false
}

// channel returns the CHANNEL-NUMBER.
func (m *message) channel() (uint16, bool) {
	v, ok := m.attr(attrChannelNumber)
	if !ok || len(v) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint16(v[:2]), true
}

// errorMessage builds an error response; with a key it carries its integrity.
func errorMessage(method uint16, id [12]byte, code int, key []byte) []byte {
	reason := reasonOf(code)
	b := make([]byte, headerLen, 128)
	binary.BigEndian.PutUint16(b, typeOf(method, classError))
	binary.BigEndian.PutUint32(b[4:], magicCookie)
	copy(b[8:], id[:])
	b = binary.BigEndian.AppendUint16(b, attrErrorCode)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(reason)))
	b = append(b, 0, 0, byte(code/100), byte(code%100))
	b = append(b, reason...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	if key != nil {
		// The length covers the integrity before it is computed.
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)-headerLen+4+sha1.Size))
		h := hmac.New(sha1.New, key)
		h.Write(b)
		b = binary.BigEndian.AppendUint16(b, attrIntegrity)
		b = binary.BigEndian.AppendUint16(b, sha1.Size)
		b = h.Sum(b)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-headerLen))
	return b
}

// The error codes that are sent here and not by the library.
const (
	codeForbidden       = 403
	codeMismatch        = 437
	codeWrongFamily     = 440
	codeWrongUser       = 441
	codeUnsupported     = 442
	codeQuota           = 486
	codeInsufficientCap = 508
)

func reasonOf(code int) string {
	switch code {
	case codeForbidden:
		return "Forbidden"
	case codeMismatch:
		return "Allocation Mismatch"
	case codeWrongFamily:
		return "Address Family not Supported"
	case codeWrongUser:
		return "Wrong Credentials"
	case codeUnsupported:
		return "Unsupported Transport Protocol"
	case codeQuota:
		return "Allocation Quota Reached"
	case codeInsufficientCap:
		return "Insufficient Capacity"
	default:
		return "Error"
	}
}

// channelData returns the number and the data of a channel's packet.
func channelData(b []byte) (number uint16, data []byte, ok bool) {
	if len(b) < channelHead {
		return 0, nil, false
	}
	number = binary.BigEndian.Uint16(b)
	n := int(binary.BigEndian.Uint16(b[2:]))
	if !channelNumber(number) || channelHead+n > len(b) {
		return 0, nil, false
	}
	return number, b[channelHead : channelHead+n], true
}

// channelNumber reports whether n may be a channel (RFC 8656 section 12, with
// the wider range of RFC 5766 that older clients use).
func channelNumber(n uint16) bool { return n >= 0x4000 && n <= 0x7FFF }
