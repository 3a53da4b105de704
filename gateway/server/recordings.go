package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cordboard/cordboard/gateway/media"
)

// recordings opens recordings of the data folder; it implements rest.Audio.
type recordings struct{ dir string }

// Open implements rest.Audio. What is given out is made for the
// occasion, because players want 16-bit WAV or MP3 and the disk holds G.711,
// and is deleted when closed.
func (a recordings) Open(ctx context.Context, path, format string) (io.ReadSeekCloser, error) {
	root, err := os.OpenRoot(a.dir)
	if err != nil {
		return nil, fmt.Errorf("open the recordings: %w", err)
	}
	defer root.Close() //nolint:errcheck // read only
	name := filepath.FromSlash(path)
	st, err := root.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("open recording: %w", fs.ErrNotExist)
	}
	tmp, err := os.CreateTemp("", "cordboard-*."+filepath.Base(format))
	if err != nil {
		return nil, fmt.Errorf("convert recording: %w", err)
	}
	t := temporary{tmp}
	if err := media.CopyRecording(ctx, tmp, filepath.Join(a.dir, name), media.RecordingFormat(format)); err != nil {
		return nil, errors.Join(fmt.Errorf("convert recording: %w", err), t.Close())
	}
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(fmt.Errorf("convert recording: %w", err), t.Close())
	}
	return t, nil
}

// temporary is a file that is deleted when closed.
type temporary struct{ *os.File }

// Close implements io.Closer.
func (t temporary) Close() error {
	return errors.Join(t.File.Close(), os.Remove(t.Name()))
}
