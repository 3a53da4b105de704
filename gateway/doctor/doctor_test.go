package doctor_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/apply"
	"github.com/cordboard/cordboard/gateway/config"
	"github.com/cordboard/cordboard/gateway/demo/carrier"
	"github.com/cordboard/cordboard/gateway/doctor"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/server"
	"github.com/cordboard/cordboard/gateway/server/porttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testNumber is answered by the carrier with a tone, silentNumber with nothing.
const (
	testNumber   = "59825550999"
	silentNumber = "59825550998"
)

func configuration(t *testing.T) *config.Config {
	t.Helper()
	p := porttest.Addrs(t, 7)
	c := config.Demo()
	c.Data = t.TempDir()
	c.HTTP.Listen = "http://" + p[0]
	c.SIP.UDP, c.SIP.TCP, c.SIP.TLS, c.SIP.WSS = p[1], p[1], p[2], p[3]
	c.TURN.UDP, c.TURN.TCP, c.TURN.TLS = p[4], p[4], p[5]
	c.Media.WebRTCUDP = p[6]
	c.Media.RTPPorts = config.Ports{First: 46000, Last: 46100}
	return c
}

// start runs a gateway with a carrier and returns a client of it.
func start(t *testing.T, c *config.Config) *apply.Client {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := server.New(t.Context(), server.Options{Config: c, Log: log, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	client, err := apply.Dial(apply.Target{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tone := make([]int16, 8000*5)
	for i := range tone {
		tone[i] = int16(8000 * math.Sin(2*math.Pi*440*float64(i)/8000))
	}
	car, err := carrier.New(t.Context(), carrier.Options{
		Log: log, Conn: conn, RTPPorts: [2]uint16{46200, 46300}, Gateway: netip.MustParseAddrPort(c.SIP.UDP),
		Answer: func(number string) carrier.Behaviour {
			if number == testNumber {
				return carrier.Behaviour{Lines: []media.Source{media.PCMSource("tone", tone, 8000)}}
			}
			return carrier.Behaviour{Lines: []media.Source{media.PCMSource("nothing", make([]int16, 8000*20), 8000)}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = car.Close() })
	state, err := apply.Parse("state", []byte(fmt.Sprintf(`
trunks:
  - {name: carrier, address: %q, transport: udp, allow: ["127.0.0.1/32"], codecs: [PCMA], testNumber: %q}
  - {name: mute, address: %q, transport: udp, allow: ["127.0.0.2/32"], codecs: [PCMA], testNumber: %q}
  - {name: gone, address: "127.0.0.1:9", transport: tcp, allow: ["127.0.0.3/32"], codecs: [PCMA], testNumber: "59825550997"}
  - {name: untested, address: %q, transport: udp, allow: ["127.0.0.4/32"], codecs: [PCMA]}
`, car.Addr().String(), testNumber, car.Addr().String(), silentNumber, car.Addr().String())))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Apply(t.Context(), state.State, false, false); err != nil {
		t.Fatal(err)
	}
	return client
}

// findings are what a run reported.
type findings struct {
	mu  sync.Mutex
	all []api.Finding
	out bytes.Buffer
}

func examine(t *testing.T, g doctor.Gateway, noTrunks bool) *findings {
	t.Helper()
	f := &findings{}
	show := doctor.Print(&f.out)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	err := doctor.Run(t.Context(), doctor.Options{Gateway: g, Log: log, NoTrunkCalls: noTrunks, Report: func(x api.Finding) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.all = append(f.all, x)
		show(x)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", f.out.String())
	return f
}

// want finds the one finding whose check begins so.
func (f *findings) want(t *testing.T, check, status, text string) {
	t.Helper()
	for _, x := range f.all {
		if !strings.HasPrefix(x.Check, check) {
			continue
		}
		if x.Status != status || !strings.Contains(x.Detail+" "+x.Cure, text) {
			t.Errorf("%s is %s %q, want %s with %q", x.Check, x.Status, x.Detail, status, text)
		}
		if x.Status != api.FindingOK && x.Cure == "" {
			t.Errorf("%s says not how to mend it", x.Check)
		}
		return
	}
	t.Errorf("nothing was said of %s", check)
}

func TestAllLegsOfAHealthyGateway(t *testing.T) {
	c := configuration(t)
	client := start(t, c)
	f := examine(t, client, false)
	for _, check := range []string{"database", "journal", "log tables", "recordings", "certificate", "media address"} {
		f.want(t, check, api.FindingOK, "")
	}
	for _, key := range []string{"http.listen", "sip.udp", "sip.tcp", "sip.tls", "sip.wss", "turn.udp", "turn.tcp", "turn.tls"} {
		f.want(t, key+" at 127.0.0.1", api.FindingOK, "answers")
	}
	f.want(t, "registration at wss://"+c.SIP.WSS, api.FindingOK, "")
	f.want(t, "call, direct media", api.FindingOK, "tone came back")
	for _, relay := range []string{"turn:" + c.TURN.UDP + "?transport=udp", "turn:" + c.TURN.TCP + "?transport=tcp", "turns:" + c.TURN.TLS} {
		f.want(t, "call, relayed by "+relay, api.FindingOK, "tone came back")
	}
	f.want(t, "call to the test number of carrier", api.FindingOK, "is heard")
	f.want(t, "call to the test number of mute", api.FindingWarn, "nothing was heard")
	f.want(t, "call to the test number of gone", api.FindingFail, "failed")
	for _, x := range f.all {
		if strings.HasPrefix(x.Check, "call") && strings.Contains(x.Check, "untested") {
			t.Error("a trunk without test number was called")
		}
	}
	// Nothing of the test phone is left: the next run has a new one.
	e, err := client.Examine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(f.out.String(), e.SIP.Username) {
		t.Error("the phone's name is printed")
	}
	if err := client.EndExamination(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
}

// broken is a gateway whose answer to the doctor is changed.
type broken struct {
	doctor.Gateway

	change func(*api.Examination)
	ended  bool
}

func (b *broken) Examine(ctx context.Context) (api.Examination, error) {
	e, err := b.Gateway.Examine(ctx)
	b.change(&e)
	return e, err
}

func (b *broken) EndExamination(ctx context.Context, id string) error {
	b.ended = true
	return b.Gateway.EndExamination(ctx, id)
}

func TestWhatIsBrokenIsNamed(t *testing.T) {
	client := start(t, configuration(t))
	dead := porttest.Addrs(t, 1)[0]
	b := &broken{Gateway: client, change: func(e *api.Examination) {
		e.Listeners = []api.Listener{
			{Key: "sip.tls", Protocol: "sip-tls", Address: dead},
			{Key: "turn.tcp", Protocol: "stun-tcp", Address: dead},
			{Key: "turn.udp", Protocol: "stun-udp", Address: e.Listeners[1].Address}, // SIP answers there, or nobody
		}
		turn := e.ICEServers[0]
		wrong := turn
		wrong.Credential = "wrong"
		nobody := turn
		nobody.URLs = []string{"turn:" + dead + "?transport=tcp"}
		e.ICEServers = []api.ICE{wrong, nobody}
		e.Now = e.Now.Add(-time.Hour)
	}}
	f := examine(t, b, true)
	f.want(t, "clocks", api.FindingWarn, "1h0m0s")
	f.want(t, "sip.tls", api.FindingFail, "sip.tls as you want it")
	f.want(t, "turn.tcp", api.FindingFail, "nothing listens there")
	f.want(t, "turn.udp", api.FindingFail, "")
	f.want(t, "call, direct media", api.FindingOK, "")
	for _, x := range f.all {
		if strings.HasPrefix(x.Check, "call, relayed") && x.Status != api.FindingFail {
			t.Errorf("%s is %s: %s", x.Check, x.Status, x.Detail)
		}
		if strings.HasPrefix(x.Check, "call to") {
			t.Error("a trunk was called against the wish")
		}
	}
	if !b.ended {
		t.Error("the test phone was left behind")
	}

	b.change = func(e *api.Examination) { e.SIP.Password = "wrong"; e.Listeners = nil }
	f = examine(t, b, true)
	f.want(t, "registration", api.FindingFail, "")
	f.want(t, "calls", api.FindingWarn, "registration")

	b.change = func(e *api.Examination) { e.SIP.URLs, e.ICEServers, e.Listeners = nil, nil, nil }
	f = examine(t, b, true)
	f.want(t, "phones", api.FindingFail, "sip.wss")
}

// A certificate that has expired: the gateway says so, and no phone connects.
func TestExpiredCertificate(t *testing.T) {
	c := configuration(t)
	c.HTTP.TLS.Cert, c.HTTP.TLS.Key = expired(t)
	f := examine(t, start(t, c), true)
	f.want(t, "certificate", api.FindingFail, "expired")
	f.want(t, "sip.wss", api.FindingFail, "certificate")
	f.want(t, "registration", api.FindingFail, "certificate")
}

func expired(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, &tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// unreachable is a gateway that is not there.
type unreachable struct{}

func (unreachable) Server() string   { return "https://127.0.0.1:1" }
func (unreachable) TLS() *tls.Config { return &tls.Config{} }
func (unreachable) Examine(context.Context) (api.Examination, error) {
	return api.Examination{}, errors.New("reach the gateway: connection refused")
}
func (unreachable) EndExamination(context.Context, string) error { return nil }

func TestNoGatewayIsOneFinding(t *testing.T) {
	cmd := doctor.Command(&apply.Flags{}, func() (doctor.Gateway, error) { return unreachable{}, nil })
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs([]string{})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if err := cmd.ExecuteContext(t.Context()); !errors.Is(err, doctor.ErrFound) {
		t.Errorf("error %v", err)
	}
	if got := out.String(); !strings.HasPrefix(got, "FAIL  gateway: reach the gateway") || strings.Count(got, "FAIL") != 1 || !strings.Contains(got, "→ start it") {
		t.Errorf("printed %q", got)
	}
}
