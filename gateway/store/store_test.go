package store_test

import (
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
	storetest.Run(t, func(t *testing.T) *store.DB { return open(t, store.Options{Dir: t.TempDir()}) })
}
