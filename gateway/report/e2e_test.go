//go:build e2e

package report_test

import (
	"testing"

	"github.com/cordboard/cordboard/gateway/store/storetest"
)

func TestKilledUnderLoadOnPostgreSQL(t *testing.T) {
	killed(t, storetest.StartPostgres(t).Database(t))
}
