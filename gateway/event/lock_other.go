//go:build !unix

package event

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// lockFile takes a lock that ends when the file is closed. The open file
// itself cannot be removed by another process where this is built for.
func lockFile(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, ErrLocked
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // in the configured folder
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	return f, nil
}
