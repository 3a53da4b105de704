package audio

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

// Formats of the fmt chunk that are read.
const (
	wavPCM        = 1
	wavFloat      = 3
	wavALaw       = 6
	wavMuLaw      = 7
	wavExtensible = 0xfffe
)

const (
	// maxWAV bounds what is read of a file: half an hour of 48 kHz stereo.
	maxWAV = 350 << 20
	// wavHeader is the size of the header that Writer makes.
	wavHeader = 44
)

// ErrFormat is returned for a file that is not a WAV file of a known kind.
var ErrFormat = errors.New("not a usable wav file")

// Sound is decoded mono sound.
type Sound struct {
	Rate    int
	Samples []int16
}

// At returns the sound at another rate; the sound itself if that is its rate.
func (s Sound) At(rate int) (Sound, error) {
	pcm, err := codec.Resample(s.Samples, s.Rate, rate)
	if err != nil {
		return Sound{}, fmt.Errorf("change rate: %w", err)
	}
	return Sound{Rate: rate, Samples: pcm}, nil
}

// ReadWAV decodes a WAV file of any rate: PCM of 8, 16, 24 or 32 bit, 32-bit float, A-law or µ-law.
// Channels are mixed into one. A data length that is wrong (a stream written to a pipe) means "to the end".
func ReadWAV(r io.Reader) (Sound, error) {
	br := bufio.NewReader(io.LimitReader(r, maxWAV+1))
	var riff [12]byte
	if _, err := io.ReadFull(br, riff[:]); err != nil {
		return Sound{}, fmt.Errorf("wav header: %w", errors.Join(ErrFormat, err))
	}
	if string(riff[:4]) != "RIFF" || string(riff[8:]) != "WAVE" {
		return Sound{}, fmt.Errorf("no RIFF/WAVE mark: %w", ErrFormat)
	}
	var f wavFormat
	for {
		var h [8]byte
		if _, err := io.ReadFull(br, h[:]); err != nil {
			return Sound{}, fmt.Errorf("no data chunk: %w", ErrFormat)
		}
		size := int64(binary.LittleEndian.Uint32(h[4:]))
		switch string(h[:4]) {
		case "fmt ":
			if err := f.read(br, size); err != nil {
				return Sound{}, err
			}
		case "data":
			if f.rate == 0 {
				return Sound{}, fmt.Errorf("data before its format: %w", ErrFormat)
			}
			body, err := io.ReadAll(io.LimitReader(br, size))
			if err != nil {
				return Sound{}, fmt.Errorf("wav data: %w", err)
			}
			if len(body) > maxWAV-wavHeader {
				return Sound{}, fmt.Errorf("more than %d MB: %w", maxWAV>>20, ErrFormat)
			}
			return Sound{Rate: f.rate, Samples: f.decode(body)}, nil
		default:
			if _, err := io.CopyN(io.Discard, br, size+size%2); err != nil {
				return Sound{}, fmt.Errorf("chunk %q is cut off: %w", h[:4], ErrFormat)
			}
		}
	}
}

// wavFormat is the fmt chunk.
type wavFormat struct {
	kind, channels, rate, bits int
}

func (f *wavFormat) read(r io.Reader, size int64) error {
	if size < 16 || size > 1024 {
		return fmt.Errorf("format of %d bytes: %w", size, ErrFormat)
	}
	b := make([]byte, size+size%2)
	if _, err := io.ReadFull(r, b); err != nil {
		return fmt.Errorf("format is cut off: %w", ErrFormat)
	}
	f.kind = int(binary.LittleEndian.Uint16(b))
	f.channels = int(binary.LittleEndian.Uint16(b[2:]))
	rate := int64(binary.LittleEndian.Uint32(b[4:]))
	f.bits = int(binary.LittleEndian.Uint16(b[14:]))
	if f.kind == wavExtensible && size >= 26 {
		f.kind = int(binary.LittleEndian.Uint16(b[24:]))
	}
	if f.channels < 1 || f.channels > 16 {
		return fmt.Errorf("%d channels: %w", f.channels, ErrFormat)
	}
	if rate < 2000 || rate > 384000 {
		return fmt.Errorf("rate of %d Hz: %w", rate, ErrFormat)
	}
	ok := false
	switch f.kind {
	case wavPCM:
		ok = f.bits == 8 || f.bits == 16 || f.bits == 24 || f.bits == 32
	case wavFloat:
		ok = f.bits == 32
	case wavALaw, wavMuLaw:
		ok = f.bits == 8
	}
	if !ok {
		return fmt.Errorf("format %d with %d bits: %w", f.kind, f.bits, ErrFormat)
	}
	f.rate = int(rate)
	return nil
}

func (f *wavFormat) decode(b []byte) []int16 {
	width := f.bits / 8
	step := width * f.channels
	out := make([]int16, len(b)/step)
	for i := range out {
		frame := b[i*step:]
		sum := 0
		for c := range f.channels {
			sum += f.sample(frame[c*width:])
		}
		out[i] = int16(sum / f.channels)
	}
	return out
}

func (f *wavFormat) sample(b []byte) int {
	switch f.kind {
	case wavALaw:
		return int(codec.ALaw.Linear(b[0]))
	case wavMuLaw:
		return int(codec.ULaw.Linear(b[0]))
	case wavFloat:
		v := float64(math.Float32frombits(binary.LittleEndian.Uint32(b))) * math.MaxInt16
		if math.IsNaN(v) {
			return 0
		}
		return int(math.Max(math.MinInt16, math.Min(math.MaxInt16, v)))
	}
	switch f.bits {
	case 8:
		return (int(b[0]) - 128) << 8
	case 24:
		return int(int16(binary.LittleEndian.Uint16(b[1:])))
	case 32:
		return int(int16(binary.LittleEndian.Uint16(b[2:])))
	default:
		return int(int16(binary.LittleEndian.Uint16(b)))
	}
}

// Writer writes mono 16-bit WAV. The header is made valid at Close, and every few seconds, so that the
// file of a killed process plays. Not safe for concurrent use, but for Close.
type Writer struct {
	mu    sync.Mutex
	f     *os.File
	w     *bufio.Writer
	rate  int
	bytes int64
	fixed int64 // bytes when the header was made last
	buf   []byte
}

// CreateWAV makes the file, or empties it.
func CreateWAV(name string, rate int) (*Writer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // G304: the user names the file
	if err != nil {
		return nil, fmt.Errorf("create recording: %w", err)
	}
	w := &Writer{f: f, w: bufio.NewWriterSize(f, 16<<10), rate: rate}
	if err := w.header(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(wavHeader, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

// Write appends samples.
func (w *Writer) Write(pcm []int16) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return os.ErrClosed
	}
	if w.bytes+int64(2*len(pcm)) > math.MaxUint32-wavHeader {
		return fmt.Errorf("recording is full at 4 GB: %w", io.ErrShortWrite)
	}
	w.buf = w.buf[:0]
	for _, s := range pcm {
		w.buf = binary.LittleEndian.AppendUint16(w.buf, uint16(s))
	}
	n, err := w.w.Write(w.buf)
	w.bytes += int64(n)
	if err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	if w.bytes-w.fixed >= int64(5*2*w.rate) {
		if err := w.w.Flush(); err != nil {
			return fmt.Errorf("write recording: %w", err)
		}
		return w.header()
	}
	return nil
}

// Close completes the file. It is idempotent.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return nil
	}
	err := errors.Join(w.w.Flush(), w.header(), w.f.Close())
	w.f = nil
	if err != nil {
		return fmt.Errorf("close recording: %w", err)
	}
	return nil
}

func (w *Writer) header() error {
	h := make([]byte, 0, wavHeader)
	h = append(h, "RIFF"...)
	h = binary.LittleEndian.AppendUint32(h, uint32(wavHeader-8+w.bytes))
	h = append(h, "WAVEfmt "...)
	h = binary.LittleEndian.AppendUint32(h, 16)
	h = binary.LittleEndian.AppendUint16(h, wavPCM)
	h = binary.LittleEndian.AppendUint16(h, 1)
	h = binary.LittleEndian.AppendUint32(h, uint32(w.rate))
	h = binary.LittleEndian.AppendUint32(h, uint32(2*w.rate))
	h = binary.LittleEndian.AppendUint16(h, 2)
	h = binary.LittleEndian.AppendUint16(h, 16)
	h = append(h, "data"...)
	h = binary.LittleEndian.AppendUint32(h, uint32(w.bytes))
	if _, err := w.f.WriteAt(h, 0); err != nil {
		return fmt.Errorf("wav header: %w", err)
	}
	w.fixed = w.bytes
	return nil
}
