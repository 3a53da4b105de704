//go:build e2e

package registrar

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// cpu is the CPU time that this process has used.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestSippRegisters: sipp's phones register at 300 a second, each with a
// challenge; the goal is 1.5 ms of CPU for one.
func TestSippRegisters(t *testing.T) {
	path, err := exec.LookPath("sipp")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	const n = 3000
	e := newEdge(t)
	list := []byte("SEQUENTIAL\n")
	for i := range n {
		list = fmt.Appendf(list, "%d;[authentication username=u%d password=secret]\n", i, i)
	}
	users := filepath.Join(t.TempDir(), "users.csv")
	if err := os.WriteFile(users, list, 0o600); err != nil {
		t.Fatal(err)
	}
	before := cpu(t)
	cmd := exec.CommandContext(t.Context(), path, e.addr, "-sf", "testdata/uac-register-expect-200.xml", "-i", "127.0.0.1",
		"-r", "300", "-m", "3000", "-inf", users, "-nostdin", "-timeout", "60s", "-timeout_error")
	out, err := cmd.CombinedOutput()
	used := cpu(t) - before
	if err != nil {
		t.Fatalf("%v\n%s", err, out[max(0, len(out)-3000):])
	}
	if got := e.Count(); got != n {
		t.Fatalf("%d bindings", got)
	}
	per := used / n
	t.Logf("%v of CPU for a registration with its challenge", per)
	if per > 1500*time.Microsecond {
		t.Errorf("%v is above the goal of 1.5 ms", per)
	}
}
