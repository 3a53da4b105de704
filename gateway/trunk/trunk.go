package trunk

import "net/netip"

// Transport is how SIP travels to a trunk.
type Transport string

// The transports of a trunk.
const (
	UDP Transport = "udp"
	TCP Transport = "tcp"
	TLS Transport = "tls"
)

// SRTP says whether a trunk's media is encrypted.
type SRTP string

// The media protections of a trunk.
const (
	SRTPOff  SRTP = "off"
	SRTPSDES SRTP = "sdes" // RFC 4568; keys in clear unless Transport is TLS
)

// Trunk is one carrier as configured.
type Trunk struct {
	Name      string
	Address   string // host or host:port of the carrier
	Transport Transport
	// Allow are the sources whose INVITEs belong to this trunk.
	Allow []netip.Prefix
	// Username and SealedPassword answer the carrier's challenges and check
	// its own; with Register the gateway registers there.
	Username       string
	SealedPassword []byte
	Register       bool
	Codecs         []string // PCMA, PCMU in order of preference
	SRTP           SRTP
	MaxChannels    int    // 0 = no limit
	Priority       int    // failover: lower first
	Country        string // ISO 3166; numbers without country code belong to it
	TestNumber     string
	Rev            uint64
}
