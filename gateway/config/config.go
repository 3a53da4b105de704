package config

import (
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"
	_ "time/tzdata" // schedules need time zones on machines that have none installed
)

// Config is the whole configuration of a gateway. It is plain data: Load has
// checked it, so that its users need not.
type Config struct {
	// Data is the folder of everything that the gateway keeps.
	Data       string
	HTTP       HTTP
	SIP        SIP
	TURN       TURN
	Media      Media
	Database   Database
	NATS       NATS
	Recordings Recordings
	Journal    Journal
	Auth       Auth
	Log        Log
	// Timezone is the IANA name used by schedules without one of their own and
	// by the datetime columns of the log tables.
	Timezone string
	// Country is the ISO 3166 code of numbers without a country code.
	Country string
	// Drain is how long live calls may go on after SIGTERM.
	Drain time.Duration
	// Reattach is how long the call of an agent who was lost is kept for them,
	// with comfort audio for the customer.
	Reattach time.Duration
}

// HTTP is the listener of UI, API, events and SIP over WebSocket at /ws.
type HTTP struct {
	// Listen is host:port (TLS), http://LOOPBACK:port (plain) or empty (off).
	Listen string
	TLS    TLS
}

// TLS says where certificates come from; all empty means a self-signed one kept
// in the data folder. SIP over TLS and WSS, and TURN over TLS, use the same.
type TLS struct {
	Cert string // PEM file with the chain
	Key  string // PEM file
	ACME string // host name for which a certificate is fetched
}

// SIP holds the listeners of signalling; an empty address turns one off.
type SIP struct {
	UDP   string
	TCP   string
	TLS   string
	WSS   string
	Realm string
	// SessionExpires is the interval of RFC 4028 that we ask for.
	SessionExpires time.Duration
}

// TURN holds the listeners of STUN and TURN.
type TURN struct {
	UDP   string
	TCP   string
	TLS   string
	Realm string
	// PublicIP is the address that clients can reach; unset = Media.PublicIP.
	PublicIP netip.Addr
}

// Media holds addresses and ports of RTP.
type Media struct {
	// PublicIP is the address put into session descriptions; unset = found out.
	PublicIP netip.Addr
	// WebRTCUDP is the one port that all WebRTC media shares.
	WebRTCUDP string
	RTPPorts  Ports
	// AgentCodec is auto, opus or g711.
	AgentCodec AgentCodec
}

// AgentCodec is how agents' legs are encoded.
type AgentCodec string

// The values of media.agent_codec.
const (
	// CodecAuto passes G.711 through on private networks and uses Opus with
	// forward error correction elsewhere.
	CodecAuto AgentCodec = "auto"
	CodecOpus AgentCodec = "opus"
	CodecG711 AgentCodec = "g711"
)

// Database says where rows are kept.
type Database struct {
	URL string // empty = SQLite in Data; postgres://…
}

// NATS says where the stream is kept.
type NATS struct {
	URL string // empty = embedded; nats://… or tls://…
}

// Recordings says where audio is kept.
type Recordings struct {
	URL string // empty = Data/recordings; s3://…
}

// Journal says how safely facts are kept.
type Journal struct {
	// Sync is "always" or the longest time between two syncs to disk ("1s").
	Sync string
}

// Auth holds the rules of sessions and passwords (SEC-05, SEC-09).
type Auth struct {
	// SessionIdle ends a session that was not used for so long.
	SessionIdle time.Duration
	// SessionMax ends every session at that age.
	SessionMax time.Duration
	// LockAfter blocks an account after so many wrong passwords in a row;
	// 0 = never: then only the back-off slows guessing down.
	LockAfter         int
	PasswordMinLength int
	PasswordLower     bool // one lower-case letter at least
	PasswordUpper     bool // one capital letter at least
	PasswordDigit     bool // one digit at least
	PasswordSpecial   bool // one other character at least
}

// Log says how the log is written.
type Log struct {
	Level  string // debug, info, warn, error
	Format string // json, text
}

// Ports is a range of UDP ports, both ends included.
type Ports struct {
	First, Last uint16
}

// Default returns the configuration of a gateway without a file.
func Default() *Config {
	return &Config{
		Data:    "./data",
		HTTP:    HTTP{Listen: ":8443"},
		SIP:     SIP{UDP: ":5060", TCP: ":5060", TLS: ":5061", WSS: ":8089", Realm: "cordboard", SessionExpires: 1800 * time.Second},
		TURN:    TURN{UDP: ":3478", TCP: ":3478", TLS: ":5349", Realm: "cordboard"},
		Media:   Media{WebRTCUDP: ":7882", RTPPorts: Ports{First: 10000, Last: 20000}, AgentCodec: CodecAuto},
		Journal: Journal{Sync: "1s"},
		Auth: Auth{
			SessionIdle: 12 * time.Hour, SessionMax: 30 * 24 * time.Hour,
			PasswordMinLength: 10, PasswordLower: true, PasswordUpper: true, PasswordDigit: true,
		},
		Log:      Log{Level: "info", Format: "json"},
		Timezone: "UTC",
		Drain:    30 * time.Minute,
		Reattach: 30 * time.Second,
	}
}

// Demo returns the configuration of `gateway demo`: the default ports, all on
// loopback, and HTTP without TLS.
func Demo() *Config {
	c := Default()
	loop := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	host := loop.String()
	c.HTTP.Listen = "http://" + host + ":8080"
	for _, a := range []*string{&c.SIP.UDP, &c.SIP.TCP, &c.SIP.TLS, &c.SIP.WSS, &c.TURN.UDP, &c.TURN.TCP, &c.TURN.TLS, &c.Media.WebRTCUDP} {
		*a = host + *a
	}
	c.TURN.PublicIP = loop
	c.Media.PublicIP = loop
	c.Drain = 3 * time.Second // its customers are no people who wait
	return c
}

// Addr returns the host:port to listen on and whether it speaks TLS; empty when
// the listener is off.
func (h HTTP) Addr() (addr string, secure bool) {
	if a, ok := strings.CutPrefix(h.Listen, "http://"); ok {
		return strings.TrimSuffix(a, "/"), false
	}
	a := strings.TrimPrefix(h.Listen, "https://")
	return strings.TrimSuffix(a, "/"), a != ""
}

// URL returns the address at which a program on this machine reaches the HTTP
// listener; empty when it is off.
func (h HTTP) URL() string {
	addr, secure := h.Addr()
	if addr == "" {
		return ""
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	if ip, err := netip.ParseAddr(host); host == "" || (err == nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	u := url.URL{Scheme: "http", Host: net.JoinHostPort(host, port)}
	if secure {
		u.Scheme = "https"
	}
	return u.String()
}

// Location returns the time zone that Timezone names.
func (c *Config) Location() *time.Location {
	loc, err := time.LoadLocation(c.Timezone)
	if err != nil { // Load refuses such a name
		return time.UTC
	}
	return loc
}

// Path returns the path of a file in the data folder.
func (c *Config) Path(elem ...string) string {
	return filepath.Join(append([]string{c.Data}, elem...)...)
}
