// Package registrar owns the bindings: which phones of an extension can be
// reached, and by which flow (RFC 3261 section 10, RFC 5626 without proxies).
//
// A binding is worth exactly what its flow is worth: it goes when the flow
// closes, when its time is over or when its credential ends, and Bindings
// never names one that is gone. Requests to a phone go to Binding.Flow, never
// to the address in its Contact, which is often a private one.
package registrar
