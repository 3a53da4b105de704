//go:build e2e

package backup_test

import (
	"testing"

	"github.com/cordboard/cordboard/gateway/store/storetest"
)

func TestBackupOfPostgreSQL(t *testing.T) {
	p := storetest.StartPostgres(t)
	roundTrip(t, p.Database(t), p.Database(t))
}
