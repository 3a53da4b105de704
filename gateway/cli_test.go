package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordboard/cordboard/gateway/server/porttest"
)

// asGateway makes the test binary be the gateway.
const asGateway = "GATEWAY_TEST_AS_GATEWAY"

func TestMain(m *testing.M) {
	if os.Getenv(asGateway) != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// process is a gateway command that runs.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  chan string // of standard output
	exited chan struct{}

	mu     sync.Mutex
	stderr bytes.Buffer
}

// Write takes the log.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.Write(b)
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

func command(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), exe, args...)
	cmd.Env = append([]string{asGateway + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	return cmd
}

// gateway runs a command to its end.
func gateway(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := command(t, env, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// start runs a command in the background.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: command(t, env, args...), lines: make(chan string, 1000), exited: make(chan struct{})}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		sc := bufio.NewScanner(out)
		for sc.Scan() {
			select {
			case p.lines <- sc.Text():
			default:
			}
		}
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("%s\n%.8000s", strings.Join(args, " "), p.log())
		}
	})
	return p
}

// signal sends one and waits for the end.
func (p *process) end(sig syscall.Signal, within time.Duration) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	return p.wait(within)
}

func (p *process) wait(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		p.t.Fatalf("still runs after %v", within)
	}
	return p.cmd.ProcessState.ExitCode()
}

// line waits for a line of standard output that contains text.
func (p *process) line(text string, within time.Duration) string {
	p.t.Helper()
	limit := time.After(within)
	for {
		select {
		case l := <-p.lines:
			if strings.Contains(l, text) {
				return l
			}
		case <-p.exited:
			p.t.Fatalf("ended with exit code %d before it said %q", p.cmd.ProcessState.ExitCode(), text)
		case <-limit:
			p.t.Fatalf("did not say %q within %v", text, within)
		}
	}
}

// environment is that of a gateway on free ports of loopback.
type environment struct {
	data, http string
	vars       []string
}

func newEnvironment(t *testing.T) environment {
	t.Helper()
	addrs := porttest.Addrs(t, 7)
	e := environment{data: filepath.Join(t.TempDir(), "data"), http: "http://" + addrs[0]}
	for k, v := range map[string]string{
		"DATA": e.data, "HTTP_LISTEN": e.http, "SIP_UDP": addrs[1], "SIP_TCP": addrs[1], "SIP_TLS": addrs[2], "SIP_WSS": addrs[3],
		"TURN_UDP": addrs[4], "TURN_TCP": addrs[4], "TURN_TLS": addrs[5], "MEDIA_WEBRTC_UDP": addrs[6],
		"MEDIA_PUBLIC_IP": "127.0.0.1", "MEDIA_RTP_PORTS": "47000-47400",
	} {
		e.vars = append(e.vars, "CORDBOARD_"+k+"="+v)
	}
	return e
}

// ready waits until the gateway takes calls.
func (e environment) ready(p *process) {
	p.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		res, err := http.Get(e.http + "/readyz")
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-p.exited:
			p.t.Fatalf("ended: %s", p.log())
		case <-limit:
			p.t.Fatal("not ready in time")
		}
	}
}

func TestWrongUsageIsExitCode2(t *testing.T) {
	tests := []struct {
		name string
		args []string
		says string
	}{
		{"no command", nil, "Available Commands"},
		{"unknown command", []string{"nonsense"}, `unknown command "nonsense"`},
		{"unknown flag", []string{"serve", "--nope"}, "unknown flag: --nope"},
		{"too many words", []string{"version", "1"}, `unknown command "1"`},
		{"no file", []string{"backup"}, "needs FILE"},
		{"no state", []string{"apply"}, `"file" not set`},
		{"log format", []string{"serve", "--log", "xml"}, `--log "xml"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errs := gateway(t, nil, tt.args...)
			if code != 2 || !strings.Contains(errs, tt.says) || out != "" {
				t.Errorf("exit %d, said %q and %q", code, out, errs)
			}
		})
	}
	for _, args := range [][]string{{"version"}, {"--help"}, {"help", "serve"}, {"doctor", "--help"}} {
		if code, out, errs := gateway(t, nil, args...); code != 0 || out == "" || errs != "" {
			t.Errorf("%v: exit %d, said %q and %q", args, code, out, errs)
		}
	}
}

func TestEachWrongKeyIsNamedWithItsLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "broken.yaml")
	if err := os.WriteFile(file, []byte("sip:\n  upd: \":5060\"\n  udp: \"99999\"\nturn: [1]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"serve"}, {"check"}, {"apply", "-f", "-"}, {"export"}, {"backup", "x"}, {"restore", "x"}} {
		code, _, errs := gateway(t, []string{"CORDBOARD_DRAIN=banana", "CORDBOARD_SIP_UPD=1"}, append(args, "--config", file)...)
		for _, want := range []string{
			file + ":2: sip.upd: is not a known key; did you mean sip.udp?", file + ":3: sip.udp: must be an address",
			file + ":4: turn: must hold keys", "environment: CORDBOARD_DRAIN: must be a duration", "environment: CORDBOARD_SIP_UPD: is not a known",
		} {
			if !strings.Contains(errs, want) {
				t.Errorf("%v does not say %q but %q", args, want, errs)
			}
		}
		if code != 1 || strings.Count(errs, "\n") != 5 {
			t.Errorf("%v: exit %d, %q", args, code, errs)
		}
	}
	if code, _, errs := gateway(t, nil, "serve", "--config", file+".none"); code != 1 || !strings.Contains(errs, "no such file") {
		t.Errorf("exit %d, %q", code, errs)
	}
}

// The first administrator is made by a link that works once.
func TestSetUpLinkWorksOnce(t *testing.T) {
	e := newEnvironment(t)
	p := start(t, e.vars, "serve", "--log", "text")
	link := strings.TrimSpace(p.line("/#/setup?token=", 30*time.Second))
	kept := filepath.Join(e.data, "setup-link")
	st, err := os.Stat(kept)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("kept link: %v, %v", st, err)
	}
	e.ready(p)
	_, token, _ := strings.Cut(link, "token=")
	setUp := func(user string) int {
		body := fmt.Sprintf(`{"token":%q,"username":%q,"password":"Rio-Negro-58-x"}`, token, user)
		res, err := http.Post(e.http+"/api/v1/setup", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		return res.StatusCode
	}
	if code := setUp("first"); code != http.StatusCreated {
		t.Fatalf("first: %d", code)
	}
	if code := setUp("second"); code != http.StatusForbidden {
		t.Errorf("second: %d", code)
	}
	if _, err := os.Stat(kept); err == nil {
		t.Error("the link is still kept")
	}
	if code := p.end(syscall.SIGTERM, 20*time.Second); code != 0 {
		t.Errorf("exit %d", code)
	}
	if log := p.log(); strings.Contains(log, token) || !strings.Contains(log, `msg="gateway ready"`) {
		t.Errorf("log %q", log)
	}
	// The next start knows its administrator.
	p = start(t, e.vars, "serve")
	e.ready(p)
	if code := p.end(syscall.SIGINT, 20*time.Second); code != 0 {
		t.Errorf("exit %d", code)
	}
	select {
	case l := <-p.lines:
		t.Errorf("printed %q", l)
	default:
	}
	var line struct{ Level, Msg string }
	first, _, _ := strings.Cut(p.log(), "\n")
	if err := json.Unmarshal([]byte(first), &line); err != nil || line.Msg == "" {
		t.Errorf("log is not JSON: %q", first)
	}
}

func TestWhatStandsInTheWayIsNamed(t *testing.T) {
	e := newEnvironment(t)
	e.ready(start(t, e.vars, "serve"))

	code, _, errs := gateway(t, e.vars, "serve")
	if code != 1 || !strings.Contains(errs, "another gateway runs with the data folder "+e.data) {
		t.Errorf("same data: exit %d, %q", code, errs)
	}
	other := newEnvironment(t)
	for _, key := range []string{"SIP_UDP", "SIP_WSS", "TURN_TLS", "MEDIA_WEBRTC_UDP", "HTTP_LISTEN"} {
		value := ""
		for _, v := range e.vars {
			if a, ok := strings.CutPrefix(v, "CORDBOARD_"+key+"="); ok {
				value = a
			}
		}
		name := strings.ToLower(strings.Replace(key, "_", ".", 1))
		code, _, errs := gateway(t, append(slices.Clip(other.vars), "CORDBOARD_"+key+"="+value), "serve")
		if code != 1 || !strings.Contains(errs, name+": ") || !strings.Contains(errs, strings.TrimPrefix(value, "http://")) || !strings.Contains(errs, "in use") {
			t.Errorf("%s: exit %d, %q", name, code, errs)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs = gateway(t, append(slices.Clip(other.vars), "CORDBOARD_DATA="+filepath.Join(file, "data")), "serve")
	if code != 1 || !strings.Contains(errs, "data folder") || !strings.Contains(errs, file) {
		t.Errorf("no folder: exit %d, %q", code, errs)
	}
}

// export and apply see what the other did; a stopped gateway is said to be one.
func TestStateThereAndBack(t *testing.T) {
	e := newEnvironment(t)
	if code, _, errs := gateway(t, e.vars, "export"); code != 1 || !strings.Contains(errs, "is the gateway running") {
		t.Errorf("exit %d, %q", code, errs)
	}
	if code, out, _ := gateway(t, e.vars, "doctor"); code != 1 || !strings.HasPrefix(out, "FAIL  gateway: ") {
		t.Errorf("exit %d, %q", code, out)
	}
	e.ready(start(t, e.vars, "serve"))
	state := filepath.Join(t.TempDir(), "state.yaml")
	if err := os.WriteFile(state, []byte(stateText), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := gateway(t, e.vars, "apply", "-f", state, "--dry-run"); code != 0 || !strings.Contains(out, "ana") {
		t.Errorf("dry run: exit %d, %q, %q", code, out, errs)
	}
	if code, out, _ := gateway(t, e.vars, "export"); code != 0 || strings.Contains(out, "ana") {
		t.Errorf("a dry run changed something: exit %d, %q", code, out)
	}
	if code, _, errs := gateway(t, e.vars, "apply", "-f", state); code != 0 {
		t.Fatalf("apply: exit %d, %q", code, errs)
	}
	code, out, _ := gateway(t, e.vars, "export")
	if code != 0 || !strings.Contains(out, "ana") || strings.Contains(out, "Rio-Negro") {
		t.Errorf("export: exit %d, %q", code, out)
	}
	again := filepath.Join(t.TempDir(), "again.yaml")
	if err := os.WriteFile(again, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := gateway(t, e.vars, "apply", "-f", again, "--prune"); code != 0 || strings.Contains(out, "ana") {
		t.Errorf("what was exported changes something: exit %d, %q, %q", code, out, errs)
	}
	if _, twice, _ := gateway(t, e.vars, "export"); cmp.Diff(out, twice) != "" {
		t.Error(cmp.Diff(out, twice))
	}
}

const stateText = `
users:
  - {username: ana, fullName: Ana Example, extension: "2101", password: "Rio-Negro-58", roles: [agent], language: es}
campaigns:
  - {name: "Support<-", channel: voice, direction: inbound, did: ["59825550111"], strategy: leastrecent, members: [{user: ana, penalty: 0}]}
`
