// Package server joins the parts of the gateway: it opens what is listened on,
// makes each part with the parts it needs, routes calls between trunks, agents
// and queues, and starts, drains and stops the whole in order.
//
// It is the only package that knows all others; it decides nothing that a part
// could decide.
package server
