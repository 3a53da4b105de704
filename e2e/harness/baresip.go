//go:build e2e && linux

package harness

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// modules is where Debian's baresip-core has its modules.
const modules = "/usr/lib/baresip/modules"

// BaresipOptions of one baresip with one account.
type BaresipOptions struct {
	// Account is the line of its accounts file.
	Account string
	// Play is a WAV file of 8 kHz mono that its microphone hears.
	Play string
	// CA is trusted for TLS.
	CA string
	// Modules are loaded beside the usual ones (srtp).
	Modules []string
}

// BaresipEvent is what baresip tells on its control connection.
type BaresipEvent struct {
	Event    bool   `json:"event"`
	Type     string `json:"type"`
	Class    string `json:"class"`
	PeerURI  string `json:"peeruri"`
	Param    string `json:"param"`
	Response bool   `json:"response"`
	OK       bool   `json:"ok"`
	Data     string `json:"data"`
	Token    string `json:"token"`
}

// Baresip is a running baresip that is steered by its control connection.
type Baresip struct {
	*Process

	Dir, URI string

	conn   net.Conn
	events *Log[BaresipEvent]
	seen   int
	token  int
}

// Baresip starts a baresip on free ports of 127.0.0.1 which records what it
// says and what it hears.
func (g *Gateway) Baresip(tb testing.TB, o BaresipOptions) *Baresip {
	tb.Helper()
	path := Need(tb, "baresip")
	b := &Baresip{Dir: tb.TempDir(), events: NewLog[BaresipEvent]()}
	control, sip, media := g.Port(tb), g.Port(tb), g.RTPPort(tb)
	_ = g.RTPPort(tb) // baresip takes its ports at random from a range
	_ = g.RTPPort(tb)
	var c strings.Builder
	fmt.Fprintf(&c, "poll_method epoll\nsip_listen 127.0.0.1:%d\nrtp_ports %d-%d\nctrl_tcp_listen 127.0.0.1:%d\n", sip, media, media+6, control)
	fmt.Fprintf(&c, "net_interface 127.0.0.1\ncall_max_calls 4\naudio_source aufile,%s\naudio_player aubridge,player\naudio_alert aubridge,alert\nsnd_path %s\n", o.Play, b.Dir)
	fmt.Fprintf(&c, "ausrc_srate 8000\nauplay_srate 8000\nausrc_channels 1\nauplay_channels 1\nausrc_format s16\nauplay_format s16\nringback_disabled yes\n")
	if o.CA != "" {
		fmt.Fprintf(&c, "sip_cafile %s\n", o.CA)
	}
	fmt.Fprintf(&c, "module_path %s\n", modules)
	for _, m := range append([]string{"g711", "aubridge", "aufile", "sndfile"}, o.Modules...) {
		fmt.Fprintf(&c, "module %s.so\n", m)
	}
	for _, m := range []string{"account", "contact", "ctrl_tcp", "menu"} {
		fmt.Fprintf(&c, "module_app %s.so\n", m)
	}
	write(tb, filepath.Join(b.Dir, "config"), c.String())
	write(tb, filepath.Join(b.Dir, "accounts"), o.Account+"\n")
	write(tb, filepath.Join(b.Dir, "contacts"), "")
	b.URI = "sip:127.0.0.1:" + strconv.Itoa(sip)
	b.Process = Run(tb, nil, path, "-f", b.Dir, "-v")
	Until(tb, Patience, "baresip listens", func() bool {
		var err error
		b.conn, err = net.Dial("tcp4", "127.0.0.1:"+strconv.Itoa(control)) //nolint:noctx // local
		return err == nil
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.read()
	}()
	tb.Cleanup(func() {
		_ = b.conn.Close()
		<-done
		if tb.Failed() {
			for _, e := range b.events.All() {
				tb.Logf("baresip: %+v", e)
			}
		}
	})
	return b
}

// read takes netstrings: LENGTH:JSON,.
func (b *Baresip) read() {
	r := bufio.NewReader(b.conn)
	for {
		head, err := r.ReadString(':')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(head, ":"))
		if err != nil || n < 0 || n > 1<<20 {
			return
		}
		body := make([]byte, n+1)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		var e BaresipEvent
		if json.Unmarshal(body[:n], &e) == nil {
			b.events.Add(e)
		}
	}
}

// Do gives a command (dial, accept, hangup, hold, resume, sndcode) and waits
// for its answer.
func (b *Baresip) Do(tb testing.TB, command, params string) {
	tb.Helper()
	b.token++
	token := strconv.Itoa(b.token)
	msg, err := json.Marshal(map[string]string{"command": command, "params": params, "token": token})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := fmt.Fprintf(b.conn, "%d:%s,", len(msg), msg); err != nil {
		tb.Fatal(err)
	}
	e, ok := b.events.Wait(tb.Context(), Patience, 0, func(e BaresipEvent) bool { return e.Response && e.Token == token })
	if !ok || !e.OK {
		tb.Fatalf("baresip %s %s: %+v", command, params, e)
	}
}

// Next waits for the next event of a type, such as CALL_ESTABLISHED.
func (b *Baresip) Next(tb testing.TB, kind string) BaresipEvent {
	tb.Helper()
	i := b.seen - 1
	e, ok := b.events.Wait(tb.Context(), Patience, b.seen, func(e BaresipEvent) bool {
		i++
		return e.Type == kind
	})
	if !ok {
		tb.Fatalf("baresip did not say %s", kind)
	}
	b.seen = i + 1
	return e
}

// errNoDump says that baresip has written no file of what it heard.
var errNoDump = errors.New("baresip has recorded nothing")

// Heard ends baresip and returns everything that it heard.
func (b *Baresip) Heard(tb testing.TB) *Audio {
	tb.Helper()
	b.Do(tb, "quit", "")
	if !b.Exited(10 * time.Second) {
		tb.Fatal("baresip does not quit")
	}
	files, err := filepath.Glob(filepath.Join(b.Dir, "dump-*-dec.wav"))
	if err != nil || len(files) == 0 {
		entries, _ := os.ReadDir(b.Dir)
		tb.Fatal(errors.Join(errNoDump, err), entries)
	}
	all := Hear(tb, files[0]) // a hold begins a new file
	for _, f := range files[1:] {
		all.Channels[0] = append(all.Channels[0], Hear(tb, f).Channels[0]...)
	}
	return all
}
