// Package sdp owns the session descriptions (RFC 8866) of both programs: what
// we speak of them, read tolerantly, written strictly, and the choice of codecs
// from an offer (RFC 3264).
//
// What a description says once for the session (direction, address, ICE,
// fingerprint) Parse puts into each media, so that a reader looks at the media
// only. Attributes that have no field are kept in Media.Attributes as they
// came. The package is a leaf.
package sdp
