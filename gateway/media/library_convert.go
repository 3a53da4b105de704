package media

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

// ErrNoConverter means that a file needs ffmpeg, sox or lame and none is installed.
var ErrNoConverter = errors.New("no converter for this format is installed")

// ErrConvert means that the converter could not make sense of a file.
var ErrConvert = errors.New("cannot convert this audio")

// decode makes PCM of a file's bytes: a WAV by itself, anything else (and WAVs
// with codecs of their own) by a converter.
func (l *Library) decode(ctx context.Context, data []byte, ext string) (pcm []int16, rate int, err error) {
	pcm, rate, wavErr := ReadWAV(bytes.NewReader(data), l.limit(384000))
	if wavErr == nil {
		if len(pcm) > l.limit(rate) {
			return nil, 0, ErrTooLong
		}
		if rate == promptRate || rate == 8000 {
			return pcm, rate, nil
		}
		pcm, err = codec.Resample(pcm, rate, promptRate)
		if err != nil {
			return nil, 0, fmt.Errorf("resample: %w", err)
		}
		return pcm, promptRate, nil
	}
	if errors.Is(wavErr, ErrTooLong) {
		return nil, 0, wavErr
	}
	if pcm, ok := rawG711(data, ext); ok {
		return pcm, 8000, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, l.o.Timeout, fmt.Errorf("conversion took over %v: %w", l.o.Timeout, ErrConvert))
	defer cancel()
	seconds := strconv.Itoa(int(l.o.MaxDuration/time.Second) + 1)
	rates := strconv.Itoa(promptRate)
	// The file comes by standard input and only there: no name, no protocol and
	// no playlist in it can make the converter open anything.
	args := []string{"-nostdin", "-hide_banner", "-loglevel", "error", "-protocol_whitelist", "pipe"}
	if rawGSM(data) {
		args = append(args, "-f", "gsm", "-ar", "8000")
	}
	args = append(args, "-i", "pipe:0", "-map", "0:a:0", "-t", seconds, "-ac", "1", "-ar", rates, "-f", "s16le", "pipe:1")
	pcm, err = l.convert(ctx, data, l.o.FFmpeg, args...)
	if errors.Is(err, ErrNoConverter) {
		pcm, err = l.convert(ctx, data, l.o.Sox, "-V1", "-t", soxType(data), "-", "-t", "raw", "-e", "signed-integer", "-b", "16", "-L",
			"-c", "1", "-r", rates, "-", "trim", "0", seconds)
	}
	if err != nil {
		return nil, 0, err
	}
	if len(pcm) > l.limit(promptRate) {
		return nil, 0, ErrTooLong
	}
	return pcm, promptRate, nil
}

// convert runs a converter and reads its PCM, bounded by the longest prompt.
func (l *Library) convert(ctx context.Context, data []byte, name string, args ...string) ([]int16, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, ErrNoConverter)
	}
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // fixed arguments; the program is the administrator's
	cmd.WaitDelay = time.Second
	cmd.Stdin = bytes.NewReader(data)
	var stderr tail
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run %s: %w", name, err)
	}
	raw, readErr := io.ReadAll(io.LimitReader(out, int64(l.limit(promptRate)+promptRate*2)*2))
	waitErr := cmd.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := errors.Join(readErr, waitErr); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", name, stderr.String(), errors.Join(ErrConvert, err))
	}
	pcm := make([]int16, len(raw)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(raw[2*i:]))
	}
	return pcm, nil
}

// rawG711 takes the headerless files of other telephone systems.
func rawG711(data []byte, ext string) (pcm []int16, ok bool) {
	law := codec.ULaw
	switch strings.ToLower(ext) {
	case ".ulaw", ".ul", ".pcmu":
	case ".alaw", ".al", ".pcma":
		law = codec.ALaw
	case ".sln":
		pcm = make([]int16, len(data)/2)
		for i := range pcm {
			pcm[i] = int16(binary.LittleEndian.Uint16(data[2*i:]))
		}
		return pcm, true
	default:
		return nil, false
	}
	pcm = make([]int16, len(data))
	law.Decode(pcm, data)
	return pcm, true
}

// rawGSM knows GSM 06.10 frames, which have no header, by the mark in each.
func rawGSM(data []byte) bool {
	if len(data) < 33 {
		return false
	}
	for i := 0; i < min(len(data)-32, 50*33); i += 33 {
		if data[i]>>4 != 0xD {
			return false
		}
	}
	return true
}

// soxType tells sox the format, since standard input has no extension.
func soxType(data []byte) string {
	switch {
	case rawGSM(data):
		return "gsm"
	case bytes.HasPrefix(data, []byte("RIFF")):
		return "wav"
	case bytes.HasPrefix(data, []byte("OggS")):
		return "ogg"
	case bytes.HasPrefix(data, []byte("fLaC")):
		return "flac"
	case bytes.HasPrefix(data, []byte("FORM")):
		return "aiff"
	case bytes.HasPrefix(data, []byte(".snd")):
		return "au"
	}
	return "mp3"
}

// tail keeps the last bytes that a process complained with.
type tail struct{ b []byte }

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	const keep = 512
	t.b = append(t.b, p...)
	if len(t.b) > keep {
		t.b = append(t.b[:0], t.b[len(t.b)-keep:]...)
	}
	return len(p), nil
}

// String is the complaint on one line.
func (t *tail) String() string {
	return strings.Join(strings.Fields(string(t.b)), " ")
}
