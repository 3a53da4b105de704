package media

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

// tappedLeg is a leg that speaks a tone when told to.
type tappedLeg struct {
	track atomic.Pointer[Track]
	law   codec.Law
	hz    float64
	clock int // 0 = G.711, else a decoded leg with this RTP clock
	ts    uint32
	n     int // samples said so far
}

func (l *tappedLeg) Tap(t *Track) { l.track.Store(t) }

// say writes one packet as if it arrived now.
func (l *tappedLeg) say() {
	pcm := make([]int16, 160)
	for i := range pcm {
		pcm[i] = int16(8000 * math.Sin(2*math.Pi*l.hz*float64(l.n+i)/8000))
	}
	if t := l.track.Load(); t != nil {
		if l.clock != 0 {
			t.WriteLinear(l.ts, l.clock, time.Now(), pcm)
		} else {
			var b [160]byte
			l.law.Encode(b[:], pcm)
			t.Write(l.ts, time.Now(), l.law, b[:])
		}
	}
	l.pass()
}

// pass lets a packet time go by in silence: nothing is sent.
func (l *tappedLeg) pass() {
	l.n += 160
	if l.clock != 0 {
		l.ts += uint32(l.clock / 50)
	} else {
		l.ts += 160
	}
}

// recordingPCM reads both channels of a recording.
func recordingPCM(t *testing.T, path string) (left, right []int16) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := bytes.NewReader(data)
	f, size, err := wavOpen(r)
	if err != nil {
		t.Fatal(err)
	}
	if f.channels != 2 || f.rate != 8000 {
		t.Fatalf("%d channels at %d Hz", f.channels, f.rate)
	}
	body := data[len(data)-r.Len():]
	if int64(len(body)) != max(size, 0) && size != -1 {
		t.Fatalf("the header says %d bytes, there are %d", size, len(body))
	}
	for i := 0; i+1 < len(body); i += 2 {
		left = append(left, int16(f.sample(body[i:])))
		right = append(right, int16(f.sample(body[i+1:])))
	}
	return left, right
}

// amplitude is the level of one frequency.
func amplitude(pcm []int16, rate int, hz float64) float64 {
	var re, im float64
	for i, s := range pcm {
		a := 2 * math.Pi * hz * float64(i) / float64(rate)
		re += float64(s) * math.Cos(a)
		im += float64(s) * math.Sin(a)
	}
	return 2 * math.Hypot(re, im) / float64(max(1, len(pcm)))
}

func loudness(pcm []int16) float64 {
	sum := 0.0
	for _, s := range pcm {
		sum += float64(s) * float64(s)
	}
	return math.Sqrt(sum / float64(max(1, len(pcm))))
}

// seconds cuts a piece out of a channel.
func seconds(pcm []int16, from, to float64) []int16 {
	a, b := int(from*8000), int(to*8000)
	return pcm[min(a, len(pcm)):min(b, len(pcm))]
}

func newTestRecording(t *testing.T, r *Recorder, o RecordOptions) *Recording {
	t.Helper()
	rec, err := r.Record(filepath.Join(t.TempDir(), "2026", "11", "21", "guid.wav"), o)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func stopRecording(t *testing.T, rec *Recording) RecordingInfo {
	t.Helper()
	info, err := rec.Stop()
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// The customer is on the left, the agent on the right, whatever they speak,
// and the file keeps the customer's G.711 as it came.
func TestRecordingHasBothSides(t *testing.T) {
	tests := []struct {
		name            string
		customer, agent *tappedLeg
		tag             byte
	}{
		{"both A-law", &tappedLeg{law: codec.ALaw, hz: 1000}, &tappedLeg{law: codec.ALaw, hz: 400, ts: 77}, wavALaw},
		{"both µ-law", &tappedLeg{law: codec.ULaw, hz: 1000}, &tappedLeg{law: codec.ULaw, hz: 400, ts: math.MaxUint32 - 20000}, wavULaw},
		{"mixed laws", &tappedLeg{law: codec.ALaw, hz: 1000}, &tappedLeg{law: codec.ULaw, hz: 400}, wavALaw},
		{"agent on Opus", &tappedLeg{law: codec.ALaw, hz: 1000}, &tappedLeg{clock: 48000, hz: 400, ts: math.MaxUint32 - 100000}, wavALaw},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := NewRecorder(RecorderOptions{})
				defer r.Close() //nolint:errcheck // nothing is open then
				rec := newTestRecording(t, r, RecordOptions{})
				rec.Customer(tt.customer)
				rec.Agent(tt.agent)
				for range 400 {
					tt.customer.say()
					tt.agent.say()
					time.Sleep(20 * time.Millisecond)
				}
				info := stopRecording(t, rec)
				if info.Duration != 8*time.Second || info.Lost != 0 {
					t.Errorf("%+v", info)
				}
				data, err := os.ReadFile(info.Path)
				if err != nil {
					t.Fatal(err)
				}
				sum := sha256.Sum256(data)
				if info.SHA256 != hex.EncodeToString(sum[:]) || info.Bytes != int64(len(data)) {
					t.Error("size or checksum are not the file's")
				}
				if data[20] != tt.tag {
					t.Errorf("format %d, want %d", data[20], tt.tag)
				}
				left, right := recordingPCM(t, info.Path)
				if len(left) != 8*8000 {
					t.Errorf("%d samples", len(left))
				}
				if a, b := amplitude(left, 8000, 1000), amplitude(left, 8000, 400); a < 7500 || b > 100 {
					t.Errorf("left: 1000 Hz at %.0f, 400 Hz at %.0f", a, b)
				}
				if a, b := amplitude(right, 8000, 400), amplitude(right, 8000, 1000); a < 7500 || b > 100 {
					t.Errorf("right: 400 Hz at %.0f, 1000 Hz at %.0f", a, b)
				}
			})
		})
	}
}

// Whoever is absent, silent or muted leaves silence, and what follows stays in place.
func TestRecordingKeepsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder(RecorderOptions{})
		defer r.Close() //nolint:errcheck // nothing is open then
		rec := newTestRecording(t, r, RecordOptions{})
		customer := &tappedLeg{law: codec.ULaw, hz: 1000}
		first, second := &tappedLeg{law: codec.ULaw, hz: 400}, &tappedLeg{clock: 48000, hz: 600}
		rec.Customer(customer)
		for i := range 1000 { // 20 s
			at := float64(i) / 50
			switch at {
			case 2:
				rec.Agent(first)
			case 10:
				rec.Agent(nil) // the agent's app was killed
			case 14:
				rec.Agent(second) // and is back on another leg
			}
			if at >= 5 && at < 7 { // on hold: the customer's music is not theirs
				customer.pass()
			} else {
				customer.say()
			}
			if at >= 8 && at < 9 {
				first.pass()
			} else {
				first.say()
			}
			second.say()
			time.Sleep(20 * time.Millisecond)
		}
		info := stopRecording(t, rec)
		left, right := recordingPCM(t, info.Path)
		check := func(name string, pcm []int16, from, to, hz float64) {
			t.Helper()
			piece := seconds(pcm, from+0.05, to-0.05)
			if hz == 0 {
				if l := loudness(piece); l > 10 {
					t.Errorf("%s from %v to %v s: %.0f instead of silence", name, from, to, l)
				}
				return
			}
			if a := amplitude(piece, 8000, hz); a < 7000 {
				t.Errorf("%s from %v to %v s: %v Hz at %.0f", name, from, to, hz, a)
			}
		}
		check("left", left, 0, 5, 1000)
		check("left", left, 5, 7, 0)
		check("left", left, 7, 20, 1000)
		check("right", right, 0, 2, 0)
		check("right", right, 2, 8, 400)
		check("right", right, 8, 9, 0)
		check("right", right, 9, 10, 400)
		check("right", right, 10, 14, 0)
		check("right", right, 14, 20, 600)
		if first.track.Load() != nil || customer.track.Load() != nil {
			t.Error("a leg is still tapped after Stop")
		}
	})
}

// Packets that come late, early, twice or in another order give the same file.
func TestRecordingOrdersPackets(t *testing.T) {
	record := func(t *testing.T, shake bool) []byte {
		t.Helper()
		var data []byte
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, 9))
			r := NewRecorder(RecorderOptions{})
			defer r.Close() //nolint:errcheck // nothing is open then
			rec := newTestRecording(t, r, RecordOptions{Codec: codec.PCMA})
			leg := &tappedLeg{law: codec.ALaw}
			rec.Customer(leg)
			track := leg.track.Load()
			type flight struct {
				ts uint32
				b  []byte
			}
			var held []flight
			for i := range 500 {
				b := make([]byte, 160)
				for k := range b {
					b[k] = byte(i*7 + k)
				}
				p := flight{uint32(i * 160), b}
				if shake && i > 0 && rnd.IntN(3) == 0 {
					held = append(held, p)
				} else {
					track.Write(p.ts, time.Now(), codec.ALaw, p.b)
				}
				if len(held) > 4 {
					rnd.Shuffle(len(held), func(a, b int) { held[a], held[b] = held[b], held[a] })
					for _, h := range held {
						track.Write(h.ts, time.Now(), codec.ALaw, h.b)
						track.Write(h.ts, time.Now(), codec.ALaw, h.b)
					}
					held = held[:0]
				}
				time.Sleep(20 * time.Millisecond)
			}
			for _, h := range held {
				track.Write(h.ts, time.Now(), codec.ALaw, h.b)
			}
			info := stopRecording(t, rec)
			var err error
			if data, err = os.ReadFile(info.Path); err != nil {
				t.Fatal(err)
			}
		})
		return data
	}
	if !bytes.Equal(record(t, false), record(t, true)) {
		t.Error("the network changed the recording")
	}
}

// A far clock 200 ppm wrong for 20 minutes: the sides stay within a tenth of a second.
func TestRecordingFollowsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder(RecorderOptions{})
		defer r.Close() //nolint:errcheck // nothing is open then
		rec := newTestRecording(t, r, RecordOptions{})
		leg := &tappedLeg{law: codec.ULaw}
		rec.Customer(leg)
		track := leg.track.Load()
		quiet, loud := make([]byte, 160), make([]byte, 160)
		codec.ULaw.Encode(quiet, make([]int16, 160))
		codec.ULaw.Encode(loud, bytes16(160, 9000))
		const packets = 60000
		for i := range packets {
			b := quiet
			if i == packets-100 {
				b = loud
			}
			track.Write(uint32(i*160), time.Now(), codec.ULaw, b)
			time.Sleep(20*time.Millisecond - 4*time.Microsecond)
		}
		want := float64(packets-100) * (0.02 - 0.000004)
		left, _ := recordingPCM(t, stopRecording(t, rec).Path)
		for i, s := range left {
			if s > 5000 {
				if at := float64(i) / 8000; math.Abs(at-want) > 0.1 {
					t.Errorf("a mark said at %.2f s is at %.2f s", want, at)
				}
				return
			}
		}
		t.Error("the mark is lost")
	})
}

func bytes16(n int, v int16) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		pcm[i] = v
	}
	return pcm
}

// A restarted sender (new random timestamp, no new leg) goes on at the right place.
func TestRecordingSurvivesTimestampJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder(RecorderOptions{})
		defer r.Close() //nolint:errcheck // nothing is open then
		rec := newTestRecording(t, r, RecordOptions{})
		leg := &tappedLeg{law: codec.ULaw, hz: 500}
		rec.Customer(leg)
		for i := range 500 {
			if i%100 == 50 {
				leg.ts += 0x40000000
			}
			leg.say()
			time.Sleep(20 * time.Millisecond)
		}
		info := stopRecording(t, rec)
		left, _ := recordingPCM(t, info.Path)
		for at := range 9 {
			if l := loudness(seconds(left, float64(at), float64(at+1))); l < 5000 {
				t.Errorf("second %d has a level of %.0f", at, l)
			}
		}
		if info.Duration != 10*time.Second {
			t.Errorf("%v long", info.Duration)
		}
	})
}

// LOG-013: a killed process leaves a recording that plays; repaired, it has
// all that was written.
func TestRecordingSurvivesACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder(RecorderOptions{})
		rec := newTestRecording(t, r, RecordOptions{})
		leg := &tappedLeg{law: codec.ALaw, hz: 1000}
		rec.Customer(leg)
		for range 600 {
			leg.say()
			time.Sleep(20 * time.Millisecond)
		}
		crashed, err := os.ReadFile(rec.Path())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "crashed.wav")
		if err := os.WriteFile(path, append(crashed, 0x55), 0o600); err != nil { // and half a sample
			t.Fatal(err)
		}
		f, size, err := wavOpen(bytes.NewReader(crashed))
		if err != nil || f.tag != wavALaw || size < 6*16000 {
			t.Errorf("before repair: %+v, %d bytes, %v", f, size, err)
		}
		for i, want := range []bool{true, false} {
			if done, err := RepairWAV(path); err != nil || done != want {
				t.Errorf("repair %d: %v, %v", i, done, err)
			}
		}
		left, _ := recordingPCM(t, path)
		if len(left) < 10*8000 || amplitude(left, 8000, 1000) < 7000 {
			t.Errorf("%d samples, tone at %.0f", len(left), amplitude(left, 8000, 1000))
		}
	})
}

func TestRepairLeavesOtherFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "note.wav")
	for _, text := range []string{"", "a note, long enough to hold a header of a recording, but none at all"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := RepairWAV(path); !errors.Is(err, ErrWAV) {
			t.Errorf("%q: %v", text, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// A full disk ends the recording with an alarm; the legs never notice.
func TestRecordingReportsAFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder(RecorderOptions{})
		defer r.Close() //nolint:errcheck // told to Failed
		var told []error
		rec := newTestRecording(t, r, RecordOptions{Failed: func(err error) { told = append(told, err) }})
		other := newTestRecording(t, r, RecordOptions{})
		rec.mu.Lock()
		if err := rec.file.Close(); err != nil {
			t.Fatal(err)
		}
		rec.file = full
		rec.mu.Unlock()
		a, b := &tappedLeg{law: codec.ALaw, hz: 1000}, &tappedLeg{law: codec.ALaw, hz: 1000}
		rec.Customer(a)
		other.Customer(b)
		for range 300 {
			a.say()
			b.say()
			time.Sleep(20 * time.Millisecond)
		}
		synctest.Wait()
		if len(told) != 1 || !errors.Is(told[0], syscall.ENOSPC) {
			t.Errorf("told %v", told)
		}
		if _, err := rec.Stop(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Stop says %v", err)
		}
		if info := stopRecording(t, other); info.Duration != 6*time.Second || info.Lost != 0 {
			t.Errorf("the other recording: %+v", info)
		}
	})
}

func TestRecordReportsABadFolder(t *testing.T) {
	r := NewRecorder(RecorderOptions{})
	defer r.Close() //nolint:errcheck // nothing is open
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Record(filepath.Join(file, "x.wav"), RecordOptions{}); err == nil {
		t.Error("recorded into a file as if it were a folder")
	}
	if _, err := r.Record(file, RecordOptions{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("an existing file: %v", err)
	}
}

// A disk that hangs for 12 s: memory stays bounded, what found no place is
// counted, and what comes after lies where it belongs.
func TestRecordingOutlivesAStuckDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder(RecorderOptions{})
		defer r.Close() //nolint:errcheck // nothing is open then
		rec := newTestRecording(t, r, RecordOptions{})
		leg := &tappedLeg{law: codec.ULaw, hz: 1000}
		rec.Customer(leg)
		for i := range 1500 { // 30 s
			switch i {
			case 250:
				rec.queued.Store(true) // as if a writer never came to it
			case 850:
				rec.queued.Store(false)
			}
			leg.say()
			time.Sleep(20 * time.Millisecond)
		}
		info := stopRecording(t, rec)
		if info.Duration != 30*time.Second || info.Lost < 6*time.Second || info.Lost > 12*time.Second {
			t.Errorf("%+v", info)
		}
		left, _ := recordingPCM(t, info.Path)
		if a := amplitude(seconds(left, 19, 30), 8000, 1000); a < 7500 {
			t.Errorf("after the trouble the tone is at %.0f", a)
		}
		if a := amplitude(seconds(left, 0, 5), 8000, 1000); a < 7500 {
			t.Errorf("before the trouble the tone is at %.0f", a)
		}
	})
}

func TestRecorderClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder(RecorderOptions{Sync: true})
		var recs []*Recording
		for range 30 {
			rec := newTestRecording(t, r, RecordOptions{})
			leg := &tappedLeg{law: codec.ULaw, hz: 1000}
			rec.Customer(leg)
			leg.say()
			recs = append(recs, rec)
		}
		time.Sleep(2 * time.Second)
		first := stopRecording(t, recs[0])
		if again := stopRecording(t, recs[0]); again != first {
			t.Errorf("%+v then %+v", first, again)
		}
		for range 2 {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for _, rec := range recs {
			if info := stopRecording(t, rec); info.Duration != 2*time.Second || info.SHA256 == "" {
				t.Errorf("%+v", info)
			}
		}
		if _, err := r.Record(filepath.Join(t.TempDir(), "x.wav"), RecordOptions{}); !errors.Is(err, ErrRecorderClosed) {
			t.Errorf("recorded after Close: %v", err)
		}
	})
}

func TestTrackAllocatesNothing(t *testing.T) {
	r := NewRecorder(RecorderOptions{})
	defer r.Close() //nolint:errcheck // its recording is thrown away
	rec := newTestRecording(t, r, RecordOptions{})
	leg := &tappedLeg{}
	rec.Customer(leg)
	track := leg.track.Load()
	payload, pcm := make([]byte, 160), make([]int16, 160)
	ts := uint32(0)
	now := time.Now()
	if n := testing.AllocsPerRun(1000, func() {
		track.Write(ts, now, codec.ALaw, payload)
		track.WriteLinear(ts, 8000, now, pcm)
		ts += 160
		now = now.Add(20 * time.Millisecond)
	}); n != 0 {
		t.Errorf("%.1f allocations a packet", n)
	}
}

func FuzzTrack(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 160, 20, 1, 0, 0, 0, 160, 160, 20, 0})
	f.Add([]byte{255, 255, 255, 0, 255, 255, 0, 0, 0, 0, 7, 3, 255, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		rec := &Recording{start: time.Unix(0, 0)}
		rec.customer.rec, rec.agent.rec = rec, rec
		tr := &Track{side: &rec.customer}
		now := rec.start
		var out [2 * flushChunk]byte
		payload := make([]byte, 512)
		for ; len(data) >= 7; data = data[7:] {
			now = now.Add(time.Duration(data[5]) * 4 * time.Millisecond)
			ts := uint32(data[0])<<24 | uint32(data[1])<<16 | uint32(data[2])<<8 | uint32(data[3])
			if data[6]&1 == 0 {
				tr.Write(ts, now, codec.Law(data[6]>>1&1), payload[:2*int(data[4])])
			} else {
				tr.WriteLinear(ts, 48000, now, bytes16(int(data[4]), 1))
			}
			if data[6]&0x10 != 0 {
				to := min(rec.samples(now.Add(-flushLag)), rec.customer.flushed+flushChunk)
				if to > rec.customer.flushed {
					rec.customer.take(out[:], 0, to, 0xFF)
				}
			}
		}
	})
}

// The price of recording one packet, file and all: 100 calls of two sides.
func BenchmarkRecording(b *testing.B) {
	r := NewRecorder(RecorderOptions{})
	dir := b.TempDir()
	const calls = 100
	var tracks []*Track
	var recs []*Recording
	for i := range calls {
		rec, err := r.Record(filepath.Join(dir, string(rune('a'+i%26))+string(rune('a'+i/26))+".wav"), RecordOptions{})
		if err != nil {
			b.Fatal(err)
		}
		for _, s := range []func(Tapped){rec.Customer, rec.Agent} {
			leg := &tappedLeg{}
			s(leg)
			tracks = append(tracks, leg.track.Load())
		}
		recs = append(recs, rec)
	}
	payload := make([]byte, 160)
	for i := range payload {
		payload[i] = byte(i)
	}
	now := recs[0].start
	ts := uint32(0)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i == len(tracks) { // 20 ms later
			i = 0
			ts += 160
			now = now.Add(20 * time.Millisecond)
			if ts%8000 == 0 {
				for _, rec := range recs {
					if err := rec.flush(rec.samples(now.Add(-flushLag))); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
		tracks[i].Write(ts, now, codec.ALaw, payload)
		i++
	}
	b.StopTimer()
	_ = r.Close()
}
