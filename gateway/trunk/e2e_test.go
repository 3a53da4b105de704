//go:build e2e

package trunk

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
)

// sipp starts a carrier with a scenario and returns its address.
func sipp(tb testing.TB, scenario ...string) string {
	tb.Helper()
	path, err := exec.LookPath("sipp")
	if err != nil {
		if os.Getenv("CI") == "true" {
			tb.Fatal(err)
		}
		tb.Skip(err)
	}
	probe, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	addr := netip.MustParseAddrPort(probe.LocalAddr().String())
	_ = probe.Close()
	cmd := exec.Command(path, append(scenario, "-i", "127.0.0.1", "-p", fmt.Sprint(addr.Port()), "-nostdin", "-aa")...)
	cmd.Dir = tb.TempDir()
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return addr.String()
}

// call is one attempt at a carrier.
type call struct {
	sip.NoEvents
	answered chan struct{}
	ended    chan sip.Cause
}

func (c *call) Answered([]byte)     { close(c.answered) }
func (c *call) Ended(why sip.Cause) { c.ended <- why }

// TestSippCarriers: the first carrier says 503, the second takes the call; and
// keep-alive sees both.
func TestSippCarriers(t *testing.T) {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	full := sipp(t, "-sf", dir+"/testdata/uas-invite-503.xml")
	good := sipp(t, "-sn", "uas")
	e := newEdge(t, Timing{KeepAlive: 200 * time.Millisecond, Timeout: time.Second})
	e.set(t,
		Trunk{Name: "full", Address: full},
		Trunk{Name: "good", Address: good, Priority: 1},
	)
	eventually(t, "carriers do not come up", func() bool {
		s := e.trunks.Status()
		return s[0].State == StateUp && s[1].State == StateUp && s[0].RTT > 0
	})
	var took string
	for _, l := range e.trunks.Route("") {
		release, err := l.Acquire()
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		inv := l.Invite("18885550100", "59825550111")
		inv.SDP = []byte("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 8\r\n")
		c := &call{answered: make(chan struct{}), ended: make(chan sip.Cause, 1)}
		d, err := e.Endpoint.Invite(t.Context(), inv, c)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-c.answered:
			took = l.Name()
			if err := d.Hangup(sip.Cause{Code: 200}); err != nil {
				t.Error(err)
			}
			<-c.ended
		case why := <-c.ended:
			if why.Code != 503 || l.Name() != "full" || !FailsOver(why.Code) {
				t.Fatalf("%s: %+v", l.Name(), why)
			}
			continue
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: nothing happens", l.Name())
		}
		break
	}
	if took != "good" {
		t.Fatalf("taken by %q", took)
	}
}
