package media

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/stun/v4"
	"github.com/pion/webrtc/v4"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/gateway/media/dtmf"
)

// webrtcPeer is a phone of pion's full WebRTC stack.
type webrtcPeer struct {
	*ear
	pc    *webrtc.PeerConnection
	track *webrtc.TrackLocalStaticRTP
	name  string
	stop  chan struct{}
	wg    sync.WaitGroup
	state chan webrtc.PeerConnectionState
	rtp   *webrtc.RTPSender

	reports atomic.Int32 // sender reports with a report block
}

func newWebRTCPeer(tb testing.TB, name string, freq float64) *webrtcPeer {
	tb.Helper()
	var me webrtc.MediaEngine
	c, _ := codec.Lookup(name)
	capability := webrtc.RTPCodecCapability{MimeType: "audio/" + name, ClockRate: uint32(c.ClockRate), SDPFmtpLine: c.Fmtp}
	if name == codec.Opus {
		capability.Channels = 2
	}
	pt := webrtc.PayloadType(c.PayloadType)
	if !c.Static() {
		pt = 109
	}
	events := webrtc.RTPCodecCapability{MimeType: "audio/telephone-event", ClockRate: uint32(c.ClockRate), SDPFmtpLine: "0-16"}
	for _, p := range []webrtc.RTPCodecParameters{{RTPCodecCapability: capability, PayloadType: pt}, {RTPCodecCapability: events, PayloadType: 126}} {
		if err := me.RegisterCodec(p, webrtc.RTPCodecTypeAudio); err != nil {
			tb.Fatal(err)
		}
	}
	var se webrtc.SettingEngine
	se.SetIncludeLoopbackCandidate(true)
	se.SetInterfaceFilter(func(n string) bool { return n == "lo" })
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	var registry interceptor.Registry
	if err := webrtc.ConfigureRTCPReports(&registry); err != nil {
		tb.Fatal(err)
	}
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(&me), webrtc.WithSettingEngine(se), webrtc.WithInterceptorRegistry(&registry)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		tb.Fatal(err)
	}
	p := &webrtcPeer{ear: newEar(c.ClockRate, c.ClockRate), pc: pc, name: name, stop: make(chan struct{}), state: make(chan webrtc.PeerConnectionState, 16)}
	if p.track, err = webrtc.NewTrackLocalStaticRTP(capability, "audio", "phone"); err != nil {
		tb.Fatal(err)
	}
	if p.rtp, err = pc.AddTrack(p.track); err != nil {
		tb.Fatal(err)
	}
	connected := make(chan struct{})
	var once sync.Once
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			once.Do(func() { close(connected) })
		}
		select {
		case p.state <- s:
		default:
		}
	})
	pc.OnTrack(func(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		p.wg.Go(func() { p.readReports(r.Read) })
		p.listen(t)
	})
	p.wg.Go(func() { p.readReports(p.rtp.Read) }) // pion handles RTCP only where it is read
	p.wg.Go(func() {
		select {
		case <-connected:
			p.speak(freq, uint32(c.ClockRate))
		case <-p.stop:
		}
	})
	tb.Cleanup(func() {
		close(p.stop)
		_ = pc.Close()
		p.wg.Wait()
	})
	return p
}

// readReports counts the reports of the gateway.
func (p *webrtcPeer) readReports(read func([]byte) (int, interceptor.Attributes, error)) {
	buf := make([]byte, 1500)
	for {
		n, _, err := read(buf)
		if err != nil {
			return
		}
		packets, err := rtcp.Unmarshal(buf[:n])
		if err != nil {
			continue
		}
		for _, packet := range packets {
			if r, ok := packet.(*rtcp.SenderReport); ok && r.PacketCount > 0 && len(r.Reports) == 1 {
				p.reports.Add(1)
			}
		}
	}
}

func (p *webrtcPeer) listen(t *webrtc.TrackRemote) {
	dec, err := codec.NewDecoder(p.name, p.rate)
	if err != nil {
		return
	}
	pcm := make([]int16, codec.MaxFrameSamples)
	speech := uint8(t.PayloadType())
	for {
		pkt, _, err := t.ReadRTP()
		if err != nil {
			if strings.Contains(err.Error(), "EOF") || errors.Is(err, webrtc.ErrConnectionClosed) {
				return
			}
			continue
		}
		own := rtpPacket{payload: pkt.Payload, ts: pkt.Timestamp, ssrc: pkt.SSRC, seq: pkt.SequenceNumber, marker: pkt.Marker}
		if pkt.PayloadType != speech {
			p.hear(&own, nil, true)
			continue
		}
		n, err := dec.Decode(pcm, pkt.Payload)
		if err != nil {
			continue
		}
		p.hear(&own, pcm[:n], false)
	}
}

func (p *webrtcPeer) speak(freq float64, rate uint32) {
	enc, err := codec.NewEncoder(p.name, int(rate))
	if err != nil {
		return
	}
	ticker := time.NewTicker(codec.FrameDuration)
	defer ticker.Stop()
	start, n, frame := time.Now(), 0, int(rate)/50
	buf := make([]byte, 1500)
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
		}
		for due := int(time.Since(start) / codec.FrameDuration); n < due; n++ {
			size, err := enc.Encode(buf, tone(freq, int(rate), n*frame, frame))
			if err != nil {
				return
			}
			_ = p.track.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: uint16(n), Timestamp: uint32(n * frame)}, Payload: buf[:size]})
		}
	}
}

// call offers to a port of ours, as a phone that calls out.
func (p *webrtcPeer) call(tb testing.TB, port *Port, o *webrtc.OfferOptions) {
	tb.Helper()
	offer, err := p.pc.CreateOffer(o)
	if err != nil {
		tb.Fatal(err)
	}
	done := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(offer); err != nil {
		tb.Fatal(err)
	}
	<-done
	answer, err := port.Answer(tb.Context(), []byte(p.pc.LocalDescription().SDP))
	if err != nil {
		tb.Fatal(err)
	}
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: string(answer)}); err != nil {
		tb.Fatalf("%v in\n%s", err, answer)
	}
}

// take answers an offer of ours, as a phone that is called.
func (p *webrtcPeer) take(tb testing.TB, port *Port) {
	tb.Helper()
	offer, err := port.Offer(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: string(offer)}); err != nil {
		tb.Fatalf("%v in\n%s", err, offer)
	}
	answer, err := p.pc.CreateAnswer(nil)
	if err != nil {
		tb.Fatal(err)
	}
	done := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(answer); err != nil {
		tb.Fatal(err)
	}
	<-done
	if err := port.Answered([]byte(p.pc.LocalDescription().SDP)); err != nil {
		tb.Fatal(err)
	}
}

func webrtcPort(tb testing.TB, e *Engine) (*Port, *heardEvents) {
	tb.Helper()
	h := newHeard()
	port, err := e.NewWebRTC(WebRTCOptions{}, h)
	if err != nil {
		tb.Fatal(err)
	}
	return port, h
}

func TestWebRTCPhoneTalksToTrunk(t *testing.T) {
	for _, tt := range []struct {
		name   string
		codec  string
		trunk  kind
		called bool // the phone is called: we offer
	}{
		{"PCMU passes through", codec.PCMU, kindPCMU, true},
		{"PCMU to PCMA", codec.PCMU, kindPCMA, false},
		{"Opus is transcoded", codec.Opus, kindPCMA, true},
		{"Opus, phone calls", codec.Opus, kindPCMU, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			e := newEngine(t)
			trunk, a, _ := rtpCall(t, e, tt.trunk, freqA, RTPOptions{})
			phone, hb := webrtcPort(t, e)
			b := newWebRTCPeer(t, tt.codec, freqB)
			if err := Join(trunk, phone); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if tt.called {
				b.take(t, phone)
			} else {
				b.call(t, phone, nil)
			}
			hb.wait(t, "connected", 5*time.Second)
			t.Logf("connected after %v", time.Since(began))
			if got := phone.Codec(); got != tt.codec {
				t.Fatalf("codec %q", got)
			}
			eventually(t, 3*time.Second, "trunk hears phone", func() bool { return a.hears(freqB, 200*time.Millisecond) })
			eventually(t, 3*time.Second, "phone hears trunk", func() bool { return b.hears(freqA, 200*time.Millisecond) })
			t.Logf("two-way audio after %v", time.Since(began))
			a.press(t, "17")
			eventually(t, 3*time.Second, "digits at the phone", func() bool { return b.pressed() == "17" })
			if j := a.broken(); len(j) > 0 {
				t.Errorf("stream to the trunk broke: %v", j)
			}
			if j := b.broken(); len(j) > 0 {
				t.Errorf("stream to the phone broke: %v", j)
			}
		})
	}
}

// An ICE restart (the phone's network changed) goes unnoticed by the call.
func TestICERestartKeepsTheCall(t *testing.T) {
	noLeaks(t)
	e := newEngine(t)
	trunk, a, _ := rtpCall(t, e, kindPCMU, freqA, RTPOptions{})
	phone, hb := webrtcPort(t, e)
	b := newWebRTCPeer(t, codec.PCMU, freqB)
	if err := Join(trunk, phone); err != nil {
		t.Fatal(err)
	}
	b.take(t, phone)
	hb.wait(t, "connected", 5*time.Second)
	eventually(t, 3*time.Second, "speech", func() bool {
		return a.hears(freqB, 200*time.Millisecond) && b.hears(freqA, 200*time.Millisecond)
	})
	before := phone.tr.(*webrtcLeg).present()
	phone.out.mu.Lock()
	old := phone.out.dest
	phone.out.mu.Unlock()
	b.call(t, phone, &webrtc.OfferOptions{ICERestart: true})
	if now := phone.tr.(*webrtcLeg).present(); now.ufrag == before.ufrag {
		t.Fatal("our credentials did not change")
	}
	a.clear()
	b.clear()
	eventually(t, 5*time.Second, "the new path is in use", func() bool {
		phone.out.mu.Lock()
		defer phone.out.mu.Unlock()
		return phone.out.dest != old
	})
	eventually(t, 5*time.Second, "speech after the restart", func() bool {
		return a.hears(freqB, 500*time.Millisecond) && b.hears(freqA, 500*time.Millisecond)
	})
	// pion closes its old socket at once: what is on its way there is lost, but
	// it stays one stream with one clock.
	for _, ear := range []*ear{a.ear, b.ear} {
		j := ear.broken()
		if len(j) > 2 || len(j) > 0 && !strings.HasPrefix(j[0], "seq") {
			t.Errorf("stream broke: %v", j)
		}
	}
}

// The hold of a phone is answered as RFC 3264 says and undone without harm.
func TestHoldAndUnhold(t *testing.T) {
	noLeaks(t)
	e := newEngine(t)
	trunk, a, _ := rtpCall(t, e, kindPCMU, freqA, RTPOptions{})
	phone, hb := webrtcPort(t, e)
	b := newWebRTCPeer(t, codec.PCMU, freqB)
	if err := Join(trunk, phone); err != nil {
		t.Fatal(err)
	}
	b.call(t, phone, nil)
	hb.wait(t, "connected", 5*time.Second)
	eventually(t, 3*time.Second, "speech", func() bool { return b.hears(freqA, 200*time.Millisecond) })

	sdpOf := func(direction string) []byte {
		return []byte(strings.Replace(b.pc.LocalDescription().SDP, "a=sendrecv", "a="+direction, 1))
	}
	for direction, want := range map[string]string{"sendonly": "a=recvonly", "inactive": "a=inactive"} {
		answer, err := phone.Answer(t.Context(), sdpOf(direction))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(answer), want) || !phone.Held() {
			t.Fatalf("%s answered with\n%s", direction, answer)
		}
		before := b.count()
		time.Sleep(200 * time.Millisecond)
		if n := b.count() - before; n > 3 {
			t.Errorf("%d packets sent to a phone that holds", n)
		}
		answer, err = phone.Answer(t.Context(), sdpOf("sendrecv"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(answer), "a=sendrecv") || phone.Held() {
			t.Fatalf("unhold answered with\n%s", answer)
		}
		eventually(t, 3*time.Second, "speech after hold", func() bool {
			return b.hears(freqA, 200*time.Millisecond) && a.hears(freqB, 200*time.Millisecond)
		})
	}
	if j := append(a.broken(), b.broken()...); len(j) > 0 {
		t.Errorf("stream broke: %v", j)
	}
}

func TestWebRTCDigitsOfThePhone(t *testing.T) {
	noLeaks(t)
	e := newEngine(t)
	trunk, a, _ := rtpCall(t, e, kindPCMA, freqA, RTPOptions{})
	phone, hb := webrtcPort(t, e)
	b := newWebRTCPeer(t, codec.Opus, freqB)
	if err := Join(trunk, phone); err != nil {
		t.Fatal(err)
	}
	b.take(t, phone)
	hb.wait(t, "connected", 5*time.Second)
	eventually(t, 3*time.Second, "speech", func() bool { return a.hears(freqB, 200*time.Millisecond) })
	// pion cannot send events on a codec's track: the event is put in by hand, at 48 kHz.
	sender := dtmf.NewSender(48000, codec.FrameDuration)
	if err := sender.Queue("5", 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	cfg := *phone.in.cfg.Load()
	var pt uint8
	for i, k := range cfg.kinds {
		if k == kindEvent {
			pt = uint8(i)
		}
	}
	if cfg.clocks[pt] != 48000 {
		t.Fatalf("events on %d at %d Hz", pt, cfg.clocks[pt])
	}
	for ts := uint32(1 << 20); sender.Active(); ts += 960 {
		p, ok := sender.Next(ts)
		if !ok {
			continue
		}
		phone.in.mu.Lock()
		phone.pressedLocked(&rtpPacket{payload: p.Payload[:], ts: p.Timestamp, marker: p.Marker}, 48000, time.Now())
		phone.in.mu.Unlock()
		phone.in.route.Load().to.out.event(&rtpPacket{payload: p.Payload[:], ts: p.Timestamp, seq: 1, marker: p.Marker}, 48000, e.now())
	}
	eventually(t, 3*time.Second, "digit at the trunk", func() bool { return a.pressed() == "5" })
	eventually(t, 3*time.Second, "digit reported", func() bool { return hb.pressed() == "5" })
}

// A closed port leaves nothing in the tables of the socket, and a stranger's
// binding request gets no answer.
func TestMuxForgetsClosedPorts(t *testing.T) {
	noLeaks(t)
	e := newEngine(t)
	phone, hb := webrtcPort(t, e)
	b := newWebRTCPeer(t, codec.PCMU, freqB)
	b.take(t, phone)
	hb.wait(t, "connected", 5*time.Second)
	leg := phone.tr.(*webrtcLeg)
	if e.mux.byUfrag(leg.present().ufrag) != leg {
		t.Fatal("not registered")
	}
	phone.Close()
	eventually(t, time.Second, "tables are empty", func() bool {
		e.mux.mu.Lock()
		defer e.mux.mu.Unlock()
		return len(e.mux.ufrags) == 0 && len(e.mux.gone) == 0
	})
	if n := e.Ports(); n != 0 {
		t.Errorf("%d ports left", n)
	}
	if _, err := phone.Offer(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed port offers: %v", err)
	}
	if err := Join(phone, phone); err == nil {
		t.Error("a port joined itself")
	}

	unknown := e.mux.unknown.Load()
	conn, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", e.mux.port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	request := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("nobody:here"), stun.NewShortTermIntegrity("guess"), stun.Fingerprint)
	if _, err := conn.Write(request.Raw); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Second, "counted", func() bool { return e.mux.unknown.Load() > unknown })
	if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes answered to a stranger", n)
	}
}

// A phone whose certificate is not the one it signalled is refused.
func TestForeignCertificateIsRefused(t *testing.T) {
	noLeaks(t)
	e := newEngine(t)
	phone, hb := webrtcPort(t, e)
	b := newWebRTCPeer(t, codec.PCMU, freqB)
	offer, err := b.pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	done := webrtc.GatheringCompletePromise(b.pc)
	if err := b.pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	<-done
	text := b.pc.LocalDescription().SDP
	at := strings.Index(text, "a=fingerprint:sha-256 ") + len("a=fingerprint:sha-256 ")
	forged := text[:at] + strings.Repeat("00:", 31) + "00" + text[at+95:]
	answer, err := phone.Answer(t.Context(), []byte(forged))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: string(answer)}); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-hb.log:
		if !strings.HasPrefix(got, "failed") {
			t.Errorf("event %q", got)
		}
	case <-time.After(5 * time.Second):
		t.Error("nothing was told")
	}
}
