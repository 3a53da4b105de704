// Package media owns the sound of calls: the ports that carry one leg's media
// (RTP and SDES-SRTP for trunks and desk phones, ICE-lite with DTLS-SRTP for
// WebRTC phones), the bridge between two ports, players, tones, recordings and
// the measure of quality.
//
// An [Engine] owns the sockets, the RTP port range, the certificate and the
// shards; a [Port] is one leg's media. The engine knows nothing of calls: it
// reports through [PortEvents] and does what it is told.
//
// # The packet path
//
// A packet is read by the one goroutine that owns its socket and goes all the
// way on it: decrypt, check, count, look the route up (an atomic pointer),
// rewrite, encrypt, send. Nothing on this path allocates, logs or waits, and
// the only locks on it belong to one port. Where the codecs of two joined ports differ the
// packet ends in a jitter buffer instead, and a 20 ms tick, one per shard and
// shared by all its ports, decodes and encodes.
//
// # Why ICE-lite is our own
//
// A WebRTC leg here needs little of WebRTC: answers to binding requests, DTLS
// (pion/dtls) and SRTP (pion/srtp). A full PeerConnection would bring a table
// of addresses behind a lock of all calls, allocations with each packet, some
// eighteen goroutines a leg, and its own idea of hold. With the packets in our
// hands both kinds of leg share one path.
package media
