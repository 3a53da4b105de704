package audio_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/softphone/audio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// chunks makes a WAV file of any format.
func chunks(kind, channels, rate, bits int, size uint32, body []byte) []byte {
	var b []byte
	b = append(b, "RIFF\xff\xff\xff\xffWAVELIST\x03\x00\x00\x00abc\x00fmt \x10\x00\x00\x00"...)
	b = binary.LittleEndian.AppendUint16(b, uint16(kind))
	b = binary.LittleEndian.AppendUint16(b, uint16(channels))
	b = binary.LittleEndian.AppendUint32(b, uint32(rate))
	b = binary.LittleEndian.AppendUint32(b, uint32(rate*channels*bits/8))
	b = binary.LittleEndian.AppendUint16(b, uint16(channels*bits/8))
	b = binary.LittleEndian.AppendUint16(b, uint16(bits))
	b = append(b, "data"...)
	b = binary.LittleEndian.AppendUint32(b, size)
	return append(b, body...)
}

func TestReadWAV(t *testing.T) {
	want := []int16{0, 8192, -8192, 16384}
	le := func(f func([]byte, int16) []byte, times int) (b []byte) {
		for _, s := range want {
			for range times {
				b = f(b, s)
			}
		}
		return b
	}
	pcm16 := func(b []byte, s int16) []byte { return binary.LittleEndian.AppendUint16(b, uint16(s)) }
	law := func(l codec.Law) func([]byte, int16) []byte {
		return func(b []byte, s int16) []byte { return append(b, l.Byte(s)) }
	}
	tests := map[string][]byte{
		"8 bit":  chunks(1, 1, 11025, 8, 4, le(func(b []byte, s int16) []byte { return append(b, byte(s>>8+128)) }, 1)),
		"16 bit": chunks(1, 1, 11025, 16, 8, le(pcm16, 1)),
		"stereo": chunks(1, 2, 11025, 16, 16, le(pcm16, 2)),
		"24 bit": chunks(1, 1, 11025, 24, 12, le(func(b []byte, s int16) []byte { return pcm16(append(b, 0), s) }, 1)),
		"32 bit": chunks(1, 1, 11025, 32, 16, le(func(b []byte, s int16) []byte { return pcm16(append(b, 0, 0), s) }, 1)),
		"float": chunks(3, 1, 11025, 32, 16, le(func(b []byte, s int16) []byte {
			return binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(s)/math.MaxInt16))
		}, 1)),
		"A-law":            chunks(6, 1, 11025, 8, 4, le(law(codec.ALaw), 1)),
		"u-law":            chunks(7, 1, 11025, 8, 4, le(law(codec.ULaw), 1)),
		"length of a pipe": chunks(1, 1, 11025, 16, math.MaxUint32, le(pcm16, 1)),
	}
	for name, b := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := audio.ReadWAV(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if s.Rate != 11025 || len(s.Samples) != len(want) {
				t.Fatalf("%d samples at %d", len(s.Samples), s.Rate)
			}
			for i, v := range s.Samples {
				if d := int(v) - int(want[i]); d < -700 || d > 700 {
					t.Errorf("sample %d is %d, want about %d", i, v, want[i])
				}
			}
		})
	}
}

func TestReadWAVRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":     nil,
		"text":        []byte("this is no sound, only text"),
		"cut off":     chunks(1, 1, 8000, 16, 8, nil)[:30],
		"no channels": chunks(1, 0, 8000, 16, 8, nil),
		"mp3":         chunks(85, 1, 8000, 16, 8, nil),
		"odd bits":    chunks(1, 1, 8000, 12, 8, nil),
		"rate":        chunks(1, 1, 5, 16, 8, nil),
	} {
		if _, err := audio.ReadWAV(bytes.NewReader(b)); !errors.Is(err, audio.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReadWAV(f *testing.F) {
	f.Add(chunks(1, 1, 8000, 16, 4, []byte{1, 2, 3, 4}))
	f.Add(chunks(7, 2, 8000, 8, math.MaxUint32, []byte{1, 2, 3}))
	f.Add(chunks(3, 1, 48000, 32, 4, []byte{0, 0, 0xc0, 0x7f}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := audio.ReadWAV(bytes.NewReader(b))
		if err != nil {
			return
		}
		name := filepath.Join(t.TempDir(), "x.wav")
		w, err := audio.CreateWAV(name, s.Rate)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Write(s.Samples), w.Close()); err != nil {
			t.Fatal(err)
		}
		b, err = os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		again, err := audio.ReadWAV(bytes.NewReader(b))
		if err != nil || again.Rate != s.Rate || len(again.Samples) != len(s.Samples) {
			t.Fatalf("round trip: %v", err)
		}
		for i := range s.Samples {
			if s.Samples[i] != again.Samples[i] {
				t.Fatalf("sample %d differs", i)
			}
		}
	})
}

// A killed process leaves a file that plays to within five seconds of its end.
func TestRecordingPlaysBeforeItIsClosed(t *testing.T) {
	name := filepath.Join(t.TempDir(), "r.wav")
	w, err := audio.CreateWAV(name, 8000)
	if err != nil {
		t.Fatal(err)
	}
	for range 7 {
		if err := w.Write(audio.Tone(8000, 440, 0.5, time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if s, err := audio.ReadWAV(f); err != nil || len(s.Samples) < 5*8000 {
		t.Errorf("%d samples, %v", len(s.Samples), err)
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	if err := w.Write(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
}

func TestFilesPlayAtTheRateOfTheCall(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "in.wav")
	w, err := audio.CreateWAV(in, 22050)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Write(audio.Tone(22050, 440, 0.5, time.Second)), w.Close()); err != nil {
		t.Fatal(err)
	}
	for _, loop := range []bool{false, true} {
		d := &audio.Files{Play: in, Loop: loop, Record: filepath.Join(dir, "out.wav")}
		if err := d.Load(); err != nil {
			t.Fatal(err)
		}
		for n, rate := range []int{audio.RateNarrow, audio.RateFull} {
			s, err := d.Open(rate)
			if err != nil {
				t.Fatal(err)
			}
			frame := make([]int16, audio.FrameSize(rate))
			loud := 0
			for range 100 { // two seconds
				if err := errors.Join(s.ReadFrame(frame), s.WriteFrame(frame)); err != nil {
					t.Fatal(err)
				}
				if power(frame) > 1e6 {
					loud++
				}
			}
			if want := map[bool]int{false: 50, true: 100}[loop]; loud < want-3 || loud > want {
				t.Errorf("loop %v at %d Hz: %d loud frames", loop, rate, loud)
			}
			if err := errors.Join(s.Close(), s.Close()); err != nil {
				t.Error(err)
			}
			name := filepath.Join(dir, map[int]string{0: "out.wav", 1: "out-2.wav"}[n])
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			snd, err := audio.ReadWAV(f)
			if err := errors.Join(err, f.Close()); err != nil || snd.Rate != rate || len(snd.Samples) != 2*rate {
				t.Errorf("%s: %d samples at %d, %v", name, len(snd.Samples), snd.Rate, err)
			}
		}
	}
}

func TestFilesSayWhatIsWrong(t *testing.T) {
	if err := (&audio.Files{Play: "/nonexistent.wav"}).Load(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := (&audio.Files{Record: "/nonexistent/x.wav"}).Open(8000); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
}

func power(pcm []int16) float64 {
	sum := 0.0
	for _, v := range pcm {
		sum += float64(v) * float64(v)
	}
	return sum / float64(len(pcm))
}
