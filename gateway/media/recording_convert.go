package media

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"time"
)

// RecordingFormat is how a recording is downloaded.
type RecordingFormat string

// The formats of a download.
const (
	FormatStored RecordingFormat = ""    // the file as it is: G.711 WAV
	FormatWAV    RecordingFormat = "wav" // 16 bit WAV, for programs that know no G.711
	FormatMP3    RecordingFormat = "mp3"
)

// ErrFormat means that recordings are not given out in that format.
var ErrFormat = errors.New("unknown recording format")

// ContentType is the media type of a format.
func (f RecordingFormat) ContentType() string {
	if f == FormatMP3 {
		return "audio/mpeg"
	}
	return "audio/wav"
}

// convertTimeout bounds the conversion of one recording.
const convertTimeout = 5 * time.Minute

// CopyRecording streams a recording to w in a format. MP3 needs lame or ffmpeg
// (ErrNoConverter without). The recording may still be growing: what is there
// when the copy begins is given out.
func CopyRecording(ctx context.Context, w io.Writer, path string, format RecordingFormat) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f, err := os.Open(path) //nolint:gosec // the caller's own recording
	if err != nil {
		return fmt.Errorf("copy recording: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	switch format {
	case FormatStored:
		if _, err := io.Copy(w, &ctxReader{ctx: ctx, r: f}); err != nil {
			return fmt.Errorf("copy recording: %w", err)
		}
		return nil
	case FormatWAV:
		return copyPCM(w, &ctxReader{ctx: ctx, r: f}, path)
	case FormatMP3:
		return copyMP3(ctx, w, f, path)
	}
	return fmt.Errorf("copy recording as %q: %w", format, ErrFormat)
}

// copyPCM writes the recording as a 16 bit WAV with all its channels.
func copyPCM(w io.Writer, f io.Reader, path string) error {
	format, size, err := wavOpen(f)
	if err != nil {
		return fmt.Errorf("copy recording %s: %w", path, err)
	}
	frame := format.frame()
	samples := int64(math.MaxUint32) // as programs say that do not know yet
	if size >= 0 {
		samples = size / int64(frame)
		f = io.LimitReader(f, samples*int64(frame))
	}
	h := pcmHeader(format.channels, format.rate, samples)
	if _, err := w.Write(h[:]); err != nil {
		return fmt.Errorf("copy recording: %w", err)
	}
	in := make([]byte, 8192*frame)
	out := make([]byte, 0, 8192*2*format.channels)
	width := format.bits / 8
	for {
		n, err := io.ReadFull(f, in)
		out = out[:0]
		for b := in[:n-n%width]; len(b) > 0; b = b[width:] {
			out = binary.LittleEndian.AppendUint16(out, uint16(int16(format.sample(b))))
		}
		if _, werr := w.Write(out); werr != nil {
			return fmt.Errorf("copy recording: %w", werr)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("copy recording %s: %w", path, err)
		}
	}
}

// copyMP3 pipes the recording through lame, else ffmpeg.
func copyMP3(ctx context.Context, w io.Writer, f io.Reader, path string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, convertTimeout, fmt.Errorf("copy recording: mp3 took over %v: %w", convertTimeout, ErrConvert))
	defer cancel()
	var cmd *exec.Cmd
	if lame, err := exec.LookPath("lame"); err == nil {
		cmd = exec.CommandContext(ctx, lame, "--quiet", "-m", "s", "-b", "48", "-", "-") //nolint:gosec // fixed arguments
	} else if ffmpeg, err := exec.LookPath("ffmpeg"); err == nil {
		cmd = exec.CommandContext(ctx, ffmpeg, "-nostdin", "-hide_banner", "-loglevel", "error", "-protocol_whitelist", "pipe", //nolint:gosec // fixed arguments
			"-f", "wav", "-i", "pipe:0", "-codec:a", "libmp3lame", "-joint_stereo", "0", "-b:a", "48k", "-f", "mp3", "pipe:1")
	} else {
		return fmt.Errorf("copy recording as mp3: %w", ErrNoConverter)
	}
	cmd.WaitDelay = time.Second
	pr, pw := io.Pipe()
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		_ = pw.CloseWithError(copyPCM(pw, f, path))
	}()
	var stderr tail
	cmd.Stdin, cmd.Stdout, cmd.Stderr = pr, w, &stderr
	err := cmd.Run()
	_ = pr.CloseWithError(io.ErrClosedPipe) // frees the feeder when the converter ended early
	<-fed
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("copy recording %s as mp3: %s: %w", path, stderr.String(), errors.Join(ErrConvert, err))
	}
	return nil
}

// ctxReader ends a copy when its caller went away.
type ctxReader struct {
	ctx context.Context //nolint:containedctx // lives for one copy only
	r   io.Reader
}

// Read implements io.Reader.
func (c *ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
