// Package rtc owns the media of a WebRTC phone: ICE, DTLS and SRTP by a pion PeerConnection, codecs,
// telephone events, jitter, RTCP and the quality figures made of them. It speaks SDP with its owner and
// 20 ms frames with the sound device; it knows nothing of SIP.
//
// pion never sees a change of direction (hold): offers and answers are shown to it as sendrecv and what
// we send says what is meant, because pion answers "sendonly" with "sendrecv" and loses the sender's
// track after "inactive".
package rtc
