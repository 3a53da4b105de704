package softphone_test

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/turn/v3"

	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/softphone"
)

// relay is a TURN server behind a path that can go dead: what then begins anew finds a living one.
type relay struct {
	front *net.UDPConn
	to    *net.UDPAddr
	mu    sync.Mutex
	paths map[netip.AddrPort]*udpPath
	wg    sync.WaitGroup
}

type udpPath struct {
	out  *net.UDPConn
	dead atomic.Bool
}

func newRelay(t *testing.T) *relay {
	t.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := turn.NewServer(turn.ServerConfig{
		Realm: realm,
		AuthHandler: func(u, realm string, _ net.Addr) ([]byte, bool) {
			return turn.GenerateAuthKey(u, realm, "pass"), u == "agent"
		},
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn:            pc,
			RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"},
			PermissionHandler:     func(net.Addr, net.IP) bool { return true },
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{front: front, to: pc.LocalAddr().(*net.UDPAddr), paths: map[netip.AddrPort]*udpPath{}}
	r.wg.Go(r.run)
	t.Cleanup(func() {
		_ = front.Close()
		r.mu.Lock()
		for _, p := range r.paths {
			_ = p.out.Close()
		}
		r.mu.Unlock()
		r.wg.Wait()
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *relay) run() {
	b := make([]byte, 2000)
	for {
		n, from, err := r.front.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		r.mu.Lock()
		p := r.paths[from]
		if p == nil {
			out, err := net.DialUDP("udp4", nil, r.to)
			if err != nil {
				r.mu.Unlock()
				continue
			}
			p = &udpPath{out: out}
			r.paths[from] = p
			r.wg.Go(func() { r.back(p, from) })
		}
		r.mu.Unlock()
		if !p.dead.Load() {
			_, _ = p.out.Write(b[:n])
		}
	}
}

func (r *relay) back(p *udpPath, to netip.AddrPort) {
	b := make([]byte, 2000)
	for {
		n, err := p.out.Read(b)
		if err != nil {
			return
		}
		if !p.dead.Load() {
			_, _ = r.front.WriteToUDPAddrPort(b[:n], to)
		}
	}
}

// kill makes every present path dead.
func (r *relay) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.paths {
		p.dead.Store(true)
	}
}

func relayed(t *testing.T) (*gateway, *phone, *relay) {
	t.Helper()
	r := newRelay(t)
	g, p := registered(t, func(c *softphone.Config) {
		c.RelayOnly = true
		c.Servers = []softphone.Server{{URLs: []string{"turn:" + r.front.LocalAddr().String()}, Username: "agent", Password: "pass"}}
	})
	return g, p, r
}

// The path of the media dies (another network, a restarted router): the phone finds a new one by itself and
// the call goes on.
func TestMediaFindsANewPath(t *testing.T) {
	g, p, r := relayed(t)
	l, _ := incoming(t, g, p)
	l.hears(true)
	p.dev.hears(t, 1000, true)
	r.kill()
	start := time.Now()
	next[softphone.MediaLost](p)
	lost := time.Since(start)
	next[softphone.MediaBack](p)
	t.Logf("lost after %v, back after %v", lost, time.Since(start))
	if lost > 4*time.Second {
		t.Errorf("loss was found after %v", lost)
	}
	p.dev.forget()
	l.forget()
	p.dev.hears(t, 1000, true)
	l.hears(true)
}

// The same with the signalling gone too, as when a laptop changes its Wi-Fi.
func TestCallFollowsTheLaptop(t *testing.T) {
	g, p, r := relayed(t)
	l, _ := incoming(t, g, p)
	l.hears(true)
	r.kill()
	g.drop()
	next[softphone.Unregistered](p)
	next[softphone.Registered](p)
	g.mu.Lock()
	l.dialog().UpdateFlow(g.flow)
	g.mu.Unlock()
	next[softphone.MediaBack](p)
	p.dev.forget()
	l.forget()
	p.dev.hears(t, 1000, true)
	l.hears(true)
}

func TestBadOffersAreRefused(t *testing.T) {
	g, p := registered(t, nil)
	g.mu.Lock()
	flow, contact := g.flow, g.contact
	g.mu.Unlock()
	for _, sdp := range []string{
		"garbage",
		"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 127.0.0.1\r\n",
		"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 3\r\nc=IN IP4 0.0.0.0\r\n" +
			"a=ice-ufrag:abcd\r\na=ice-pwd:abcdabcdabcdabcdabcdabcd\r\na=fingerprint:sha-256 00\r\na=rtpmap:3 GSM/8000\r\n",
	} {
		l := newLeg(g, nil)
		if _, err := g.ep.Invite(t.Context(), sip.Invite{
			URI: contact, From: sip.Address{URI: contact}, To: sip.Address{URI: contact}, Flow: &flow, SDP: []byte(sdp),
		}, l); err != nil {
			t.Fatal(err)
		}
		if c := <-l.ended; c.Code != 488 {
			t.Errorf("%.20q: %+v", sdp, c)
		}
	}
	// None of it was told to the user, and the phone still works.
	l, _ := incoming(t, g, p)
	l.hears(true)
}

func TestStatsWhileTalking(t *testing.T) {
	g, p := registered(t, func(c *softphone.Config) { c.StatsEvery = 1200 * time.Millisecond })
	_, id := incoming(t, g, p)
	next[softphone.Stats](p)
	s := next[softphone.Stats](p)
	if s.Call != id || s.RTT <= 0 || s.MOS <= 1 || s.Loss > 0.5 {
		t.Errorf("stats %+v", s)
	}
	if q, err := p.Quality(id); err != nil || q.MOS <= 1 {
		t.Errorf("quality %+v, %v", q, err)
	}
}

// A call that rings when the connection is lost is over here: the gateway offers it anew.
func TestRingingEndsWithTheConnection(t *testing.T) {
	g, p := registered(t, nil)
	g.call()
	next[softphone.Incoming](p)
	g.drop()
	if e := next[softphone.Ended](p); e.Cause != softphone.CauseLost || !e.Normal {
		t.Errorf("ended %+v", e)
	}
	next[softphone.Registered](p)
	l, _ := incoming(t, g, p)
	l.hears(true)
}
