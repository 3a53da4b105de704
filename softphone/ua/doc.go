// Package ua is the SIP user agent of a phone: one registration over SIP on WebSocket (RFC 7118), kept
// alive through dropped connections, and the dialogs that go through it. It knows nothing of media.
//
// A dropped connection is made again with exponential back-off and jitter. Dialogs outlive it: as soon as
// the phone is registered again they are pointed at the new connection.
package ua
