//go:build e2e && linux

package faults

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/gateway/media/sdp"
)

const (
	rate     = 8000
	frame    = 160
	payloadA = 8 // PCMA
)

// voice is one end of a media stream: it says a tone and remembers the last
// seconds of what it heard.
type voice struct {
	conn *net.UDPConn
	to   atomic.Pointer[netip.AddrPort]
	mute atomic.Bool
	got  atomic.Int64 // packets
	stop chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex
	heard []heardFrame
}

type heardFrame struct {
	at  time.Time
	pcm []int16
}

// newVoice opens a socket; freq 0 says silence.
func newVoice(t *testing.T, freq float64) *voice {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	v := &voice{conn: c, stop: make(chan struct{})}
	v.wg.Go(v.listen)
	v.wg.Go(func() { v.talk(freq) })
	t.Cleanup(v.close)
	return v
}

func (v *voice) close() {
	v.mu.Lock()
	select {
	case <-v.stop:
	default:
		close(v.stop)
	}
	v.mu.Unlock()
	_ = v.conn.Close()
	v.wg.Wait()
}

func (v *voice) port() int { return v.conn.LocalAddr().(*net.UDPAddr).Port }

// sdp describes this voice: PCMA and telephone events.
func (v *voice) sdp() []byte {
	return describe(v.port(), "8 101", "a=rtpmap:8 PCMA/8000", "a=rtpmap:101 telephone-event/8000")
}

func describe(port int, formats string, attrs ...string) []byte {
	return fmt.Appendf(nil, "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/AVP %s\r\n%s\r\na=sendrecv\r\n",
		port, formats, strings.Join(attrs, "\r\n"))
}

// aim sends to where an SDP says.
func (v *voice) aim(body []byte) error {
	a, err := mediaAddr(body)
	if err != nil {
		return err
	}
	v.to.Store(&a)
	return nil
}

func mediaAddr(body []byte) (netip.AddrPort, error) {
	s, err := sdp.Parse(body)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(s.Media) == 0 {
		return netip.AddrPort{}, fmt.Errorf("no media in %q", body)
	}
	return s.Media[0].Addr(), nil
}

func (v *voice) talk(freq float64) {
	enc := codec.NewG711Encoder(codec.LawOf("PCMA"))
	pkt := make([]byte, 12+frame)
	pcm := make([]int16, frame)
	seq, ts, ssrc := uint16(rand.Uint32()), rand.Uint32(), rand.Uint32()
	n := 0
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-v.stop:
			return
		}
		for i := range pcm {
			pcm[i] = 0
			if freq > 0 {
				pcm[i] = int16(6000 * math.Sin(2*math.Pi*freq*float64(n)/rate))
			}
			n++
		}
		seq, ts = seq+1, ts+frame
		to := v.to.Load()
		if to == nil || v.mute.Load() {
			continue
		}
		pkt[0], pkt[1] = 0x80, payloadA
		binary.BigEndian.PutUint16(pkt[2:], seq)
		binary.BigEndian.PutUint32(pkt[4:], ts)
		binary.BigEndian.PutUint32(pkt[8:], ssrc)
		if n, err := enc.Encode(pkt[12:], pcm); err == nil {
			_, _ = v.conn.WriteToUDPAddrPort(pkt[:12+n], *to)
		}
	}
}

func (v *voice) listen() {
	buf := make([]byte, 2048)
	for {
		n, _, err := v.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			select {
			case <-v.stop:
				return
			default:
				continue // an ICMP error of a peer that is gone
			}
		}
		if n < 12 || buf[0]>>6 != 2 || buf[1]&0x7f != payloadA {
			continue
		}
		v.got.Add(1)
		pcm := make([]int16, n-12)
		for i, b := range buf[12:n] {
			pcm[i] = alaw(b)
		}
		v.mu.Lock()
		v.heard = append(v.heard, heardFrame{time.Now(), pcm})
		if len(v.heard) > 1000 {
			v.heard = append(v.heard[:0], v.heard[500:]...)
		}
		v.mu.Unlock()
	}
}

// alaw decodes one octet (ITU-T G.711).
func alaw(b byte) int16 {
	b ^= 0x55
	v := int(b&0x0f)<<4 + 8
	if seg := (b & 0x70) >> 4; seg > 0 {
		v = (v + 0x100) << (seg - 1)
	}
	if b&0x80 == 0 {
		v = -v
	}
	return int16(v)
}

// last returns what was heard in the last d.
func (v *voice) last(d time.Duration) []int16 {
	v.mu.Lock()
	defer v.mu.Unlock()
	from := time.Now().Add(-d)
	var out []int16
	for _, f := range v.heard {
		if f.at.After(from) {
			out = append(out, f.pcm...)
		}
	}
	return out
}

// forget drops what was heard so far.
func (v *voice) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.heard = v.heard[:0]
}

// share is how much of what was heard in the last d is the tone: 0 to 1.
func (v *voice) share(freq float64, d time.Duration) float64 { return toneShare(v.last(d), freq) }

// loudness is the root mean square of the last d.
func (v *voice) loudness(d time.Duration) float64 { return rms(v.last(d)) }

func rms(pcm []int16) float64 {
	if len(pcm) == 0 {
		return 0
	}
	sum := 0.0
	for _, s := range pcm {
		sum += float64(s) * float64(s)
	}
	return math.Sqrt(sum / float64(len(pcm)))
}

// toneShare is the share of one frequency in the power, by Goertzel's algorithm
// over 100 ms blocks.
func toneShare(pcm []int16, freq float64) float64 {
	const block = rate / 10
	total, tone := 0.0, 0.0
	for ; len(pcm) >= block; pcm = pcm[block:] {
		w := 2 * math.Cos(2*math.Pi*freq/rate)
		var s1, s2, e float64
		for _, x := range pcm[:block] {
			s := float64(x) + w*s1 - s2
			s1, s2 = s, s1
			e += float64(x) * float64(x)
		}
		total += e
		tone += (s1*s1 + s2*s2 - w*s1*s2) * 2 / block
	}
	if total == 0 {
		return 0
	}
	return tone / total
}

// hears waits until a tone fills most of what is heard.
func (v *voice) hears(t *testing.T, who string, freq float64, within time.Duration) {
	t.Helper()
	end := time.Now().Add(within)
	for {
		pcm := v.last(500 * time.Millisecond)
		if len(pcm) > rate/5 && toneShare(pcm, freq) > 0.6 && rms(pcm) > 200 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not hear %v Hz within %s: share %.2f, loudness %.0f, packets %d", who, freq, within,
				v.share(freq, 500*time.Millisecond), v.loudness(500*time.Millisecond), v.got.Load())
		}
		time.Sleep(20 * time.Millisecond)
	}
}
