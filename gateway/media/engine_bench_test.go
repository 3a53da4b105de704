package media

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/srtp/v3"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

// benchLeg is a port that was negotiated by hand, and what speaks to it.
type benchLeg struct {
	port *Port
	seal *cipher // of the far side; nil for plain RTP
	kind kind
	from netip.AddrPort
	seq  uint16
	ts   uint32
}

const benchBatch = 512

func newBenchLeg(b *testing.B, e *Engine, k kind, profile srtp.ProtectionProfile, ice bool) *benchLeg {
	b.Helper()
	sink, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback().AsSlice()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = sink.Close() })
	port, err := e.NewRTP(RTPOptions{}, nil)
	if err != nil {
		b.Fatal(err)
	}
	l := &benchLeg{port: port, kind: k, from: sink.LocalAddr().(*net.UDPAddr).AddrPort()}
	clock := uint32(8000)
	if k == kindOpus {
		clock = 48000
	}
	cfg := &reception{ice: ice, expected: true, signalled: l.from, epoch: 1}
	cfg.kinds[codecPT(k)], cfg.clocks[codecPT(k)] = k, clock
	if profile != 0 {
		keyLen, _ := profile.KeyLen()
		saltLen, _ := profile.SaltLen()
		key, salt := make([]byte, keyLen), make([]byte, saltLen)
		if l.seal, err = newCipher(key, salt, profile); err != nil {
			b.Fatal(err)
		}
		if cfg.cipher, err = newCipher(key, salt, profile); err != nil {
			b.Fatal(err)
		}
		if port.out.cipher, err = newCipher(key, salt, profile); err != nil {
			b.Fatal(err)
		}
	}
	port.out.mu.Lock()
	port.out.setCodecLocked(k, clock, codecPT(k))
	port.out.paused, port.out.dest = false, l.from
	port.out.mu.Unlock()
	port.in.cfg.Store(cfg)
	port.negotiated(k)
	return l
}

// packets makes the next packets of the far side.
func (l *benchLeg) packets(b *testing.B, into [][]byte, payload []byte) {
	b.Helper()
	step := uint32(160)
	if l.kind == kindOpus {
		step = 960
	}
	for i := range into {
		l.seq++
		l.ts += step
		p := rtpPacket{pt: codecPT(l.kind), seq: l.seq, ts: l.ts, ssrc: 7}
		buf := into[i][:cap(into[i])]
		n := copy(buf[rtpHeaderSize:], payload)
		p.write(buf)
		into[i] = buf[:rtpHeaderSize+n]
		if l.seal != nil {
			sealed, err := l.seal.seal(into[i])
			if err != nil {
				b.Fatal(err)
			}
			into[i] = sealed
		}
	}
}

// relay measures one packet from the read to the write, the send included.
func relay(b *testing.B, from, to *benchLeg, payload []byte) {
	b.Helper()
	if err := Join(from.port, to.port); err != nil {
		b.Fatal(err)
	}
	batch := make([][]byte, benchBatch)
	for i := range batch {
		batch[i] = make([]byte, 0, maxPacket)
	}
	before := to.port.Quality().Sent.Packets
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += benchBatch {
		b.StopTimer()
		n := min(benchBatch, b.N-done)
		from.packets(b, batch[:n], payload)
		b.StartTimer()
		for _, p := range batch[:n] {
			from.port.receive(p, from.from, time.Now())
		}
	}
	b.StopTimer()
	if got := to.port.Quality().Sent.Packets - before; got < uint64(b.N) {
		b.Fatalf("%d of %d packets came through", got, b.N)
	}
}

func BenchmarkRelayRTP(b *testing.B) {
	e := newEngine(b)
	relay(b, newBenchLeg(b, e, kindPCMU, 0, false), newBenchLeg(b, e, kindPCMU, 0, false), make([]byte, 160))
}

func BenchmarkRelayLawConversion(b *testing.B) {
	e := newEngine(b)
	relay(b, newBenchLeg(b, e, kindPCMA, 0, false), newBenchLeg(b, e, kindPCMU, 0, false), make([]byte, 160))
}

func BenchmarkRelaySDES(b *testing.B) {
	e := newEngine(b)
	relay(b, newBenchLeg(b, e, kindPCMU, srtp.ProtectionProfileAes128CmHmacSha1_80, false),
		newBenchLeg(b, e, kindPCMU, 0, false), make([]byte, 160))
}

func BenchmarkRelayToSDES(b *testing.B) {
	e := newEngine(b)
	relay(b, newBenchLeg(b, e, kindPCMU, 0, false),
		newBenchLeg(b, e, kindPCMU, srtp.ProtectionProfileAes128CmHmacSha1_80, false), make([]byte, 160))
}

func BenchmarkRelayWebRTC(b *testing.B) {
	e := newEngine(b)
	relay(b, newBenchLeg(b, e, kindPCMU, srtp.ProtectionProfileAeadAes128Gcm, true),
		newBenchLeg(b, e, kindPCMU, 0, false), make([]byte, 160))
}

func BenchmarkRelayToWebRTC(b *testing.B) {
	e := newEngine(b)
	relay(b, newBenchLeg(b, e, kindPCMU, 0, false),
		newBenchLeg(b, e, kindPCMU, srtp.ProtectionProfileAeadAes128Gcm, true), make([]byte, 160))
}

// BenchmarkRelayRTPRecorded is a relay whose speaker is recorded.
func BenchmarkRelayRTPRecorded(b *testing.B) {
	e := newEngine(b)
	from := newBenchLeg(b, e, kindPCMU, 0, false)
	r := NewRecorder(RecorderOptions{})
	b.Cleanup(func() { _ = r.Close() })
	rec, err := r.Record(b.TempDir()+"/bench.wav", RecordOptions{})
	if err != nil {
		b.Fatal(err)
	}
	rec.Customer(from.port)
	relay(b, from, newBenchLeg(b, e, kindPCMU, 0, false), make([]byte, 160))
	if _, err := rec.Stop(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkRelayOpus is one frame from an Opus leg to a G.711 leg and one back.
func BenchmarkRelayOpus(b *testing.B) {
	for _, tt := range []struct {
		name     string
		from, to kind
	}{{"opus to PCMU", kindOpus, kindPCMU}, {"PCMU to opus", kindPCMU, kindOpus}} {
		b.Run(tt.name, func(b *testing.B) {
			to := tt.to
			unit, err := newDecodeUnit(tt.from, map[kind]uint32{kindOpus: 48000, kindPCMU: 8000}[tt.from])
			if err != nil {
				b.Fatal(err)
			}
			e := newEngine(b)
			leg := newBenchLeg(b, e, to, 0, false)
			if err := unit.encodeFor(&route{id: 99, to: leg.port, kind: to}); err != nil {
				b.Fatal(err)
			}
			enc, err := codec.NewEncoder(tt.from.name(), 8000)
			if err != nil {
				b.Fatal(err)
			}
			payload := make([]byte, 1500)
			n, err := enc.Encode(payload, tone(440, 8000, 0, 160))
			if err != nil {
				b.Fatal(err)
			}
			step := unit.clock / 50
			at := time.Now()
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				at = at.Add(codec.FrameDuration)
				unit.push(&rtpPacket{seq: uint16(i), ts: uint32(i) * step, payload: payload[:n], ssrc: 1}, at)
				unit.tick(leg.port, at)
			}
		})
	}
}

// BenchmarkNewWebRTC is the making of a WebRTC port and its offer, and its end.
func BenchmarkNewWebRTC(b *testing.B) {
	e := newEngine(b)
	b.ReportAllocs()
	for range b.N {
		p, err := e.NewWebRTC(WebRTCOptions{}, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Offer(b.Context()); err != nil {
			b.Fatal(err)
		}
		p.Close()
	}
}

// TestRelayAllocatesNothing proves what the benchmarks show (4.5).
func TestRelayAllocatesNothing(t *testing.T) {
	for name, bench := range map[string]func(*testing.B){
		"rtp": BenchmarkRelayRTP, "law": BenchmarkRelayLawConversion, "sdes": BenchmarkRelaySDES,
		"webrtc": BenchmarkRelayWebRTC, "recorded": BenchmarkRelayRTPRecorded,
	} {
		if r := testing.Benchmark(bench); r.N > 0 && r.AllocsPerOp() > 0 {
			t.Errorf("%s: %d allocations a packet", name, r.AllocsPerOp())
		}
	}
}
