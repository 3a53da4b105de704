// Package sip is the signalling both programs share: transports, the gorilla
// WebSocket shim, digest authentication, and dialogs (RFC 3261) with session
// timers (RFC 4028), over sipgo's parser and transactions.
//
// The package is a leaf: it knows nothing of calls, queues or media.
package sip
