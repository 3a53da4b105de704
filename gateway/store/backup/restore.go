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
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/store"
)

const (
	// JournalDir is the folder of the embedded stream in the data folder.
	JournalDir = "journal"
	// restoreBatch is how many facts are restored at once.
	restoreBatch = 1000
	maxFactLine  = 8 << 20
)

// Target is where a backup is restored to.
type Target struct {
	Log *slog.Logger
	// Data is the data folder: empty, or not there yet.
	Data string
	// Journal is the folder of the embedded stream inside it (JournalDir).
	Journal string
	// DatabaseURL and NATSURL are as configured: empty = embedded. An external
	// database and an external stream must be empty.
	DatabaseURL string
	NATSURL     string
}

// Verify checks that a backup is complete and unchanged.
func Verify(file string) (Manifest, error) {
	b, err := open(file)
	if err != nil {
		return Manifest{}, err
	}
	return b.m, errors.Join(b.verify(), b.Close())
}

// Restore makes a data folder of a backup. It builds it beside its place and
// moves it there when it is complete.
func Restore(ctx context.Context, file string, t Target) (m Manifest, err error) {
	b, err := open(file)
	if err != nil {
		return Manifest{}, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if err := empty(t.Data); err != nil {
		return Manifest{}, err
	}
	if err := b.verify(); err != nil {
		return Manifest{}, err
	}
	data := filepath.Clean(t.Data)
	if err := os.MkdirAll(filepath.Dir(data), 0o750); err != nil {
		return Manifest{}, fmt.Errorf("restore: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(data), filepath.Base(data)+".restore")
	if err != nil {
		return Manifest{}, fmt.Errorf("restore: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	if err := b.fill(ctx, tmp, t); err != nil {
		return Manifest{}, fmt.Errorf("restore: %w", err)
	}
	if err := os.Remove(data); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, fmt.Errorf("restore: %w", err)
	}
	if err := os.Rename(tmp, data); err != nil {
		return Manifest{}, fmt.Errorf("restore: %w", err)
	}
	return b.m, nil
}

// empty refuses a folder with anything in it.
func empty(dir string) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if len(list) > 0 {
		return fmt.Errorf("%s: %w", dir, ErrNotEmpty)
	}
	return nil
}

// file is an open backup.
type file struct {
	*zip.ReadCloser

	m       Manifest
	entries map[string]Entry
	parts   map[string]*zip.File
}

func open(name string) (f *file, err error) {
	z, err := zip.OpenReader(name)
	if err != nil {
		return nil, fmt.Errorf("open backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, z.Close())
		}
	}()
	f = &file{ReadCloser: z, entries: map[string]Entry{}, parts: map[string]*zip.File{}}
	for _, p := range z.File {
		if f.parts[p.Name] != nil {
			return nil, fmt.Errorf("%q is there twice: %w", p.Name, ErrDamaged)
		}
		f.parts[p.Name] = p
	}
	p := f.parts[manifestName]
	if p == nil {
		return nil, fmt.Errorf("manifest is missing: %w", ErrDamaged)
	}
	r, err := p.Open()
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	f.m, err = ParseManifest(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	for _, e := range f.m.Entries {
		if f.parts[e.Name] == nil {
			return nil, fmt.Errorf("%q is missing: %w", e.Name, ErrDamaged)
		}
		f.entries[e.Name] = e
	}
	if len(f.parts) != len(f.m.Entries)+1 {
		return nil, fmt.Errorf("it holds more than its manifest says: %w", ErrDamaged)
	}
	return f, nil
}

func (f *file) verify() error {
	for _, e := range f.m.Entries {
		r, err := f.part(e.Name)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return nil
}

// checked is a part whose end is an error unless size and hash are right.
type checked struct {
	io.ReadCloser

	e    Entry
	hash interface {
		io.Writer
		Sum([]byte) []byte
	}
	n int64
}

func (f *file) part(name string) (*checked, error) {
	r, err := f.parts[name].Open()
	if err != nil {
		return nil, fmt.Errorf("%q: %w: %w", name, ErrDamaged, err)
	}
	return &checked{ReadCloser: r, e: f.entries[name], hash: sha256.New()}, nil
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	if _, e := c.hash.Write(p[:n]); e != nil {
		return n, e
	}
	switch {
	case c.n > c.e.Size:
		return n, fmt.Errorf("%q is longer than %d bytes: %w", c.e.Name, c.e.Size, ErrDamaged)
	case errors.Is(err, io.EOF):
		if c.n != c.e.Size || hex.EncodeToString(c.hash.Sum(nil)) != strings.ToLower(c.e.SHA256) {
			return n, fmt.Errorf("%q is not what the manifest says: %w", c.e.Name, ErrDamaged)
		}
		return n, io.EOF
	case err != nil:
		return n, fmt.Errorf("%q: %w: %w", c.e.Name, ErrDamaged, err)
	}
	return n, nil
}

// fill makes the data folder in tmp.
func (f *file) fill(ctx context.Context, tmp string, t Target) (err error) {
	root, err := os.OpenRoot(tmp)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	var parts []string
	for _, e := range f.m.Entries {
		if name, ok := strings.CutPrefix(e.Name, filesDir); ok {
			if err := f.extract(root, e.Name, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if name, ok := strings.CutPrefix(e.Name, databaseDir); ok {
			parts = append(parts, name)
		}
	}
	slices.Sort(parts)
	// The stream comes before the database: when it fails, an external
	// database is still as it was.
	if err := f.facts(ctx, tmp, t); err != nil {
		return fmt.Errorf("facts: %w", err)
	}
	return store.Load(ctx, store.Options{URL: t.DatabaseURL, Dir: tmp, Log: t.Log}, store.Dumped{
		Engine: f.m.Engine, Version: f.m.Schema, Parts: parts,
		Open: func(part string) (io.ReadCloser, error) { return f.part(databaseDir + part) },
	})
}

// extract writes one file. os.Root keeps it inside the data folder.
func (f *file) extract(root *os.Root, part, name string) (err error) {
	r, err := f.part(part)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	w, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make file: %w", err)
	}
	_, err = io.Copy(w, r) // the part ends with an error at the size that the manifest says
	return errors.Join(err, w.Close())
}

// facts fills the stream.
func (f *file) facts(ctx context.Context, tmp string, t Target) (err error) {
	dir := t.Journal
	if dir == "" {
		dir = JournalDir
	}
	if !filepath.IsLocal(dir) {
		return fmt.Errorf("journal folder %q is outside the data folder", dir)
	}
	s, err := event.Open(ctx, event.Options{Dir: filepath.Join(tmp, dir), URL: t.NATSURL, Log: t.Log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if s.Last() != 0 {
		return errors.New("the stream is not empty")
	}
	if err := s.Skip(ctx, f.m.FirstSeq-1); err != nil {
		return err
	}
	r, err := f.part(factsName)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxFactLine)
	batch := make([]event.Fact, 0, restoreBatch)
	for lines.Scan() {
		var fact event.Fact
		if err := json.Unmarshal(lines.Bytes(), &fact); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if batch = append(batch, fact); len(batch) == restoreBatch {
			if err := s.Restore(ctx, batch...); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if err := s.Restore(ctx, batch...); err != nil {
		return err
	}
	if s.Last() != f.m.LastSeq {
		return fmt.Errorf("they end at %d, not at %d: %w", s.Last(), f.m.LastSeq, ErrDamaged)
	}
	return nil
}
