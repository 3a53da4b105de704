package backup_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/report"
	"github.com/cordboard/cordboard/gateway/store"
	"github.com/cordboard/cordboard/gateway/store/backup"
	"github.com/cordboard/cordboard/gateway/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gateway is the parts of one that a backup knows.
type gateway struct {
	db     *store.DB
	stream *event.Stream
	p      *report.Projector
}

func start(t *testing.T, data, url string) gateway {
	t.Helper()
	var g gateway
	var err error
	g.stream, err = event.Open(t.Context(), event.Options{
		Dir: filepath.Join(data, backup.JournalDir), Log: storetest.Log(), Deadline: time.Minute,
	})
	must(t, err)
	g.db, err = store.Open(t.Context(), store.Options{Dir: data, URL: url, Log: storetest.Log()})
	must(t, err)
	g.p, err = report.NewProjector(report.Options{Log: storetest.Log(), Store: g.db, Source: g.stream})
	must(t, err)
	return g
}

func (g gateway) stop(t *testing.T) {
	t.Helper()
	must(t, g.stream.Close())
	must(t, g.db.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func audits(t *testing.T, db *store.DB) []string {
	t.Helper()
	var list []string
	var after int64
	for {
		p, err := db.Audit(t.Context(), report.Filter{After: after, Limit: report.MaxLimit})
		must(t, err)
		for _, r := range p.Rows {
			list = append(list, r.Action)
		}
		if after = p.Next; after == 0 {
			return list
		}
	}
}

// roundTrip takes a backup under load, restores it and reads the rest.
func roundTrip(t *testing.T, url, restored string) {
	t.Helper()
	data := t.TempDir()
	g := start(t, data, url)
	must(t, g.db.PutUser(t.Context(), auth.User{Username: "josé", FullName: "José \"x\", é\nñ", Extension: "2101"}))
	must(t, os.MkdirAll(filepath.Join(data, "keys"), 0o700))
	must(t, os.WriteFile(filepath.Join(data, "keys", "installation"), []byte("secret"), 0o600))
	must(t, os.Symlink("/etc/passwd", filepath.Join(data, "keys", "link")))
	must(t, os.WriteFile(filepath.Join(data, "other"), []byte("not named"), 0o600))

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := g.p.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	acked := 0
	enough := make(chan struct{})
	wg.Go(func() {
		for ; ctx.Err() == nil; acked++ {
			if err := g.stream.Append(ctx, time.Now(), event.Audit{User: "josé", Action: fmt.Sprint(acked)}); err != nil {
				t.Error(err)
			}
			if acked == 1500 {
				close(enough)
			}
		}
	})
	<-enough
	var buf bytes.Buffer
	m, err := backup.Write(t.Context(), &buf, backup.Source{
		DB: g.db, Stream: g.stream, Version: "1.0", Data: data, Files: []string{"keys", "none", "keys.toml"},
	})
	must(t, err)
	cancel()
	wg.Wait()
	g.stop(t)
	file := filepath.Join(t.TempDir(), "backup.zip")
	must(t, os.WriteFile(file, buf.Bytes(), 0o600))
	if got, err := backup.Verify(file); err != nil || cmp.Diff(m, got) != "" {
		t.Fatalf("verify: %v\n%s", err, cmp.Diff(m, got))
	}

	full := t.TempDir()
	must(t, os.WriteFile(filepath.Join(full, "x"), nil, 0o600))
	_, err = backup.Restore(t.Context(), file, backup.Target{Log: storetest.Log(), Data: full, DatabaseURL: restored})
	if !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("restore over something: %v", err)
	}

	fresh := filepath.Join(t.TempDir(), "new", "data")
	target := backup.Target{Log: storetest.Log(), Data: fresh, DatabaseURL: restored}
	_, err = backup.Restore(t.Context(), file, target)
	must(t, err)
	if _, err := backup.Restore(t.Context(), file, target); !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("restore twice: %v", err)
	}
	key, err := os.ReadFile(filepath.Join(fresh, "keys", "installation"))
	if err != nil || string(key) != "secret" {
		t.Errorf("key %q, %v", key, err)
	}
	for _, name := range []string{"keys/link", "other"} {
		if _, err := os.Lstat(filepath.Join(fresh, name)); err == nil {
			t.Errorf("%s is in the backup", name)
		}
	}
	g = start(t, fresh, restored)
	defer g.stop(t)
	u, err := g.db.User(t.Context(), "José")
	must(t, err)
	if u.FullName != "José \"x\", é\nñ" || u.Rev != 1 {
		t.Errorf("user %+v", u)
	}
	// What the tables had not yet is read from the facts; each fact once.
	_, err = g.p.Dangling(t.Context())
	must(t, err)
	got := audits(t, g.db)
	if len(got) < 1500 || uint64(len(got)) != m.LastSeq {
		t.Errorf("%d rows of %d facts", len(got), m.LastSeq)
	}
	for i, a := range got {
		if a != fmt.Sprint(len(got)-1-i) {
			t.Fatalf("row %d is %s", i, a)
		}
	}
	// New rows and facts go on after the old ones.
	must(t, g.stream.Append(t.Context(), time.Now(), event.Audit{User: "x", Action: "new"}))
	if g.stream.Last() != m.LastSeq+1 {
		t.Errorf("next fact is %d", g.stream.Last())
	}
	_, err = g.p.Dangling(t.Context())
	must(t, err)
	if got := audits(t, g.db); got[0] != "new" {
		t.Errorf("newest row is %s", got[0])
	}
}

func TestBackupUnderLoadAndRestore(t *testing.T) { roundTrip(t, "", "") }

// rewrite changes the parts of a backup.
func rewrite(t *testing.T, data []byte, change func(name string, body []byte) (string, []byte)) string {
	t.Helper()
	in, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	must(t, err)
	name := filepath.Join(t.TempDir(), "changed.zip")
	f, err := os.Create(name)
	must(t, err)
	out := zip.NewWriter(f)
	for _, p := range in.File {
		r, err := p.Open()
		must(t, err)
		body, err := io.ReadAll(r)
		must(t, err)
		must(t, r.Close())
		n, body := change(p.Name, body)
		if n == "" {
			continue
		}
		w, err := out.Create(n)
		must(t, err)
		_, err = w.Write(body)
		must(t, err)
	}
	must(t, out.Close())
	must(t, f.Close())
	return name
}

func TestDamagedBackupIsRefused(t *testing.T) {
	data := t.TempDir()
	g := start(t, data, "")
	must(t, os.WriteFile(filepath.Join(data, "key"), []byte("secret"), 0o600))
	must(t, g.stream.Append(t.Context(), time.Now(), event.Audit{Action: "1"}))
	var buf bytes.Buffer
	_, err := backup.Write(t.Context(), &buf, backup.Source{DB: g.db, Stream: g.stream, Data: data, Files: []string{"key"}})
	must(t, err)
	g.stop(t)
	tests := map[string]func(name string, body []byte) (string, []byte){
		"changed file": func(n string, b []byte) (string, []byte) {
			if n == "files/key" {
				return n, []byte("SECRET")
			}
			return n, b
		},
		"longer file": func(n string, b []byte) (string, []byte) {
			if n == "files/key" {
				b = append(b, 'x')
			}
			return n, b
		},
		"missing file": func(n string, b []byte) (string, []byte) {
			if n == "files/key" {
				n = ""
			}
			return n, b
		},
		"no manifest": func(n string, b []byte) (string, []byte) {
			if n == "manifest.json" {
				n = ""
			}
			return n, b
		},
		"out of the folder": func(n string, b []byte) (string, []byte) {
			if n == "files/key" {
				n = "files/../../key"
			}
			return n, bytes.ReplaceAll(b, []byte("files/key"), []byte("files/../../key"))
		},
		"other engine": func(n string, b []byte) (string, []byte) {
			return n, bytes.ReplaceAll(b, []byte(`"sqlite"`), []byte(`"oracle"`))
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			_, err := backup.Restore(t.Context(), rewrite(t, buf.Bytes(), change), backup.Target{
				Log: storetest.Log(), Data: filepath.Join(parent, "data"),
			})
			if !errors.Is(err, backup.ErrDamaged) {
				t.Errorf("got %v, want ErrDamaged", err)
			}
			left, err := os.ReadDir(parent)
			must(t, err)
			if len(left) != 0 {
				t.Errorf("%s is left behind", left[0].Name())
			}
		})
	}
	cut := filepath.Join(t.TempDir(), "cut.zip")
	must(t, os.WriteFile(cut, buf.Bytes()[:buf.Len()/2], 0o600))
	if _, err := backup.Verify(cut); err == nil {
		t.Error("half a file is taken")
	}
}

func FuzzParseManifest(f *testing.F) {
	hash := strings.Repeat("ab", 32)
	f.Add(`{"format":1,"createdAt":"2026-11-21T12:00:00Z","version":"1","engine":"sqlite","schema":1,"firstSeq":1,"lastSeq":0,` +
		`"entries":[{"name":"facts.jsonl","size":0,"sha256":"` + hash + `"},{"name":"files/a/b","size":3,"sha256":"` + hash + `"}]}`)
	f.Add(`{"format":1,"entries":[{"name":"files/../x"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		m, err := backup.ParseManifest(strings.NewReader(text))
		if err != nil {
			if !errors.Is(err, backup.ErrDamaged) {
				t.Errorf("error is not ErrDamaged: %v", err)
			}
			return
		}
		for _, e := range m.Entries {
			if !filepath.IsLocal(filepath.FromSlash(e.Name)) {
				t.Fatalf("%q leads out of the folder", e.Name)
			}
		}
		again, err := json.Marshal(m)
		must(t, err)
		two, err := backup.ParseManifest(bytes.NewReader(again))
		if err != nil {
			t.Fatalf("own form is refused: %v", err)
		}
		if d := cmp.Diff(m, two); d != "" {
			t.Error(d)
		}
	})
}
