package media

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

// decodeFrames is what a listener hears of a source.
func decodeFrames(t *testing.T, src Source, codecName string, rate int) []int16 {
	t.Helper()
	f, err := src.Frames(codecName)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := codec.NewDecoder(codecName, rate)
	if err != nil {
		t.Fatal(err)
	}
	var pcm []int16
	buf := make([]int16, codec.MaxFrameSamples)
	for i := range f.Len() {
		n, err := dec.Decode(buf, f.At(i))
		if err != nil {
			t.Fatal(err)
		}
		if n != rate/50 {
			t.Fatalf("frame %d of %s has %d samples", i, src.Name(), n)
		}
		pcm = append(pcm, buf[:n]...)
	}
	return pcm
}

func tonePCM(rate int, hz float64, d time.Duration) []int16 {
	pcm := make([]int16, int(d*time.Duration(rate)/time.Second))
	for i := range pcm {
		pcm[i] = int16(8000 * math.Sin(2*math.Pi*hz*float64(i)/float64(rate)))
	}
	return pcm
}

func TestSourceSoundsTheSameInEachCodec(t *testing.T) {
	src := PCMSource("test", tonePCM(44100, 700, 2*time.Second), 44100)
	for _, c := range []string{"PCMU", "pcma", "opus"} {
		pcm := decodeFrames(t, src, c, 8000)
		if len(pcm) != 16000 {
			t.Errorf("%s: %d samples", c, len(pcm))
		}
		if a := amplitude(pcm[4000:], 8000, 700); a < 6500 || a > 9000 {
			t.Errorf("%s: tone of 8000 at %.0f", c, a)
		}
		a, err := src.Frames(c)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := src.Frames(c); a != b {
			t.Errorf("%s: coded twice", c)
		}
		if a.Duration() != 2*time.Second || a.Size() < 1000 {
			t.Errorf("%s: %v, %d bytes", c, a.Duration(), a.Size())
		}
	}
	if _, err := src.Frames("G729"); !errors.Is(err, codec.ErrUnknown) {
		t.Errorf("G729: %v", err)
	}
}

func TestTonesHaveTheirCadence(t *testing.T) {
	tests := []struct {
		country string
		tone    Tone
		period  time.Duration
		on      float64 // seconds, the middle of a burst
		off     float64 // the middle of a pause
		hz      []float64
	}{
		{"US", ToneRingback, 6 * time.Second, 1, 4, []float64{440, 480}},
		{"US", ToneBusy, time.Second, 0.25, 0.75, []float64{480, 620}},
		{"GB", ToneBusy, 1500 * time.Millisecond, 0.18, 0.56, []float64{400}}, // two periods make whole frames
		{"ES", ToneRingback, 4500 * time.Millisecond, 0.7, 3, []float64{425}},
		{"UY", ToneRingback, 5 * time.Second, 0.5, 3, []float64{425}},
		{"AR", ToneBusy, 500 * time.Millisecond, 0.15, 0.4, []float64{425}},
		{"BR", ToneCongestion, 1500 * time.Millisecond, 0.12, 0.37, []float64{425}},
		{"", ToneBusy, time.Second, 0.25, 0.75, []float64{425}},
		{"FR", ToneBeep, 200 * time.Millisecond, 0.1, 0, []float64{1000}},
	}
	for _, tt := range tests {
		src, err := ToneSource(tt.tone, tt.country)
		if err != nil {
			t.Fatal(err)
		}
		f, err := src.Frames("PCMA")
		if err != nil {
			t.Fatal(err)
		}
		if f.Duration() != tt.period {
			t.Errorf("%s %s lasts %v, want %v", tt.country, tt.tone, f.Duration(), tt.period)
		}
		pcm := decodeFrames(t, src, "PCMA", 8000)
		for _, hz := range tt.hz {
			if a := amplitude(seconds(pcm, tt.on-0.05, tt.on+0.05), 8000, hz); a < 3500 {
				t.Errorf("%s %s: %v Hz at %.0f", tt.country, tt.tone, hz, a)
			}
		}
		if tt.off > 0 && loudness(seconds(pcm, tt.off-0.05, tt.off+0.05)) > 10 {
			t.Errorf("%s %s does not pause", tt.country, tt.tone)
		}
	}
	if _, err := ToneSource("nonsense", ""); !errors.Is(err, ErrNoSound) {
		t.Errorf("nonsense: %v", err)
	}
}

// The music is there all the time, never loud, and its end runs into its beginning.
func TestMusicIsQuietAndSeamless(t *testing.T) {
	pcm := composeMusic()
	if len(pcm) != musicRate*musicSeconds {
		t.Fatalf("%d samples", len(pcm))
	}
	step := 0
	for i := 1; i < len(pcm); i++ {
		step = max(step, int(math.Abs(float64(pcm[i])-float64(pcm[i-1]))))
		if pcm[i] > musicLevel || pcm[i] < -musicLevel {
			t.Fatalf("sample %d is %d", i, pcm[i])
		}
	}
	if seam := int(math.Abs(float64(pcm[0]) - float64(pcm[len(pcm)-1]))); seam > step {
		t.Errorf("the seam jumps by %d, the music by %d at most", seam, step)
	}
	for at := 0; at < len(pcm); at += musicRate {
		if l := loudness(pcm[at : at+musicRate]); l < 200 || l > 3500 {
			t.Errorf("second %d has a level of %.0f", at/musicRate, l)
		}
	}
	for _, c := range []string{"PCMU", "opus"} {
		f, err := MusicSource().Frames(c)
		if err != nil || f.Duration() != musicSeconds*time.Second {
			t.Errorf("%s: %v, %v", c, f.Duration(), err)
		}
	}
}

// wavBytes makes a WAV with the given format of one second of 1 kHz per channel.
func wavBytes(t *testing.T, f wavFormat, size uint32, extensible bool) []byte {
	t.Helper()
	var body []byte
	l := binary.LittleEndian
	for _, s := range tonePCM(f.rate, 1000, time.Second) {
		for range f.channels {
			switch {
			case f.tag == wavULaw:
				body = append(body, codec.ULaw.Byte(s))
			case f.tag == wavALaw:
				body = append(body, codec.ALaw.Byte(s))
			case f.tag == wavFloat:
				body = l.AppendUint32(body, math.Float32bits(float32(s)/32768))
			case f.bits == 8:
				body = append(body, byte(int(s)>>8+128))
			case f.bits == 16:
				body = l.AppendUint16(body, uint16(s))
			case f.bits == 24:
				body = append(body, 0, byte(s), byte(s>>8))
			case f.bits == 32:
				body = l.AppendUint32(body, uint32(s)<<16)
			}
		}
	}
	if size == 0 {
		size = uint32(len(body))
	}
	b := append([]byte("RIFF"), 0, 0, 0, 0)
	b = append(b, "WAVEJUNK\x03\x00\x00\x00abc\x00fmt "...)
	if extensible {
		b = l.AppendUint32(b, 40)
		b = l.AppendUint16(b, wavExtensible)
	} else {
		b = l.AppendUint32(b, 16)
		b = l.AppendUint16(b, uint16(f.tag))
	}
	b = l.AppendUint16(b, uint16(f.channels))
	b = l.AppendUint32(b, uint32(f.rate))
	b = l.AppendUint32(b, uint32(f.rate*f.frame()))
	b = l.AppendUint16(b, uint16(f.frame()))
	b = l.AppendUint16(b, uint16(f.bits))
	if extensible {
		b = append(b, 22, 0, 16, 0, 4, 0, 0, 0, byte(f.tag), 0)
		b = append(b, make([]byte, 14)...)
	}
	b = append(b, "data"...)
	b = l.AppendUint32(b, size)
	return append(b, body...)
}

func TestReadWAVOfEveryKind(t *testing.T) {
	tests := []struct {
		name string
		f    wavFormat
		size uint32
		ext  bool
	}{
		{"16 bit mono", wavFormat{wavPCM, 1, 8000, 16}, 0, false},
		{"8 bit", wavFormat{wavPCM, 1, 11025, 8}, 0, false},
		{"24 bit stereo 48 kHz", wavFormat{wavPCM, 2, 48000, 24}, 0, true},
		{"32 bit", wavFormat{wavPCM, 1, 44100, 32}, 0, false},
		{"float", wavFormat{wavFloat, 2, 16000, 32}, 0, false},
		{"µ-law", wavFormat{wavULaw, 1, 8000, 8}, 0, false},
		{"A-law stereo", wavFormat{wavALaw, 2, 8000, 8}, 0, false},
		{"a stream of espeak without a length", wavFormat{wavPCM, 1, 22050, 16}, 0x7FFFF000 + 0xFFF, false},
		{"a stream of ffmpeg without a length", wavFormat{wavPCM, 1, 16000, 16}, 0xFFFFFFFF, false},
	}
	for _, tt := range tests {
		pcm, rate, err := ReadWAV(bytes.NewReader(wavBytes(t, tt.f, tt.size, tt.ext)), 1<<20)
		if err != nil || rate != tt.f.rate || len(pcm) != rate {
			t.Errorf("%s: %d samples at %d Hz, %v", tt.name, len(pcm), rate, err)
			continue
		}
		if a := amplitude(pcm, rate, 1000); a < 7500 || a > 8500 {
			t.Errorf("%s: tone at %.0f", tt.name, a)
		}
	}
	if _, _, err := ReadWAV(bytes.NewReader(wavBytes(t, wavFormat{wavPCM, 1, 8000, 16}, 0, false)), 7999); !errors.Is(err, ErrTooLong) {
		t.Errorf("too long: %v", err)
	}
}

func FuzzReadWAV(f *testing.F) {
	var t testing.T
	f.Add(wavBytes(&t, wavFormat{wavPCM, 1, 4000, 16}, 0, false)[:300])
	f.Add(wavBytes(&t, wavFormat{wavALaw, 2, 8000, 8}, 0, true)[:300])
	h := lawHeader(codec.ALaw, 2, 8000, 3)
	f.Add(append(h[:], 1, 2, 3, 4, 5, 6))
	f.Fuzz(func(t *testing.T, data []byte) {
		pcm, rate, err := ReadWAV(bytes.NewReader(data), 1<<16)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := WriteWAV(&b, pcm, rate); err != nil {
			t.Fatal(err)
		}
		if len(pcm) == 0 {
			return
		}
		again, rate2, err := ReadWAV(&b, 1<<16)
		if err != nil || rate2 != rate || !cmp.Equal(pcm, again) {
			t.Fatalf("%d samples at %d became %d at %d: %v", len(pcm), rate, len(again), rate2, err)
		}
	})
}

func newLibrary(t *testing.T, o LibraryOptions) *Library {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	l, err := NewLibrary(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The gateway works without ffmpeg and sox: WAV of any kind is read by itself.
func TestLibraryImportsWAVWithoutHelp(t *testing.T) {
	l := newLibrary(t, LibraryOptions{FFmpeg: "/nonexistent/ffmpeg", Sox: "/nonexistent/sox"})
	if _, err := l.Source("welcome/es"); !errors.Is(err, ErrNoSound) {
		t.Errorf("before the import: %v", err)
	}
	data := wavBytes(t, wavFormat{wavPCM, 2, 44100, 24}, 0, true)
	if err := l.Import(t.Context(), "welcome/es", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	src, err := l.Source("welcome/es")
	if err != nil {
		t.Fatal(err)
	}
	if a := amplitude(decodeFrames(t, src, "PCMU", 8000), 8000, 1000); a < 7000 {
		t.Errorf("tone at %.0f", a)
	}
	again, err := l.Source("welcome/es")
	if err != nil || again != src {
		t.Error("loaded twice")
	}
	names, err := l.Names()
	if d := cmp.Diff([]string{"welcome/es"}, names); d != "" || err != nil {
		t.Error(d, err)
	}
	// A replaced prompt is heard at the next play.
	if err := l.Import(t.Context(), "welcome/es", bytes.NewReader(wavBytes(t, wavFormat{wavULaw, 1, 8000, 8}, 0, false))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(l.o.Dir, "welcome/es.wav"), time.Now(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if again, err = l.Source("welcome/es"); err != nil || again == src {
		t.Errorf("the old prompt is still played: %v", err)
	}
	if err := l.Import(t.Context(), "music", bytes.NewReader([]byte("ID3 this would be an MP3"))); !errors.Is(err, ErrNoConverter) {
		t.Errorf("mp3 without a converter: %v", err)
	}
	if err := l.Remove("welcome/es"); err != nil {
		t.Fatal(err)
	}
	if err := l.Remove("welcome/es"); !errors.Is(err, ErrNoSound) {
		t.Errorf("removed twice: %v", err)
	}
	if err := l.Warm(t.Context(), []string{"PCMU", "PCMA"}, []string{"tone/busy", "welcome/es"}); !errors.Is(err, ErrNoSound) {
		t.Errorf("warm: %v", err)
	}
}

func TestLibraryStaysInItsFolder(t *testing.T) {
	l := newLibrary(t, LibraryOptions{})
	for _, name := range []string{"", "../x", "a/../../x", "/etc/passwd", "-i", "a/-f", ".hidden", "a//b", "a\\b", "a\x00b", "a\nb", "http://x", "a%sb", "concat:a|b"} {
		if err := l.Import(t.Context(), name, bytes.NewReader(wavBytes(t, wavFormat{wavPCM, 1, 8000, 16}, 0, false))); !errors.Is(err, ErrSoundName) {
			t.Errorf("import %q: %v", name, err)
		}
		if _, err := l.Source(name); !errors.Is(err, ErrSoundName) {
			t.Errorf("source %q: %v", name, err)
		}
	}
}

func TestLibraryBoundsImports(t *testing.T) {
	l := newLibrary(t, LibraryOptions{MaxBytes: 100_000, MaxDuration: time.Second})
	if err := l.Import(t.Context(), "a", io.LimitReader(zeros{}, 1<<30)); !errors.Is(err, ErrTooLong) {
		t.Errorf("a gigabyte: %v", err)
	}
	if err := l.Import(t.Context(), "a", bytes.NewReader(lawWAV(3*8000))); !errors.Is(err, ErrTooLong) {
		t.Errorf("three seconds where one is allowed: %v", err)
	}
	if err := l.Import(t.Context(), "a", bytes.NewReader(nil)); err == nil {
		t.Error("an empty file was imported")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func lawWAV(samples int) []byte {
	h := lawHeader(codec.ULaw, 1, 8000, int64(samples))
	return append(h[:], make([]byte, samples)...)
}

func TestLibraryHasBuiltInSounds(t *testing.T) {
	l, err := NewLibrary(LibraryOptions{Country: "US"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tone/ringback", "tone/busy", "tone/congestion", "tone/beep", "tone/confirm", "tone/denied", "music/default", "silence"} {
		src, err := l.Source(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if f, err := src.Frames("PCMA"); err != nil || f.Len() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if l.Music() == nil || l.Tone(ToneBusy).Name() != "tone/busy" || l.Tone("x").Name() != "silence" {
		t.Error("built-in sounds are missing")
	}
	if _, err := l.Source("welcome"); !errors.Is(err, ErrNoSound) {
		t.Errorf("without a folder: %v", err)
	}
}

func TestMOS(t *testing.T) {
	tests := []struct {
		name     string
		i        Impairment
		min, max float64
	}{
		{"a faultless line", Impairment{Codec: "PCMA"}, 4.3, 4.45},
		{"Opus without loss", Impairment{Codec: "opus", RTT: 40 * time.Millisecond}, 4.3, 4.45},
		{"1 % loss", Impairment{Codec: "PCMU", LossPercent: 1}, 4.1, 4.4},
		{"5 % loss", Impairment{Codec: "PCMU", LossPercent: 5}, 3.4, 4.0},
		{"20 % loss", Impairment{Codec: "PCMU", LossPercent: 20}, 1.8, 2.9},
		{"600 ms round trip", Impairment{Codec: "PCMU", RTT: 600 * time.Millisecond}, 3.0, 3.95},
		{"heavy jitter", Impairment{Codec: "PCMU", Jitter: 100 * time.Millisecond}, 3.6, 4.2},
		{"all lost", Impairment{Codec: "PCMU", LossPercent: 100}, 1, 1.5},
		{"nonsense", Impairment{Codec: "PCMU", LossPercent: math.NaN(), RTT: time.Hour}, 1, 1},
	}
	for _, tt := range tests {
		if m := MOS(tt.i); m < tt.min || m > tt.max {
			t.Errorf("%s: %.2f, want %.2f to %.2f", tt.name, m, tt.min, tt.max)
		}
	}
	last := 5.0
	for loss := range 50 {
		m := MOS(Impairment{Codec: "PCMA", LossPercent: float64(loss), RTT: time.Duration(loss) * 10 * time.Millisecond})
		if m > last {
			t.Errorf("worse is better at %d %%: %.2f after %.2f", loss, m, last)
		}
		last = m
	}
	if l := (StreamQuality{Packets: 90, Lost: 10}).LossPercent(); l != 10 {
		t.Errorf("loss %v", l)
	}
}

func BenchmarkComposeMusic(b *testing.B) {
	for b.Loop() {
		composeMusic()
	}
}

func BenchmarkMusicOpus(b *testing.B) {
	pcm := composeMusic()
	for b.Loop() {
		if _, err := encodeFrames(pcm, musicRate, codec.Opus, true); err != nil {
			b.Fatal(err)
		}
	}
}
