package media

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// jitterPacket is a packet on its way: its number is in its payload.
type jitterPacket struct {
	n      uint32
	seq    uint16
	ts     uint32
	sentAt time.Duration
	at     time.Duration
}

type jitterHeard struct {
	kind JitterKind
	n    int // of the packet, -1 for none
	fec  int // of the packet whose FEC was offered, -1 for none
	at   time.Duration
}

// runJitter lets packets arrive at their times and plays every 20 ms until end.
func runJitter(j *Jitter, packets []jitterPacket, end time.Duration) []jitterHeard {
	slices.SortStableFunc(packets, func(a, b jitterPacket) int { return int(a.at - b.at) })
	epoch := time.Unix(1000, 0)
	var heard []jitterHeard
	payload := make([]byte, 160)
	i := 0
	for now := time.Duration(0); now < end; now += 20 * time.Millisecond {
		for ; i < len(packets) && packets[i].at <= now; i++ {
			p := packets[i]
			binary.BigEndian.PutUint32(payload, p.n)
			j.Put(p.seq, p.ts, payload, epoch.Add(p.at))
		}
		r := j.Get(epoch.Add(now))
		h := jitterHeard{kind: r.Kind, n: -1, fec: -1, at: now}
		switch {
		case r.Kind == JitterPacket:
			h.n = int(binary.BigEndian.Uint32(r.Payload))
		case r.Kind == JitterLost && r.Payload != nil:
			h.fec = int(binary.BigEndian.Uint32(r.Payload))
		}
		heard = append(heard, h)
	}
	return heard
}

// stream makes n packets of 20 ms; shape may move, drop or double them.
func jitterStream(n int, shape func(p jitterPacket) []jitterPacket) []jitterPacket {
	var out []jitterPacket
	for i := range n {
		at := time.Duration(i)*20*time.Millisecond + 3*time.Millisecond
		p := jitterPacket{n: uint32(i), seq: uint16(65500 + i), ts: uint32(4294960000 + i*160), sentAt: at, at: at}
		out = append(out, shape(p)...)
	}
	return out
}

func played(heard []jitterHeard) (ns []int, lost, silent int) {
	begun := false
	for _, h := range heard {
		switch h.kind {
		case JitterPacket:
			ns = append(ns, h.n)
			begun = true
		case JitterLost:
			lost++
		case JitterSilence:
			if begun {
				silent++
			}
		}
	}
	return ns, lost, silent
}

// meanDelay is how long packets waited from sending to being heard.
func meanDelay(heard []jitterHeard, packets []jitterPacket) time.Duration {
	sent := map[int]time.Duration{}
	for _, p := range packets {
		sent[int(p.n)] = p.sentAt
	}
	var sum time.Duration
	n := 0
	for _, h := range heard {
		if h.kind == JitterPacket {
			sum += h.at - sent[h.n]
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return sum / time.Duration(n)
}

func increasing(t *testing.T, ns []int) {
	t.Helper()
	for i := 1; i < len(ns); i++ {
		if ns[i] <= ns[i-1] {
			t.Fatalf("packet %d was played after %d", ns[i], ns[i-1])
		}
	}
}

func TestJitterPerfectNetwork(t *testing.T) {
	j := NewJitter(JitterOptions{})
	p := jitterStream(500, func(p jitterPacket) []jitterPacket { return []jitterPacket{p} })
	heard := runJitter(j, p, 10*time.Second)
	ns, lost, silent := played(heard)
	increasing(t, ns)
	if len(ns) < 498 || lost != 0 || silent != 0 {
		t.Errorf("%d played, %d concealed, %d silent", len(ns), lost, silent)
	}
	if d := meanDelay(heard, p); d > 45*time.Millisecond {
		t.Errorf("a perfect network is played %v late", d)
	}
}

func TestJitterReorderAndDuplicates(t *testing.T) {
	j := NewJitter(JitterOptions{Min: 60 * time.Millisecond})
	p := jitterStream(500, func(p jitterPacket) []jitterPacket {
		out := []jitterPacket{p}
		if p.n%7 == 3 { // overtaken by the next one
			out[0].at += 25 * time.Millisecond
		}
		if p.n%5 == 0 {
			d := p
			d.at += 10 * time.Millisecond
			out = append(out, d)
		}
		return out
	})
	ns, lost, silent := played(runJitter(j, p, 10*time.Second))
	increasing(t, ns)
	if len(ns) < 494 || lost+silent > 2 {
		t.Errorf("%d played, %d concealed, %d silent", len(ns), lost, silent)
	}
	s := j.Stats()
	if s.Duplicate+s.Late < 95 {
		t.Errorf("duplicates: %+v", s)
	}
}

func TestJitterLossOffersFEC(t *testing.T) {
	j := NewJitter(JitterOptions{Min: 60 * time.Millisecond})
	p := jitterStream(500, func(p jitterPacket) []jitterPacket {
		if p.n%10 == 5 {
			return nil
		}
		return []jitterPacket{p}
	})
	heard := runJitter(j, p, 10*time.Second)
	ns, lost, silent := played(heard)
	increasing(t, ns)
	if len(ns) < 446 || lost < 48 || lost > 52 || silent != 0 {
		t.Errorf("%d played, %d concealed, %d silent", len(ns), lost, silent)
	}
	fec := 0
	for i, h := range heard {
		if h.fec >= 0 {
			fec++
			if i+1 < len(heard) && heard[i+1].n != h.fec {
				t.Errorf("FEC of packet %d in front of %d", h.fec, heard[i+1].n)
			}
		}
	}
	if fec < 48 {
		t.Errorf("FEC was offered %d times for 50 lost packets", fec)
	}
	if s := j.Stats(); s.Lost < 48 || s.Lost > 51 {
		t.Errorf("%+v", s)
	}
}

// 0 to 60 ms of random delay: after it has learned, nearly nothing is lost.
func TestJitterAdaptsToJitter(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	j := NewJitter(JitterOptions{})
	p := jitterStream(1500, func(p jitterPacket) []jitterPacket {
		p.at += time.Duration(r.IntN(60)) * time.Millisecond
		return []jitterPacket{p}
	})
	heard := runJitter(j, p, 30*time.Second)
	ns, lost, _ := played(heard[100:])
	increasing(t, ns)
	if len(ns) < 1375 || lost > 14 {
		t.Errorf("%d of 1400 played, %d concealed: %+v", len(ns), lost, j.Stats())
	}
	if d := meanDelay(heard, p); d > 110*time.Millisecond {
		t.Errorf("played %v after sending", d)
	}
}

// After a bad time the delay comes down again.
func TestJitterDelayComesDown(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	j := NewJitter(JitterOptions{})
	p := jitterStream(4000, func(p jitterPacket) []jitterPacket {
		if p.n > 200 && p.n < 400 {
			p.at += time.Duration(r.IntN(150)) * time.Millisecond
		}
		return []jitterPacket{p}
	})
	heard := runJitter(j, p, 80*time.Second)
	if d := meanDelay(heard[3000:], p); d > 60*time.Millisecond {
		t.Errorf("a minute after the trouble it is still played %v late: %+v", d, j.Stats())
	}
	ns, lost, _ := played(heard[3000:])
	increasing(t, ns)
	if lost > 0 || len(ns) < 990 {
		t.Errorf("%d played, %d concealed in the calm end", len(ns), lost)
	}
}

// The far side sends nothing in silence (DTX): nothing is concealed for long,
// and the delay does not grow with each pause.
func TestJitterSilenceSuppression(t *testing.T) {
	j := NewJitter(JitterOptions{})
	seq := uint16(0)
	p := jitterStream(3000, func(p jitterPacket) []jitterPacket {
		if p.n%100 >= 50 {
			return nil // one second of each two
		}
		p.seq = seq
		seq++
		return []jitterPacket{p}
	})
	heard := runJitter(j, p, 60*time.Second)
	ns, lost, silent := played(heard)
	increasing(t, ns)
	if len(ns) < 1490 || silent < 1300 || lost > 30*jitterConceal {
		t.Errorf("%d of 1500 played, %d concealed, %d silent", len(ns), lost, silent)
	}
	if d := meanDelay(heard[2500:], p); d > 60*time.Millisecond {
		t.Errorf("after many pauses it is played %v late", d)
	}
}

// A far clock that runs 1 in 1000 wrong, either way, for ten minutes.
func TestJitterClockDrift(t *testing.T) {
	for _, ppm := range []int64{1000, -1000} {
		j := NewJitter(JitterOptions{})
		p := jitterStream(30000, func(p jitterPacket) []jitterPacket {
			p.at += p.at * time.Duration(ppm) / 1_000_000
			p.sentAt = p.at
			return []jitterPacket{p}
		})
		heard := runJitter(j, p, 600*time.Second)
		ns, lost, silent := played(heard)
		increasing(t, ns)
		if len(ns) < 29900 || lost+silent > 120 {
			t.Errorf("%d ppm: %d played, %d concealed, %d silent", ppm, len(ns), lost, silent)
		}
		if d := meanDelay(heard[29000:], p); d > 90*time.Millisecond || d < 0 {
			t.Errorf("%d ppm: played %v late at the end: %+v", ppm, d, j.Stats())
		}
	}
}

// A timestamp or sequence jump (a transfer at the far side) costs a moment only.
func TestJitterJumps(t *testing.T) {
	tests := map[string]func(p *jitterPacket){
		"timestamp forward":  func(p *jitterPacket) { p.ts += 100_000_000 },
		"timestamp backward": func(p *jitterPacket) { p.ts -= 100_000_000 },
		"sequence forward":   func(p *jitterPacket) { p.seq += 20000 },
		"sequence backward":  func(p *jitterPacket) { p.seq -= 20000 },
		"both":               func(p *jitterPacket) { p.seq += 30000; p.ts += 3_000_000_000 },
		"a pause of the far side without time": func(p *jitterPacket) {
			p.at += 5 * time.Second
			p.sentAt += 5 * time.Second
		},
	}
	for name, jump := range tests {
		t.Run(name, func(t *testing.T) {
			j := NewJitter(JitterOptions{})
			p := jitterStream(1000, func(p jitterPacket) []jitterPacket {
				if p.n >= 500 {
					jump(&p)
				}
				return []jitterPacket{p}
			})
			heard := runJitter(j, p, 25*time.Second)
			ns, lost, _ := played(heard)
			increasing(t, ns)
			if len(ns) < 985 || lost > 15 {
				t.Errorf("%d played, %d concealed", len(ns), lost)
			}
			var tail []jitterHeard
			for _, h := range heard {
				if h.n > 700 {
					tail = append(tail, h)
				}
			}
			if d := meanDelay(tail, p); d > 90*time.Millisecond {
				t.Errorf("played %v late afterwards", d)
			}
		})
	}
}

func TestJitterOtherPacketTimes(t *testing.T) {
	for _, ms := range []int{10, 30, 40, 60} {
		j := NewJitter(JitterOptions{})
		epoch := time.Unix(0, 0)
		step := time.Duration(ms) * time.Millisecond
		got, wrong := 0, 0
		for i := range 300 {
			at := epoch.Add(time.Duration(i) * step)
			j.Put(uint16(i), uint32(i*ms*8), make([]byte, ms*8), at)
			r := j.Get(at.Add(time.Millisecond))
			if r.Kind == JitterPacket {
				got++
			} else if i > 20 {
				wrong++
			}
			if i > 50 && r.Ticks != uint32(ms*8) {
				t.Fatalf("%d ms: %d ticks", ms, r.Ticks)
			}
		}
		if got < 285 || wrong > 2 {
			t.Errorf("%d ms: %d played, %d times nothing", ms, got, wrong)
		}
	}
}

func TestJitterIsBoundedWhenNobodyListens(t *testing.T) {
	j := NewJitter(JitterOptions{})
	epoch := time.Unix(0, 0)
	for i := range 5000 {
		j.Put(uint16(i), uint32(i*160), make([]byte, 160), epoch.Add(time.Duration(i)*20*time.Millisecond))
	}
	if j.count > jitterSlots {
		t.Errorf("%d packets are kept", j.count)
	}
	// Whoever begins to listen hears the present, not the past.
	heard := 0
	for i := 5000; i < 5100; i++ {
		at := epoch.Add(time.Duration(i) * 20 * time.Millisecond)
		j.Put(uint16(i), uint32(i*160), []byte{1}, at)
		if r := j.Get(at); r.Kind == JitterPacket {
			heard++
			if age := uint32(i*160) - r.Timestamp; i > 5020 && age > 8*300 {
				t.Fatalf("hears what is %d ms old", age/8)
			}
		}
	}
	if heard < 80 {
		t.Errorf("heard %d of 100", heard)
	}
}

func TestJitterAllocatesNothing(t *testing.T) {
	j := NewJitter(JitterOptions{})
	epoch := time.Unix(0, 0)
	payload := make([]byte, 160)
	i := 0
	step := func() {
		at := epoch.Add(time.Duration(i) * 20 * time.Millisecond)
		j.Put(uint16(i), uint32(i*160), payload, at)
		j.Get(at)
		i++
	}
	for range 200 {
		step()
	}
	if n := testing.AllocsPerRun(500, step); n != 0 {
		t.Errorf("%.1f allocations a packet", n)
	}
}

func FuzzJitter(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 0, 160, 20, 0, 2, 0, 0, 1, 64, 20})
	f.Add([]byte{255, 255, 255, 255, 255, 255, 1, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		j := NewJitter(JitterOptions{})
		now := time.Unix(0, 0)
		for ; len(data) >= 7; data = data[7:] {
			now = now.Add(time.Duration(data[6]) * time.Millisecond)
			j.Put(binary.BigEndian.Uint16(data), binary.BigEndian.Uint32(data[2:]), data[:7], now)
			if data[6]&1 == 0 {
				if r := j.Get(now); r.Kind == JitterPacket && len(r.Payload) != 7 {
					t.Fatalf("payload of %d bytes", len(r.Payload))
				}
			}
			if j.count < 0 || j.count > jitterSlots {
				t.Fatalf("%d packets", j.count)
			}
		}
	})
}

func BenchmarkJitter(b *testing.B) {
	j := NewJitter(JitterOptions{})
	now := time.Unix(0, 0)
	payload := make([]byte, 160)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		now = now.Add(20 * time.Millisecond)
		j.Put(uint16(i), uint32(i*160), payload, now)
		j.Get(now)
		i++
	}
}
