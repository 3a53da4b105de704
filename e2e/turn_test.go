//go:build e2e && linux

package e2e_test

import (
	"context"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cordboard/cordboard/e2e/harness"
	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/event"
)

// echoPeer is coturn's peer, which sends back what comes.
func echoPeer(t *testing.T, addr string, port int) {
	t.Helper()
	p := harness.Run(t, nil, harness.Need(t, "turnutils_peer"), "-L", addr, "-p", strconv.Itoa(port))
	c, err := net.Dial("udp4", net.JoinHostPort(addr, strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	harness.Until(t, harness.Patience, "turnutils_peer answers", func() bool {
		if p.Exited(0) {
			t.Fatal("turnutils_peer ended")
		}
		_, _ = c.Write([]byte("x"))
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, err := c.Read(make([]byte, 10))
		return err == nil
	})
}

// uclient runs coturn's client and returns what it sent and what came back.
func uclient(t *testing.T, patience time.Duration, server, peer string, peerPort int, ice api.ICE, args ...string) (sent, got int) {
	t.Helper()
	_, port, err := net.SplitHostPort(server)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	all := append([]string{
		"-c", "-u", ice.Username, "-w", ice.Credential, "-p", port, "-e", peer, "-r", strconv.Itoa(peerPort),
		"-L", "127.0.0.1", "-m", "2", "-n", "20", "-l", "172",
	}, args...)
	out, _ := exec.CommandContext(ctx, harness.Need(t, "turnutils_uclient"), append(all, "127.0.0.1")...).CombinedOutput()
	m := regexp.MustCompile(`tot_send_msgs=(\d+), tot_recv_msgs=(\d+)`).FindAllSubmatch(out, -1)
	if len(m) == 0 {
		return 0, 0
	}
	last := m[len(m)-1]
	sent, _ = strconv.Atoi(string(last[1]))
	got, _ = strconv.Atoi(string(last[2]))
	return sent, got
}

// TestTURN: coturn's client relays with the credentials of a session over UDP,
// TCP and TLS to the gateway's own media ports, and to nothing else; the
// credentials end with the session. A phone that may use nothing but TURN is
// heard and hears.
func TestTURN(t *testing.T) {
	t.Parallel()
	g := harness.Start(t, harness.Options{State: openTrunk + users("ana") + queueOf("record: true, wrapUpSeconds: 0", "ana")})
	ana := g.SignIn(t, signIn("ana"))
	var ice api.ICE
	for _, s := range ana.Session.ICEServers {
		if s.Username != "" {
			ice = s
		}
	}
	if len(ice.URLs) != 3 || !strings.HasPrefix(ice.URLs[2], "turns:") {
		t.Fatalf("servers of the session: %+v", ana.Session.ICEServers)
	}
	inside, outside := g.RTP[1]-3, g.Port(t)
	echoPeer(t, "127.0.0.1", inside)
	echoPeer(t, "127.0.0.1", outside)
	echoPeer(t, "127.0.0.2", inside)
	for _, c := range []struct {
		name, server, peer string
		port               int
		args               []string
		relays             bool
	}{
		{"our media over udp", g.TURNUDP, "127.0.0.1", inside, nil, true},
		{"our media over udp by indication", g.TURNUDP, "127.0.0.1", inside, []string{"-s"}, true},
		{"our media over tcp", g.TURNTCP, "127.0.0.1", inside, []string{"-t"}, true},
		{"our media over tls", g.TURNTLS, "127.0.0.1", inside, []string{"-t", "-S"}, true},
		{"another port", g.TURNUDP, "127.0.0.1", outside, nil, false},
		{"another port by indication", g.TURNUDP, "127.0.0.1", outside, []string{"-s"}, false},
		{"another address", g.TURNUDP, "127.0.0.2", inside, []string{"-s"}, false},
		{"another port over tls", g.TURNTLS, "127.0.0.1", outside, []string{"-t", "-S"}, false},
	} {
		patience := 15 * time.Second
		if !c.relays {
			patience = 2 * time.Second // it would try on
		}
		sent, got := uclient(t, patience, c.server, c.peer, c.port, ice, c.args...)
		if c.relays && (sent != 40 || got != 40) {
			t.Errorf("%s: %d sent, %d came back", c.name, sent, got)
		}
		if !c.relays && got != 0 {
			t.Errorf("%s: %d of %d came back", c.name, got, sent)
		}
	}
	ana.Do(t, http.MethodDelete, "/sessions/current", nil, nil)
	if sent, got := uclient(t, 2*time.Second, g.TURNUDP, "127.0.0.1", inside, ice); got != 0 {
		t.Errorf("after the session: %d of %d came back", got, sent)
	}

	o := answering(t, "ana")
	o.Args = append(o.Args, "--turn-only")
	phone := g.Phone(t, o)
	phone.Next(t, "registered")
	who := customerOf(t, g, customer)
	call(t, g, who, did)
	phone.Next(t, "answered")
	on, _ := harness.Fact[event.QueueConnected](t, g.Facts(t), 0, nil)
	wait(t, 2500*time.Millisecond)
	who.Do(t, "hangup", "")
	phone.Next(t, "ended")
	phone.Close(t)
	harness.Hear(t, o.Record).WantTone(t, "agent hears the customer through TURN", 0, customerHz, 1500*time.Millisecond)
	who.Heard(t).WantTone(t, "customer hears the agent through TURN", 0, agentHz, 1500*time.Millisecond)
	_, rec := g.Recording(t, on.CallID, "wav")
	rec.WantTone(t, "recording, agent on the right", 1, agentHz, 1500*time.Millisecond)
}
