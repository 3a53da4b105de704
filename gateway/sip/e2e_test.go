//go:build e2e

package sip_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
)

// sipp runs a scenario of testdata until its calls are done.
func sipp(t *testing.T, scenario string, args ...string) func() {
	t.Helper()
	bin, err := exec.LookPath("sipp")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("sipp is missing")
		}
		t.Skip("sipp is missing")
	}
	file, err := filepath.Abs("testdata/" + scenario + ".xml")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	cmd := exec.CommandContext(ctx, bin, append([]string{"-sf", file, "-i", "127.0.0.1", "-timeout", "50s", "-timeout_error", "-trace_err"}, args...)...)
	cmd.Dir = t.TempDir()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	return func() {
		t.Helper()
		defer cancel()
		if err := <-done; err != nil {
			logs, _ := filepath.Glob(cmd.Dir + "/*errors.log")
			for _, l := range logs {
				b, _ := os.ReadFile(l)
				t.Logf("%.3000s", b)
			}
			t.Fatalf("%s: %v", scenario, err)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	pc, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pc.Close() }()
	return int(netip.MustParseAddrPort(pc.LocalAddr().String()).Port())
}

// answering is a handler that answers every call and counts their ends.
func answering(t *testing.T, answer bool, ended chan string) *handler {
	t.Helper()
	return &handler{invite: func(d *sip.Dialog) {
		rec := newRecorder(t)
		d.Accept(rec)
		_ = d.Provisional(180, nil)
		if answer {
			_ = d.Answer([]byte(sdpA))
		}
		go func() {
			for e := range rec.ch {
				if len(e) > 5 && e[:5] == "ended" {
					ended <- e
					return
				}
			}
		}()
	}}
}

func TestSippCallsUs(t *testing.T) {
	for _, tt := range []struct {
		scenario, want string
		answer         bool
		calls, rate    int
	}{
		{"uac-invite-expect-200", "ended normal 200 remote", true, 400, 130},
		{"uac-invite-cancel-expect-487", "ended cancelled 487 remote", false, 50, 50},
		{"uac-reinvite-expect-200", "ended normal 200 remote", true, 50, 50},
		{"uac-invite-no-ack-expect-bye", "ended noAck 408 local", true, 1, 1},
	} {
		for _, transport := range []string{"u1", "t1"} {
			if transport == "t1" && tt.calls == 1 {
				continue // sipp takes a repeated 200 on TCP for an error
			}
			t.Run(tt.scenario+" "+transport, func(t *testing.T) {
				ended := make(chan string, 1000)
				ep := newEndpoint(t, answering(t, tt.answer, ended), func(o *sip.Options) {
					if tt.want == "ended noAck 408 local" {
						o.T1 = 50 * time.Millisecond
					}
				})
				addr := ep.udp(t)
				if transport == "t1" {
					addr = ep.tcp(t)
				}
				sipp(t, tt.scenario, "-t", transport, "-m", strconv.Itoa(tt.calls), "-r", strconv.Itoa(tt.rate), "-p", strconv.Itoa(freePort(t)), addr.String())()
				for range tt.calls {
					select {
					case got := <-ended:
						if got != tt.want {
							t.Fatal(got)
						}
					case <-time.After(5 * time.Second):
						t.Fatal("a call did not end")
					}
				}
				if n := ep.Dialogs(); n != 0 {
					t.Fatalf("%d dialogs left", n)
				}
			})
		}
	}
}

func TestWeCallSipp(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) { weCallSipp(t, transport) })
	}
}

func weCallSipp(t *testing.T, transport string) {
	t.Helper()
	ep := newEndpoint(t, &handler{})
	ep.udp(t)
	call := func(port int) (*sip.Dialog, *recorder) {
		rec := newRecorder(t)
		var err error
		for range 50 { // sipp needs a moment to listen on TCP
			var d *sip.Dialog
			d, err = ep.Invite(t.Context(), sip.Invite{
				URI: mustURI("sip:x@127.0.0.1:" + strconv.Itoa(port)), Transport: transport,
				From: sip.Address{URI: mustURI("sip:a@127.0.0.1")}, SDP: []byte(sdpA),
			}, rec)
			if err == nil {
				return d, rec
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Fatal(err)
		return nil, nil
	}
	mode := map[string]string{"udp": "u1", "tcp": "t1"}[transport]

	port := freePort(t)
	wait := sipp(t, "uas-ring-often-answer-expect-bye", "-t", mode, "-m", "1", "-p", strconv.Itoa(port))
	d, rec := call(port)
	for range 12 { // more than ten 18x, and none may be lost or mixed up
		rec.want("progress 180 -")
	}
	rec.want("answered b")
	_ = d.Hangup(sip.Cause{})
	rec.want("ended normal 200 local")
	wait()

	port = freePort(t)
	wait = sipp(t, "uas-silent-then-ring-expect-cancel", "-t", mode, "-m", "1", "-p", strconv.Itoa(port))
	d, rec = call(port)
	_ = d.Hangup(sip.Cause{}) // before any response
	rec.want("ended cancelled 487 local")
	wait()

	port = freePort(t)
	wait = sipp(t, "uas-answer-then-bye", "-t", mode, "-m", "1", "-p", strconv.Itoa(port))
	_, rec = call(port)
	rec.want("progress 180 -", "answered b", "ended normal 200 remote")
	wait()
}
