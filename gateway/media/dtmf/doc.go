// Package dtmf owns the digits of a call in their three forms: RTP telephone
// events (RFC 4733), bodies of SIP INFO, and tones in the audio. The package is
// a leaf; everything here belongs to one goroutine and takes its time from the
// caller.
package dtmf
