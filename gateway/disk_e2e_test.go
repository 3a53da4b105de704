//go:build e2e && linux

package main

import (
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A disk that is nearly full: doctor says so, and an alarm is up.
func TestDiskNearlyFull(t *testing.T) {
	e := newEnvironment(t)
	if err := os.MkdirAll(e.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", e.data, "tmpfs", 0, "size=64m,mode=0700"); err != nil {
		t.Skipf("a small file system needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(e.data, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	p := start(t, e.vars, "serve")
	e.ready(p)
	code, out, _ := gateway(t, e.vars, "doctor", "--no-trunk-calls")
	if code != 1 || !strings.Contains(out, "FAIL  disk: only ") || !strings.Contains(out, "→ delete or move old recordings") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if !strings.Contains(out, "ok    call, direct media") {
		t.Errorf("calls do not go on:\n%s", out)
	}
	until(t, "alarm", func() bool {
		res, err := http.Get(e.http + "/metrics")
		if err != nil {
			return false
		}
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		return err == nil && strings.Contains(string(b), `cordboard_alarm{alarm="disk"} 1`)
	})
	if code := p.end(syscall.SIGTERM, 20*time.Second); code != 0 {
		t.Errorf("exit %d", code)
	}
}
