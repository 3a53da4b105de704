// Package queue owns callers who wait for an agent: in which order, who is rung
// for whom and why, until when, and how each wait ended.
//
// The Core decides. It is a pure function of time and facts: no goroutine, no
// clock, no I/O, so that a day of a thousand agents is simulated in seconds and
// every decision can be explained. The Runner owns a Core on one goroutine and
// carries out what it decides: it takes leases on agents, asks the call layer
// to ring (interface Calls), and writes facts.
//
// Order of facts and actions. The facts of one call are appended to the journal
// one after another, those of different calls side by side, on lanes of their
// own; the deciding goroutine never waits for the journal. Ringing a phone and
// stopping it do not wait for facts either. What a viewer can see (Snapshot)
// changes only when the journal has acknowledged the fact behind it, and a
// caller is put out of a queue (Drop) after the fact of it. When more facts
// wait than a bound allows, new callers are refused with ErrOverload, so that
// a stalled journal cannot make memory grow.
package queue
