// Package speech turns text into speech through an engine outside of the
// process: espeak-ng by default. Prompts and the demo's customers speak by it.
package speech
