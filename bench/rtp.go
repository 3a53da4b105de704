package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/srtp/v3"
)

const (
	frame     = 20 * time.Millisecond
	rtpHead   = 12
	payload   = 160 // G.711
	mark      = 0x55
	srtpSlack = 32
)

// stream is one leg's far side: it sends a packet in 20 ms with the time inside
// and takes what comes.
type stream struct {
	conn *net.UDPConn
	at   netip.AddrPort
	key  string // ours, of SDES; empty = plain RTP

	to   netip.AddrPort
	seal *srtp.Context
	open *srtp.Context

	seq   uint16
	ts    uint32
	ssrc  uint32
	buf   []byte
	plain []byte

	got    atomic.Int64
	others atomic.Int64 // not of our generator: music, a phone's voice
	gaps   atomic.Int64 // sequence numbers missing among those
	level  atomic.Int64 // unix nanoseconds of the first packet of one level: a phone's voice
	seen   uint16       // the newest of them; of the reader
	record atomic.Bool
	delays []time.Duration // of the reader while record is on
}

func newStream(ctx context.Context, host string, sdes bool) (*stream, error) {
	c, err := listen(ctx, host)
	if err != nil {
		return nil, err
	}
	s := &stream{conn: c, at: localOf(c), buf: make([]byte, 0, rtpHead+payload+srtpSlack), plain: make([]byte, rtpHead+payload)}
	s.ssrc = uint32(s.at.Port())<<8 | 1
	if sdes {
		b := make([]byte, 30)
		if _, err := rand.Read(b); err != nil {
			return nil, errors.Join(fmt.Errorf("make a key: %w", err), c.Close())
		}
		s.key = base64.StdEncoding.EncodeToString(b)
		if s.seal, err = srtpContext(s.key); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return s, nil
}

func srtpContext(key string) (*srtp.Context, error) {
	b, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(b) != 30 {
		return nil, fmt.Errorf("sdes key of %d bytes: %w", len(b), errRefused)
	}
	c, err := srtp.CreateContext(b[:16], b[16:], srtp.ProtectionProfileAes128CmHmacSha1_80)
	if err != nil {
		return nil, fmt.Errorf("sdes key: %w", err)
	}
	return c, nil
}

// describe is what the stream offers or answers.
func (s *stream) describe() string { return describe(s.at, s.key) }

// connect reads where the far side wants packets.
func (s *stream) connect(sdp string) error {
	to, key, err := mediaOf(sdp)
	if err != nil {
		return err
	}
	s.to = to
	if s.key == "" {
		return nil
	}
	s.open, err = srtpContext(key)
	return err
}

func (s *stream) send(start time.Time) error {
	s.seq++
	s.ts += payload
	b := s.plain
	b[0], b[1] = 0x80, 0
	binary.BigEndian.PutUint16(b[2:], s.seq)
	binary.BigEndian.PutUint32(b[4:], s.ts)
	binary.BigEndian.PutUint32(b[8:], s.ssrc)
	for i := rtpHead; i < len(b); i++ {
		b[i] = mark
	}
	binary.BigEndian.PutUint64(b[rtpHead+8:], uint64(time.Since(start)))
	if s.seal != nil {
		var err error
		if b, err = s.seal.EncryptRTP(s.buf[:0], b, nil); err != nil {
			return fmt.Errorf("encrypt: %w", err)
		}
	}
	_, err := s.conn.WriteToUDPAddrPort(b, s.to)
	return err //nolint:wrapcheck // counted only
}

func (s *stream) read(start time.Time) {
	buf, out := make([]byte, 2048), make([]byte, 0, 2048)
	for {
		n, _, err := s.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		now := time.Since(start)
		b := buf[:n]
		if n < rtpHead || b[1]&0x7f >= 72 && b[1]&0x7f <= 79 { // RTCP on the same port
			continue
		}
		if s.open != nil {
			if b, err = s.open.DecryptRTP(out[:0], b, nil); err != nil {
				continue
			}
		}
		if len(b) != rtpHead+payload || b[rtpHead] != mark || b[rtpHead+7] != mark {
			s.other(b)
			continue
		}
		s.got.Add(1)
		if s.record.Load() {
			s.delays = append(s.delays, now-time.Duration(binary.BigEndian.Uint64(b[rtpHead+8:])))
		}
	}
}

// other takes a packet that is not of the generator.
func (s *stream) other(b []byte) {
	seq := binary.BigEndian.Uint16(b[2:])
	if step := int16(seq - s.seen); s.others.Add(1) == 1 || step > 0 {
		if s.record.Load() && step > 1 && step < 1000 {
			s.gaps.Add(int64(step - 1))
		}
		s.seen = seq
	} else if s.record.Load() {
		s.gaps.Add(-1) // late, not lost
	}
	const uLawQuiet, aLawQuiet = 0xff, 0xd5
	v := b[len(b)-1]
	if len(b) < rtpHead+payload || v == uLawQuiet || v == aLawQuiet || v == mark {
		return
	}
	for _, x := range b[len(b)-payload:] {
		if x != v {
			return
		}
	}
	s.level.CompareAndSwap(0, time.Now().UnixNano())
}

// traffic is what a run of the load saw.
type traffic struct {
	sent, got int64
	delay     []time.Duration
	used      time.Duration // CPU of the relay, less its idle share
	took      time.Duration
}

func (t traffic) lost() int64 { return t.sent - t.got }

// perMinute is the CPU of one of n calls in a minute.
func (t traffic) perMinute(n int) float64 {
	return ms(t.used) * float64(time.Minute) / float64(t.took) / float64(n)
}

// talk lets all streams send for d and measures the CPU of a process meanwhile.
func talk(ctx context.Context, list []*stream, pid int, idle float64, d time.Duration) (traffic, error) {
	start := time.Now()
	var readers sync.WaitGroup
	for _, s := range list {
		readers.Go(func() { s.read(start) })
	}
	var sent atomic.Int64
	// A second to warm up: latches lock, bridges are up.
	warm := int(time.Second / frame)
	n := int(d/frame) + warm
	const groups = 20 // phones do not march in step
	var m meter
	var t traffic
	for i := range n {
		if i == warm {
			if err := wait(ctx, 100*time.Millisecond); err != nil { // what is under way arrives
				return t, err
			}
			sent.Store(0)
			for _, s := range list {
				s.got.Store(0)
				s.record.Store(true)
			}
			var err error
			if m, err = measure(pid); err != nil {
				return t, err
			}
		}
		begin := start.Add(time.Duration(i) * frame)
		if i >= warm {
			begin = m.from.Add(time.Duration(i-warm) * frame)
		}
		for g := range groups {
			if err := wait(ctx, time.Until(begin.Add(time.Duration(g)*frame/groups))); err != nil {
				return t, err
			}
			for j := g; j < len(list); j += groups {
				if list[j].send(start) == nil {
					sent.Add(1)
				}
			}
		}
	}
	if err := wait(ctx, time.Until(m.from.Add(d))); err != nil {
		return t, err
	}
	var err error
	if t.used, t.took, err = m.read(); err != nil {
		return t, err
	}
	t.used -= time.Duration(idle * float64(t.took))
	if err := wait(ctx, 200*time.Millisecond); err != nil {
		return t, err
	}
	for _, s := range list {
		_ = s.conn.Close()
	}
	readers.Wait()
	t.sent = sent.Load()
	for _, s := range list {
		t.got += s.got.Load()
		t.delay = append(t.delay, s.delays...)
	}
	return t, nil
}
