//go:build e2e

package main

import (
	"testing"

	"github.com/cordboard/cordboard/gateway/store/storetest"
)

func TestBackupAndRestoreOfPostgreSQL(t *testing.T) {
	p := storetest.StartPostgres(t)
	careStory(t, p.Database(t), p.Database(t))
}
