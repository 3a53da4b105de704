//go:build e2e

package media

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pion/srtp/v3"
	"github.com/pion/webrtc/v4"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/gateway/media/sdp"
)

const loadSeconds = 10

// loadLeg is what the generator must know of one leg.
type loadLeg struct {
	To   netip.AddrPort
	Port int
	SDES bool // keys of zeros
}

// loadResult is what the generator saw.
type loadResult struct {
	Sent, Received int
	DelayP50       time.Duration
	DelayP99       time.Duration
}

// TestLoadGenerator is the other process of TestCallMinute: it talks on every
// leg and measures what comes out of the leg's partner.
func TestLoadGenerator(t *testing.T) {
	plan := os.Getenv("CORDBOARD_MEDIA_LOAD")
	if plan == "" {
		t.Skip("started by TestCallMinute")
	}
	var legs []loadLeg
	if err := json.Unmarshal([]byte(plan), &legs); err != nil {
		t.Fatal(err)
	}
	conns := make([]*net.UDPConn, len(legs))
	seals := make([]*cipher, len(legs))
	for i, l := range legs {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: l.Port})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		conns[i] = c
		if l.SDES {
			if seals[i], err = newCipher(make([]byte, 16), make([]byte, 14), srtp.ProtectionProfileAes128CmHmacSha1_80); err != nil {
				t.Fatal(err)
			}
		}
	}
	var mu sync.Mutex
	var res loadResult
	var delays []time.Duration
	var wg sync.WaitGroup
	start := time.Now()
	for i, c := range conns {
		wg.Go(func() { // the listener
			buf := make([]byte, maxPacket)
			for {
				n, _, err := c.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				now := time.Since(start)
				b := buf[:n]
				mu.Lock()
				if !isRTCP(b) {
					res.Received++
					if !legs[i].SDES && n >= rtpHeaderSize+8 && b[rtpHeaderSize] == 0x55 { // ours, not silence
						var at uint64
						for _, x := range b[rtpHeaderSize+1 : rtpHeaderSize+8] {
							at = at<<8 | uint64(x)
						}
						delays = append(delays, now-time.Duration(at))
					}
				}
				mu.Unlock()
			}
		})
	}
	buf := make([]byte, maxPacket)
	for n := range loadSeconds * 50 {
		time.Sleep(time.Until(start.Add(time.Duration(n) * codec.FrameDuration)))
		for i, c := range conns {
			if i%10 == 9 { // spread a little: phones do not march in step
				time.Sleep(time.Until(start.Add(time.Duration(n)*codec.FrameDuration + time.Duration(i)*15*time.Millisecond/time.Duration(len(conns)))))
			}
			p := rtpPacket{pt: 0, seq: uint16(n), ts: uint32(n) * 160, ssrc: uint32(i + 1)}
			for j := range 160 {
				buf[rtpHeaderSize+j] = byte(j)
			}
			buf[rtpHeaderSize] = 0x55
			at := uint64(time.Since(start))
			for j := range 7 {
				buf[rtpHeaderSize+1+j] = byte(at >> (8 * (6 - j)))
			}
			p.write(buf)
			b := buf[:rtpHeaderSize+160]
			if seals[i] != nil {
				b, _ = seals[i].seal(b)
			}
			if _, err := c.WriteToUDPAddrPort(b, legs[i].To); err == nil {
				res.Sent++
			}
		}
	}
	time.Sleep(200 * time.Millisecond)
	for _, c := range conns {
		_ = c.Close()
	}
	wg.Wait()
	slices.Sort(delays)
	if len(delays) > 0 {
		res.DelayP50, res.DelayP99 = delays[len(delays)/2], delays[len(delays)*99/100]
	}
	tell(t, "RESULT", res)
}

// measuresOnly leaves a measurement out of the usual run: it says how fast the
// engine is, not whether it is right, and takes all of the machine.
func measuresOnly(t *testing.T) {
	t.Helper()
	if os.Getenv("CORDBOARD_LONG") == "" {
		t.Skip("a measurement: set CORDBOARD_LONG=1")
	}
}

// TestCallMinute measures the CPU of bridged calls with a generator in a
// process of its own (7.3 b).
func TestCallMinute(t *testing.T) {
	measuresOnly(t)
	calls := 100
	if n, err := strconv.Atoi(os.Getenv("CORDBOARD_MEDIA_CALLS")); err == nil {
		calls = n
	}
	for _, tt := range []struct {
		name   string
		sdes   bool
		record bool
		budget time.Duration // of CPU per call and minute
	}{
		{"RTP to RTP", false, false, 110 * time.Millisecond},
		{"RTP to RTP, recorded", false, true, 138 * time.Millisecond},
		{"SDES to RTP", true, false, 190 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t)
			r := NewRecorder(RecorderOptions{})
			t.Cleanup(func() { _ = r.Close() })
			var legs []loadLeg
			var ports []*Port
			for i := range calls {
				var pair [2]*Port
				for side := range pair {
					sdes := tt.sdes && side == 0
					port, err := e.NewRTP(RTPOptions{SDES: sdes}, nil)
					if err != nil {
						t.Fatal(err)
					}
					peer := newRTPPeer(t, kindPCMU, 0)
					if sdes {
						peer.crypto = []sdp.Crypto{{Tag: 1, Suite: sdp.AES128SHA1Tag80, Params: "inline:" + strings.Repeat("A", 40)}}
					}
					// An address of its own, so that no port is taken by somebody else meanwhile.
					d := peer.describe(sdp.SendRecv)
					d.Host, d.Media[0].Host, d.Media[0].Port = "127.0.0.2", "127.0.0.2", uint16(42000+len(legs))
					answer, err := port.Answer(t.Context(), d.Write())
					if err != nil {
						t.Fatal(err)
					}
					s, err := sdp.Parse(answer)
					if err != nil {
						t.Fatal(err)
					}
					legs = append(legs, loadLeg{To: s.Media[0].Addr(), Port: int(d.Media[0].Port), SDES: sdes})
					_ = peer.conn.Close()
					pair[side] = port
					ports = append(ports, port)
				}
				if err := Join(pair[0], pair[1]); err != nil {
					t.Fatal(err)
				}
				if tt.record {
					rec, err := r.Record(fmt.Sprintf("%s/%d.wav", t.TempDir(), i), RecordOptions{})
					if err != nil {
						t.Fatal(err)
					}
					defer rec.Stop() //nolint:errcheck // measured only
					rec.Customer(pair[0])
					rec.Agent(pair[1])
				}
			}
			plan, err := json.Marshal(legs)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestLoadGenerator$", "-test.v")
			cmd.Env = append(os.Environ(), "CORDBOARD_MEDIA_LOAD="+string(plan))
			before := cpu(t)
			out, err := cmd.CombinedOutput()
			used := cpu(t) - before
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var res loadResult
			_, line, _ := strings.Cut(string(out), "RESULT ")
			if err := json.Unmarshal([]byte(strings.SplitN(line, "\n", 2)[0]), &res); err != nil {
				t.Fatal(err)
			}
			minute := used * 60 / loadSeconds / time.Duration(calls)
			var lost, packets uint64
			for _, p := range ports {
				q := p.Close()
				lost += q.Received.Lost
				packets += q.Received.Packets
			}
			t.Logf("%d calls: %v CPU a call-minute (budget %v), %v a packet; sent %d, %d came, %d lost; delay p50 %v p99 %v",
				calls, minute, tt.budget, used/time.Duration(max(1, packets)), res.Sent, res.Received, lost, res.DelayP50, res.DelayP99)
		})
	}
}

func cpu(t *testing.T) time.Duration {
	t.Helper()
	runtime.GC()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// phonesPlan is what TestPhones must know.
type phonesPlan struct {
	Offers []string
	RTP    []loadLeg
}

// TestPhones is the other process of TestWebRTCCalls: phones of pion's stack,
// and trunks that talk to them.
func TestPhones(t *testing.T) {
	if os.Getenv("CORDBOARD_MEDIA_PHONES") == "" {
		t.Skip("started by TestWebRTCCalls")
	}
	var plan phonesPlan
	if err := json.NewDecoder(os.Stdin).Decode(&plan); err != nil {
		t.Fatal(err)
	}
	answers := make([]string, len(plan.Offers))
	for i, offer := range plan.Offers {
		p := newWebRTCPeer(t, codec.PCMU, freqB)
		if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
			t.Fatal(err)
		}
		answer, err := p.pc.CreateAnswer(nil)
		if err != nil {
			t.Fatal(err)
		}
		done := webrtc.GatheringCompletePromise(p.pc)
		if err := p.pc.SetLocalDescription(answer); err != nil {
			t.Fatal(err)
		}
		<-done
		answers[i] = p.pc.LocalDescription().SDP
	}
	tell(t, "ANSWERS", answers)
	for _, l := range plan.RTP {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: l.Port})
		if err != nil {
			t.Fatal(err)
		}
		peer := &rtpPeer{ear: newEar(8000, 8000), conn: c, freq: freqA, kind: kindPCMU, ssrc: uint32(l.Port), stop: make(chan struct{})}
		t.Cleanup(peer.close)
		peer.talk(l.To)
	}
	time.Sleep((loadSeconds + 5) * time.Second)
}

// TestWebRTCCalls measures CPU and memory of recorded WebRTC calls (7.3 b, c).
func TestWebRTCCalls(t *testing.T) {
	measuresOnly(t)
	calls := 50
	if n, err := strconv.Atoi(os.Getenv("CORDBOARD_MEDIA_CALLS")); err == nil {
		calls = n
	}
	e := newEngine(t)
	r := NewRecorder(RecorderOptions{})
	t.Cleanup(func() { _ = r.Close() })
	dir := t.TempDir()
	before := resident(t)
	var plan phonesPlan
	var phones, trunks []*Port
	for i := range calls {
		trunk, err := e.NewRTP(RTPOptions{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		phone, err := e.NewWebRTC(WebRTCOptions{Codecs: []string{codec.PCMU}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		d := &sdp.Session{Host: "127.0.0.2", Media: []sdp.Media{{
			Kind: "audio", Port: uint16(43000 + i), Proto: "RTP/AVP", Host: "127.0.0.2",
			Formats: []sdp.Format{{PayloadType: 0, Name: codec.PCMU, ClockRate: 8000, Channels: 1}},
		}}}
		answer, err := trunk.Answer(t.Context(), d.Write())
		if err != nil {
			t.Fatal(err)
		}
		s, err := sdp.Parse(answer)
		if err != nil {
			t.Fatal(err)
		}
		offer, err := phone.Offer(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := Join(trunk, phone); err != nil {
			t.Fatal(err)
		}
		rec, err := r.Record(fmt.Sprintf("%s/%d.wav", dir, i), RecordOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer rec.Stop() //nolint:errcheck // measured only
		rec.Customer(trunk)
		rec.Agent(phone)
		plan.Offers = append(plan.Offers, string(offer))
		plan.RTP = append(plan.RTP, loadLeg{To: s.Media[0].Addr(), Port: int(d.Media[0].Port)})
		phones, trunks = append(phones, phone), append(trunks, trunk)
	}
	in, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestPhones$", "-test.v")
	cmd.Env = append(os.Environ(), "CORDBOARD_MEDIA_PHONES=1")
	cmd.Stdin = bytes.NewReader(in)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	lines := bufio.NewReaderSize(stdout, 1<<22)
	var answers []string
	for answers == nil {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if list, ok := strings.CutPrefix(line, "ANSWERS "); ok {
			if err := json.Unmarshal([]byte(list), &answers); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, p := range phones {
		if err := p.Answered([]byte(answers[i])); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 20*time.Second, "every phone is connected", func() bool {
		for _, p := range append(phones, trunks...) {
			if p.Quality().Received.Packets < 50 {
				return false
			}
		}
		return true
	})
	sum := func() (n uint64) {
		for _, p := range append(phones, trunks...) {
			n += p.Quality().Received.Packets
		}
		return n
	}
	from, packets, began := cpu(t), sum(), time.Now()
	time.Sleep(loadSeconds * time.Second)
	used, took := cpu(t)-from, time.Since(began)
	packets = sum() - packets
	debug.FreeOSMemory()
	t.Logf("%d recorded WebRTC calls: %v CPU a call-minute (budget 375ms), %v a packet; %d KB resident a call (budget 400)",
		calls, time.Duration(float64(used)*float64(time.Minute)/float64(took))/time.Duration(calls),
		used/time.Duration(max(1, packets)), (resident(t)-before)/calls)
}

// tell writes a line for the other process.
func tell(t *testing.T, word string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(os.Stdout, "%s %s\n", word, b); err != nil {
		t.Fatal(err)
	}
}

// resident is the memory of the process in kB.
func resident(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("no /proc")
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kb
}
