package codec

import (
	"errors"
	"math"
	"testing"
)

// sine is n samples of a tone.
func sine(rate int, hz float64, n int, level float64) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		pcm[i] = int16(level * math.Sin(2*math.Pi*hz*float64(i)/float64(rate)))
	}
	return pcm
}

// tonePower is the level of one frequency in pcm (its amplitude).
func tonePower(pcm []int16, rate int, hz float64) float64 {
	var re, im float64
	for i, s := range pcm {
		a := 2 * math.Pi * hz * float64(i) / float64(rate)
		re += float64(s) * math.Cos(a)
		im += float64(s) * math.Sin(a)
	}
	return 2 * math.Hypot(re, im) / float64(len(pcm))
}

func rms(pcm []int16) float64 {
	sum := 0.0
	for _, s := range pcm {
		sum += float64(s) * float64(s)
	}
	return math.Sqrt(sum / float64(len(pcm)))
}

func TestLookup(t *testing.T) {
	c, ok := Lookup("OPUS")
	if !ok || c.ClockRate != 48000 || c.Channels != 2 || c.Static() || c.TicksPerFrame() != 960 {
		t.Errorf("opus: %+v", c)
	}
	if c, ok := ByPayloadType(8); !ok || c.Name != PCMA || !c.Static() || c.TicksPerFrame() != 160 {
		t.Errorf("payload type 8: %+v", c)
	}
	if _, ok := Lookup("speex"); ok {
		t.Error("speex is known")
	}
	if _, ok := ByPayloadType(96); ok {
		t.Error("96 is static")
	}
}

func TestNewRefusesWhatItCannotDo(t *testing.T) {
	if _, err := NewDecoder("G729", 8000); !errors.Is(err, ErrUnknown) {
		t.Errorf("G729: %v", err)
	}
	if _, err := NewEncoder(PCMU, 16000); !errors.Is(err, ErrRate) {
		t.Errorf("PCMU at 16 kHz: %v", err)
	}
	if _, err := NewDecoder(Opus, 44100); !errors.Is(err, ErrRate) {
		t.Errorf("opus at 44.1 kHz: %v", err)
	}
}

func TestEncodeThenDecodeKeepsTheTone(t *testing.T) {
	tests := []struct {
		name string
		rate int
	}{{PCMU, 8000}, {PCMA, 8000}, {Opus, 8000}, {Opus, 16000}, {Opus, 48000}}
	for _, tt := range tests {
		enc, err := NewEncoder(tt.name, tt.rate)
		if err != nil {
			t.Fatal(err)
		}
		dec, err := NewDecoder(tt.name, tt.rate)
		if err != nil {
			t.Fatal(err)
		}
		if enc.Rate() != tt.rate || dec.Rate() != tt.rate {
			t.Errorf("%s: rates %d, %d", tt.name, enc.Rate(), dec.Rate())
		}
		frame := tt.rate / 50
		in := sine(tt.rate, 1000, frame*50, 8000)
		var out []int16
		var buf [MaxOpusPacket]byte
		pcm := make([]int16, MaxFrameSamples)
		for at := 0; at < len(in); at += frame {
			n, err := enc.Encode(buf[:], in[at:at+frame])
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			n, err = dec.Decode(pcm, buf[:n])
			if err != nil || n != frame {
				t.Fatalf("%s: decoded %d samples, %v", tt.name, n, err)
			}
			out = append(out, pcm[:n]...)
		}
		if got := tonePower(out[len(out)/2:], tt.rate, 1000); got < 6500 || got > 9500 {
			t.Errorf("%s at %d Hz: tone of 8000 came out as %.0f", tt.name, tt.rate, got)
		}
	}
}

func TestG711ConcealmentRepeatsThePitchAndFades(t *testing.T) {
	// 160 Hz with harmonics: a voice's vowel; the period is 50 samples.
	voice := make([]int16, 160*20)
	for i := range voice {
		x := 2 * math.Pi * 160 * float64(i) / 8000
		voice[i] = int16(5000*math.Sin(x) + 2500*math.Sin(2*x+1) + 1500*math.Sin(3*x+2))
	}
	var coded [160]byte
	d := NewG711Decoder(ALaw)
	pcm := make([]int16, 160)
	for at := 0; at < 1600; at += 160 {
		ALaw.Encode(coded[:], voice[at:at+160])
		if _, err := d.Decode(pcm, coded[:]); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Conceal(pcm); err != nil {
		t.Fatal(err)
	}
	want := voice[1600:1760]
	diff := make([]int16, 160)
	for i := range diff {
		diff[i] = want[i] - pcm[i]
	}
	if e, s := rms(diff[:80]), rms(want[:80]); e > s/4 {
		t.Errorf("the first 10 ms differ by %.0f of %.0f from what was lost", e, s)
	}
	first := rms(pcm)
	for range 2 {
		if err := d.Conceal(pcm); err != nil {
			t.Fatal(err)
		}
	}
	if third := rms(pcm); third > first/2 {
		t.Errorf("after 60 ms the level is %.0f of %.0f", third, first)
	}
	if err := d.Conceal(pcm); err != nil {
		t.Fatal(err)
	}
	if r := rms(pcm); r != 0 {
		t.Errorf("after 60 ms there is still %.0f", r)
	}
	// The next good packet comes in without a jump.
	ALaw.Encode(coded[:], voice[1760:1920])
	if _, err := d.Decode(pcm, coded[:]); err != nil {
		t.Fatal(err)
	}
	if abs(int(pcm[0])) > 600 {
		t.Errorf("speech comes back with a jump to %d", pcm[0])
	}
	if rms(pcm[40:]) < 3000 {
		t.Errorf("speech comes back at %.0f", rms(pcm[40:]))
	}
}

func TestG711ConcealmentBeforeAnySpeechIsSilence(t *testing.T) {
	d := NewG711Decoder(ULaw)
	pcm := sine(8000, 300, 160, 5000)
	if err := d.Conceal(pcm); err != nil || rms(pcm) != 0 {
		t.Errorf("level %.0f, %v", rms(pcm), err)
	}
}

// speechlike is a tone whose pitch and level move, which SILK codes as voice.
func speechlike(rate, n int) []int16 {
	pcm := make([]int16, n)
	phase := 0.0
	for i := range pcm {
		tm := float64(i) / float64(rate)
		phase += 2 * math.Pi * (150 + 30*math.Sin(2*math.Pi*1.3*tm)) / float64(rate)
		v := 0.0
		for h := 1; h <= 12; h++ {
			v += math.Sin(float64(h)*phase) / float64(h)
		}
		pcm[i] = int16(4000 * v * (0.6 + 0.4*math.Sin(2*math.Pi*3*tm)))
	}
	return pcm
}

// What FEC brings back must be nearer to what was lost than what concealment invents.
func TestOpusFECRecoversALostPacket(t *testing.T) {
	for _, rate := range []int{8000, 16000, 48000} {
		frame := rate / 50
		voice := speechlike(rate, rate*2)
		enc, err := NewOpusEncoder(OpusOptions{Rate: rate, FEC: true, LossPercent: 20, Bitrate: 32000})
		if err != nil {
			t.Fatal(err)
		}
		var packets [][]byte
		var buf [MaxOpusPacket]byte
		for at := 0; at < len(voice); at += frame {
			n, err := enc.Encode(buf[:], voice[at:at+frame])
			if err != nil {
				t.Fatal(err)
			}
			packets = append(packets, append([]byte(nil), buf[:n]...))
		}
		var errFEC, errPLC float64
		recovered := 0
		for lost := 20; lost < 95; lost += 5 {
			whole := decodeWith(t, rate, packets, lost, func(*OpusDecoder, []int16, []byte) {})
			fec := decodeWith(t, rate, packets, lost, func(d *OpusDecoder, pcm []int16, next []byte) {
				used, err := d.Recover(pcm, next)
				if err != nil {
					t.Fatal(err)
				}
				if used {
					recovered++
				}
			})
			plc := decodeWith(t, rate, packets, lost, func(d *OpusDecoder, pcm []int16, _ []byte) {
				if err := d.Conceal(pcm); err != nil {
					t.Fatal(err)
				}
			})
			errFEC += distance(whole, fec)
			errPLC += distance(whole, plc)
		}
		if recovered < 10 { // pauses carry none
			t.Errorf("%d Hz: FEC in only %d of 15 packets", rate, recovered)
		}
		if errFEC > errPLC*0.7 {
			t.Errorf("%d Hz: FEC is off by %.0f, plain concealment by %.0f", rate, errFEC, errPLC)
		}
	}
}

// decodeWith decodes all packets up to the lost one and returns that frame as
// hide makes it (the real one when hide does nothing).
func decodeWith(t *testing.T, rate int, packets [][]byte, lost int, hide func(*OpusDecoder, []int16, []byte)) []int16 {
	t.Helper()
	d, err := NewOpusDecoder(rate)
	if err != nil {
		t.Fatal(err)
	}
	pcm := make([]int16, MaxFrameSamples)
	for _, p := range packets[:lost] {
		if _, err := d.Decode(pcm, p); err != nil {
			t.Fatal(err)
		}
	}
	frame := pcm[:rate/50]
	clear(frame)
	hide(d, frame, packets[lost+1])
	if rms(frame) == 0 {
		if _, err := d.Decode(pcm, packets[lost]); err != nil {
			t.Fatal(err)
		}
	}
	return append([]int16(nil), frame...)
}

func distance(a, b []int16) float64 {
	d := make([]int16, len(a))
	for i := range d {
		d[i] = int16(max(min(int(a[i])-int(b[i]), 32767), -32768))
	}
	return rms(d)
}

func TestOpusRefusesNonsense(t *testing.T) {
	d, err := NewOpusDecoder(8000)
	if err != nil {
		t.Fatal(err)
	}
	pcm := make([]int16, MaxFrameSamples)
	if _, err := d.Decode(pcm, nil); err == nil {
		t.Error("an empty payload was decoded")
	}
	if _, err := d.Decode(pcm, []byte{0xFF, 0xFF, 0xFF, 0xFF}); err == nil {
		t.Error("a packet of 63 frames was decoded")
	}
	e, err := NewOpusEncoder(OpusOptions{Rate: 8000})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Encode(make([]byte, 100), make([]int16, 159)); err == nil {
		t.Error("a broken frame was coded")
	}
}

func FuzzOpusDecode(f *testing.F) {
	f.Add([]byte{0x48, 1, 2, 3}, []byte{0xF8, 0xFF, 0xFE})
	f.Add([]byte{0x0B, 0x41, 200, 1}, []byte{3, 0x81, 0, 9, 9, 9})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		d, err := NewOpusDecoder(8000)
		if err != nil {
			t.Fatal(err)
		}
		pcm := make([]int16, MaxFrameSamples)
		for _, p := range [][]byte{a, b} {
			if n, err := d.Decode(pcm, p); err == nil && (n < 0 || n > len(pcm)) {
				t.Fatalf("%d samples", n)
			}
			_, _ = d.Recover(pcm[:160], p)
			_ = d.Conceal(pcm[:160])
		}
	})
}

func TestResampleKeepsToneAndLength(t *testing.T) {
	tests := []struct{ from, to int }{{8000, 16000}, {16000, 8000}, {48000, 8000}, {8000, 48000}, {44100, 16000}, {22050, 8000}, {11025, 8000}, {32000, 48000}}
	for _, tt := range tests {
		in := sine(tt.from, 1000, tt.from, 10000)
		out, err := Resample(in, tt.from, tt.to)
		if err != nil {
			t.Fatal(err)
		}
		if len(out) != tt.to {
			t.Errorf("%d to %d: %d samples of a second", tt.from, tt.to, len(out))
		}
		mid := out[tt.to/4 : tt.to*3/4]
		if got := tonePower(mid, tt.to, 1000); got < 9800 || got > 10200 {
			t.Errorf("%d to %d: tone of 10000 became %.0f", tt.from, tt.to, got)
		}
		want := sine(tt.to, 1000, tt.to, 10000)[tt.to/4 : tt.to*3/4]
		if d := distance(mid, want); d > 100 {
			t.Errorf("%d to %d: off by %.0f: late or distorted", tt.from, tt.to, d)
		}
	}
}

func TestResampleKeepsOutWhatWouldAlias(t *testing.T) {
	out, err := Resample(sine(48000, 5500, 48000, 10000), 48000, 8000)
	if err != nil {
		t.Fatal(err)
	}
	if r := rms(out[1000:7000]); r > 50 {
		t.Errorf("5.5 kHz left %.0f at a rate of 8 kHz", r)
	}
}

func TestResampleInPiecesIsTheSame(t *testing.T) {
	in := speechlike(44100, 44100)
	whole, err := Resample(in, 44100, 8000)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewResampler(44100, 8000)
	if err != nil {
		t.Fatal(err)
	}
	var out []int16
	for n := 1; len(in) > 0; n = n*7%1999 + 1 {
		n = min(n, len(in))
		out = r.Append(out, in[:n])
		in = in[n:]
	}
	out = r.Flush(out)
	for i := range whole {
		if i >= len(out) || out[i] != whole[i] {
			t.Fatalf("sample %d of %d differs", i, len(whole))
		}
	}
}

// The packet path allocates nothing.
func TestCodingAllocatesNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		rate int
	}{{PCMA, 8000}, {Opus, 8000}} {
		enc, err := NewEncoder(c.name, c.rate)
		if err != nil {
			t.Fatal(err)
		}
		dec, err := NewDecoder(c.name, c.rate)
		if err != nil {
			t.Fatal(err)
		}
		in, pcm, buf := speechlike(c.rate, c.rate/50), make([]int16, MaxFrameSamples), make([]byte, MaxOpusPacket)
		step := func() {
			n, err := enc.Encode(buf, in)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := dec.Decode(pcm, buf[:n]); err != nil {
				t.Fatal(err)
			}
			if c.name != Opus { // its concealment makes a few small slices for each lost packet
				if err := dec.Conceal(pcm[:160]); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 50 {
			step()
		}
		if n := testing.AllocsPerRun(200, step); n != 0 {
			t.Errorf("%s: %.1f allocations a packet", c.name, n)
		}
	}
}

func BenchmarkOpusEncode8k(b *testing.B) {
	enc, err := NewOpusEncoder(OpusOptions{Rate: 8000, FEC: true, LossPercent: 5})
	if err != nil {
		b.Fatal(err)
	}
	voice, buf := speechlike(8000, 160*50), make([]byte, MaxOpusPacket)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		at := i % 50 * 160
		if _, err := enc.Encode(buf, voice[at:at+160]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkOpusDecode8k(b *testing.B) {
	enc, err := NewOpusEncoder(OpusOptions{Rate: 8000})
	if err != nil {
		b.Fatal(err)
	}
	dec, err := NewOpusDecoder(8000)
	if err != nil {
		b.Fatal(err)
	}
	buf, pcm := make([]byte, MaxOpusPacket), make([]int16, MaxFrameSamples)
	n, err := enc.Encode(buf, speechlike(8000, 160))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := dec.Decode(pcm, buf[:n]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkG711Conceal(b *testing.B) {
	d := NewG711Decoder(ULaw)
	pcm, in := make([]int16, 160), make([]byte, 160)
	ULaw.Encode(in, speechlike(8000, 160))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = d.Decode(pcm, in)
		_ = d.Conceal(pcm)
	}
}
