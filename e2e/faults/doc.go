// Package faults owns the tests that break things: a gateway that is killed
// under load, phones that vanish, sockets full of garbage, a full disk, a
// database that stops, thousands of half-open connections. Each test looks for
// what a customer, an agent or an administrator would notice, and for what is
// left behind. They run with the build tag e2e.
package faults
