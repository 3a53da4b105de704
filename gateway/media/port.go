package media

import "time"

// PortEvents is told what happens on a port. The calls come one at a time, in
// order, from a goroutine of the port; they may call methods of the port, but
// not wait for Close.
type PortEvents interface {
	// DTMF is a digit that the far side pressed.
	DTMF(digit byte, d time.Duration)
	// Connected says that the first valid packet came.
	Connected()
	// Lost says that neither RTP nor RTCP came for two seconds though expected.
	Lost()
	// Back says that packets come again after Lost.
	Back()
	// Failed says that media can never flow on this port (DTLS failed for good).
	Failed(err error)
}

// NoPortEvents ignores every event; embed it to handle some.
type NoPortEvents struct{}

// DTMF implements PortEvents.
func (NoPortEvents) DTMF(byte, time.Duration) {}

// Connected implements PortEvents.
func (NoPortEvents) Connected() {}

// Lost implements PortEvents.
func (NoPortEvents) Lost() {}

// Back implements PortEvents.
func (NoPortEvents) Back() {}

// Failed implements PortEvents.
func (NoPortEvents) Failed(error) {}

// RTPOptions of a port for a trunk or a desk phone.
type RTPOptions struct {
	// Codecs in our order of preference; PCMA and PCMU when empty.
	Codecs []string
	// SDES offers and requires SDES-SRTP (RFC 4568); without it the leg is plain
	// RTP and an offer of SRTP only is refused, so that keys never travel unasked.
	SDES bool
	// DTMFPayload is the payload type we offer for telephone-event (101 when zero).
	DTMFPayload uint8
	// Label names the leg in logs.
	Label string
}

// WebRTCOptions of a port for a WebRTC phone.
type WebRTCOptions struct {
	// Codecs in our order of preference; opus, PCMU and PCMA when empty.
	Codecs []string
	// Label names the leg in logs.
	Label string
}

// PlayOptions say how a source is played.
type PlayOptions struct {
	// Loop starts the source again when it ends.
	Loop bool
	// Done is called once, on the port's event goroutine: nil when the source
	// ended, ErrInterrupted when something else replaced it.
	Done func(error)
}
