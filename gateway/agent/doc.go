// Package agent owns what agents are doing: who is signed in and where, whether
// their phone can be reached, breaks, wrap-up, and the leases by which one call
// has an agent and no other.
//
// The Registry is guarded by one small mutex; no callback, journal append or
// log line happens under it. Each change is decided at once, told to deciders
// (Subscribe), then appended to the journal in the agent's own order; viewers
// (Snapshot, All) see a change only when the journal has it.
package agent
