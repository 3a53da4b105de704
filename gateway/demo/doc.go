// Package demo owns what the demonstration shows: the state of a believable
// small company, its prompts, and how its simulated customers behave. The
// carrier that places their calls is in the package carrier below.
package demo
