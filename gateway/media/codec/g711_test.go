package codec

import (
	"testing"
)

func TestG711RoundTripKeepsEveryByte(t *testing.T) {
	for _, l := range []Law{ULaw, ALaw} {
		for b := range 256 {
			got := l.Byte(l.Linear(byte(b)))
			want := byte(b)
			if l == ULaw && want == 0x7F { // negative zero
				want = 0xFF
			}
			if got != want {
				t.Errorf("%v: %#x -> %d -> %#x", l, b, l.Linear(byte(b)), got)
			}
		}
	}
}

// The values of ITU-T G.711 tables 1a and 2a at their ends and steps.
func TestG711KnownValues(t *testing.T) {
	tests := []struct {
		law  Law
		code byte
		want int16
	}{
		{ULaw, 0x80, 32124},
		{ULaw, 0x00, -32124},
		{ULaw, 0xFF, 0},
		{ULaw, 0xFE, 8},
		{ULaw, 0x7E, -8},
		{ULaw, 0xF0, 120},
		{ULaw, 0xEF, 132},
		{ALaw, 0xAA, 32256},
		{ALaw, 0x2A, -32256},
		{ALaw, 0xD5, 8},
		{ALaw, 0x55, -8},
	}
	for _, tt := range tests {
		if got := tt.law.Linear(tt.code); got != tt.want {
			t.Errorf("%v %#x = %d, want %d", tt.law, tt.code, got, tt.want)
		}
	}
}

// A quantizing error is at most half a step: 1/33 of the value, or of the
// smallest step near zero; and a larger sample never codes smaller.
func TestG711QuantizesInHalfSteps(t *testing.T) {
	for _, l := range []Law{ULaw, ALaw} {
		last := -40000
		for s := -32768; s <= 32767; s++ {
			got := int(l.Linear(l.Byte(int16(s))))
			if got < last {
				t.Fatalf("%v: %d coded as %d after %d", l, s, got, last)
			}
			last = got
			if err := abs(got - s); err > abs(s)/32+12 {
				t.Fatalf("%v: %d coded as %d", l, s, got)
			}
		}
	}
}

func TestG711ConvertAgreesWithPCM(t *testing.T) {
	for b := range 256 {
		in := []byte{byte(b)}
		var out [1]byte
		ULaw.Convert(out[:], in, ALaw)
		if want := ULaw.Byte(ALaw.Linear(byte(b))); out[0] != want {
			t.Errorf("a %#x to u: %#x, want %#x", b, out[0], want)
		}
		ALaw.Convert(out[:], in, ULaw)
		if want := ALaw.Byte(ULaw.Linear(byte(b))); out[0] != want {
			t.Errorf("u %#x to a: %#x, want %#x", b, out[0], want)
		}
		if ALaw.Convert(out[:], in, ALaw); out[0] != byte(b) {
			t.Errorf("a %#x to a: %#x", b, out[0])
		}
	}
}

func TestG711StopsAtTheShorterSide(t *testing.T) {
	pcm := make([]int16, 3)
	if n := ULaw.Decode(pcm, make([]byte, 5)); n != 3 {
		t.Errorf("decoded %d", n)
	}
	if n := ALaw.Encode(make([]byte, 2), pcm); n != 2 {
		t.Errorf("encoded %d", n)
	}
	if n := ULaw.Convert(make([]byte, 1), make([]byte, 9), ALaw); n != 1 {
		t.Errorf("converted %d", n)
	}
}

func abs(v int) int {
	if v < 0 {
		return -v
	}
	return v
}

func BenchmarkG711Encode(b *testing.B) {
	pcm, out := sine(8000, 440, 160, 8000), make([]byte, 160)
	b.ReportAllocs()
	for b.Loop() {
		ALaw.Encode(out, pcm)
	}
}

func BenchmarkG711Decode(b *testing.B) {
	pcm, in := make([]int16, 160), make([]byte, 160)
	b.ReportAllocs()
	for b.Loop() {
		ULaw.Decode(pcm, in)
	}
}

func BenchmarkG711Convert(b *testing.B) {
	in := make([]byte, 160)
	b.ReportAllocs()
	for b.Loop() {
		ULaw.Convert(in, in, ALaw)
	}
}
