//go:build e2e && linux

package faults

import (
	"testing"
	"time"
)

// TestSmoke: a call through the queue, with sound both ways and nothing left.
func TestSmoke(t *testing.T) {
	r := newRig(t, 1, func(c *company) { c.record = true })
	before := r.idle()
	a := r.newDesk(t, 1, 0)
	line := newStation(t, "127.0.0.1", nil)
	cv, av := newVoice(t, 440), newVoice(t, 1000)
	c := line.mustCall(t, r.UDP, "59899000001", cv)
	g := a.next(t, 5*time.Second)
	p := g.mustAnswer(t, av)
	cv.hears(t, "the customer", 1000, 5*time.Second)
	av.hears(t, "the agent", 440, 5*time.Second)
	c.hangUp()
	within(t, p.ended, 5*time.Second, "the agent's leg ends")
	r.nothingLeft(before)
}
