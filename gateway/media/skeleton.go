package media

import (
	"context"
	"time"
)

// Engine owns the sockets, ports and shards of a gateway's media.
type Engine struct{}

// New starts an engine.
func New(o Options) (*Engine, error) { return nil, ErrClosed }

// Close closes every port and waits for the goroutines of the engine.
func (e *Engine) Close() error { return nil }

// NewRTP makes a port for a trunk or a desk phone, on a UDP port of its own.
func (e *Engine) NewRTP(o RTPOptions, ev PortEvents) (*Port, error) { return nil, ErrClosed }

// NewWebRTC makes a port for a WebRTC phone.
func (e *Engine) NewWebRTC(o WebRTCOptions, ev PortEvents) (*Port, error) { return nil, ErrClosed }

// Port is the media of one leg. Its methods are safe for concurrent use.
type Port struct{}

// Offer makes a description to send; [Port.Answered] takes the answer to it.
func (p *Port) Offer(ctx context.Context) ([]byte, error) { return nil, ErrClosed }

// Answered takes the far side's answer to Offer, or ErrNoCommonCodec.
func (p *Port) Answered(answer []byte) error { return ErrClosed }

// Answer answers the far side's offer, the first or a later one (hold, another
// codec, ICE restart). With ErrNoCommonCodec or ErrNotEncrypted (488) the
// port goes on as it was.
func (p *Port) Answer(ctx context.Context, offer []byte) ([]byte, error) { return nil, ErrClosed }

// Held reports whether the far side holds the call (sendonly or inactive).
func (p *Port) Held() bool { return false }

// Codec is the name of the codec that is sent: "opus", "PCMU" or "PCMA"; empty before the answer.
func (p *Port) Codec() string { return "" }

// SendDTMF sends digits one after another, each for the given time (100 ms
// when zero), as telephone events where these were negotiated, else as tones.
// It does not wait for their end.
func (p *Port) SendDTMF(digits string, each time.Duration) error { return ErrClosed }

// Join bridges two ports. Whatever they heard before (a source or another port) ends.
func Join(a, b *Port) error { return ErrClosed }

// Leave ends the bridge of this port, for both sides.
func (p *Port) Leave() {}

// Mute drops what this port says: it is neither sent nor recorded.
func (p *Port) Mute(on bool) {}
