//go:build e2e && linux

package faults

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cordboard/cordboard/e2e/harness"
	"github.com/cordboard/cordboard/gateway/api"
)

// TestMain removes what was built. The tests wait more than they work (SIP
// transactions linger for 32 s), so that a few more than there are processors
// run side by side.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() == f.DefValue {
		if err := f.Value.Set(strconv.Itoa(runtime.GOMAXPROCS(0) + 2)); err != nil {
			panic(err)
		}
	}
	os.Exit(harness.Main(m))
}

// rig is a gateway that is going to be broken.
type rig struct {
	*harness.Gateway

	t    *testing.T
	http *http.Client
	// crashed counts apps that were killed in a call: the relay address of
	// each lives on to the end of its lifetime, ten minutes (RFC 8656 section 7).
	crashed int
}

// newRig starts a gateway with the usual state for n agents; config is added to
// its configuration.
func newRig(t *testing.T, n int, change func(*company), config ...string) *rig {
	t.Helper()
	return newRigIn(t, "", n, change, config...)
}

// newRigIn is newRig with a data folder.
func newRigIn(t *testing.T, dir string, n int, change func(*company), config ...string) *rig {
	t.Helper()
	r := &rig{t: t, http: &http.Client{
		Timeout:   20 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}}
	t.Cleanup(r.http.CloseIdleConnections)
	c := company{agents: n, ring: 15, retry: 1}
	if change != nil {
		change(&c)
	}
	r.Gateway = harness.Start(t, harness.Options{Dir: dir, Config: strings.Join(config, "\n"), State: c.state()})
	return r
}

// company is the state that the tests need: agents a1, a2… with an extension
// and a desk phone each, one queue, and a trunk at 127.0.0.1.
type company struct {
	agents int
	ring   int // seconds
	retry  int // seconds
	record bool
}

const (
	did      = "59825550111"
	queue    = "Support<-"
	password = "Rio-Negro-58"
	secret   = "a-Secret-Only-For-Desk-Phones"
)

func (c company) state() string {
	var b strings.Builder
	b.WriteString("trunks:\n  - {name: carrier, address: \"127.0.0.1:5999\", transport: udp, allow: [\"127.0.0.1/32\"], codecs: [PCMA, PCMU], maxChannels: 1000}\nusers:\n")
	for i := 1; i <= c.agents; i++ {
		fmt.Fprintf(&b, "  - {username: a%d, fullName: Agent %d, extension: %q, password: %q, roles: [agent], devices: [{name: desk, secret: %q}]}\n",
			i, i, extension(i), password, secret)
	}
	fmt.Fprintf(&b, "campaigns:\n  - {name: %q, channel: voice, direction: inbound, did: [%q], strategy: leastrecent, ringSeconds: %d, retrySeconds: %d, wrapUpSeconds: 0, serviceLevelSeconds: 20, record: %v, noAnswerPause: 0, schedule: [\"sun-sat;00:00-23:59\"], members: [",
		queue, did, c.ring, c.retry, c.record)
	for i := 1; i <= c.agents; i++ {
		fmt.Fprintf(&b, "{user: a%d}, ", i)
	}
	b.WriteString("]}\n")
	return b.String()
}

func extension(i int) string { return strconv.Itoa(2100 + i) }

func user(i int) string { return fmt.Sprintf("a%d", i) }

// metrics reads /metrics: name with labels to value.
func (r *rig) metrics() map[string]float64 {
	r.t.Helper()
	res, err := r.http.Get(r.URL() + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if v, err := strconv.ParseFloat(line[i+1:], 64); err == nil {
			out[line[:i]] = v
		}
	}
	return out
}

// leftovers is what an idle gateway keeps for itself.
type leftovers struct {
	goroutines float64
	ports      int // open UDP sockets of the media range
	files      int
}

func (r *rig) idle() leftovers {
	r.t.Helper()
	return leftovers{goroutines: r.metrics()["go_goroutines"], ports: r.openRTP(), files: r.openFiles()}
}

// openRTP counts sockets bound to the gateway's RTP ports, as the kernel sees it.
func (r *rig) openRTP() int {
	b, err := os.ReadFile("/proc/net/udp")
	if err != nil {
		r.t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		_, hex, ok := strings.Cut(f[1], ":")
		if !ok {
			continue
		}
		if port, err := strconv.ParseInt(hex, 16, 32); err == nil && int(port) >= r.RTP[0] && int(port) <= r.RTP[1] {
			n++
		}
	}
	return n
}

func (r *rig) openFiles() int {
	ents, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.Process().PID()))
	if err != nil {
		return -1
	}
	return len(ents)
}

// nothingLeft asserts that the gateway is as idle as it was before, and that
// nothing had to be repaired.
func (r *rig) nothingLeft(before leftovers) {
	r.t.Helper()
	var m map[string]float64
	var now leftovers
	calm := func() bool {
		m = r.metrics()
		now = leftovers{goroutines: m["go_goroutines"], ports: r.openRTP(), files: r.openFiles()}
		for _, name := range []string{
			"cordboard_calls", "cordboard_queue_entries", `cordboard_trunk_channels{trunk="carrier"}`,
			"cordboard_facts_waiting", "cordboard_log_tables_behind",
		} {
			if v, ok := m[name]; !ok || v != 0 {
				return false
			}
		}
		return m["cordboard_turn_allocations"] <= float64(r.crashed) && now.ports <= before.ports &&
			now.goroutines <= before.goroutines+10+float64(2*r.crashed) && now.files <= before.files+6+r.crashed
	}
	for end := time.Now().Add(45 * time.Second); !calm(); { // SIP transactions linger for 32 s
		if time.Now().After(end) {
			r.t.Errorf("left behind: before %+v, now %+v, metrics %v", before, now, ours(m))
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	for name, v := range m {
		for _, bad := range []string{"cordboard_repairs_total", "cordboard_facts_lost_total", "cordboard_facts_failed_total", "cordboard_log_tables_poisoned_total"} {
			if strings.HasPrefix(name, bad) && v > 0 {
				r.t.Errorf("%s is %v", name, v)
			}
		}
	}
}

func ours(m map[string]float64) map[string]float64 {
	out := map[string]float64{}
	for k, v := range m {
		if strings.HasPrefix(k, "cordboard_") {
			out[k] = v
		}
	}
	return out
}

// apiEvent is what a viewer of /api/v1/events gets.
type apiEvent = api.Event

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// run runs a command of the gateway's program.
func (r *rig) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(harness.Program(t, "gateway"), args...).Output()
	if err != nil {
		t.Fatalf("gateway %v: %v", args, err)
	}
	return string(out)
}

// tryApply applies a state that may be wrong.
func (r *rig) tryApply(t *testing.T, state string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "state.yaml")
	if err := os.WriteFile(file, []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(harness.Program(t, "gateway"), "apply", "--config", r.Config, "-f", file).CombinedOutput()
	return string(out), err
}

// token is the admin token of the present start.
func (r *rig) token(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(r.Dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
