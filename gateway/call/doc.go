// Package call owns calls: the customer's leg, the legs of agents and other
// far parties, how their media is joined, held and recorded, and what happens
// when one of them ends or is lost.
//
// The customer's leg is anchored here and never tied to an agent's leg: an
// agent's endpoint may crash, change network or move; the call goes on and the
// agent is attached again (design: "the gateway owns the customer").
//
// Each call has one goroutine that owns all its state; everybody else posts to
// its mailbox. The package knows nothing of queues: who routes a call is its
// Owner and is told what happens through that interface.
package call
