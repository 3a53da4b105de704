package media

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/gateway/media/sdp"
)

// RTP from a stranger is neither heard nor followed, before and after the lock.
func TestStrangersAreRefused(t *testing.T) {
	noLeaks(t)
	e := newEngine(t)
	pa, a, _ := rtpCall(t, e, kindPCMU, freqA, RTPOptions{})
	pb, b, _ := rtpCall(t, e, kindPCMU, freqB, RTPOptions{})
	if err := Join(pa, pb); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Second, "speech", func() bool { return b.hears(freqA, 200*time.Millisecond) })
	stranger := newRTPPeer(t, kindPCMU, 2000)
	stranger.ssrc = a.ssrc // it even knows the source
	stranger.talk(a.dest)
	eventually(t, 2*time.Second, "strangers counted", func() bool { return pa.Strangers() > 20 })
	if !b.hears(freqA, 200*time.Millisecond) || b.hears(2000, 200*time.Millisecond) {
		t.Error("the stranger is heard")
	}
	if n := stranger.count(); n > 0 {
		t.Errorf("%d packets were sent to the stranger", n)
	}
	if !a.hears(freqB, 200*time.Millisecond) {
		t.Error("the far side lost its speech to the stranger")
	}
}

// A phone behind NAT is answered where it sends from, and only there; its
// re-INVITE with another address is followed.
func TestLatchThenReinvite(t *testing.T) {
	noLeaks(t)
	e := newEngine(t)
	h := newHeard()
	port, err := e.NewRTP(RTPOptions{}, h)
	if err != nil {
		t.Fatal(err)
	}
	peer := newRTPPeer(t, kindPCMA, freqA)
	described := peer.describe(sdp.SendRecv)
	described.Media[0].Port = 9 // nobody is there: as behind NAT
	answer, err := port.Answer(t.Context(), described.Write())
	if err != nil {
		t.Fatal(err)
	}
	s, err := sdp.Parse(answer)
	if err != nil {
		t.Fatal(err)
	}
	peer.talk(s.Media[0].Addr())
	h.wait(t, "connected", 2*time.Second)
	port.Play(PCMSource("tone", tone(600, 8000, 0, 8000), 8000), PlayOptions{Loop: true})
	eventually(t, 2*time.Second, "the phone hears", func() bool { return peer.hears(600, 200*time.Millisecond) })

	moved := newRTPPeer(t, kindPCMA, freqB)
	if _, err := port.Answer(t.Context(), moved.describe(sdp.SendRecv).Write()); err != nil {
		t.Fatal(err)
	}
	moved.talk(s.Media[0].Addr())
	eventually(t, 2*time.Second, "the new address hears", func() bool { return moved.hears(600, 200*time.Millisecond) })
	before := peer.count()
	time.Sleep(200 * time.Millisecond)
	if n := peer.count() - before; n > 0 {
		t.Errorf("%d packets still go to the old address", n)
	}
}

func TestLatchRules(t *testing.T) {
	signalled := netip.MustParseAddrPort("192.0.2.1:4000")
	nat := netip.MustParseAddrPort("198.51.100.7:5000")
	other := netip.MustParseAddrPort("203.0.113.9:6000")
	type step struct {
		from  netip.AddrPort
		ssrc  uint32
		seq   uint16
		epoch uint32
		ok    bool
		moved bool
	}
	tests := []struct {
		name  string
		ssrc  uint32 // described
		steps []step
	}{
		{"signalled first, others never", 0, []step{{signalled, 1, 1, 1, true, true}, {nat, 1, 2, 1, false, false}, {nat, 1, 3, 1, false, false}, {signalled, 1, 2, 1, true, false}}},
		{"another address needs two in a row", 0, []step{{nat, 1, 1, 1, false, false}, {nat, 1, 2, 1, true, true}, {other, 1, 3, 1, false, false}, {other, 1, 4, 1, false, false}}},
		{"two strangers do not make one", 0, []step{{nat, 1, 1, 1, false, false}, {other, 1, 2, 1, false, false}, {nat, 1, 2, 1, false, false}}},
		{"the signalled address takes over", 0, []step{{nat, 1, 1, 1, false, false}, {nat, 1, 2, 1, true, true}, {signalled, 2, 1, 1, true, true}, {nat, 1, 3, 1, false, false}}},
		{"the described source only", 7, []step{{nat, 1, 1, 1, false, false}, {nat, 1, 2, 1, false, false}, {nat, 7, 1, 1, false, false}, {nat, 7, 2, 1, true, true}}},
		{"a new description unlocks", 0, []step{{signalled, 1, 1, 1, true, true}, {nat, 1, 2, 2, false, false}, {nat, 1, 3, 2, true, true}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var l latch
			for i, s := range tt.steps {
				cfg := &reception{signalled: signalled, ssrc: tt.ssrc, epoch: s.epoch}
				if l.stranger(cfg, s.from) {
					if s.ok {
						t.Fatalf("step %d: a stranger", i)
					}
					continue
				}
				ok, moved := l.accept(cfg, s.from, &rtpPacket{ssrc: s.ssrc, seq: s.seq})
				if ok != s.ok || moved != s.moved {
					t.Fatalf("step %d: ok %v moved %v", i, ok, moved)
				}
			}
		})
	}
}

// Loss and reordering on a transcoded leg are concealed: the tone goes on.
func TestLossIsConcealed(t *testing.T) {
	noLeaks(t)
	e := newEngine(t)
	trunk, a, _ := rtpCall(t, e, kindPCMA, freqB, RTPOptions{})
	phone, hb := webrtcPort(t, e)
	b := newWebRTCPeer(t, codec.Opus, freqA)
	if err := Join(trunk, phone); err != nil {
		t.Fatal(err)
	}
	b.take(t, phone)
	hb.wait(t, "connected", 5*time.Second)
	eventually(t, 3*time.Second, "speech", func() bool { return b.hears(freqB, 200*time.Millisecond) })
	a.set(func() { a.drop = func(n int) bool { return n%10 == 3 } })
	time.Sleep(1200 * time.Millisecond)
	if !b.hears(freqB, time.Second) {
		t.Error("ten per cent of loss is heard")
	}
	if q := trunk.Quality(); q.Received.Lost < 3 || q.Received.LossPercent() > 15 || q.Received.MOS > 4.3 {
		t.Errorf("quality %+v", q.Received)
	}
	if q := phone.Quality(); q.Received.Lost > 0 || q.Received.MOS < 4.2 {
		t.Errorf("quality of the good leg %+v", q.Received)
	}
}

// Silence of the far side is told in two seconds, and its return.
func TestLostAndBack(t *testing.T) {
	noLeaks(t)
	e := newEngine(t)
	port, peer, h := rtpCall(t, e, kindPCMU, freqA, RTPOptions{})
	h.wait(t, "connected", time.Second)
	peer.set(func() { peer.quiet = true })
	h.wait(t, "lost", 2*time.Second)
	peer.set(func() { peer.quiet = false })
	h.wait(t, "back", time.Second)

	// Who holds may be silent.
	if _, err := port.Answer(t.Context(), peer.describe(sdp.Inactive).Write()); err != nil {
		t.Fatal(err)
	}
	if !port.Held() {
		t.Error("inactive is no hold")
	}
	peer.set(func() { peer.quiet = true })
	select {
	case got := <-h.log:
		t.Errorf("%s while the far side holds", got)
	case <-time.After(2 * time.Second):
	}
}

// Reports go both ways: round trip, loss and MOS of both directions.
func TestReportsBothWays(t *testing.T) {
	noLeaks(t)
	e := newEngine(t)
	trunk, _, _ := rtpCall(t, e, kindPCMU, freqA, RTPOptions{})
	phone, hb := webrtcPort(t, e)
	b := newWebRTCPeer(t, codec.PCMU, freqB) // pion sends and receives reports
	if err := Join(trunk, phone); err != nil {
		t.Fatal(err)
	}
	b.take(t, phone)
	hb.wait(t, "connected", 5*time.Second)
	eventually(t, 10*time.Second, "quality of both directions", func() bool {
		q := phone.Quality()
		return q.RTT > 0 && q.RTT < 100*time.Millisecond && q.Sent.MOS > 4 && q.Received.MOS > 4 && q.Received.Packets > 50
	})
	eventually(t, 10*time.Second, "our reports at the phone", func() bool { return b.reports.Load() > 0 })
	if q := phone.Close(); q.Sent.Packets < 50 || q.Codec != codec.PCMU {
		t.Errorf("final quality %+v", q)
	}
	if q := phone.Close(); q.Sent.Packets < 50 {
		t.Errorf("second Close: %+v", q)
	}
}

func TestDescriptionsThatDoNotFit(t *testing.T) {
	noLeaks(t)
	e := newEngine(t)
	peer := newRTPPeer(t, kindPCMU, freqA)
	only := func(name string, pt uint8) []byte {
		d := peer.describe(sdp.SendRecv)
		d.Media[0].Formats = []sdp.Format{{PayloadType: pt, Name: name, ClockRate: 8000, Channels: 1}}
		return d.Write()
	}
	crypto, err := sdp.NewCrypto(1, sdp.AES128SHA1Tag80)
	if err != nil {
		t.Fatal(err)
	}
	secure := peer.describe(sdp.SendRecv)
	secure.Media[0].Proto, secure.Media[0].Crypto = "RTP/SAVP", []sdp.Crypto{crypto}
	for _, tt := range []struct {
		name  string
		sdes  bool
		offer []byte
		want  error
	}{
		{"no common codec", false, only("G729", 18), ErrNoCommonCodec},
		{"events are no speech", false, only("telephone-event", 101), ErrNoCommonCodec},
		{"no audio", false, []byte("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 4000 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n"), ErrNoCommonCodec},
		{"plain to a leg that must be encrypted", true, peer.describe(sdp.SendRecv).Write(), ErrNotEncrypted},
		{"keys to a plain leg", false, secure.Write(), ErrNotEncrypted},
		{"garbage", false, []byte("hello"), sdp.ErrSyntax},
	} {
		t.Run(tt.name, func(t *testing.T) {
			port, err := e.NewRTP(RTPOptions{SDES: tt.sdes}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer port.Close()
			if _, err := port.Answer(t.Context(), tt.offer); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if err := port.Answered(peer.describe(sdp.SendRecv).Write()); !errors.Is(err, ErrState) {
				t.Errorf("an answer without an offer: %v", err)
			}
		})
	}
	phone, _ := webrtcPort(t, e)
	if _, err := phone.Answer(t.Context(), peer.describe(sdp.SendRecv).Write()); err == nil {
		t.Error("plain RTP on a WebRTC leg")
	}
}

// We offer, they answer; the codec of the answer counts.
func TestOfferToTrunk(t *testing.T) {
	noLeaks(t)
	e := newEngine(t)
	for _, encrypted := range []bool{false, true} {
		port, err := e.NewRTP(RTPOptions{Codecs: []string{codec.PCMA, codec.PCMU}, SDES: encrypted}, nil)
		if err != nil {
			t.Fatal(err)
		}
		offer, err := port.Offer(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s, err := sdp.Parse(offer)
		if err != nil {
			t.Fatal(err)
		}
		peer := newRTPPeer(t, kindPCMU, freqA)
		if encrypted {
			ours, err := sdp.NewCrypto(s.Media[0].Crypto[0].Tag, s.Media[0].Crypto[0].Suite)
			if err != nil {
				t.Fatal(err)
			}
			peer.crypto = []sdp.Crypto{ours}
			if peer.send, err = sdesCipher(ours); err != nil {
				t.Fatal(err)
			}
			if peer.recv, err = sdesCipher(s.Media[0].Crypto[0]); err != nil {
				t.Fatal(err)
			}
		}
		if err := port.Answered(peer.describe(sdp.SendRecv).Write()); err != nil {
			t.Fatal(err)
		}
		if got := port.Codec(); got != codec.PCMU {
			t.Fatalf("codec %q", got)
		}
		port.Play(PCMSource("tone", tone(600, 8000, 0, 8000), 8000), PlayOptions{Loop: true})
		peer.talk(s.Media[0].Addr())
		eventually(t, 2*time.Second, "the peer hears", func() bool { return peer.hears(600, 200*time.Millisecond) })
	}
}

func TestPortPool(t *testing.T) {
	p, err := newPortPool(loopback(), loopback(), [2]uint16{30001, 30009})
	if err != nil {
		t.Fatal(err)
	}
	if n := p.len(); n != 4 { // 30002 to 30009
		t.Fatalf("%d pairs", n)
	}
	rtp, rtcp, first, err := p.open()
	if err != nil {
		t.Skip("ports in use: ", err)
	}
	if got := rtp.LocalAddr().(*net.UDPAddr).Port; got != int(first) {
		t.Errorf("port %d is bound for %d", got, first)
	}
	if first%2 != 0 || rtcp.LocalAddr().(*net.UDPAddr).Port != int(first)+1 {
		t.Errorf("pair %d and %v", first, rtcp.LocalAddr())
	}
	_, _ = rtp.Close(), rtcp.Close()
	p.release(first)
	for range 3 {
		if next, _ := p.take(); next == first {
			t.Error("a port is used again right after its release")
		}
	}
	for _, bad := range [][2]uint16{{100, 50}, {101, 102}, {0, 1}} {
		if _, err := newPortPool(loopback(), loopback(), bad); err == nil {
			t.Errorf("range %v was taken", bad)
		}
	}
}

func FuzzRTPPacket(f *testing.F) {
	f.Add([]byte{0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7, 1, 2, 3})
	f.Add([]byte{0xB1, 0x80, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7, 0, 0, 0, 9, 0xBE, 0xDE, 0, 1, 1, 2, 3, 4, 5, 6, 2, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		var p rtpPacket
		if !p.parse(b) {
			return
		}
		out := make([]byte, rtpHeaderSize+len(p.payload))
		copy(out[rtpHeaderSize:], p.payload)
		p.write(out)
		var again rtpPacket
		if !again.parse(out) || again.seq != p.seq || again.ts != p.ts || again.ssrc != p.ssrc ||
			again.pt != p.pt || again.marker != p.marker || string(again.payload) != string(p.payload) {
			t.Fatalf("%+v became %+v", p, again)
		}
	})
}

// FuzzReceive throws anything at a plain and at a WebRTC port.
func FuzzReceive(f *testing.F) {
	f.Add([]byte{0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7, 1, 2, 3})
	f.Add([]byte{0x80, 200, 0, 1, 0, 0, 0, 160})
	f.Add([]byte{0x80, 101, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7, 5, 0x80, 3, 0x20})
	f.Add([]byte{0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	e := newEngine(f)
	peer := newRTPPeer(f, kindPCMU, freqA)
	port, err := e.NewRTP(RTPOptions{}, nil)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := port.Answer(f.Context(), peer.describe(sdp.SendRecv).Write()); err != nil {
		f.Fatal(err)
	}
	from := netip.AddrPortFrom(loopback(), peer.port())
	mux := &webrtcMux{e: e, conn: e.mux.conn, byAddr: map[netip.AddrPort]*webrtcLeg{}, ufrags: map[string]*webrtcLeg{}}
	f.Fuzz(func(_ *testing.T, b []byte) {
		mux.packet(b, from, time.Now())
		if len(b) > 1 {
			port.receiveRTCP(b, from, time.Now())
		}
		var p rtpPacket
		if p.parse(b) && p.pt == 101 { // as the reader would, without its goroutine
			port.in.mu.Lock()
			port.pressedLocked(&p, 8000, time.Now())
			port.in.mu.Unlock()
		}
	})
}
