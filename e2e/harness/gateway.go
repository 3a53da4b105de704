//go:build e2e && linux

package harness

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Options of a gateway.
type Options struct {
	// Dir is the data folder; empty = one of the test's own.
	Dir string
	// Config is added to the configuration file: whole top-level keys that the
	// harness does not write (database, nats, auth, drain, timezone, country…).
	Config string
	// AgentCodec is media.agent_codec; empty = auto.
	AgentCodec string
	// Env are more variables of the gateway's environment.
	Env []string
	// State is applied once the gateway is ready; ${PORT…} is not expanded.
	State string
}

// Addresses are where a gateway listens, as host:port.
type Addresses struct {
	HTTP, UDP, TCP, TLS, WSS, TURNUDP, TURNTCP, TURNTLS, WebRTC string
	// RTP is the range of the trunks' media ports.
	RTP [2]int
}

// Gateway is a running gateway.
type Gateway struct {
	Addresses

	// Dir is its data folder, Config its configuration file.
	Dir, Config string

	o       Options
	base    string // of the API
	block   *block
	process *Process
	http    *http.Client
	facts   *Facts
}

// Start runs `gateway serve` until the end of the test and waits until it is
// ready.
func Start(tb testing.TB, o Options) *Gateway {
	tb.Helper()
	g := &Gateway{Dir: o.Dir, o: o, block: newBlock(tb)}
	if g.Dir == "" {
		g.Dir = filepath.Join(tb.TempDir(), "data")
	}
	g.Config = filepath.Join(tb.TempDir(), "cordboard.yaml")
	g.Addresses = addresses(tb, g.block)
	g.base = "https://" + g.HTTP
	codec := o.AgentCodec
	if codec == "" {
		codec = "auto"
	}
	text := fmt.Sprintf(`data: %q
http:  {listen: %q}
sip:   {udp: %q, tcp: %q, tls: %q, wss: %q}
turn:  {udp: %q, tcp: %q, tls: %q, public_ip: 127.0.0.1}
media: {public_ip: 127.0.0.1, webrtc_udp: %q, rtp_ports: "%d-%d", agent_codec: %s}
%s
`, g.Dir, g.HTTP, g.UDP, g.TCP, g.TLS, g.WSS, g.TURNUDP, g.TURNTCP, g.TURNTLS, g.WebRTC, g.RTP[0], g.RTP[1], codec, o.Config)
	write(tb, g.Config, text)
	g.start(tb)
	if o.State != "" {
		g.Apply(tb, o.State)
	}
	return g
}

func addresses(tb testing.TB, b *block) Addresses {
	tb.Helper()
	at := func() string { return fmt.Sprintf("127.0.0.1:%d", b.take(tb)) }
	return Addresses{
		HTTP: at(), UDP: at(), TCP: at(), TLS: at(), WSS: at(), TURNUDP: at(), TURNTCP: at(), TURNTLS: at(), WebRTC: at(),
		RTP: [2]int{b.base + peerPorts, b.base + blockSize - 1},
	}
}

func write(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}

func (g *Gateway) start(tb testing.TB) {
	tb.Helper()
	g.process = RunIn(tb, "", g.o.Env, nil, Program(tb, "gateway"), "serve", "--config", g.Config)
	g.ready(tb)
}

// StartDemo runs `gateway demo` until the end of the test and waits for its
// last start-up line.
func StartDemo(tb testing.TB) *Gateway {
	tb.Helper()
	g := &Gateway{Dir: filepath.Join(tb.TempDir(), "data"), block: newBlock(tb)}
	g.Addresses = addresses(tb, g.block)
	g.base = "http://" + g.HTTP
	env := []string{"CORDBOARD_HTTP_LISTEN=" + g.base, fmt.Sprintf("CORDBOARD_MEDIA_RTP_PORTS=%d-%d", g.RTP[0], g.RTP[1])}
	for k, v := range map[string]string{
		"SIP_UDP": g.UDP, "SIP_TCP": g.TCP, "SIP_TLS": g.TLS, "SIP_WSS": g.WSS,
		"TURN_UDP": g.TURNUDP, "TURN_TCP": g.TURNTCP, "TURN_TLS": g.TURNTLS, "MEDIA_WEBRTC_UDP": g.WebRTC,
	} {
		env = append(env, "CORDBOARD_"+k+"="+v)
	}
	g.process = RunIn(tb, "", env, nil, Program(tb, "gateway"), "demo", "--data", g.Dir)
	if _, ok := g.process.lines.Wait(tb.Context(), 2*Patience, 0, func(s string) bool { return s == "ready" }); !ok {
		tb.Fatalf("the demo does not start:\n%s", g.process.Tail(20))
	}
	g.ready(tb)
	return g
}

func (g *Gateway) ready(tb testing.TB) {
	tb.Helper()
	Until(tb, 2*Patience, "the gateway is ready", func() bool {
		if g.process.Exited(0) {
			tb.Fatalf("the gateway ended:\n%s", g.process.Tail(20))
		}
		if g.http == nil && g.trust() != nil {
			return false
		}
		res, err := g.http.Get(g.URL() + "/readyz") //nolint:noctx // has a timeout
		if err != nil {
			return false
		}
		return res.Body.Close() == nil && res.StatusCode == http.StatusOK
	})
}

// trust makes the HTTP client that trusts the gateway's own certificate.
func (g *Gateway) trust() error {
	pem, err := os.ReadFile(g.CA())
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return os.ErrNotExist
	}
	g.http = &http.Client{
		Timeout:   20 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
	}
	return nil
}

// URL is the address of the API: https://127.0.0.1:PORT, of a demo with http.
func (g *Gateway) URL() string { return g.base }

// CA is the file with the gateway's certificate.
func (g *Gateway) CA() string { return filepath.Join(g.Dir, "tls", "cert.pem") }

// Log returns the end of the gateway's log.
func (g *Gateway) Log() string { return g.process.Tail(200) }

// Process is the gateway's process: its PID changes with Restart.
func (g *Gateway) Process() *Process { return g.process }

// Port takes a free port for a peer, for UDP and TCP on 127.0.0.1.
func (g *Gateway) Port(tb testing.TB) int {
	tb.Helper()
	return g.block.take(tb)
}

// RTPPort takes an even port whose successor is free too.
func (g *Gateway) RTPPort(tb testing.TB) int {
	tb.Helper()
	return g.block.takeEven(tb)
}

// Kill ends the gateway as a power failure would.
func (g *Gateway) Kill(tb testing.TB) {
	tb.Helper()
	g.process.Signal(syscall.SIGKILL)
	g.process.Wait(tb, Patience)
}

// Stop asks the gateway to end and returns its exit code.
func (g *Gateway) Stop(tb testing.TB) int {
	tb.Helper()
	g.process.Signal(syscall.SIGTERM)
	return g.process.Wait(tb, Patience)
}

// Restart starts the gateway again with the same data, ports and
// configuration, after Kill or Stop.
func (g *Gateway) Restart(tb testing.TB) {
	tb.Helper()
	g.start(tb)
}

// Apply runs `gateway apply` with a state file and returns what it printed.
func (g *Gateway) Apply(tb testing.TB, state string) string {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "state.yaml")
	write(tb, file, state)
	cmd := exec.CommandContext(tb.Context(), Program(tb, "gateway"), "apply", "--config", g.Config, "-f", file) //nolint:gosec // our own program
	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("gateway apply: %v\n%s", err, out)
	}
	return string(out)
}

// admin reads the admin token of the present start.
func (g *Gateway) admin() (string, error) {
	b, err := os.ReadFile(filepath.Join(g.Dir, "admin.token"))
	if err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
