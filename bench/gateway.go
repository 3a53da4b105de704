package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/apply"
)

const (
	realm    = "cordboard"
	password = "Rio-Negro-58" //nolint:gosec // of users that live as long as a measurement
	secret   = "only-for-a-bench"
	device   = "desk"

	didPlain    = "59825550111" // not recorded
	didRecorded = "59825550112"
)

// Source addresses tell the trunks apart.
const (
	hostTrunk  = "127.0.0.2" // plain RTP
	hostSDES   = "127.0.0.3"
	hostPhones = "127.0.0.1"
)

// build makes the program that is measured as a release has it.
func (b *bench) build(ctx context.Context) error {
	b.gateway = "bin/gateway"
	//nolint:gosec // constant but for the name of our own output
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.gateway, "./gateway")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the gateway: %w\n%s", err, out)
	}
	return nil
}

// gateway is a gateway in a process of its own.
type gateway struct {
	cmd   *exec.Cmd
	pid   int
	data  string
	log   string
	http  string
	wss   string
	sip   netip.AddrPort
	turn  string
	rest  *http.Client
	tls   *tls.Config
	apply *apply.Client
	done  chan struct{}
	ended sync.Once
}

// ports picks n free UDP and TCP ports; somebody else could take one before
// the gateway does, and then its start fails.
func ports(ctx context.Context, n int) ([]int, error) {
	var lc net.ListenConfig
	out := make([]int, 0, n)
	for len(out) < n {
		l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a port: %w", err)
		}
		defer func() { _ = l.Close() }()
		a, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			return nil, errProc
		}
		pc, err := lc.ListenPacket(ctx, "udp", a.String())
		if err != nil {
			continue
		}
		defer func() { _ = pc.Close() }()
		out = append(out, a.Port)
	}
	return out, nil
}

// start runs a gateway on a data folder, new or used before. settings are
// further lines of the configuration.
func (b *bench) start(ctx context.Context, name string, settings ...string) (*gateway, error) {
	p, err := ports(ctx, 6)
	if err != nil {
		return nil, err
	}
	g := &gateway{
		data: filepath.Join(b.dir, name), log: filepath.Join(b.dir, name+".log"),
		http: fmt.Sprintf("http://127.0.0.1:%d", p[0]), wss: fmt.Sprintf("wss://127.0.0.1:%d/ws", p[2]),
		sip:  netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(p[1])),
		turn: fmt.Sprintf("127.0.0.1:%d", p[3]), done: make(chan struct{}),
		rest: &http.Client{Timeout: time.Minute},
	}
	conf := []string{
		"data: " + g.data,
		fmt.Sprintf("http: {listen: %q}", g.http),
		fmt.Sprintf(`sip: {udp: "127.0.0.1:%d", tcp: "", tls: "", wss: "127.0.0.1:%d", realm: %s}`, p[1], p[2], realm),
		fmt.Sprintf(`turn: {udp: "127.0.0.1:%d", tcp: "", tls: ""}`, p[3]),
	}
	media := []string{fmt.Sprintf(`public_ip: 127.0.0.1, webrtc_udp: "127.0.0.1:%d", rtp_ports: "12000-29999"`, p[4])}
	for _, s := range settings {
		if v, ok := strings.CutPrefix(s, "media."); ok {
			media = append(media, v)
			continue
		}
		conf = append(conf, s)
	}
	conf = append(conf, "media: {"+strings.Join(media, ", ")+"}", "")
	file := filepath.Join(b.dir, name+".yaml")
	if err := os.WriteFile(file, []byte(strings.Join(conf, "\n")), 0o600); err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	program, args := b.gateway, []string{"serve", "--config", file}
	if b.profiles != "" {
		if program, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		args = []string{profiledCommand, file, filepath.Join(b.profiles, name)}
	}
	log, err := os.OpenFile(g.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	defer func() { _ = log.Close() }()
	g.cmd = exec.Command(program, args...) //nolint:gosec,noctx // our own program; stop ends it
	g.cmd.Stderr = log
	if err := g.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the gateway: %w", err)
	}
	g.pid = g.cmd.Process.Pid
	go func() {
		defer close(g.done)
		_ = g.cmd.Wait()
	}()
	if err := g.ready(ctx); err != nil {
		return nil, errors.Join(err, g.stop())
	}
	return g, nil
}

func (g *gateway) ready(ctx context.Context) error {
	err := until(ctx, 30*time.Second, "the gateway is ready", func() bool {
		select {
		case <-g.done:
			return true
		default:
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.http+"/readyz", http.NoBody)
		if err != nil {
			return false
		}
		res, err := g.rest.Do(req)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	select {
	case <-g.done:
		tail, _ := os.ReadFile(g.log)
		return fmt.Errorf("%w: %s", errEnded, last(tail, 500))
	default:
	}
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(filepath.Join(g.data, apply.SelfSignedFile))
	if err != nil {
		return fmt.Errorf("read the certificate: %w", err)
	}
	pool.AppendCertsFromPEM(pem)
	g.tls = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	g.apply, err = apply.Dial(apply.Target{Server: g.http, TokenFile: filepath.Join(g.data, "admin.token")})
	return err
}

var errEnded = errors.New("the gateway ended")

func last(b []byte, n int) string {
	if len(b) > n {
		b = b[len(b)-n:]
	}
	return string(b)
}

// stop ends the gateway, at once if it has calls left.
func (g *gateway) stop() error {
	g.ended.Do(func() {
		for range 2 { // the second signal ends a drain
			_ = g.cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-g.done:
				return
			case <-time.After(3 * time.Second):
			}
		}
		select {
		case <-g.done:
		case <-time.After(15 * time.Second):
			_ = g.cmd.Process.Kill()
			<-g.done
		}
	})
	return nil
}

// username and extension of the i-th agent.
func username(i int) string  { return fmt.Sprintf("agent%04d", i) }
func extension(i int) string { return fmt.Sprintf("2%05d", i) }

// state is a contact centre of n agents.
func state(n int) api.State {
	at := func(s string) *string { return &s }
	num := func(n int) *int { return &n }
	yes, no := true, false
	var s api.State
	for _, t := range []struct{ name, host, srtp string }{{"plain", hostTrunk, "off"}, {"sdes", hostSDES, "sdes"}} {
		s.Trunks = append(s.Trunks, api.Trunk{
			Name: t.name, Address: at(t.host + ":5999"), Transport: at("udp"), Allow: &[]string{t.host + "/32"},
			Codecs: &[]string{"PCMU", "PCMA"}, SRTP: at(t.srtp), MaxChannels: num(0),
		})
	}
	members := make([]api.Member, 0, n)
	for i := range n {
		s.Users = append(s.Users, api.User{
			Username: username(i), FullName: at(username(i)), Extension: at(extension(i)), Roles: &[]string{"agent"},
			Password: at(password), MustChangePassword: &no, Devices: &[]api.Device{{Name: device, Secret: at(secret)}},
		})
		members = append(members, api.Member{User: username(i)})
	}
	for _, c := range []struct {
		name, did string
		record    *bool
	}{{"Plain<-", didPlain, &no}, {"Recorded<-", didRecorded, &yes}} {
		s.Campaigns = append(s.Campaigns, api.Campaign{
			Name: c.name, Channel: at("voice"), Direction: at("inbound"), DID: &[]string{c.did}, Strategy: at("leastrecent"),
			RingSeconds: num(30), RetrySeconds: num(1), WrapUpSeconds: num(0), MaxWaitSeconds: num(0), NoAnswerPause: num(0),
			JoinEmpty: &yes, Record: c.record, Members: &members,
		})
	}
	return s
}

// signIn makes an agent available with the desk phone, or with a phone of the
// session, whose credentials are then told.
func (g *gateway) signIn(ctx context.Context, i int, app bool) (api.Session, error) {
	in := api.SignIn{Username: username(i), Password: password, Phone: app}
	if !app {
		in.Device = device
	}
	var s api.Session
	body, err := json.Marshal(in) //nolint:gosec // a sign-in carries a password
	if err != nil {
		return s, fmt.Errorf("sign in: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.http+"/api/v1/sessions", bytes.NewReader(body))
	if err != nil {
		return s, fmt.Errorf("sign in: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := g.rest.Do(req)
	if err != nil {
		return s, fmt.Errorf("sign in: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return s, fmt.Errorf("sign in: %w", err)
	}
	if res.StatusCode != http.StatusCreated {
		return s, fmt.Errorf("sign in %s: %w: %s", in.Username, errRefused, raw)
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("sign in: %w", err)
	}
	return s, nil
}

var errRefused = errors.New("refused")

// idle is the CPU share that the gateway uses with nothing to do.
func (g *gateway) idle(ctx context.Context, d time.Duration) (float64, error) {
	m, err := measure(g.pid)
	if err != nil {
		return 0, err
	}
	if err := wait(ctx, d); err != nil {
		return 0, err
	}
	used, took, err := m.read()
	return float64(used) / float64(took), err
}
