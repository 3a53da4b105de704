//go:build e2e

package store_test

import (
	"testing"

	"github.com/cordboard/cordboard/gateway/store"
	"github.com/cordboard/cordboard/gateway/store/storetest"
)

func TestPostgreSQL(t *testing.T) {
	p := storetest.StartPostgres(t)
	storetest.Run(t, func(t *testing.T) *store.DB {
		t.Helper()
		return open(t, store.Options{URL: p.Database(t)})
	})
}
