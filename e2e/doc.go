// Package e2e proves the whole from end to end, against peers that we did not
// write: sipp, baresip, Chromium with JsSIP, coturn. Its tests carry the build
// tag e2e. Sound is checked by tone or speech on both sides.
package e2e
