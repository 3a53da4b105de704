//go:build e2e && linux

package event

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The journal's disk is full: an alarm rises, Append keeps its deadline, and
// when there is room again everything is in the stream, in order.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	var active atomic.Bool
	s := openTest(t, Options{
		Dir: filepath.Join(dir, "journal"), AckTimeout: 300 * time.Millisecond,
		Alarm: func(on bool, msg string) { active.Store(on); t.Log(on, msg) },
	})
	n := 0
	add := func() {
		begin := time.Now()
		if err := s.Append(t.Context(), begin, Audit{User: fmt.Sprint(n), Action: strings.Repeat("x", 1000)}); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begin); d > 500*time.Millisecond {
			t.Errorf("append took %v", d)
		}
		n++
	}
	for range 1000 {
		add()
	}
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 4096); ; {
		if _, err := f.Write(block); err != nil {
			break // full
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for !active.Load() && n < 20_000 {
		add()
	}
	if !active.Load() {
		t.Fatal("no alarm")
	}
	for range 20 {
		add()
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for i, f := range read(t, s, 0, n) {
		if !strings.Contains(string(f.Data), fmt.Sprintf(`"user":"%d"`, i)) {
			t.Fatalf("fact %d is %.60s", i, f.Data)
		}
	}
	if active.Load() {
		t.Error("the alarm is still on")
	}
}
