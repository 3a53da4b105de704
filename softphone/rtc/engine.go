package rtc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

// Timing of ICE. The far side is taken as lost when nothing, media nor checks, came from it.
const (
	iceDisconnected = 2 * time.Second
	iceFailed       = 6 * time.Second
	iceKeepAlive    = 500 * time.Millisecond
	// gatherLimit is how long an offer or answer waits for candidates of servers that do not reply.
	gatherLimit = 2 * time.Second
	// relayGatherLimit is the same when there is no path but a relay.
	relayGatherLimit = 6 * time.Second
	turnDial         = 5 * time.Second
	dtlsRetransmit   = 80 * time.Millisecond
)

// Payload types that we offer for what has no static one, as Chromium numbers them.
const (
	ptOpus      = 111
	ptEventWide = 110
	ptEvent     = 126
)

// ErrServer is returned for a STUN or TURN server that cannot be used.
var ErrServer = errors.New("ice server cannot be used")

// Server is a STUN or TURN server.
type Server struct {
	URLs     []string
	Username string
	Password string
}

// Options of an Engine.
type Options struct {
	Log *slog.Logger
	// Codecs in order of preference: "opus", "PCMA", "PCMU" (the default, in this order).
	Codecs []string
	// RelayOnly uses no candidates but those of TURN.
	RelayOnly bool
	// Loopback uses 127.0.0.1 too: for a gateway on this machine.
	Loopback bool
	// TLS is used for TURN over TLS.
	TLS *tls.Config
}

// Engine makes the sessions of one phone: they share codecs, certificate and servers.
type Engine struct {
	log       *slog.Logger
	api       *webrtc.API
	codecs    []codec.Codec
	cert      webrtc.Certificate
	relayOnly bool
	dialer    *turnDialer

	mu      sync.Mutex
	servers []webrtc.ICEServer
}

// NewEngine makes an engine.
func NewEngine(o Options) (*Engine, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if len(o.Codecs) == 0 {
		o.Codecs = []string{codec.Opus, codec.PCMA, codec.PCMU}
	}
	e := &Engine{log: o.Log, relayOnly: o.RelayOnly, dialer: &turnDialer{conf: o.TLS}}
	for _, name := range o.Codecs {
		c, ok := codec.Lookup(name)
		if !ok || !codec.CanDecode(name) {
			return nil, fmt.Errorf("codec %q: %w", name, codec.ErrUnknown)
		}
		e.codecs = append(e.codecs, c)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("dtls key: %w", err)
	}
	cert, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return nil, fmt.Errorf("dtls certificate: %w", err)
	}
	e.cert = *cert
	if e.api, err = e.newAPI(o.Loopback); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Engine) newAPI(loopback bool) (*webrtc.API, error) {
	var me webrtc.MediaEngine
	wide := false
	register := func(pt uint8, c codec.Codec) error {
		err := me.RegisterCodec(webrtc.RTPCodecParameters{
			PayloadType: webrtc.PayloadType(pt),
			RTPCodecCapability: webrtc.RTPCodecCapability{
				MimeType: "audio/" + c.Name, ClockRate: uint32(c.ClockRate), SDPFmtpLine: c.Fmtp,
				Channels: channels(c),
			},
		}, webrtc.RTPCodecTypeAudio)
		if err != nil {
			return fmt.Errorf("register %s: %w", c.Name, err)
		}
		return nil
	}
	for _, c := range e.codecs {
		pt := c.PayloadType
		if !c.Static() {
			pt, wide = ptOpus, true
		}
		if err := register(pt, c); err != nil {
			return nil, err
		}
	}
	event, ok := codec.Lookup(codec.TelephoneEvent)
	if !ok {
		return nil, fmt.Errorf("%s: %w", codec.TelephoneEvent, codec.ErrUnknown)
	}
	if wide {
		w := event
		w.ClockRate = 48000
		if err := register(ptEventWide, w); err != nil {
			return nil, err
		}
	}
	if err := register(ptEvent, event); err != nil {
		return nil, err
	}

	var se webrtc.SettingEngine
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	se.DisableActiveTCP(true)
	se.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	se.SetIncludeLoopbackCandidate(loopback)
	se.SetICETimeouts(iceDisconnected, iceFailed, iceKeepAlive)
	// The far side is a gateway with few candidates: the first path that works is taken at once.
	se.SetHostAcceptanceMinWait(0)
	se.SetSrflxAcceptanceMinWait(0)
	se.SetPrflxAcceptanceMinWait(0)
	se.SetRelayAcceptanceMinWait(0)
	// The first ClientHello may come before the gateway has our answer, which takes another way.
	se.SetDTLSRetransmissionInterval(dtlsRetransmit)
	se.SetReceiveMTU(1500)
	se.SetICEProxyDialer(e.dialer)
	se.LoggerFactory = quiet{log: e.log}
	// No interceptors: the session makes its own RTCP, in the goroutine that it has anyway.
	return webrtc.NewAPI(webrtc.WithMediaEngine(&me), webrtc.WithSettingEngine(se),
		webrtc.WithInterceptorRegistry(&interceptor.Registry{})), nil
}

// channels is what rtpmap says; pion wants 0 where it says nothing.
func channels(c codec.Codec) uint16 {
	if c.Channels < 2 {
		return 0
	}
	return uint16(c.Channels)
}

// SetServers sets the STUN and TURN servers of sessions and ICE restarts that begin from now on.
func (e *Engine) SetServers(servers []Server) error {
	out := make([]webrtc.ICEServer, 0, len(servers))
	secure := map[string]bool{}
	for _, s := range servers {
		for _, u := range s.URLs {
			host, isTLS, err := serverHost(u)
			if err != nil {
				return err
			}
			if isTLS {
				secure[host] = true
			}
		}
		out = append(out, webrtc.ICEServer{
			URLs: s.URLs, Username: s.Username, Credential: s.Password,
			CredentialType: webrtc.ICECredentialTypePassword,
		})
	}
	e.dialer.set(secure)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.servers = out
	return nil
}

// serverHost reads turns:host:port?transport=tcp.
func serverHost(url string) (hostport string, secure bool, err error) {
	scheme, rest, ok := strings.Cut(url, ":")
	rest, _, _ = strings.Cut(rest, "?")
	port := "3478"
	switch scheme {
	case "stun", "turn":
	case "turns", "stuns":
		secure, port = true, "5349"
	default:
		ok = false
	}
	if !ok || rest == "" {
		return "", false, fmt.Errorf("url %q: %w", url, ErrServer)
	}
	if host, p, err := net.SplitHostPort(rest); err == nil {
		return net.JoinHostPort(host, p), secure, nil
	}
	return net.JoinHostPort(strings.Trim(rest, "[]"), port), secure, nil // no port is named
}

func (e *Engine) configuration() webrtc.Configuration {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := webrtc.Configuration{
		ICEServers:   e.servers,
		Certificates: []webrtc.Certificate{e.cert},
		BundlePolicy: webrtc.BundlePolicyMaxBundle,
	}
	if e.relayOnly {
		c.ICETransportPolicy = webrtc.ICETransportPolicyRelay
	}
	return c
}

// turnDialer connects to TURN over TCP and TLS. pion would do so by itself, but knows no roots of ours.
type turnDialer struct {
	conf *tls.Config

	mu     sync.Mutex
	secure map[string]bool // host:port of servers that speak TLS
}

func (d *turnDialer) set(secure map[string]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.secure = secure
}

// Dial implements proxy.Dialer.
func (d *turnDialer) Dial(network, addr string) (net.Conn, error) {
	d.mu.Lock()
	secure := d.secure[addr]
	d.mu.Unlock()
	nd := &net.Dialer{Timeout: turnDial}
	ctx, cancel := context.WithTimeout(context.Background(), turnDial) //nolint:forbidigo // pion's interface has no ctx
	defer cancel()
	if !secure {
		c, err := nd.DialContext(ctx, network, addr)
		if err != nil {
			return nil, fmt.Errorf("turn server: %w", err)
		}
		return c, nil
	}
	c, err := (&tls.Dialer{NetDialer: nd, Config: d.conf}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("turn server: %w", err)
	}
	return c, nil
}
