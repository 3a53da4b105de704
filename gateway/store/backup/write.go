package backup

import (
	"archive/zip"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/store"
)

// Source is a running gateway.
type Source struct {
	DB      *store.DB
	Stream  *event.Stream
	Version string
	// Data is the data folder, Files the files and folders in it that belong
	// to the backup, with slashes: the installation's key, certificates. One
	// that is not there is passed over, and so is what is no regular file.
	Data  string
	Files []string
}

// Write writes a backup.
func Write(ctx context.Context, w io.Writer, s Source) (Manifest, error) {
	m := Manifest{Format: Format, CreatedAt: time.Now().UTC(), Version: s.Version, Engine: s.DB.Engine()}
	a := &archive{ctx: ctx, zip: zip.NewWriter(w), m: &m}
	var err error
	if m.Schema, err = s.DB.Version(ctx); err != nil {
		return Manifest{}, fmt.Errorf("backup: %w", err)
	}
	err = s.DB.Dump(ctx, func(name string, write func(io.Writer) error) error {
		return a.add(databaseDir+name, write)
	})
	if err != nil {
		return Manifest{}, fmt.Errorf("backup: %w", err)
	}
	if err := a.files(s); err != nil {
		return Manifest{}, fmt.Errorf("backup: %w", err)
	}
	err = a.add(factsName, func(w io.Writer) error { return facts(ctx, w, s.Stream, &m) })
	if err != nil {
		return Manifest{}, fmt.Errorf("backup: %w", err)
	}
	if err := a.end(); err != nil {
		return Manifest{}, fmt.Errorf("backup: %w", err)
	}
	return m, nil
}

// archive is a backup that is being written.
type archive struct {
	ctx context.Context //nolint:containedctx // of the one call that makes and uses the archive
	zip *zip.Writer
	m   *Manifest
}

// meter counts and hashes what passes.
type meter struct {
	w io.Writer
	h hash.Hash
	n int64
	// ctx ends a long copy.
	err func() error
}

func (m *meter) Write(p []byte) (int, error) {
	if err := m.err(); err != nil {
		return 0, err
	}
	n, err := m.w.Write(p)
	m.n += int64(n)
	m.h.Write(p[:n])
	return n, err
}

func (a *archive) add(name string, write func(io.Writer) error) error {
	w, err := a.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: a.m.CreatedAt})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	mt := &meter{w: w, h: sha256.New(), err: func() error { return context.Cause(a.ctx) }}
	b := bufio.NewWriterSize(mt, 64<<10)
	if err := errors.Join(write(b), b.Flush()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a.m.Entries = append(a.m.Entries, Entry{Name: name, Size: mt.n, SHA256: hex.EncodeToString(mt.h.Sum(nil))})
	return nil
}

func (a *archive) end() error {
	w, err := a.zip.CreateHeader(&zip.FileHeader{Name: manifestName, Method: zip.Deflate, Modified: a.m.CreatedAt})
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(a.m); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if err := a.zip.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// files adds the named files of the data folder. os.Root keeps links from
// leading out of it.
func (a *archive) files(s Source) (err error) {
	if len(s.Files) == 0 {
		return nil
	}
	root, err := os.OpenRoot(s.Data)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	dir := root.FS()
	for _, name := range s.Files {
		err := fs.WalkDir(dir, path.Clean(name), func(p string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			return a.file(root, p)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (a *archive) file(root *os.Root, name string) (err error) {
	f, err := root.Open(name)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return a.add(filesDir+name, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	})
}

var errEnd = errors.New("end of the backup")

// facts writes one fact a line, up to the one that is the newest now.
func facts(ctx context.Context, w io.Writer, s *event.Stream, m *Manifest) error {
	first, err := s.First(ctx)
	if err != nil {
		return fmt.Errorf("oldest fact: %w", err)
	}
	m.FirstSeq, m.LastSeq = first, max(s.Last(), first-1)
	if m.LastSeq < m.FirstSeq {
		return nil
	}
	enc := json.NewEncoder(w)
	begun := false
	err = s.Read(ctx, first-1, func(f event.Fact) error {
		if !begun { // older ones may have gone meanwhile
			m.FirstSeq, begun = f.Seq, true
		}
		if err := enc.Encode(f); err != nil {
			return fmt.Errorf("write fact %d: %w", f.Seq, err)
		}
		if f.Seq >= m.LastSeq {
			m.LastSeq = f.Seq
			return errEnd
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnd):
		return nil
	case err == nil: // only the end of ctx ends a reading without an error
		return fmt.Errorf("read facts: %w", context.Cause(ctx))
	}
	return err
}
