//go:build e2e

package turn

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The load of the goal: 100 clients, 50 packets of 20 ms G.711 a second each
// way, over channels.
const (
	loadClients  = 100
	loadInterval = 20 * time.Millisecond
	loadPayload  = 172
)

// TestServerProcess is not a test: it is the server under load, in a process
// of its own so that its CPU time is its own.
func TestServerProcess(t *testing.T) {
	peer := os.Getenv("TURN_LOAD_PEER")
	if peer == "" {
		t.Skip("only as child of the load test")
	}
	a, err := netip.ParseAddrPort(peer)
	if err != nil {
		t.Fatal(err)
	}
	udp := loopback(t)
	s, err := New(Options{
		Realm: testRealm, UDP: udp,
		Key:   func(string) ([]byte, bool) { return Key(testUser, testRealm, testPass), true },
		Relay: a.Addr(), PeerAddr: a.Addr(), PeerPorts: []PortRange{{a.Port(), a.Port()}},
		Limits: Limits{Quota: 1000, RatePerAddr: 1e6, Burst: 1e6},
	})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(os.Stderr, "listening %s\n", udp.LocalAddr())
	if name := os.Getenv("TURN_LOAD_PROFILE"); name != "" {
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		defer pprof.StopCPUProfile()
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	_ = s.Close()
}

// serverUnderLoad is a TURN server in a process of its own.
type serverUnderLoad struct {
	pid  int
	addr string
}

func ourServer(tb testing.TB, peer string) serverUnderLoad {
	tb.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServerProcess$")
	cmd.Env = append(os.Environ(), "TURN_LOAD_PEER="+peer)
	out, err := cmd.StderrPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if a, ok := strings.CutPrefix(lines.Text(), "listening "); ok {
			return serverUnderLoad{cmd.Process.Pid, a}
		}
	}
	tb.Fatal("server did not start")
	return serverUnderLoad{}
}

func coturn(tb testing.TB) serverUnderLoad {
	tb.Helper()
	path := tool(tb, "turnserver")
	dir := tb.TempDir()
	probe := loopback(tb)
	p := port(probe.LocalAddr())
	_ = probe.Close()
	cmd := exec.Command(path, "-n", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp", "-L", "127.0.0.1", "-E", "127.0.0.1",
		"-p", strconv.Itoa(int(p)), "--lt-cred-mech", "-u", testUser+":"+testPass, "-r", testRealm,
		"--allow-loopback-peers", "--log-file", filepath.Join(dir, "log"), "--pidfile", filepath.Join(dir, "pid"),
		"--userdb", filepath.Join(dir, "db"), "--min-port", "40000", "--max-port", "59999", "--simple-log")
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	addr := fmt.Sprintf("127.0.0.1:%d", p)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		conn, err := net.Dial("udp", addr)
		if err != nil {
			tb.Fatal(err)
		}
		_, _ = conn.Write(binding())
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, err = conn.Read(make([]byte, 500))
		_ = conn.Close()
		if err == nil {
			return serverUnderLoad{cmd.Process.Pid, addr}
		}
		time.Sleep(50 * time.Millisecond)
	}
	tb.Fatal("coturn did not start")
	return serverUnderLoad{}
}

// tool finds a peer's program: without it the test is skipped, but fails in CI.
func tool(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			tb.Fatal(err)
		}
		tb.Skip(err)
	}
	return path
}

// cpu is the CPU time that a process has used, from its own accounting.
func cpu(tb testing.TB, pid int) time.Duration {
	tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		tb.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var ticks int64
	for _, i := range []int{11, 12} { // utime, stime
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			tb.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// echo answers every packet, as our media would.
func echo(tb testing.TB) *net.UDPConn {
	tb.Helper()
	conn := loopback(tb)
	_ = conn.SetReadBuffer(8 << 20)
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	return conn
}

// load runs the goal's load for d and returns the packets relayed, those lost
// and the server's CPU time meanwhile.
func load(tb testing.TB, s serverUnderLoad, peer *net.UDPConn, d time.Duration) (packets, lost uint64, used time.Duration) {
	tb.Helper()
	clients := make([]*raw, loadClients)
	for i := range clients {
		conn, err := net.Dial("udp", s.addr)
		if err != nil {
			tb.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		c := &raw{tb: tb, conn: conn}
		c.allocate(testUser, 0)
		a := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port(peer.LocalAddr()))}
		if code := c.request(methodChannelBind, testUser, channelNo(0x4000), peerAddress{a}); code != 0 {
			tb.Fatalf("channel bind: %d", code)
		}
		clients[i] = c
		_ = conn.SetReadDeadline(time.Time{})
	}
	var sent, got atomic.Uint64
	var wg, readers sync.WaitGroup
	for i, c := range clients {
		conn := c.conn
		readers.Go(func() {
			buf := make([]byte, 2048)
			for {
				n, err := conn.Read(buf)
				if err != nil {
					return
				}
				if n >= channelHead+loadPayload {
					got.Add(1)
				}
			}
		})
		wg.Go(func() {
			b := make([]byte, channelHead+loadPayload)
			binary.BigEndian.PutUint16(b, 0x4000)
			binary.BigEndian.PutUint16(b[2:], loadPayload)
			time.Sleep(loadInterval * time.Duration(i) / loadClients)
			tick := time.NewTicker(loadInterval)
			defer tick.Stop()
			for range int(d / loadInterval) {
				<-tick.C
				if _, err := conn.Write(b); err == nil {
					sent.Add(1)
				}
			}
		})
	}
	before := cpu(tb, s.pid)
	wg.Wait()
	for end := time.Now().Add(time.Second); time.Now().Before(end) && got.Load() < sent.Load(); {
		time.Sleep(5 * time.Millisecond)
	}
	used = cpu(tb, s.pid) - before
	for _, c := range clients {
		_ = c.conn.SetReadDeadline(time.Now())
	}
	readers.Wait()
	for _, c := range clients {
		if code := c.request(methodRefresh, testUser, lifetime(0)); code != 0 {
			tb.Fatalf("give back: %d", code)
		}
	}
	return sent.Load() + got.Load(), sent.Load() - got.Load(), used
}

// BenchmarkRelay compares the CPU per relayed packet with coturn's, in
// alternated rounds.
func BenchmarkRelay(b *testing.B) {
	peer := echo(b)
	servers := []struct {
		name string
		serverUnderLoad
	}{{"cordboard", ourServer(b, peer.LocalAddr().String())}, {"coturn", coturn(b)}}
	var per [2]float64
	for b.Loop() {
		for i, s := range servers {
			packets, lost, used := load(b, s.serverUnderLoad, peer, 5*time.Second)
			us := float64(used.Microseconds()) / float64(packets)
			per[i] += us
			b.Logf("%s: %d packets, %d lost, %v CPU, %.2f µs per packet", s.name, packets, lost, used, us)
			b.ReportMetric(float64(lost), s.name+"-lost")
		}
	}
	for i, s := range servers {
		b.ReportMetric(per[i]/float64(b.N), s.name+"-µs/packet")
	}
	b.ReportMetric(per[0]/per[1], "ratio")
}
