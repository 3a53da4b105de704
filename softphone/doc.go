// Package softphone is the phone: it registers with a gateway by SIP over secure WebSocket, places and
// takes calls, and plays and records them through a device. The desktop and the headless phone
// (cmd/softphone) are made on it.
//
// A Phone reports what happens by typed events, in order, from one goroutine of its own. What a user does
// to a call (answer, hang up, mute, digits…) acts at once; hold and network changes are negotiated in the
// background and reported when they are true.
//
// Packages below it: ua (signalling), rtc (media), audio (devices).
package softphone
