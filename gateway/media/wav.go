package media

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

// WAV format tags that are read.
const (
	wavPCM        = 1
	wavFloat      = 3
	wavALaw       = 6
	wavULaw       = 7
	wavExtensible = 0xFFFE
)

// wavLawHeader is the size of the header of a G.711 WAV: RIFF, fmt with its
// extension size, fact, data.
const wavLawHeader = 58

// wavPCMHeader is the size of the header of a PCM WAV.
const wavPCMHeader = 44

var (
	// ErrWAV means that a file is no WAV that can be read.
	ErrWAV = errors.New("not a readable WAV file")
	// ErrTooLong means that a file is larger than allowed.
	ErrTooLong = errors.New("audio too long")
)

// lawHeader is the header of a G.711 WAV with the given number of samples per channel.
func lawHeader(l codec.Law, channels, rate int, samples int64) (h [wavLawHeader]byte) {
	tag := uint16(wavULaw)
	if l == codec.ALaw {
		tag = wavALaw
	}
	size := min(samples*int64(channels), math.MaxUint32-wavLawHeader)
	b := binary.LittleEndian
	copy(h[0:], "RIFF")
	b.PutUint32(h[4:], uint32(size)+wavLawHeader-8)
	copy(h[8:], "WAVEfmt ")
	b.PutUint32(h[16:], 18)
	b.PutUint16(h[20:], tag)
	b.PutUint16(h[22:], uint16(channels))
	b.PutUint32(h[24:], uint32(rate))
	b.PutUint32(h[28:], uint32(rate*channels))
	b.PutUint16(h[32:], uint16(channels))
	b.PutUint16(h[34:], 8)
	copy(h[38:], "fact")
	b.PutUint32(h[42:], 4)
	b.PutUint32(h[46:], uint32(size/int64(channels)))
	copy(h[50:], "data")
	b.PutUint32(h[54:], uint32(size))
	return h
}

// pcmHeader is the header of a 16 bit WAV with the given number of samples per channel.
func pcmHeader(channels, rate int, samples int64) (h [wavPCMHeader]byte) {
	size := min(samples*int64(channels)*2, math.MaxUint32-wavPCMHeader)
	b := binary.LittleEndian
	copy(h[0:], "RIFF")
	b.PutUint32(h[4:], uint32(size)+wavPCMHeader-8)
	copy(h[8:], "WAVEfmt ")
	b.PutUint32(h[16:], 16)
	b.PutUint16(h[20:], wavPCM)
	b.PutUint16(h[22:], uint16(channels))
	b.PutUint32(h[24:], uint32(rate))
	b.PutUint32(h[28:], uint32(rate*channels*2))
	b.PutUint16(h[32:], uint16(channels*2))
	b.PutUint16(h[34:], 16)
	copy(h[36:], "data")
	b.PutUint32(h[40:], uint32(size))
	return h
}

// wavFormat is what the fmt chunk says.
type wavFormat struct {
	tag      int
	channels int
	rate     int
	bits     int
}

func (f wavFormat) frame() int { return f.channels * f.bits / 8 }

func (f wavFormat) valid() bool {
	if f.channels < 1 || f.channels > 64 || f.rate < 4000 || f.rate > 384000 {
		return false
	}
	switch f.tag {
	case wavPCM:
		return f.bits == 8 || f.bits == 16 || f.bits == 24 || f.bits == 32
	case wavFloat:
		return f.bits == 32
	case wavALaw, wavULaw:
		return f.bits == 8
	}
	return false
}

// wavOpen reads up to the samples. size is what the data chunk says of itself,
// -1 when it says nothing sensible and the samples go on to the end.
func wavOpen(r io.Reader) (f wavFormat, size int64, err error) {
	var head [12]byte
	if _, err := io.ReadFull(r, head[:]); err != nil || string(head[:4]) != "RIFF" || string(head[8:]) != "WAVE" {
		return f, 0, fmt.Errorf("no RIFF header: %w", ErrWAV)
	}
	for range 64 {
		var c [8]byte
		if _, err := io.ReadFull(r, c[:]); err != nil {
			return f, 0, fmt.Errorf("no data chunk: %w", ErrWAV)
		}
		n := int64(binary.LittleEndian.Uint32(c[4:]))
		switch string(c[:4]) {
		case "fmt ":
			if n < 16 || n > 1024 {
				return f, 0, fmt.Errorf("fmt chunk of %d bytes: %w", n, ErrWAV)
			}
			b := make([]byte, n+n&1)
			if _, err := io.ReadFull(r, b); err != nil {
				return f, 0, fmt.Errorf("short fmt chunk: %w", ErrWAV)
			}
			f = wavFmt(b[:n])
		case "data":
			if !f.valid() {
				return f, 0, fmt.Errorf("format %d, %d bits, %d channels, %d Hz: %w", f.tag, f.bits, f.channels, f.rate, ErrWAV)
			}
			if n == 0 || n >= math.MaxInt32 {
				n = -1 // a stream whose length was not known when it began
			}
			return f, n, nil
		default:
			if _, err := io.CopyN(io.Discard, r, n+n&1); err != nil {
				return f, 0, fmt.Errorf("short %.4q chunk: %w", c[:4], ErrWAV)
			}
		}
	}
	return f, 0, fmt.Errorf("too many chunks: %w", ErrWAV)
}

func wavFmt(b []byte) wavFormat {
	l := binary.LittleEndian
	f := wavFormat{
		tag:      int(l.Uint16(b)),
		channels: int(l.Uint16(b[2:])),
		rate:     int(l.Uint32(b[4:])),
		bits:     int(l.Uint16(b[14:])),
	}
	if f.tag == wavExtensible && len(b) >= 26 {
		f.tag = int(l.Uint16(b[24:]))
	}
	return f
}

// ReadWAV reads a WAV file (PCM of 8 to 32 bits, float, µ-law, A-law; any rate
// and number of channels) as mono. More than limit samples per channel give ErrTooLong.
func ReadWAV(r io.Reader, limit int) (pcm []int16, rate int, err error) {
	f, size, err := wavOpen(r)
	if err != nil {
		return nil, 0, err
	}
	frame := f.frame()
	if size > int64(limit)*int64(frame) {
		return nil, 0, fmt.Errorf("%d samples: %w", size/int64(frame), ErrTooLong)
	}
	if size >= 0 {
		r = io.LimitReader(r, size)
		pcm = make([]int16, 0, size/int64(frame))
	}
	buf := make([]byte, 4096*frame)
	for {
		n, err := io.ReadFull(r, buf)
		for b := buf[:n-n%frame]; len(b) > 0; b = b[frame:] {
			pcm = append(pcm, f.mono(b))
		}
		if len(pcm) > limit {
			return nil, 0, fmt.Errorf("more than %d samples: %w", limit, ErrTooLong)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return pcm, f.rate, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read WAV: %w", err)
		}
	}
}

// mono is the mean of one frame's channels.
func (f wavFormat) mono(b []byte) int16 {
	sum := 0
	for c := range f.channels {
		sum += f.sample(b[c*f.bits/8:])
	}
	return int16(sum / f.channels)
}

func (f wavFormat) sample(b []byte) int {
	l := binary.LittleEndian
	switch {
	case f.tag == wavALaw:
		return int(codec.ALaw.Linear(b[0]))
	case f.tag == wavULaw:
		return int(codec.ULaw.Linear(b[0]))
	case f.tag == wavFloat:
		v := float64(math.Float32frombits(l.Uint32(b)))
		if math.IsNaN(v) {
			return 0
		}
		return int(min(max(v*32768, -32768), 32767))
	case f.bits == 8:
		return (int(b[0]) - 128) << 8
	case f.bits == 16:
		return int(int16(l.Uint16(b)))
	case f.bits == 24:
		return int(int16(l.Uint16(b[1:])))
	}
	return int(int16(l.Uint16(b[2:])))
}

// WriteWAV writes mono 16 bit PCM.
func WriteWAV(w io.Writer, pcm []int16, rate int) error {
	h := pcmHeader(1, rate, int64(len(pcm)))
	b := make([]byte, 0, len(h)+2*len(pcm))
	b = append(b, h[:]...)
	for _, s := range pcm {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write WAV: %w", err)
	}
	return nil
}

// RepairWAV makes the header of a recording agree with its size, as a killed
// process may have left it behind. It tells whether anything was wrong. A file
// that is no recording of ours gives ErrWAV and stays as it is.
func RepairWAV(path string) (repaired bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // the caller's own recording
	if err != nil {
		return false, fmt.Errorf("repair recording: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var old [wavLawHeader]byte
	if _, err := io.ReadFull(f, old[:]); err != nil {
		return false, fmt.Errorf("repair recording %s: short header: %w", path, ErrWAV)
	}
	format := wavFmt(old[20:38])
	if string(old[:4]) != "RIFF" || string(old[8:16]) != "WAVEfmt " || string(old[50:54]) != "data" ||
		!format.valid() || format.tag != wavULaw && format.tag != wavALaw {
		return false, fmt.Errorf("repair recording %s: %w", path, ErrWAV)
	}
	st, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("repair recording: %w", err)
	}
	samples := (st.Size() - wavLawHeader) / int64(format.channels)
	law := codec.ULaw
	if format.tag == wavALaw {
		law = codec.ALaw
	}
	want := lawHeader(law, format.channels, format.rate, samples)
	whole := wavLawHeader + samples*int64(format.channels)
	if want == old && whole == st.Size() {
		return false, nil
	}
	if _, err := f.WriteAt(want[:], 0); err != nil {
		return false, fmt.Errorf("repair recording %s: %w", path, err)
	}
	if err := f.Truncate(whole); err != nil {
		return false, fmt.Errorf("repair recording %s: %w", path, err)
	}
	return true, nil
}
