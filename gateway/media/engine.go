package media

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
)

// Errors of the engine and its ports.
var (
	// ErrClosed says that the port or engine is closed.
	ErrClosed = errors.New("media is closed")
	// ErrNoCommonCodec says that the far side speaks no codec that we may use: SIP 488.
	ErrNoCommonCodec = errors.New("no common codec")
	// ErrNoPorts says that every port of the configured range is in use.
	ErrNoPorts = errors.New("no free rtp port")
	// ErrNotEncrypted says that encryption is required and the far side offers none: SIP 488.
	ErrNotEncrypted = errors.New("media encryption is required")
	// ErrState says that the call does not fit the state of the offer and answer exchange.
	ErrState = errors.New("no offer is pending")
	// ErrNoWebRTC says that the engine was made without a WebRTC socket.
	ErrNoWebRTC = errors.New("webrtc is not configured")
	// ErrNoDTMF says that digits cannot be sent on this port.
	ErrNoDTMF = errors.New("no way to send digits was negotiated")
)

// Options of an Engine.
type Options struct {
	// Log gets what a person should see; packets are never logged.
	Log *slog.Logger
	// Host is the address that descriptions and candidates name.
	Host netip.Addr
	// Hosts are further addresses offered as ICE candidates only (a private beside a public one).
	Hosts []netip.Addr
	// Bind is the address that RTP sockets are bound to; zero is every address.
	Bind netip.Addr
	// RTPPorts bounds the ports of RTP legs, both ends included (10000 to 20000 when zero).
	RTPPorts [2]uint16
	// WebRTC is the one UDP socket of all WebRTC legs; nil turns WebRTC off. Close does not close it.
	WebRTC net.PacketConn
	// WebRTCPort is the advertised port when it is not the socket's own (port forwarding).
	WebRTCPort uint16
	// Certificate is used for DTLS; made by New when nil.
	Certificate *tls.Certificate
}
