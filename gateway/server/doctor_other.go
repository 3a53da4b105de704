//go:build !linux

package server

import (
	"errors"
	"fmt"
	"time"

	"github.com/cordboard/cordboard/gateway/api"
)

func diskSpace(string) (space, error) {
	return space{}, fmt.Errorf("free space: %w", errors.ErrUnsupported)
}

func clockFinding() api.Finding {
	return ok("clock", "%s; whether it is kept by a time server is not known here", time.Now().Format(time.RFC3339))
}
