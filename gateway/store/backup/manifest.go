package backup

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/cordboard/cordboard/gateway/store"
)

const (
	// Format is the version of the file's layout.
	Format       = 1
	manifestName = "manifest.json"
	factsName    = "facts.jsonl"
	databaseDir  = "database/"
	filesDir     = "files/"
	maxManifest  = 16 << 20
	hashLen      = 64 // of a SHA-256 in hexadecimal
)

// Errors of a backup.
var (
	// ErrDamaged says that a backup is not what its manifest says.
	ErrDamaged = errors.New("backup is damaged")
	// ErrNotEmpty says that a backup is to be restored over something.
	ErrNotEmpty = errors.New("data folder is not empty")
)

// Manifest says what is in a backup.
type Manifest struct {
	Format    int          `json:"format"`
	CreatedAt time.Time    `json:"createdAt"`
	Version   string       `json:"version"` // of the gateway
	Engine    store.Engine `json:"engine"`
	Schema    int64        `json:"schema"` // version of the tables
	// FirstSeq and LastSeq are the first and last fact; LastSeq is below
	// FirstSeq when there is none.
	FirstSeq uint64  `json:"firstSeq"`
	LastSeq  uint64  `json:"lastSeq"`
	Entries  []Entry `json:"entries"`
}

// Entry is one file of a backup.
type Entry struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// ParseManifest reads and checks a manifest.
func ParseManifest(r io.Reader) (Manifest, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return Manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	if len(data) > maxManifest {
		return Manifest{}, fmt.Errorf("manifest is larger than %d bytes: %w", maxManifest, ErrDamaged)
	}
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	var m Manifest
	if err := dec.Decode(&m); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w: %w", ErrDamaged, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Manifest{}, fmt.Errorf("manifest goes on after its end: %w", ErrDamaged)
	}
	if err := m.check(); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w: %w", ErrDamaged, err)
	}
	return m, nil
}

func (m Manifest) check() error {
	switch {
	case m.Format != Format:
		return fmt.Errorf("format %d is not %d", m.Format, Format)
	case m.Engine != store.SQLite && m.Engine != store.PostgreSQL:
		return fmt.Errorf("engine %q is unknown", m.Engine)
	case m.Schema < 1:
		return fmt.Errorf("schema %d is unknown", m.Schema)
	case m.FirstSeq == 0 || m.LastSeq+1 < m.FirstSeq || m.LastSeq > 1<<62:
		return fmt.Errorf("facts %d to %d are no range", m.FirstSeq, m.LastSeq)
	}
	seen := map[string]bool{}
	for _, e := range m.Entries {
		if err := e.check(); err != nil {
			return fmt.Errorf("entry %q: %w", e.Name, err)
		}
		key := strings.ToLower(e.Name) // some file systems know no case
		if seen[key] {
			return fmt.Errorf("entry %q is there twice", e.Name)
		}
		seen[key] = true
	}
	if !seen[factsName] {
		return errors.New("facts are missing")
	}
	return nil
}

func (e Entry) check() error {
	dir, rest, ok := strings.Cut(e.Name, "/")
	inside := ok && (dir+"/" == filesDir || dir+"/" == databaseDir)
	switch {
	case e.Name != factsName && !inside:
		return errors.New("is at a place where nothing belongs")
	case inside && (!fs.ValidPath(rest) || rest == "." || strings.ContainsAny(rest, "\\:\x00") || path.Clean(rest) != rest):
		return errors.New("is no path inside a folder")
	case dir+"/" == databaseDir && strings.Contains(rest, "/"):
		return errors.New("is no part of a database")
	case e.Size < 0:
		return errors.New("has a negative size")
	case len(e.SHA256) != hashLen:
		return errors.New("has no SHA-256")
	}
	if _, err := hex.DecodeString(e.SHA256); err != nil {
		return errors.New("has no SHA-256")
	}
	return nil
}
