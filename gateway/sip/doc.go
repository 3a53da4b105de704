// Package sip owns SIP signalling: the edges (UDP, TCP, TLS, WebSocket), the
// transactions and the INVITE dialogs of RFC 3261 and its neighbours, and
// digest authentication as server and as client. Gateway and softphone use the
// same Endpoint.
//
// # What is sipgo's and what is ours
//
// The transaction state machines and the message serialiser are those of
// github.com/emiago/sipgo. Its transport layer is replaced, because it names a
// connection by its remote address: a request for one user could reach
// another's connection after a reconnect, or make it dial a browser's
// ephemeral port. Here a transaction is bound to the connection object itself
// (a Flow), so a flow that is gone is an error at once. Its parser is replaced
// because it refuses valid and accepts invalid messages of RFC 4475.
//
// # Concurrency
//
// Each connection has one reader; writes go through a bounded queue, so a slow
// reader harms nobody else and is disconnected when its queue is full. Each
// dialog has two strands (queues that run one function at a time): one for its
// state, one for the calls of its Events.
package sip
