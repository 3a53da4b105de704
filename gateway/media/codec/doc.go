// Package codec turns speech into payloads and back: G.711 by tables, Opus
// (RFC 6716) in pure Go, loss concealment, and the sample rate conversion that
// prompts need. It also knows the facts of each codec (RTP clock, static
// payload type, fmtp).
//
// A codec's API rate is the rate of its PCM; it need not be the RTP clock. Opus
// always has a 48 kHz RTP clock, but coding it at 8 kHz next to a G.711 leg
// costs a fifth and needs no resampler.
//
// Encoders, decoders and resamplers keep state and belong to one goroutine.
// After the first packets they allocate nothing, but for the Opus decoder when
// it hides a lost packet. The package is a leaf.
package codec
