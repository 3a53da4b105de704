// Package trunk owns the carriers: who may send us calls (by address or
// digest), which of them takes a call out, their registration, keep-alive and
// channel limits.
package trunk
