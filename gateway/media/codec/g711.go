package codec

import (
	"math/bits"
	"strings"
)

// Law is one of the two codings of G.711.
type Law uint8

// The laws of G.711.
const (
	ULaw Law = iota // PCMU
	ALaw            // PCMA
)

// LawOf is the law of the codec called name; µ-law for anything but PCMA.
func LawOf(name string) Law {
	if strings.EqualFold(name, PCMA) {
		return ALaw
	}
	return ULaw
}

// String is the codec's name.
func (l Law) String() string {
	if l == ALaw {
		return PCMA
	}
	return PCMU
}

// Silence is the byte that codes zero.
func (l Law) Silence() byte {
	if l == ALaw {
		return 0xD5
	}
	return 0xFF
}

// Encode codes src into dst, both as long as the shorter of them, and returns that length.
func (l Law) Encode(dst []byte, src []int16) int {
	t := &ulawOf
	shift := 2
	if l == ALaw {
		t = &alawOf
	}
	n := min(len(dst), len(src))
	src = src[:n]
	dst = dst[:n]
	for i, s := range src {
		dst[i] = t[uint16(s)>>shift]
	}
	return n
}

// Decode decodes src into dst, both as long as the shorter of them, and returns that length.
func (l Law) Decode(dst []int16, src []byte) int {
	t := &linearOfULaw
	if l == ALaw {
		t = &linearOfALaw
	}
	n := min(len(dst), len(src))
	src = src[:n]
	dst = dst[:n]
	for i, b := range src {
		dst[i] = t[b]
	}
	return n
}

// Convert recodes src of law from into dst of law l without going through PCM;
// dst may be src.
func (l Law) Convert(dst, src []byte, from Law) int {
	n := min(len(dst), len(src))
	if l == from {
		return copy(dst[:n], src[:n])
	}
	t := &ulawOfALaw
	if l == ALaw {
		t = &alawOfULaw
	}
	src = src[:n]
	dst = dst[:n]
	for i, b := range src {
		dst[i] = t[b]
	}
	return n
}

// Linear is the 16 bit value of one coded sample.
func (l Law) Linear(b byte) int16 {
	if l == ALaw {
		return linearOfALaw[b]
	}
	return linearOfULaw[b]
}

// Byte codes one sample.
func (l Law) Byte(s int16) byte {
	if l == ALaw {
		return alawOf[uint16(s)>>2]
	}
	return ulawOf[uint16(s)>>2]
}

// The tables are filled once and never written again.
//
//nolint:gochecknoglobals // read-only tables of G.711
var (
	linearOfULaw = decodeTable(ulawToLinear)
	linearOfALaw = decodeTable(alawToLinear)
	ulawOf       = encodeTable(linearToULaw)
	alawOf       = encodeTable(linearToALaw)
	ulawOfALaw   = convertTable(alawToLinear, linearToULaw)
	alawOfULaw   = convertTable(ulawToLinear, linearToALaw)
)

func decodeTable(f func(byte) int16) (t [256]int16) {
	for i := range t {
		t[i] = f(byte(i))
	}
	return t
}

// encodeTable is indexed by the upper 14 bits: G.711 never looks at the lower two.
func encodeTable(f func(int16) byte) (t [1 << 14]byte) {
	for i := range t {
		t[i] = f(int16(uint16(i<<2 | 2))) // the middle of the four values
	}
	return t
}

func convertTable(dec func(byte) int16, enc func(int16) byte) (t [256]byte) {
	for i := range t {
		t[i] = enc(dec(byte(i)))
	}
	return t
}

// linearToULaw codes a sample by G.711 table 2: the decision values are those
// of the 14 bit scale with its bias of 33 (132 on 16 bits).
func linearToULaw(s int16) byte {
	const bias, clip = 132, 32635
	m, sign := int32(s), byte(0x80)
	if m < 0 {
		m, sign = -m, 0
	}
	m = min(m, clip) + bias
	seg := bits.Len32(uint32(m)) - 8
	return sign | ^(byte(seg<<4)|byte(m>>(seg+3))&0x0F)&0x7F
}

func ulawToLinear(b byte) int16 {
	b = ^b
	m := (int32(b&0x0F)<<3 + 132) << (b >> 4 & 7)
	m -= 132
	if b&0x80 != 0 {
		return int16(-m)
	}
	return int16(m)
}

// linearToALaw codes a sample by G.711 table 1: 13 bits, even bits inverted.
func linearToALaw(s int16) byte {
	m, sign := int32(s), byte(0xD5)
	if m < 0 {
		m, sign = -m-1, 0x55 // one's complement, so that both halves are alike
	}
	m >>= 3
	if m < 32 {
		return byte(m>>1) ^ sign
	}
	seg := bits.Len32(uint32(m)) - 5
	return (byte(seg<<4) | byte(m>>seg)&0x0F) ^ sign
}

func alawToLinear(b byte) int16 {
	b ^= 0x55
	seg := b >> 4 & 7
	m := int32(b&0x0F)<<4 + 8
	if seg > 0 {
		m = (m + 0x100) << (seg - 1)
	}
	if b&0x80 != 0 {
		return int16(m)
	}
	return int16(-m)
}

// G711Encoder codes one direction of a G.711 stream.
type G711Encoder struct{ law Law }

// NewG711Encoder makes an encoder of the given law.
func NewG711Encoder(l Law) G711Encoder { return G711Encoder{law: l} }

// Encode implements Encoder; a frame may have any length.
func (e G711Encoder) Encode(dst []byte, pcm []int16) (int, error) {
	if len(dst) < len(pcm) {
		return 0, ErrShortBuffer
	}
	return e.law.Encode(dst, pcm), nil
}

// Rate implements Encoder.
func (e G711Encoder) Rate() int { return 8000 }
