// Package turn owns STUN and TURN for the agents' phones: UDP, TCP and TLS
// listeners over pion/turn, credentials that belong to a session, and a relay
// that reaches nothing but the gateway's own media address and ports.
//
// pion/turn handles the control messages. This package stands on both sides of
// it, on the clients' socket and on each relay socket, and there enforces what
// the library leaves open: the peers' ports (its permission handler sees only
// addresses and allows everything by default), quotas, rate limits, bounds on
// connections. Once a channel is bound, its packets pass between the two
// sockets without entering the library at all, which is where its cost per
// packet went.
package turn
