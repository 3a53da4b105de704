//go:build e2e && linux

package faults

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cordboard/cordboard/e2e/harness"
	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/store/storetest"
)

// status asks for a page and returns its status.
func (r *rig) status(t *testing.T, path string) int {
	t.Helper()
	res, err := r.http.Get(r.URL() + path)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// alarm reports whether an alarm is shown in /metrics.
func (r *rig) alarm(name string) bool {
	return r.metrics()[fmt.Sprintf("cordboard_alarm{alarm=%q}", name)] == 1
}

// TestDatabaseStops: calls go on and new ones come while PostgreSQL is gone,
// and while it hangs; the rows appear when it is back (design: database slow
// or gone).
func TestDatabaseStops(t *testing.T) {
	t.Parallel()
	pg := storetest.StartPostgres(t)
	dsn := pg.Database(t)
	r := newRig(t, 2, nil, fmt.Sprintf("database: {url: %q}", dsn))
	before := r.idle()
	line := newStation(t, "127.0.0.1", nil)
	a, b := r.newDesk(t, 1), r.newDesk(t, 2)
	one := r.talk(t, a, line, "59899000001")

	pg.Stop(t)
	one.sounds(t)
	at := time.Now()
	two := r.talk(t, b, line, "59899000002")
	t.Logf("a call was up and heard %v after it was placed, without a database", time.Since(at).Round(time.Millisecond))
	one.end(t)
	two.end(t)
	three := r.talk(t, a, line, "59899000003")
	harness.Until(t, harness.Patience, "an alarm tells of the database", func() bool { return r.alarm("report.database") })
	if s := r.status(t, "/healthz"); s != http.StatusOK {
		t.Errorf("/healthz is %d", s)
	}
	if s := r.status(t, "/readyz"); s != http.StatusServiceUnavailable {
		t.Errorf("/readyz is %d without a database", s)
	}
	three.end(t)
	pg.Start(t)
	for _, c := range []*conversation{one, two, three} {
		rows := r.QueueLog(t, harness.GUID(c.guid), harness.Events("COMPLETECALLER"))
		if got := strings.Join(harness.Show(rows), " "); events(rows, "ENTERQUEUE") != 1 || events(rows, "CONNECT") != 1 || events(rows, "COMPLETECALLER") != 1 {
			t.Errorf("rows of call %s: %s", c.guid, got)
		}
		r.CDR(t, harness.GUID(c.guid), func(rows []api.CDRRow) bool { return len(rows) == 1 })
	}
	harness.Until(t, harness.Patience, "the alarm is over", func() bool { return !r.alarm("report.database") })
	harness.Until(t, harness.Patience, "ready again", func() bool { return r.status(t, "/readyz") == http.StatusOK })

	// The database hangs: it takes connections and answers nothing.
	frozen := freeze(t, dsn)
	at = time.Now()
	four := r.talk(t, b, line, "59899000004")
	t.Logf("a call was up and heard %v after it was placed, while the database hung", time.Since(at).Round(time.Millisecond))
	if d := time.Since(at); d > 4*time.Second {
		t.Errorf("the call took %v while the database hung", d)
	}
	four.end(t)
	frozen()
	r.QueueLog(t, harness.GUID(four.guid), harness.Events("ENTERQUEUE", "CONNECT", "COMPLETECALLER"))
	r.nothingLeft(before)
}

// freeze stops every process of the PostgreSQL behind a URL; the result lets
// them go on.
func freeze(t *testing.T, dsn string) (thaw func()) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(u.Query().Get("host"), "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	master, _, _ := strings.Cut(string(b), "\n")
	main, err := strconv.Atoi(master)
	if err != nil {
		t.Fatal(err)
	}
	pids := []int{main}
	procs, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		b, err := os.ReadFile(p)
		if err != nil {
			continue
		}
		s := string(b)
		f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
		if len(f) < 2 || f[1] != master {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(p, "/")[2]); err == nil {
			pids = append(pids, pid)
		}
	}
	if len(pids) < 3 {
		t.Fatalf("PostgreSQL has the processes %v only", pids)
	}
	each := func(s syscall.Signal) {
		for _, pid := range pids {
			if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
				t.Error(err)
			}
		}
	}
	each(syscall.SIGSTOP)
	done := false
	thaw = func() {
		if !done {
			done = true
			each(syscall.SIGCONT)
		}
	}
	t.Cleanup(thaw)
	return thaw
}

// TestDrain: after SIGTERM new calls get 503 with Retry-After, waiting callers
// are served and live calls go on; the last call's end is the gateway's.
func TestDrain(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, func(c *company) { c.record = true })
	line := newStation(t, "127.0.0.1", nil)
	a := r.newDesk(t, 1)
	one := r.talk(t, a, line, "59899000001")
	waiting := line.mustCall(t, r.UDP, "59899000002", nil)

	r.Process().Signal(syscall.SIGTERM)
	r.Process().Expect(t, `"draining"`)
	res := raw(t, r.UDP, inviteWith(describe(4000, "8", "a=rtpmap:8 PCMA/8000"), "application/sdp"))
	if !strings.HasPrefix(res, "SIP/2.0 503 ") || !strings.Contains(res, "\r\nRetry-After: ") {
		t.Errorf("a new call is answered %q", res)
	}
	if s := r.status(t, "/readyz"); s != http.StatusServiceUnavailable {
		t.Errorf("/readyz is %d", s)
	}
	one.sounds(t)
	one.end(t)
	g := a.next(t, 10*time.Second) // the one who waited is served
	p := g.mustAnswer(t, nil)
	time.Sleep(300 * time.Millisecond)
	if r.Process().Exited(0) {
		t.Fatal("the gateway ended while a call was live")
	}
	waiting.hangUp()
	within(t, p.ended, 5*time.Second, "the last call ends")
	if code := r.Process().Wait(t, 15*time.Second); code != 0 {
		t.Errorf("the gateway ended with %d", code)
	}
	if c := count(t, r); len(c.entered) != 2 || len(c.connects) != 2 {
		t.Errorf("%d entries and %d connected, want 2 and 2", len(c.entered), len(c.connects))
	}
}

// TestSecondSignal: it ends the gateway now; the parties are told by a BYE, and
// the rows are complete.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, func(c *company) { c.record = true })
	line := newStation(t, "127.0.0.1", nil)
	a := r.newDesk(t, 1)
	one := r.talk(t, a, line, "59899000001")
	waiting := line.mustCall(t, r.UDP, "59899000002", nil)
	r.Process().Signal(syscall.SIGTERM)
	r.Process().Expect(t, `"draining"`)
	at := time.Now()
	r.Process().Signal(syscall.SIGTERM)
	if code := r.Process().Wait(t, 10*time.Second); code != 0 {
		t.Errorf("the gateway ended with %d", code)
	}
	t.Logf("the gateway ended after %v", time.Since(at).Round(time.Millisecond))
	if d := time.Since(at); d > 4*time.Second {
		t.Errorf("the second signal took %v", d)
	}
	within(t, one.customer.ended, 2*time.Second, "the customer is told that the call is over")
	within(t, one.agent.ended, 2*time.Second, "the agent is told that the call is over")
	within(t, waiting.ended, 2*time.Second, "who waits is told that the call is over")
	c := count(t, r)
	if len(c.entered) != 2 || len(c.connects) != 1 || c.recordings != 1 {
		t.Errorf("%d entries, %d connected, %d recordings", len(c.entered), len(c.connects), c.recordings)
	}
}

// TestRecordingsFull: when the folder is full the call goes on, an alarm rises
// in metrics and log, and the next call is recorded once there is room again
// (design: disk full).
func TestRecordingsFull(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, func(c *company) { c.record = true })
	dir := filepath.Join(r.Dir, "recordings")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=600k"); err != nil {
		t.Skipf("a small file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	before := r.idle()
	line := newStation(t, "127.0.0.1", nil)
	a := r.newDesk(t, 1)

	// Full in the middle of a recording.
	c := r.talk(t, a, line, "59899000001")
	filler := filepath.Join(dir, "filler")
	fill(t, filler)
	harness.Until(t, 20*time.Second, "an alarm tells that the recording stopped", func() bool { return r.alarm("recording") })
	r.Process().Expect(t, "recording stopped")
	c.sounds(t)
	c.end(t)
	r.QueueLog(t, harness.GUID(c.guid), harness.Events("CONNECT", "COMPLETECALLER"))
	r.Admin(t).AgentIs(t, user(1), "available")
	// Full from the beginning.
	d := r.talk(t, a, line, "59899000002")
	time.Sleep(time.Second)
	d.sounds(t)
	d.end(t)
	r.Admin(t).AgentIs(t, user(1), "available")

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	e := r.talk(t, a, line, "59899000003")
	time.Sleep(1500 * time.Millisecond)
	e.end(t)
	_, audio := r.Recording(t, e.guid, "wav")
	audio.WantTone(t, "the agent, once there is room", 1, 1000, time.Second)
	harness.Until(t, harness.Patience, "the alarm is over", func() bool { return !r.alarm("recording") })
	r.nothingLeft(before)
}

// fill writes a file until there is no room left.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	block := make([]byte, 4096)
	for range 100_000 {
		if _, err := f.Write(block); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("the disk does not fill")
}
