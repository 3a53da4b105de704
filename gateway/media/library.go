package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrNoSound means that there is no sound of that name.
var ErrNoSound = errors.New("no such sound")

// ErrSoundName means that a name cannot be a sound's.
var ErrSoundName = errors.New("bad sound name")

const (
	promptRate = 16000
	// libraryCache bounds the coded prompts that are kept though nobody plays them.
	libraryCache = 256
)

// LibraryOptions of a Library.
type LibraryOptions struct {
	// Dir holds the prompts: welcome/es.wav is the sound "welcome/es". Empty = built-in sounds only.
	Dir string
	Log *slog.Logger
	// Country (ISO 3166) chooses the cadence of the tones.
	Country string
	// FFmpeg is the converter for files that are no WAV ("ffmpeg" when empty);
	// without it sox is tried.
	FFmpeg string
	Sox    string
	// MaxBytes and MaxDuration bound one imported file (64 MiB, 15 minutes when zero).
	MaxBytes    int64
	MaxDuration time.Duration
	// Timeout bounds one conversion (60 s when zero).
	Timeout time.Duration
}

// Library owns the sounds that callers hear: built-in tones and music, and the
// prompts of a folder. It is safe for concurrent use.
type Library struct {
	o     LibraryOptions
	music Source
	tones map[Tone]Source

	mu     sync.Mutex
	loaded map[string]*loadedPrompt
	clock  uint64 // of use, to find what was unused longest
}

type loadedPrompt struct {
	src  Source
	mod  time.Time
	size int64
	used uint64
}

// NewLibrary opens the library; a missing folder is made.
func NewLibrary(o LibraryOptions) (*Library, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FFmpeg == "" {
		o.FFmpeg = "ffmpeg"
	}
	if o.Sox == "" {
		o.Sox = "sox"
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 64 << 20
	}
	if o.MaxDuration <= 0 {
		o.MaxDuration = 15 * time.Minute
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	if o.Dir != "" {
		if err := os.MkdirAll(o.Dir, 0o750); err != nil {
			return nil, fmt.Errorf("open sounds: %w", err)
		}
	}
	l := &Library{o: o, music: MusicSource(), tones: map[Tone]Source{}, loaded: map[string]*loadedPrompt{}}
	for _, t := range []Tone{ToneRingback, ToneBusy, ToneCongestion, ToneBeep, ToneConfirm, ToneDenied} {
		s, err := ToneSource(t, o.Country)
		if err != nil {
			return nil, err
		}
		l.tones[t] = s
	}
	return l, nil
}

// Tone is a built-in tone; silence for a name that is none.
func (l *Library) Tone(t Tone) Source {
	if s, ok := l.tones[t]; ok {
		return s
	}
	return SilenceSource(time.Second)
}

// Music is the built-in music on hold.
func (l *Library) Music() Source { return l.music }

// Source finds a sound: "tone/NAME", "music/default", "silence", else a prompt
// of the folder. A file put there since is found, a changed one read again.
// ErrNoSound means that there is none.
func (l *Library) Source(name string) (Source, error) {
	if t, ok := strings.CutPrefix(name, "tone/"); ok {
		if s, ok := l.tones[Tone(t)]; ok {
			return s, nil
		}
		return nil, fmt.Errorf("sound %q: %w", name, ErrNoSound)
	}
	if name == "silence" {
		return SilenceSource(time.Second), nil
	}
	path, err := l.path(name)
	if err != nil {
		return nil, err
	}
	st, err := os.Stat(path)
	if err != nil || l.o.Dir == "" {
		if name == l.music.Name() {
			return l.music, nil // until somebody imports other music
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("sound %q: %w", name, ErrNoSound)
		}
		return nil, fmt.Errorf("sound %q: %w", name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	if p, ok := l.loaded[name]; ok && p.mod.Equal(st.ModTime()) && p.size == st.Size() {
		p.used = l.clock
		return p.src, nil
	}
	if len(l.loaded) >= libraryCache {
		l.dropOldestLocked()
	}
	src := &clip{name: name, music: strings.HasPrefix(name, "music/"), pcm: func() ([]int16, int, error) { return l.load(path) }}
	l.loaded[name] = &loadedPrompt{src: src, mod: st.ModTime(), size: st.Size(), used: l.clock}
	return src, nil
}

func (l *Library) dropOldestLocked() {
	oldest := ""
	for name, p := range l.loaded {
		if oldest == "" || p.used < l.loaded[oldest].used {
			oldest = name
		}
	}
	delete(l.loaded, oldest)
}

// Names lists the prompts of the folder in order.
func (l *Library) Names() ([]string, error) {
	if l.o.Dir == "" {
		return nil, nil
	}
	var names []string
	err := filepath.WalkDir(l.o.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, ok := l.nameOf(path); ok && d.Type().IsRegular() && strings.EqualFold(filepath.Ext(path), ".wav") {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list sounds: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

// Import makes a prompt of a file of any usual format (a WAV by itself, others
// through ffmpeg or sox) and puts it in the folder in place of an older one.
func (l *Library) Import(ctx context.Context, name string, r io.Reader) error {
	return l.importAs(ctx, name, "", r)
}

// importAs is Import with the extension of the file, which raw formats need.
func (l *Library) importAs(ctx context.Context, name, ext string, r io.Reader) error {
	path, err := l.path(name)
	if err != nil {
		return err
	}
	if l.o.Dir == "" {
		return fmt.Errorf("import %q: no folder for sounds: %w", name, ErrNoSound)
	}
	data, err := io.ReadAll(io.LimitReader(r, l.o.MaxBytes+1))
	if err != nil {
		return fmt.Errorf("import %q: %w", name, err)
	}
	if int64(len(data)) > l.o.MaxBytes {
		return fmt.Errorf("import %q: more than %d bytes: %w", name, l.o.MaxBytes, ErrTooLong)
	}
	pcm, rate, err := l.decode(ctx, data, ext)
	if err != nil {
		return fmt.Errorf("import %q: %w", name, err)
	}
	if len(pcm) == 0 {
		return fmt.Errorf("import %q: no sound in it: %w", name, ErrWAV)
	}
	if err := savePrompt(path, pcm, rate); err != nil {
		return fmt.Errorf("import %q: %w", name, err)
	}
	return nil
}

// Remove deletes a prompt; ErrNoSound when there is none.
func (l *Library) Remove(name string) error {
	path, err := l.path(name)
	if err != nil {
		return err
	}
	err = os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) || l.o.Dir == "" {
		return fmt.Errorf("remove sound %q: %w", name, ErrNoSound)
	}
	if err != nil {
		return fmt.Errorf("remove sound %q: %w", name, err)
	}
	l.mu.Lock()
	delete(l.loaded, name)
	l.mu.Unlock()
	return nil
}

// Scan converts what somebody dropped into the folder in other formats
// (welcome/es.mp3 becomes welcome/es.wav beside it). A file that cannot be
// converted is logged and left. Call it at start.
func (l *Library) Scan(ctx context.Context) error {
	if l.o.Dir == "" {
		return nil
	}
	return filepath.WalkDir(l.o.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		name, ok := l.nameOf(path)
		if !ok || !d.Type().IsRegular() || !convertible(path) {
			return nil
		}
		wav := strings.TrimSuffix(path, filepath.Ext(path)) + ".wav"
		from, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // the file went away meanwhile
		}
		if to, err := os.Stat(wav); err == nil && !to.ModTime().Before(from.ModTime()) {
			return nil
		}
		f, err := os.Open(path) //nolint:gosec // found in our own folder
		if err == nil {
			err = l.importAs(ctx, name, filepath.Ext(path), f)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			l.o.Log.WarnContext(ctx, "sound not converted", "sound", name, "err", err)
		}
		return nil
	})
}

// Warm codes sounds ahead of the first call. A sound that is missing is an
// error, after the others were coded.
func (l *Library) Warm(ctx context.Context, codecs, names []string) error {
	var errs []error
	for _, name := range names {
		src, err := l.Source(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, c := range codecs {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if _, err := src.Frames(c); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// path is the file of a sound. Names are made of letters, digits, - _ . and /
// and never leave the folder.
func (l *Library) path(name string) (string, error) {
	if len(name) == 0 || len(name) > 128 || !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", fmt.Errorf("sound %.140q: %w", name, ErrSoundName)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' || part[0] == '-' {
			return "", fmt.Errorf("sound %.140q: %w", name, ErrSoundName)
		}
		for _, r := range part {
			if r < 0x20 || strings.ContainsRune(`\:*?"<>|%`, r) {
				return "", fmt.Errorf("sound %.140q: %w", name, ErrSoundName)
			}
		}
	}
	return filepath.Join(l.o.Dir, filepath.FromSlash(name)+".wav"), nil
}

func (l *Library) nameOf(path string) (string, bool) {
	rel, err := filepath.Rel(l.o.Dir, path)
	if err != nil {
		return "", false
	}
	name := strings.TrimSuffix(filepath.ToSlash(rel), filepath.Ext(rel))
	_, err = l.path(name)
	return name, err == nil
}

func convertible(path string) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".mp3", ".ogg", ".opus", ".oga", ".gsm", ".flac", ".m4a", ".aac", ".aif", ".aiff", ".au", ".wma", ".webm", ".sln", ".ulaw", ".alaw", ".mp2", ".amr":
		return true
	}
	return false
}

// load reads a prompt of the folder.
func (l *Library) load(path string) ([]int16, int, error) {
	f, err := os.Open(path) //nolint:gosec // made by path, which stays in the folder
	if err != nil {
		return nil, 0, fmt.Errorf("load sound: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	pcm, rate, err := ReadWAV(f, l.limit(384000))
	if err != nil {
		return nil, 0, fmt.Errorf("load sound %s: %w", path, err)
	}
	if len(pcm) > l.limit(rate) {
		return nil, 0, fmt.Errorf("load sound %s: %w", path, ErrTooLong)
	}
	return pcm, rate, nil
}

func (l *Library) limit(rate int) int { return int(l.o.MaxDuration.Seconds()) * rate }

// savePrompt writes beside the file and renames, so that a listener never
// reads half a prompt.
func savePrompt(path string, pcm []int16, rate int) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("save sound: %w", err)
	}
	var b bytes.Buffer
	if err := WriteWAV(&b, pcm, rate); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".import-*")
	if err != nil {
		return fmt.Errorf("save sound: %w", err)
	}
	_, err = tmp.Write(b.Bytes())
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Chmod(tmp.Name(), 0o640) //nolint:gosec // readable to the service's group, as the other sounds
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save sound: %w", err), os.Remove(tmp.Name()))
	}
	return nil
}
