package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/demo/carrier"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/store/backup"
	"github.com/cordboard/cordboard/softphone"
)

// value is that of one variable.
func (e environment) value(key string) string {
	for _, v := range e.vars {
		if a, ok := strings.CutPrefix(v, "CORDBOARD_"+key+"="); ok {
			return a
		}
	}
	return ""
}

// with is the environment with one more variable.
func (e environment) with(key, value string) environment {
	e.vars = append(slices.Clip(e.vars), "CORDBOARD_"+key+"="+value)
	return e
}

// ask calls the API with the admin token.
func (e environment) ask(t *testing.T, method, path string, in, out any) int {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(e.data, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, e.http+"/api/v1"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			t.Fatalf("%s: %v: %.300s", path, err, b)
		}
	}
	return res.StatusCode
}

// floor is a gateway with a carrier and an agent who answers.
type floor struct {
	e   environment
	p   *process
	car *carrier.Carrier
}

func newFloor(t *testing.T, e environment) *floor {
	t.Helper()
	f := &floor{e: e, p: start(t, e.vars, "serve")}
	e.ready(f.p)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.car, err = carrier.New(t.Context(), carrier.Options{
		Log: log, Conn: conn, RTPPorts: [2]uint16{47500, 47600}, Gateway: netip.MustParseAddrPort(e.value("SIP_UDP")),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.car.Close() })
	file := filepath.Join(t.TempDir(), "state.yaml")
	text := stateText + fmt.Sprintf("trunks:\n  - {name: carrier, address: %q, transport: udp, allow: [\"127.0.0.1/32\"], codecs: [PCMA], password: s3cret-of-trunk, username: us}\n", f.car.Addr())
	if err := os.WriteFile(file, []byte(strings.Replace(text, "strategy:", "record: true, wrapUpSeconds: 0, strategy:", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := gateway(t, e.vars, "apply", "-f", file); code != 0 {
		t.Fatalf("apply: exit %d, %q", code, errs)
	}
	f.agent(t, log)
	return f
}

// agent signs ana in with a phone that answers.
func (f *floor) agent(t *testing.T, log *slog.Logger) {
	t.Helper()
	var s api.Session
	if code := f.e.ask(t, http.MethodPost, "/sessions", api.SignIn{Username: "ana", Password: "Rio-Negro-58", Phone: true}, &s); code != http.StatusCreated {
		t.Fatalf("sign in: %d", code)
	}
	registered := make(chan struct{}, 10)
	var phone *softphone.Phone
	phone, err := softphone.New(softphone.Config{
		Log: log, Server: s.SIP.URLs[0], User: s.SIP.Username, AoR: "2101", Domain: s.SIP.Realm, Password: s.SIP.Password,
		TLS: &tls.Config{InsecureSkipVerify: true},
		OnEvent: func(e softphone.Event) {
			switch e := e.(type) {
			case softphone.Registered:
				registered <- struct{}{}
			case softphone.Incoming:
				if err := phone.Answer(e.Call); err != nil {
					t.Error(err)
				}
			default:
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = phone.Close() })
	if err := phone.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-registered:
	case <-time.After(15 * time.Second):
		t.Fatal("the agent's phone did not register")
	}
}

// call places a customer's call with so much tone and returns its result.
func (f *floor) call(t *testing.T, from string, seconds int) <-chan carrier.Result {
	t.Helper()
	tone := make([]int16, 8000*seconds)
	for i := range tone {
		tone[i] = int16(8000 * math.Sin(2*math.Pi*440*float64(i)/8000))
	}
	done := make(chan carrier.Result, 1)
	go func() {
		r, _ := f.car.Call(t.Context(), carrier.Call{From: from, To: "59825550111", Behaviour: carrier.Behaviour{
			Lines: []media.Source{media.PCMSource("tone", tone, 8000)}, HangsUp: true,
		}})
		done <- r
	}()
	return done
}

// until waits for something to become true.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for !is() {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-limit:
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func (f *floor) connected(t *testing.T) int {
	t.Helper()
	var calls []api.Call
	f.e.ask(t, http.MethodGet, "/calls", nil, &calls)
	n := 0
	for _, c := range calls {
		if c.Phase == "connected" {
			n++
		}
	}
	return n
}

// rows are the rows of a log table that came from facts up to last.
func (e environment) rows(t *testing.T, table string, last uint64) []map[string]any {
	t.Helper()
	var page api.Page[map[string]any]
	e.ask(t, http.MethodGet, "/"+table+"?limit=1000", nil, &page)
	var out []map[string]any
	for _, r := range page.Rows {
		if seq, ok := r["seq"].(float64); ok && uint64(seq) <= last {
			out = append(out, r)
		}
	}
	return out
}

// careStory takes a backup in the middle of a call, restores it elsewhere and
// compares. The urls are of two empty databases; empty = SQLite.
func careStory(t *testing.T, from, to string) {
	t.Helper()
	f := newFloor(t, newEnvironment(t).with("DATABASE_URL", from))
	for i := range 2 {
		if r := <-f.call(t, fmt.Sprintf("5989912345%d", i), 1); !r.Answered {
			t.Fatalf("call %d: %+v", i, r)
		}
	}
	f.call(t, "59899123459", 60)
	until(t, "a call in progress", func() bool { return f.connected(t) == 1 })
	var recordings api.Page[api.RecordingRow]
	until(t, "two recordings", func() bool {
		f.e.ask(t, http.MethodGet, "/recordings", nil, &recordings)
		n := 0
		for _, r := range recordings.Rows {
			if r.FinishedAt != nil {
				n++
			}
		}
		return n == 2
	})

	file := filepath.Join(t.TempDir(), "backup.zip")
	code, out, errs := gateway(t, f.e.vars, "backup", "--recordings", file)
	if code != 0 || !strings.Contains(out, file) {
		t.Fatalf("backup: exit %d, %q, %q", code, out, errs)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	m, err := backup.Verify(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := f.connected(t); n != 1 {
		t.Errorf("%d calls live after the backup", n)
	}
	if code, _, errs := gateway(t, f.e.vars, "backup", file); code != 1 || !strings.Contains(errs, "exists already") {
		t.Errorf("over a file: exit %d, %q", code, errs)
	}
	_, state, _ := gateway(t, f.e.vars, "export")
	want := map[string][]map[string]any{}
	for _, table := range []string{"queue-log", "cdr", "call-quality"} {
		until(t, "rows of "+table, func() bool {
			want[table] = f.e.rows(t, table, m.LastSeq)
			return len(want[table]) > 1
		})
	}
	if code, _, errs := gateway(t, f.e.vars, "restore", file); code != 1 || !strings.Contains(errs, "not empty") {
		t.Errorf("restore over a running gateway: exit %d, %q", code, errs)
	}

	e := newEnvironment(t).with("DATABASE_URL", to)
	if code, out, errs := gateway(t, e.vars, "restore", file); code != 0 || !strings.Contains(out, "restored to "+e.data) {
		t.Fatalf("restore: exit %d, %q, %q", code, out, errs)
	}
	if code, _, errs := gateway(t, e.vars, "restore", file); code != 1 || !strings.Contains(errs, "not empty") {
		t.Errorf("restore twice: exit %d, %q", code, errs)
	}
	p := start(t, e.vars, "serve")
	e.ready(p)
	if _, got, _ := gateway(t, e.vars, "export"); cmp.Diff(state, got) != "" {
		t.Errorf("state: %s", cmp.Diff(state, got))
	}
	for table, rows := range want {
		until(t, "rows of "+table, func() bool { return len(e.rows(t, table, m.LastSeq)) >= len(rows) })
		if d := cmp.Diff(rows, e.rows(t, table, m.LastSeq)); d != "" {
			t.Errorf("%s: %s", table, d)
		}
	}
	// The key came along: ana's password and the trunk's secret still open.
	var s api.Session
	if code := e.ask(t, http.MethodPost, "/sessions", api.SignIn{Username: "ana", Password: "Rio-Negro-58", Phone: true}, &s); code != http.StatusCreated {
		t.Errorf("sign in: %d", code)
	}
	for _, r := range recordings.Rows {
		if r.FinishedAt == nil {
			continue
		}
		if code := e.ask(t, http.MethodGet, "/recordings/"+r.GUID+"/audio", nil, nil); code != http.StatusOK {
			t.Errorf("recording: %d", code)
		}
	}
	if code := p.end(syscall.SIGTERM, 30*time.Second); code != 0 {
		t.Errorf("exit %d", code)
	}
	// A stopped gateway is read from its data.
	stopped := filepath.Join(t.TempDir(), "stopped.zip")
	if code, _, errs := gateway(t, e.vars, "backup", stopped); code != 0 {
		t.Errorf("backup of a stopped gateway: exit %d, %q", code, errs)
	}
	m2, err := backup.Verify(stopped)
	if err != nil || m2.LastSeq <= m.LastSeq {
		t.Errorf("%+v, %v", m2, err)
	}
	for _, entry := range m2.Entries {
		if strings.HasPrefix(entry.Name, "files/recordings/") {
			t.Error("recordings are in it unasked")
		}
	}
}

func TestBackupWhileRunningAndRestoreElsewhere(t *testing.T) { careStory(t, "", "") }

// SIGTERM lets a call go on and refuses new ones; a second one ends now.
func TestSecondSignalEndsNow(t *testing.T) {
	f := newFloor(t, newEnvironment(t))
	live := f.call(t, "59899123456", 60)
	until(t, "a call in progress", func() bool { return f.connected(t) == 1 })
	if err := f.p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(t, "drain", func() bool { return strings.Contains(f.p.log(), `"draining"`) })
	if r := <-f.call(t, "59899123457", 1); r.Answered || r.Cause.Code != 503 {
		t.Errorf("a new call: %+v", r)
	}
	select {
	case r := <-live:
		t.Errorf("the live call ended: %+v", r)
	case <-f.p.exited:
		t.Error("the gateway did not wait for the call")
	case <-time.After(500 * time.Millisecond):
	}
	if code := f.p.end(syscall.SIGTERM, 20*time.Second); code != 0 {
		t.Errorf("exit %d", code)
	}
	select {
	case <-live:
	case <-time.After(5 * time.Second):
		t.Error("the caller was left on the line")
	}
}
