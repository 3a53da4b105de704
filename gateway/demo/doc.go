// Package demo owns the demonstration that runs beside a gateway: the state of
// a believable small company and its accounts, how its simulated customers
// behave and what they say, and the screen that tells what happens. The carrier
// that places their calls is in the package carrier below.
package demo
