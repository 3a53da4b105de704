//go:build e2e

package turn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// selfSigned is a certificate for a test's TLS listener.
func selfSigned(tb testing.TB) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// turnutilsPeer starts coturn's echo peer on a port of its own.
func turnutilsPeer(tb testing.TB) uint16 {
	tb.Helper()
	path := tool(tb, "turnutils_peer")
	probe := loopback(tb)
	p := port(probe.LocalAddr())
	_ = probe.Close()
	cmd := exec.Command(path, "-L", "127.0.0.1", "-p", strconv.Itoa(int(p)))
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	conn := loopback(tb)
	buf := make([]byte, 100)
	eventually(tb, "turnutils_peer does not answer", func() bool {
		_, _ = conn.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(p)})
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, _, err := conn.ReadFrom(buf)
		return err == nil
	})
	return p
}

// uclient runs coturn's client and returns what it sent and got back.
func uclient(tb testing.TB, patience time.Duration, server, peer uint16, pass string, args ...string) (sent, got int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	all := append([]string{"-c", "-u", testUser, "-w", pass, "-p", strconv.Itoa(int(server)), "-e", "127.0.0.1", "-r", strconv.Itoa(int(peer)), "-L", "127.0.0.1"}, args...)
	out, _ := exec.CommandContext(ctx, tool(tb, "turnutils_uclient"), append(all, "127.0.0.1")...).CombinedOutput()
	m := regexp.MustCompile(`tot_send_msgs=(\d+), tot_recv_msgs=(\d+)`).FindAllSubmatch(out, -1)
	tb.Logf("%s", out)
	if len(m) == 0 {
		return 0, 0
	}
	last := m[len(m)-1]
	sent, _ = strconv.Atoi(string(last[1]))
	got, _ = strconv.Atoi(string(last[2]))
	return sent, got
}

// TestCoturnClient: coturn's client relays over UDP, TCP and TLS, by channel
// and by indication, to our media and nowhere else.
func TestCoturnClient(t *testing.T) {
	media, elsewhere := turnutilsPeer(t), turnutilsPeer(t)
	for elsewhere == media+1 || media == elsewhere+1 {
		elsewhere = turnutilsPeer(t)
	}
	w := newWorld(t, func(o *Options) {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o.TLS = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, MinVersion: tls.VersionTLS12})
		// The client also binds a channel to the next port, as for RTCP.
		o.PeerPorts = []PortRange{{media, media + 1}}
		o.Limits.Quota = 100
	})
	udp, tcp, secure := port(w.udp.LocalAddr()), port(w.o.TCP.Addr()), port(w.o.TLS.Addr())
	for _, c := range []struct {
		name   string
		server uint16
		peer   uint16
		pass   string
		args   []string
		relays bool
	}{
		{"udp channel", udp, media, testPass, nil, true},
		{"udp indications", udp, media, testPass, []string{"-s"}, true},
		{"tcp channel", tcp, media, testPass, []string{"-t"}, true},
		{"tcp indications", tcp, media, testPass, []string{"-t", "-s"}, true},
		{"tls channel", secure, media, testPass, []string{"-t", "-S"}, true},
		{"another port by channel", udp, elsewhere, testPass, nil, false},
		{"another port by indication", udp, elsewhere, testPass, []string{"-s"}, false},
		{"another port over tcp", tcp, elsewhere, testPass, []string{"-t"}, false},
		{"wrong password", udp, media, "wrong", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := w.Stats()
			patience := 12 * time.Second
			if !c.relays {
				patience = 3 * time.Second // it would try on
			}
			sent, got := uclient(t, patience, c.server, c.peer, c.pass, append(c.args, "-m", "5", "-n", "20", "-l", "172")...)
			after := w.Stats()
			if c.relays && (sent != 100 || got != 100) {
				t.Fatalf("%d sent, %d came back", sent, got)
			}
			if !c.relays && got != 0 {
				t.Fatalf("%d of %d came back", got, sent)
			}
			if !c.relays && after.ToPeerPackets != before.ToPeerPackets {
				t.Fatalf("%d packets were relayed", after.ToPeerPackets-before.ToPeerPackets)
			}
			if c.relays || c.pass != testPass || after.PeerRefused > before.PeerRefused {
				return
			}
			// On a busy machine the client may not have come to sending yet.
			if _, got := uclient(t, 4*patience, c.server, c.peer, c.pass, append(c.args, "-m", "5", "-n", "20", "-l", "172")...); got != 0 || w.Stats().PeerRefused == before.PeerRefused {
				t.Fatalf("%d came back, or the refusal was not counted", got)
			}
		})
	}
}
