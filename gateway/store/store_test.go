package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/cordboard/cordboard/gateway/store"
	"github.com/cordboard/cordboard/gateway/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, o store.Options) *store.DB {
	t.Helper()
	o.Log = storetest.Log()
	db, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *store.DB {
		t.Helper()
		return open(t, store.Options{Dir: t.TempDir()})
	})
}

func TestFoldersWithOddNames(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"data", "./with space", "q?x=1#y&z%41", "ñandú"} {
		db := open(t, store.Options{Dir: dir})
		if err := db.PutSetting(t.Context(), "a", 1); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, store.FileName)); err != nil {
			t.Error(err)
		}
		if fi, err := os.Stat(filepath.Join(dir, store.FileName)); err == nil && fi.Mode().Perm() != 0o600 {
			t.Errorf("%s is %v", dir, fi.Mode())
		}
	}
}

func TestDatabaseOfOtherKindIsRefused(t *testing.T) {
	for _, url := range []string{"mysql://x", "postgres://user:secret@127.0.0.1:1/x?connect_timeout=1", "::"} {
		_, err := store.Open(t.Context(), store.Options{URL: url, Log: storetest.Log()})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
