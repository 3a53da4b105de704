package speech

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Limits of one synthesis.
const (
	maxText  = 4000             // characters
	maxBytes = 32 << 20         // of audio
	maxTime  = 30 * time.Second // of the engine's work
)

// ErrMissing says that the engine is not installed.
var ErrMissing = errors.New("espeak-ng is not installed")

// Voice picks how the text is spoken.
type Voice struct {
	Language string // en, es, pt, it; a variant as espeak-ng names it is taken too
	Pitch    int    // 0 to 99; 0 = the engine's default
	Speed    int    // words a minute; 0 = the engine's default
}

// Synthesize speaks text and returns a WAV file: 16-bit mono, 22,050 Hz.
func Synthesize(ctx context.Context, v Voice, text string) ([]byte, error) {
	if n := len([]rune(text)); n > maxText {
		return nil, fmt.Errorf("text of %d characters: at most %d can be spoken at once", n, maxText)
	}
	path, err := exec.LookPath("espeak-ng")
	if err != nil {
		return nil, ErrMissing
	}
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	args := []string{"--stdout", "--stdin", "-v", voiceName(v.Language)}
	if v.Pitch > 0 {
		args = append(args, "-p", fmt.Sprint(min(v.Pitch, 99)))
	}
	if v.Speed > 0 {
		args = append(args, "-s", fmt.Sprint(min(max(v.Speed, 80), 450)))
	}
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // the engine, with arguments of our own making
	cmd.Stdin = strings.NewReader(text)
	out := &capped{limit: maxBytes}
	var msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &msg
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("espeak-ng: %w: %s", err, strings.TrimSpace(msg.String()))
	}
	return fixLength(out.Bytes())
}

// voiceName maps a language to a voice; only letters, digits, - and + reach
// the engine's arguments.
func voiceName(language string) string {
	switch language {
	case "pt":
		return "pt-br"
	case "es":
		return "es-419"
	case "":
		return "en"
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '+':
			return r
		}
		return -1
	}, language)
}

// fixLength writes the true sizes into a WAV header: the engine streams and
// does not know them beforehand.
func fixLength(wav []byte) ([]byte, error) {
	i := bytes.Index(wav, []byte("data"))
	if len(wav) < 44 || i < 0 || i+8 > len(wav) || !bytes.HasPrefix(wav, []byte("RIFF")) {
		return nil, errors.New("espeak-ng gave no wav file")
	}
	binary.LittleEndian.PutUint32(wav[4:], uint32(len(wav)-8))
	binary.LittleEndian.PutUint32(wav[i+4:], uint32(len(wav)-i-8))
	return wav, nil
}

// capped keeps the first limit bytes and refuses more.
type capped struct {
	bytes.Buffer

	limit int
}

// Write implements io.Writer.
func (c *capped) Write(p []byte) (int, error) {
	if c.Len()+len(p) > c.limit {
		return 0, fmt.Errorf("more than %d bytes of audio", c.limit)
	}
	return c.Buffer.Write(p)
}
