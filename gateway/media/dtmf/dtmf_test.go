package dtmf

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type press struct {
	Digit byte
	MS    int64
}

func collect(to *[]press) func(byte, time.Duration) {
	return func(d byte, l time.Duration) { *to = append(*to, press{d, l.Milliseconds()}) }
}

type sent struct {
	Packet
	at time.Duration
}

// send lets a sender run for the given time in steps of 20 ms.
func send(t *testing.T, s *Sender, clock int, from uint32, d time.Duration) []sent {
	t.Helper()
	var out []sent
	for at := time.Duration(0); at < d; at += 20 * time.Millisecond {
		if p, ok := s.Next(from + ticks(at, clock)); ok {
			out = append(out, sent{p, at})
		}
	}
	return out
}

func TestSenderMakesOneEventPerDigit(t *testing.T) {
	s := NewSender(8000, 20*time.Millisecond)
	if err := s.Queue("5#", 60*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	out := send(t, s, 8000, 1000, time.Second)
	if s.Active() {
		t.Error("the sender is not done")
	}
	type row struct {
		TS       uint32
		Code     uint8
		Duration uint16
		End      bool
		Marker   bool
	}
	var got []row
	for _, p := range out {
		e, err := ParseEvent(p.Payload[:])
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, row{p.Timestamp, e.Code, e.Duration, e.End, p.Marker})
	}
	want := []row{
		{1000, 5, 160, false, true},
		{1000, 5, 320, false, false},
		{1000, 5, 480, true, false},
		{1000, 5, 480, true, false},
		{1000, 5, 480, true, false},
		{2280, 11, 160, false, true}, // after a pause of 60 ms
		{2280, 11, 320, false, false},
		{2280, 11, 480, true, false},
		{2280, 11, 480, true, false},
		{2280, 11, 480, true, false},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Whatever the network does to the packets of a number, the digits come out
// once each, in order, as long as one packet of each arrived.
func TestDigitsSurviveLossReorderAndDuplicates(t *testing.T) {
	const number = "59825550111*#ABCD"
	for seed := range uint64(200) {
		for _, clock := range []int{8000, 48000} {
			r := rand.New(rand.NewPCG(seed, 1))
			s := NewSender(clock, 20*time.Millisecond)
			if err := s.Queue(number, 0); err != nil {
				t.Fatal(err)
			}
			start := r.Uint32() // timestamps wrap
			var got []press
			rx := NewReceiver(clock, collect(&got))
			now := time.Unix(1000, 0)
			byEvent := map[uint32][]sent{}
			var order []uint32
			for _, p := range send(t, s, clock, start, 10*time.Second) {
				if _, ok := byEvent[p.Timestamp]; !ok {
					order = append(order, p.Timestamp)
				}
				byEvent[p.Timestamp] = append(byEvent[p.Timestamp], p)
			}
			for _, ts := range order {
				packets := byEvent[ts]
				keep := r.IntN(len(packets))
				var arrive []sent
				for i, p := range packets {
					if i != keep && r.IntN(2) == 0 {
						continue
					}
					for range 1 + r.IntN(2) {
						arrive = append(arrive, p)
					}
				}
				if r.IntN(3) == 0 && len(arrive) > 1 {
					i := r.IntN(len(arrive) - 1)
					arrive[i], arrive[i+1] = arrive[i+1], arrive[i]
				}
				for _, p := range arrive {
					if err := rx.Push(p.Timestamp, p.Marker, p.Payload[:], now.Add(p.at)); err != nil {
						t.Fatal(err)
					}
				}
			}
			rx.Tick(now.Add(time.Minute))
			var digits []byte
			for _, p := range got {
				digits = append(digits, p.Digit)
			}
			if string(digits) != number {
				t.Fatalf("seed %d at %d Hz: %q", seed, clock, digits)
			}
		}
	}
}

func TestReceiver(t *testing.T) {
	type in struct {
		ts     uint32
		marker bool
		code   uint8
		dur    uint16
		end    bool
		at     int // ms
	}
	tests := []struct {
		name string
		in   []in
		tick int
		want []press
	}{
		{"a plain digit with three ends", []in{{0, true, 1, 160, false, 0}, {0, false, 1, 320, false, 20}, {0, false, 1, 800, true, 80}, {0, false, 1, 800, true, 100}, {0, false, 1, 800, true, 120}}, 1000, []press{{'1', 100}}},
		{"only the end came", []in{{500, false, 9, 800, true, 0}}, 10, []press{{'9', 100}}},
		{"the end was lost, time passed", []in{{0, true, 3, 160, false, 0}, {0, false, 3, 480, false, 40}}, 300, []press{{'3', 60}}},
		{"the end was lost, not yet sure", []in{{0, true, 3, 160, false, 0}}, 100, nil},
		{"the end was lost, another key came", []in{{0, true, 3, 640, false, 0}, {2000, true, 4, 800, true, 250}}, 250, []press{{'3', 80}, {'4', 100}}},
		{"the same key twice", []in{{0, true, 7, 400, true, 0}, {1600, true, 7, 400, true, 200}}, 1000, []press{{'7', 50}, {'7', 50}}},
		{"an end in front of the middle", []in{{0, true, 7, 400, true, 0}, {0, false, 7, 160, false, 20}}, 1000, []press{{'7', 50}}},
		{"a late packet of the key before", []in{{0, true, 1, 800, true, 0}, {1600, true, 2, 800, true, 200}, {0, false, 1, 800, true, 210}}, 1000, []press{{'1', 100}, {'2', 100}}},
		{"a long key in two segments", []in{{0, true, 5, 65535, false, 0}, {65535, false, 5, 160, false, 20}, {65535, false, 5, 14465, true, 1800}}, 3000, []press{{'5', 10000}}},
		{"timestamps wrap", []in{{0xFFFFFF00, true, 1, 800, true, 0}, {0x500, true, 2, 800, true, 200}}, 1000, []press{{'1', 100}, {'2', 100}}},
		{"a fax tone is no digit", []in{{0, true, 36, 800, true, 0}}, 1000, nil},
		{"a hook flash", []in{{0, true, 16, 800, true, 0}}, 1000, []press{{'!', 100}}},
		{"a restarted sender far back", []in{{4000000000, true, 1, 800, true, 0}, {100, true, 2, 800, true, 5000}, {4000000000 - 200000, true, 3, 800, true, 9000}}, 10000, []press{{'1', 100}, {'2', 100}, {'3', 100}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []press
			r := NewReceiver(8000, collect(&got))
			start := time.Unix(0, 0)
			for _, p := range tt.in {
				e := Event{Code: p.code, Duration: p.dur, End: p.end, Volume: 10}
				if err := r.Push(p.ts, p.marker, e.Append(nil), start.Add(time.Duration(p.at)*time.Millisecond)); err != nil {
					t.Fatal(err)
				}
			}
			r.Tick(start.Add(time.Duration(tt.tick) * time.Millisecond))
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestLongKeyGoesThroughSegments(t *testing.T) {
	for _, clock := range []int{8000, 48000} {
		s := NewSender(clock, 20*time.Millisecond)
		if err := s.Queue("0", 10*time.Second); err != nil {
			t.Fatal(err)
		}
		var got []press
		r := NewReceiver(clock, collect(&got))
		last := uint32(77)
		segments := 0
		for _, p := range send(t, s, clock, 77, 12*time.Second) {
			if p.Timestamp != last {
				segments++
				last = p.Timestamp
			}
			if err := r.Push(p.Timestamp, p.Marker, p.Payload[:], time.Unix(0, 0).Add(p.at)); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff([]press{{'0', 10000}}, got); d != "" {
			t.Errorf("%d Hz: %s", clock, d)
		}
		if want := clock * 10 / MaxEventDuration; segments != want {
			t.Errorf("%d Hz: %d new segments, want %d", clock, segments, want)
		}
	}
}

func TestSenderRefusesWhatItCannotSend(t *testing.T) {
	s := NewSender(8000, 20*time.Millisecond)
	if err := s.Queue("12x", 0); !errors.Is(err, ErrDigit) {
		t.Errorf("12x: %v", err)
	}
	if s.Active() {
		t.Error("half of a bad string is sent")
	}
	for range 20 {
		_ = s.Queue("0123456789", 0)
	}
	if err := s.Queue("0123456789", 0); !errors.Is(err, ErrFull) {
		t.Errorf("the queue has no end: %v", err)
	}
}

func TestCommaWaits(t *testing.T) {
	s := NewSender(8000, 20*time.Millisecond)
	if err := s.Queue(",1", 0); err != nil {
		t.Fatal(err)
	}
	out := send(t, s, 8000, 0, 2*time.Second)
	if out[0].at != 500*time.Millisecond {
		t.Errorf("the digit began after %v", out[0].at)
	}
}

func TestInfo(t *testing.T) {
	tests := []struct {
		name, contentType, body string
		digit                   byte
		d                       time.Duration
		err                     error
	}{
		{"relay", "application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", '5', 160 * time.Millisecond, nil},
		{"relay of a Cisco", "Application/DTMF-Relay; charset=utf-8", "Signal= *\nDuration= 250\n", '*', 250 * time.Millisecond, nil},
		{"relay without duration", TypeRelay, "Signal=#", '#', DefaultDuration, nil},
		{"relay in another order", TypeRelay, "Duration=100\r\nSignal=d\r\n", 'D', 100 * time.Millisecond, nil},
		{"relay with an event code", TypeRelay, "Signal=10\r\nDuration=100\r\n", '*', 100 * time.Millisecond, nil},
		{"relay with a huge duration", TypeRelay, "Signal=1\r\nDuration=99999999\r\n", '1', MaxDuration, nil},
		{"plain", TypePlain, "7", '7', DefaultDuration, nil},
		{"plain event code", TypePlain, " 11 \r\n", '#', DefaultDuration, nil},
		{"flash", TypeRelay, "Signal=flash", '!', DefaultDuration, nil},
		{"no signal", TypeRelay, "Duration=100", 0, 0, ErrBody},
		{"bad signal", TypeRelay, "Signal=77", 0, 0, ErrBody},
		{"bad duration", TypeRelay, "Signal=7\r\nDuration=-5", 0, 0, ErrBody},
		{"empty", TypePlain, "", 0, 0, ErrBody},
		{"another type", "text/plain", "7", 0, 0, ErrBody},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			digit, d, err := ParseInfo(tt.contentType, []byte(tt.body))
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err == nil && (digit != tt.digit || d != tt.d) {
				t.Errorf("%q for %v, want %q for %v", digit, d, tt.digit, tt.d)
			}
		})
	}
	if IsInfo("application/sdp") || !IsInfo("application/dtmf; x=y") {
		t.Error("content types are mixed up")
	}
}

func TestDetectorHearsEveryDigitOnce(t *testing.T) {
	const digits = "0123456789*#ABCD"
	for _, rate := range []int{8000, 16000, 48000} {
		var got []press
		d := NewDetector(rate, collect(&got))
		var pcm []int16
		for i := range len(digits) {
			pcm = AppendTone(pcm, digits[i], rate, 80*time.Millisecond)
			pcm = append(pcm, make([]int16, rate*60/1000)...)
		}
		for chunk := range slices.Chunk(pcm, 160) {
			d.Write(chunk)
		}
		var heard []byte
		for _, p := range got {
			heard = append(heard, p.Digit)
			if p.MS < 40 || p.MS > 100 {
				t.Errorf("%d Hz: %q of 80 ms heard as %d ms", rate, p.Digit, p.MS)
			}
		}
		if string(heard) != digits {
			t.Errorf("%d Hz: heard %q", rate, heard)
		}
	}
}

func TestDetectorHearsSameDigitTwiceAndNothingInNoise(t *testing.T) {
	var got []press
	d := NewDetector(8000, collect(&got))
	var pcm []int16
	for range 2 {
		pcm = AppendTone(pcm, '1', 8000, 60*time.Millisecond)
		pcm = append(pcm, make([]int16, 400)...)
	}
	d.Write(pcm)
	if len(got) != 2 {
		t.Errorf("two presses heard as %v", got)
	}
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]int16, 8000*60)
	for i := range noise {
		noise[i] = int16(r.NormFloat64() * 3000)
	}
	got = nil
	d.Write(noise)
	if len(got) != 0 {
		t.Errorf("a minute of noise sounds like %v", got)
	}
}

func TestDetectorHearsTonesUnderNoise(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var got []press
	d := NewDetector(8000, collect(&got))
	pcm := slices.Repeat([]int16{0}, 400)
	for _, c := range []byte("147*") {
		pcm = AppendTone(pcm, c, 8000, 100*time.Millisecond)
		pcm = append(pcm, make([]int16, 800)...)
	}
	for i := range pcm {
		pcm[i] += int16(r.NormFloat64() * 1000) // 18 dB below
	}
	d.Write(pcm)
	var heard []byte
	for _, p := range got {
		heard = append(heard, p.Digit)
	}
	if string(heard) != "147*" {
		t.Errorf("heard %q", heard)
	}
}

func TestNoAllocations(t *testing.T) {
	s := NewSender(8000, 20*time.Millisecond)
	r := NewReceiver(8000, func(byte, time.Duration) {})
	ts := uint32(0)
	if err := s.Queue("1", 0); err != nil {
		t.Fatal(err)
	}
	now := time.Unix(0, 0)
	if n := testing.AllocsPerRun(500, func() {
		if p, ok := s.Next(ts); ok {
			_ = r.Push(p.Timestamp, p.Marker, p.Payload[:], now)
		}
		if !s.Active() {
			_ = s.Queue("1", 0)
		}
		ts += 160
	}); n != 0 {
		t.Errorf("%.1f allocations a packet", n)
	}
}

func FuzzParseInfo(f *testing.F) {
	f.Add(TypeRelay, []byte("Signal=5\r\nDuration=160\r\n"))
	f.Add(TypePlain, []byte("11"))
	f.Add("application/dtmf-relay;x", []byte("signal=A\nduration=0"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		digit, d, err := ParseInfo(contentType, body)
		if err != nil {
			return
		}
		ct, again, err := FormatInfo(digit, d)
		if err != nil {
			t.Fatal(err)
		}
		digit2, d2, err := ParseInfo(ct, again)
		if err != nil || digit2 != digit || d2 != d {
			t.Fatalf("%q %v became %q %v: %v", digit, d, digit2, d2, err)
		}
	})
}

func FuzzReceiver(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 1, 5, 10, 0, 160})
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		r := NewReceiver(8000, func(_ byte, d time.Duration) {
			n++
			if d < 0 {
				t.Fatal(fmt.Errorf("a key of %v", d))
			}
		})
		packets := 0
		for ; len(data) >= 9; data = data[9:] {
			ts := uint32(data[0])<<24 | uint32(data[1])<<16 | uint32(data[2])<<8 | uint32(data[3])
			e, err := ParseEvent(data[5:])
			if err != nil {
				t.Fatal(err)
			}
			if b := e.Append(nil); data[6]&0x40 == 0 && string(b) != string(data[5:9]) {
				t.Fatalf("%x became %x", data[5:9], b)
			}
			packets++
			_ = r.Push(ts, data[4]&1 != 0, data[5:9], time.Unix(int64(packets), 0))
		}
		r.Tick(time.Unix(1<<40, 0))
		if n > packets {
			t.Fatalf("%d keys of %d packets", n, packets)
		}
	})
}
