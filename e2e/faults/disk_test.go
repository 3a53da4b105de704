//go:build e2e && linux

package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cordboard/cordboard/e2e/harness"
	"github.com/cordboard/cordboard/gateway/api"
)

// TestDataFolderFull: the disk under journal, database and recordings fills up
// during calls. Calls go on and new ones come, alarms rise; once there is room
// again every fact reaches its table and the alarms are over (contract: facts;
// design: disk full).
func TestDataFolderFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("a small file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	r := newRigIn(t, filepath.Join(dir, "data"), 2, func(c *company) { c.record = true })
	before := r.idle()
	line := newStation(t, "127.0.0.1", nil)
	a := r.newDesk(t, 1)
	one := r.talk(t, a, line, "59899000001")
	filler := filepath.Join(dir, "filler")
	fill(t, filler)
	one.sounds(t)
	one.end(t)
	guids := []string{one.guid}
	for n := range 30 {
		at := time.Now()
		c := r.talk(t, a, line, fmt.Sprintf("5989900%04d", 100+n))
		if d := time.Since(at); d > 5*time.Second {
			t.Errorf("call %d took %v on a full disk", n, d)
		}
		guids = append(guids, c.guid)
		c.end(t)
	}
	m := ours(r.metrics())
	t.Logf("on the full disk: %v", m)
	if m["cordboard_facts_lost_total"] > 0 {
		t.Errorf("%v facts are lost", m["cordboard_facts_lost_total"])
	}
	for _, name := range []string{"journal", "recording", "disk"} {
		if !r.alarm(name) {
			t.Errorf("there is no alarm %q on the full disk", name)
		}
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	last := r.talk(t, a, line, "59899000009")
	time.Sleep(500 * time.Millisecond)
	last.end(t)
	for _, guid := range append(guids, last.guid) {
		rows := r.QueueLog(t, harness.GUID(guid), harness.Events("ENTERQUEUE", "CONNECT", "COMPLETECALLER"))
		if len(rows) != 3 {
			t.Errorf("rows of call %s: %v", guid, harness.Show(rows))
		}
		r.CDR(t, harness.GUID(guid), func(rows []api.CDRRow) bool { return len(rows) == 1 })
	}
	// The alarm about little room stays: this disk is tiny.
	harness.Until(t, harness.Patience, "the alarms are over", func() bool { return !r.alarm("journal") && !r.alarm("recording") })
	r.nothingLeft(before)
	if code := r.Stop(t); code != 0 {
		t.Errorf("the gateway ended with %d", code)
	}
	if c := count(t, r); len(c.connects) != len(guids)+1 {
		t.Errorf("%d calls were connected, want %d", len(c.connects), len(guids)+1)
	}
}
