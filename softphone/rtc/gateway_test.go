package rtc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/turn"
	"github.com/cordboard/cordboard/softphone/rtc"
)

// digits keeps what a port of the gateway hears pressed.
type digits struct {
	media.NoPortEvents

	mu   sync.Mutex
	text string
}

func (d *digits) DTMF(b byte, _ time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.text += string(b)
}

func newMedia(t *testing.T) (*media.Engine, netip.AddrPort) {
	t.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(pc.LocalAddr().String())
	e, err := media.New(media.Options{Host: at.Addr(), Bind: at.Addr(), WebRTC: pc})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		_ = pc.Close()
	})
	return e, at
}

// ported is a phone and its port in the gateway, which calls it.
func ported(t *testing.T, e *media.Engine, s *side) (*media.Port, *digits) {
	t.Helper()
	ev := &digits{}
	p, err := e.NewWebRTC(media.WebRTCOptions{}, ev)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	offer, err := p.Offer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := s.Answer(t.Context(), offer, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Answered(answer); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return s.State() == rtc.StateConnected }, "connected to the gateway")
	return p, ev
}

// modify is a re-INVITE of the phone.
func modify(t *testing.T, s *side, p *media.Port, hold, restart bool) {
	t.Helper()
	offer, err := s.Offer(t.Context(), hold, restart)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := p.Answer(t.Context(), offer)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Answered(answer); err != nil {
		t.Fatal(err)
	}
}

// Two phones talk through the gateway's own media: ICE-lite, one port, pass-through and transcoding.
func TestThroughTheGateway(t *testing.T) {
	for _, codecs := range [][2]string{{"opus", "opus"}, {"PCMA", "PCMA"}, {"opus", "PCMU"}} {
		t.Run(codecs[0]+"-"+codecs[1], func(t *testing.T) {
			e, _ := newMedia(t)
			a := newSide(t, 440, rtc.Options{Codecs: codecs[:1]})
			b := newSide(t, 1000, rtc.Options{Codecs: codecs[1:]})
			start := time.Now()
			pa, da := ported(t, e, a)
			t.Logf("connected after %v", time.Since(start))
			pb, _ := ported(t, e, b)
			if err := media.Join(pa, pb); err != nil {
				t.Fatal(err)
			}
			a.hears(t, 1000, true)
			b.hears(t, 440, true)

			if err := a.Press("19*", 0); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() bool { da.mu.Lock(); defer da.mu.Unlock(); return da.text == "19*" }, "digits at the gateway")
			if err := pb.SendDTMF("7", 0); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() bool { b.mu.Lock(); defer b.mu.Unlock(); return string(b.digits) == "19*7" }, "digits at the phone: the other phone's and the gateway's")

			modify(t, a, pa, true, false)
			if !pa.Held() {
				t.Error("gateway does not know of the hold")
			}
			a.hears(t, 1000, false)
			modify(t, a, pa, false, false)
			a.hears(t, 1000, true)
			b.hears(t, 440, true)

			modify(t, a, pa, false, true)
			eventually(t, func() bool { return a.State() == rtc.StateConnected }, "connected by a new path")
			a.mu.Lock()
			a.heard = nil
			a.mu.Unlock()
			a.hears(t, 1000, true)
			eventually(t, func() bool { q := a.Quality(); return q.RTT > 0 && q.MOS > 1 }, "figures of the call")
		})
	}
}

// The phone calls the gateway: it offers, the gateway answers.
func TestPhoneOffersToTheGateway(t *testing.T) {
	e, _ := newMedia(t)
	a, b := newSide(t, 440, rtc.Options{}), newSide(t, 1000, rtc.Options{})
	pb, _ := ported(t, e, b)
	pa, err := e.NewWebRTC(media.WebRTCOptions{}, media.NoPortEvents{})
	if err != nil {
		t.Fatal(err)
	}
	defer pa.Close()
	modify(t, a, pa, false, false)
	if err := media.Join(pa, pb); err != nil {
		t.Fatal(err)
	}
	a.hears(t, 1000, true)
	b.hears(t, 440, true)
}

// Media through our TURN server only, over each of its transports.
func TestRelayOnly(t *testing.T) {
	for _, transport := range []string{"udp", "tcp", "tls"} {
		t.Run(transport, func(t *testing.T) {
			e, at := newMedia(t)
			url, conf := turnServer(t, transport, at)
			engine, err := rtc.NewEngine(rtc.Options{RelayOnly: true, Loopback: true, TLS: conf})
			if err != nil {
				t.Fatal(err)
			}
			if err := engine.SetServers([]rtc.Server{{URLs: []string{url}, Username: "agent", Password: "pass"}}); err != nil {
				t.Fatal(err)
			}
			a, b := engineSide(t, engine, 440), newSide(t, 1000, rtc.Options{})
			start := time.Now()
			pa, _ := ported(t, e, a)
			t.Logf("connected after %v", time.Since(start))
			pb, _ := ported(t, e, b)
			if err := media.Join(pa, pb); err != nil {
				t.Fatal(err)
			}
			a.hears(t, 1000, true)
			b.hears(t, 440, true)
			modify(t, a, pa, false, true)
			a.mu.Lock()
			a.heard = nil
			a.mu.Unlock()
			a.hears(t, 1000, true)
		})
	}
}

func TestRelayOnlyWithoutARelay(t *testing.T) {
	_, at := newMedia(t)
	url, conf := turnServer(t, "tls", at)
	for name, try := range map[string]struct {
		conf   *tls.Config
		server rtc.Server
	}{
		"wrong password":      {conf, rtc.Server{URLs: []string{url}, Username: "agent", Password: "wrong"}},
		"unknown certificate": {nil, rtc.Server{URLs: []string{url}, Username: "agent", Password: "pass"}},
		"nobody there":        {conf, rtc.Server{URLs: []string{"turn:127.0.0.1:9?transport=tcp"}, Username: "agent", Password: "pass"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			engine, err := rtc.NewEngine(rtc.Options{RelayOnly: true, Loopback: true, TLS: try.conf})
			if err != nil {
				t.Fatal(err)
			}
			if err := engine.SetServers([]rtc.Server{try.server}); err != nil {
				t.Fatal(err)
			}
			if _, err := engineSide(t, engine, 440).Offer(t.Context(), false, false); err == nil {
				t.Error("an offer without any relay")
			}
		})
	}
}

func turnServer(t *testing.T, transport string, peer netip.AddrPort) (url string, conf *tls.Config) {
	t.Helper()
	o := turn.Options{
		Realm: "cordboard", Relay: netip.MustParseAddr("127.0.0.1"), PeerAddr: peer.Addr(),
		PeerPorts: []turn.PortRange{{First: peer.Port(), Last: peer.Port()}},
		Key: func(user string) ([]byte, bool) {
			return turn.Key("agent", "cordboard", "pass"), user == "agent"
		},
	}
	switch transport {
	case "udp":
		pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o.UDP, url = pc, "turn:"+pc.LocalAddr().String()
	case "tcp", "tls":
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o.TCP, url = ln, "turn:"+ln.Addr().String()+"?transport=tcp"
		if transport == "tls" {
			cert, roots := certificate(t)
			o.TCP, o.TLS = nil, tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}})
			url, conf = "turns:"+ln.Addr().String()+"?transport=tcp", &tls.Config{RootCAs: roots}
		}
	}
	s, err := turn.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return url, conf
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "turn"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}
