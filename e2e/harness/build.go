//go:build e2e && linux

package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// binEnv names a folder with programs that were built elsewhere, such as with
// the race detector.
const binEnv = "CORDBOARD_E2E_BIN"

// programs are what the tests of this process run.
type programs struct {
	dir, root string
	foreign   bool
	err       error
}

//nolint:gochecknoglobals // built once per test process, which has no other place for it
var built = sync.OnceValue(buildAll)

func buildAll() programs {
	root, err := moduleRoot()
	if err != nil {
		return programs{err: err}
	}
	if dir := os.Getenv(binEnv); dir != "" {
		return programs{dir: dir, root: root, foreign: true}
	}
	dir, err := os.MkdirTemp("", "cordboard-e2e-")
	if err != nil {
		return programs{err: fmt.Errorf("folder of the programs: %w", err)}
	}
	p := programs{dir: dir, root: root}
	for name, pkg := range map[string]string{"gateway": "./gateway", "softphone": "./softphone/cmd/softphone"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg) //nolint:gosec,noctx // our own packages; ends by itself
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			p.err = errors.Join(p.err, fmt.Errorf("go build %s: %w\n%s", pkg, err, out))
		}
	}
	return p
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output() //nolint:noctx // ends by itself
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

//nolint:gochecknoglobals // tells Main whether there is anything to remove
var used atomic.Bool

// Program returns the path of a program of ours, gateway or softphone.
func Program(tb testing.TB, name string) string {
	tb.Helper()
	used.Store(true)
	p := built()
	if p.err != nil {
		tb.Fatal(p.err)
	}
	return filepath.Join(p.dir, name)
}

// Root returns the folder of the module.
func Root(tb testing.TB) string {
	tb.Helper()
	used.Store(true)
	p := built()
	if p.err != nil {
		tb.Fatal(p.err)
	}
	return p.root
}

// Main runs the tests of a package and removes what was built for them. It
// returns the exit code.
func Main(m *testing.M) int {
	code := m.Run()
	if used.Load() && !built().foreign {
		_ = os.RemoveAll(built().dir) // a leftover is no failure of the tests
	}
	return code
}

// Need returns the path of a peer that we did not write. Without it the test is
// skipped; where everything must be there (CI=true), it fails.
func Need(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		tb.Fatal(err)
	}
	tb.Skip(err)
	return ""
}
