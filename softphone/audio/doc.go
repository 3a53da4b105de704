// Package audio owns the sound of a phone: devices (a pair of WAV files, or nothing), the clock that
// paces 20 ms frames, and the jitter buffer of what comes in. It knows nothing of calls or codecs.
package audio
