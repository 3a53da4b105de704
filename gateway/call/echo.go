package call

import (
	"fmt"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/sip"
)

// echoLimit ends an echo that a phone has forgotten.
const echoLimit = 5 * time.Minute

// Echo answers the INVITE of a phone and lets it hear itself: a test of the way
// there and back. It is nobody's conversation, so it leaves no facts. On error
// the caller rejects the dialog.
func (s *Switch) Echo(d *sip.Dialog, info Info, caller Target, owner Owner) error {
	c, err := s.newCall(info, owner)
	if err != nil {
		return err
	}
	return c.do(s.ctx, func() error {
		c.echo = true
		err := c.beginEcho(d, caller)
		c.over = c.over || err != nil
		return err
	})
}

func (c *Call) beginEcho(d *sip.Dialog, caller Target) error {
	l, sdp, err := c.takePhone(d, caller)
	if err != nil {
		return err
	}
	// The near side of the call: its end is the call's.
	c.customer = l
	if err := l.port.Echo(); err != nil {
		c.endLeg(l, sip.Cause{Code: 500})
		return fmt.Errorf("echo: %w", err)
	}
	if err := d.Answer(sdp); err != nil {
		c.endLeg(l, sip.Cause{Code: 500})
		return fmt.Errorf("answer the phone: %w", err)
	}
	l.set(StateAnswered, c.now())
	c.after(echoLimit, func() {
		c.finish(event.BySystem, "echo is over", sip.Cause{Code: 200, Q850: 16, Text: "echo is over"})
	})
	return nil
}
