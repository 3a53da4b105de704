package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func compare(t *testing.T, want, got *Config) {
	t.Helper()
	w, err := want.YAML()
	if err != nil {
		t.Fatal(err)
	}
	g, err := got.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(w), string(g)); d != "" {
		t.Fatalf("configurations differ (-want +got):\n%s", d)
	}
}

func TestNoFileMeansTheDefaults(t *testing.T) {
	c, err := Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, Default(), c)
}

func TestDemoIsOnLoopbackOnlyAndValid(t *testing.T) {
	c, err := LoadOver(Demo(), "", []string{"CORDBOARD_SIP_UDP=127.0.0.1:6060"})
	if err != nil {
		t.Fatal(err)
	}
	if c.SIP.UDP != "127.0.0.1:6060" || c.HTTP.URL() != "http://127.0.0.1:8080" {
		t.Fatalf("demo: %q %q", c.SIP.UDP, c.HTTP.URL())
	}
	for _, f := range fields() {
		if v := f.get(c); strings.HasPrefix(v, ":") {
			t.Errorf("%s = %q listens on every address", f.path, v)
		}
	}
}

func TestFileOfTheContractIsRead(t *testing.T) {
	const text = `
data: ./data
http:  {listen: ":8443", tls: {cert: "", key: "", acme: ""}}   # UI, API, events, SIP over WebSocket at /ws
sip:   {udp: ":5060", tcp: ":5060", tls: ":5061", wss: ":8089", realm: cordboard, session_expires: 1800}
turn:  {udp: ":3478", tcp: ":3478", tls: ":5349", realm: cordboard, public_ip: ""}
media: {public_ip: "", webrtc_udp: ":7882", rtp_ports: "10000-20000"}
database: {url: ""}        # empty = SQLite in data; postgres://…
nats:     {url: ""}        # empty = embedded
recordings: {url: ""}      # empty = data/recordings; s3://…
`
	c, err := Parse("cordboard.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	compare(t, Default(), c)
}

func TestEachKeyCanBeSetByFileAndByEnvironment(t *testing.T) {
	values := map[string]string{
		"data": "/srv/cb", "http.listen": "http://127.0.0.1:1234", "http.tls.acme": "voice.example.com", "sip.udp": "192.0.2.1:5070",
		"sip.tcp": "", "sip.tls": ":6061", "sip.wss": ":9089", "sip.realm": "example.com", "sip.session_expires": "90",
		"turn.udp": ":4478", "turn.tcp": "", "turn.tls": "[::1]:6349", "turn.realm": "r", "turn.public_ip": "192.0.2.7",
		"media.public_ip": "2001:db8::1", "media.webrtc_udp": ":8882", "media.rtp_ports": "30000-30100", "media.agent_codec": "g711",
		"database.url": "postgres://u:p@db/cb", "nats.url": "nats://a:4222,tls://b", "recordings.url": "s3://bucket/x", "journal.sync": "always",
		"auth.session_idle": "1h0m0s", "auth.session_max": "800h0m0s", "auth.lock_after": "5", "auth.password_min_length": "12",
		"auth.password_lower": "false", "auth.password_upper": "false", "auth.password_digit": "false", "auth.password_special": "true",
		"log.level": "debug", "log.format": "text", "timezone": "America/Montevideo", "country": "UY", "drain": "5m0s", "reattach": "10s",
	}
	for _, k := range Keys() {
		v, ok := values[k.Path]
		if !ok {
			if k.Path != "http.tls.cert" && k.Path != "http.tls.key" {
				t.Errorf("no case for %s", k.Path)
			}
			continue
		}
		if v == k.Default {
			t.Errorf("%s: the case equals the default", k.Path)
		}
		byEnv, err := Load("", []string{k.Env + "=" + v})
		if err != nil {
			t.Errorf("%s: %v", k.Env, err)
			continue
		}
		text := ""
		for i, part := range strings.Split(k.Path, ".") {
			text += "\n" + strings.Repeat("  ", i) + part + ":"
		}
		byFile, err := Parse("f", []byte(text+" \""+v+"\"\n"))
		if err != nil {
			t.Errorf("%s: %v", k.Path, err)
			continue
		}
		compare(t, byFile, byEnv)
		for _, f := range fields() {
			if f.path == k.Path && f.get(byEnv) != v {
				t.Errorf("%s = %q, want %q", k.Path, f.get(byEnv), v)
			}
		}
	}
}

func TestEveryWrongKeyIsNamedWithLineAndReason(t *testing.T) {
	const text = `data: ""
sip:
  upd: ":5060"
  tcp: 5060
  session_expires: 5
media:
  rtp_ports: 20000-10000
  webrtc_udp: ":10004"
http: {listen: "http://0.0.0.0:80", tls: {cert: x.pem}}
drain: 3 weeks
timezone: Mars/Base
country: XX
drain: 1m
nonsense: {a: 1}
turn: [1, 2]
log: {level: [debug]}
auth: {session_idle: 3h, session_max: 2h}
database: {url: "mysql://root:secret@db/x"}
`
	file := filepath.Join(t.TempDir(), "cordboard.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(file, []string{"CORDBOARD_SIP_UPD=:1", "CORDBOARD_DRAIN=soon", "CORDBOARD_SIP_SERVICE_HOST=10.0.0.1", "CORDBOARD_E2E=1", "HOME=/"})
	var wrong *Error
	if !errors.As(err, &wrong) {
		t.Fatalf("got %v", err)
	}
	want := []string{
		file + ":1: data: must not be empty",
		file + ":3: sip.upd: is not a known key; did you mean sip.udp?",
		file + ":4: sip.tcp: must be an address",
		file + ":5: sip.session_expires: must be seconds",
		file + ":7: media.rtp_ports: must hold 16 ports",
		file + ":8: media.webrtc_udp: lies within media.rtp_ports",
		file + ":9: http.listen: may be plain http:// on a loopback address only",
		file + ":9: http.tls.cert: cannot be set without http.tls.key",
		file + ":10: drain: must be a duration",
		file + ":11: timezone: is not a known time zone",
		file + ":12: country: must be a country code",
		file + ":13: drain: is given twice",
		file + ":14: nonsense: is not a known key",
		file + ":15: turn: must hold keys",
		file + ":16: log.level: must be a single value",
		file + ":17: auth.session_idle: must not be longer",
		file + ":18: database.url: must be empty or a URL",
		"environment: CORDBOARD_SIP_UPD: is not a known variable",
		"environment: CORDBOARD_DRAIN: must be a duration",
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("missing %q", w)
		}
	}
	if len(wrong.Problems) != len(want) {
		t.Errorf("%d problems, want %d:\n%v", len(wrong.Problems), len(want), err)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Error("an error shows a password")
	}
}

func TestTwoListenersOnOnePortAreRefused(t *testing.T) {
	_, err := Parse("f", []byte("sip: {tls: ':5060'}"))
	if err == nil || !strings.Contains(err.Error(), "f:1: sip.tls: takes tcp port 5060, which sip.tcp has already") {
		t.Fatalf("got %v", err)
	}
	if _, err := Parse("f", []byte("sip: {tcp: '', tls: ':5060'}")); err != nil {
		t.Fatalf("a port freed by an empty address: %v", err)
	}
}

func TestFileThatIsNotYAML(t *testing.T) {
	for _, text := range []string{"a: b: c", "\t- x", "just text", "- 1\n- 2", "a: 1\n---\nb: 2", "? [x]\n: 1", strings.Repeat("[", 20000), "&a [*a]"} {
		if _, err := Parse("f", []byte(text)); err == nil {
			t.Errorf("%.20q was taken", text)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	tests := []struct {
		listen, addr, url string
		secure            bool
	}{
		{":8443", ":8443", "https://127.0.0.1:8443", true},
		{"192.0.2.1:443", "192.0.2.1:443", "https://192.0.2.1:443", true},
		{"http://127.0.0.1:8080", "127.0.0.1:8080", "http://127.0.0.1:8080", false},
		{"http://[::1]:8080/", "[::1]:8080", "http://[::1]:8080", false},
		{"", "", "", false},
	}
	for _, tt := range tests {
		h := HTTP{Listen: tt.listen}
		addr, secure := h.Addr()
		if addr != tt.addr || secure != tt.secure || h.URL() != tt.url {
			t.Errorf("%q: %q %v %q", tt.listen, addr, secure, h.URL())
		}
	}
	c := Default()
	c.Timezone = "America/Montevideo"
	if _, off := time.Date(2026, 1, 1, 0, 0, 0, 0, c.Location()).Zone(); off != -3*3600 {
		t.Errorf("offset %d", off)
	}
}

func TestCheckCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	run := func(text string, args ...string) (string, error) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		cmd := CheckCommand()
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		cmd.SetArgs(append([]string{"--config", file}, args...))
		err := cmd.Execute()
		return out.String(), err
	}
	if out, err := run("sip: {udp: ''}"); err != nil || !strings.Contains(out, "is valid") {
		t.Errorf("valid file: %q %v", out, err)
	}
	if out, err := run("sip: {udp: ''}", "--show"); err != nil || !strings.Contains(out, "udp: \"\"") {
		t.Errorf("show: %q %v", out, err)
	}
	if out, err := run("sip: {udq: ''}"); !errors.Is(err, ErrInvalid) || !strings.Contains(out, "c.yaml:1: sip.udq") {
		t.Errorf("wrong key: %q %v", out, err)
	}
}

func FuzzParse(f *testing.F) {
	d, err := Default().YAML()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(d)
	for _, s := range []string{"", "sip: {udp: ':1'}", "a: &x [*x]", "sip:\n  udp: !!binary aGk=\n", "http: {tls: }", "<<: {a: b}", "drain: 1e9", "\xff\xfe", "? a\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if err != nil {
			return
		}
		text, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("f", text)
		if err != nil {
			t.Fatalf("written configuration is refused: %v\n%s", err, text)
		}
		compare(t, c, again)
	})
}
