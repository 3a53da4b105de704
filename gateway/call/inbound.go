package call

import (
	"context"
	"errors"
	"fmt"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/media/sdp"
	"github.com/cordboard/cordboard/gateway/sip"
)

// Inbound is a customer's call as its trunk brought it.
type Inbound struct {
	Info
	Codecs []string
	// SDES says that the trunk's media is encrypted (RFC 4568).
	SDES bool
	// Release gives the trunk's channel back; called once, when the leg ends.
	Release func()
}

// Inbound takes a customer's INVITE: it makes the call and its first leg,
// still unanswered. On error the caller rejects the dialog (see SIPStatus) and
// keeps the trunk's channel.
func (s *Switch) Inbound(d *sip.Dialog, in Inbound, owner Owner) (*Call, error) {
	if err := s.admits(in.Urgent); err != nil {
		return nil, err
	}
	ev := newPortEvents()
	port, err := s.o.Media.NewRTP(media.RTPOptions{Codecs: in.Codecs, SDES: in.SDES, Label: in.ID}, ev)
	if err != nil {
		return nil, fmt.Errorf("make media: %w", err)
	}
	ours, err := describe(s.ctx, port, d.Offer())
	if err != nil {
		port.Close()
		return nil, fmt.Errorf("answer the offer: %w", mediaError(err))
	}
	c, err := s.newCall(in.Info, owner)
	if err != nil {
		port.Close()
		return nil, err
	}
	if err := c.do(s.ctx, func() error { return c.begin(d, port, ev, ours, in) }); err != nil {
		port.Close() // if the call ended before it began
		return nil, err
	}
	return c, nil
}

// describe makes our description for who called: the answer to their offer, or,
// with a delayed offer, ours, which goes with the 200; theirs comes with the ACK.
func describe(ctx context.Context, port *media.Port, offer []byte) ([]byte, error) {
	if len(offer) == 0 {
		return port.Offer(ctx)
	}
	return port.Answer(ctx, offer)
}

// begin makes the customer's leg. Runs on the call's goroutine.
func (c *Call) begin(d *sip.Dialog, port *media.Port, ev *portEvents, ours []byte, in Inbound) error {
	l, err := c.newLeg(sideCustomer, port, party{number: c.From, trunk: c.Trunk})
	if err != nil {
		c.over = true
		return err
	}
	l.far.channel = channelName(c.Trunk, l.id)
	l.dialog = d
	l.release = in.Release
	l.agreed = len(d.Offer()) > 0
	c.customer = l
	c.localSDP = ours
	ev.bind(c, l)
	d.Accept(dialogEvents{call: c, leg: l})
	c.writeStart()
	return nil
}

// writeStart writes the beginning of a call. What begun, ends with CallEnded.
func (c *Call) writeStart() {
	c.begun = true
	c.journal(event.CallStarted{
		CallID: c.ID, Direction: c.Direction, From: c.From, FromName: c.FromName,
		To: c.To, Trunk: c.Trunk, Campaign: c.Campaign, Agent: c.Agent,
	})
	c.log.Info("call started", "direction", string(c.Direction), "trunk", c.Trunk, "campaign", c.Campaign,
		"agent_id", c.Agent, "from", Number(c.From), "to", Number(c.To))
}

// Answer answers the customer and lets them hear the sounds in turn, the last
// of them again and again: a welcome, then music on hold.
func (s *Switch) Answer(ctx context.Context, callID string, sounds ...string) error {
	c, err := s.find(callID)
	if err != nil {
		return err
	}
	return c.do(ctx, func() error {
		if err := c.answerCustomer(); err != nil {
			return err
		}
		c.playInTurn(sounds)
		return nil
	})
}

func (c *Call) answerCustomer() error {
	l := c.customer
	if c.over || !l.live() || l.dialog == nil {
		return ErrEnded
	}
	if l.state == StateAnswered {
		return nil
	}
	if err := l.dialog.Answer(c.localSDP); err != nil {
		return fmt.Errorf("answer the customer: %w", err)
	}
	l.set(StateAnswered, c.now())
	return nil
}

// playInTurn plays sounds one after another; the last one loops. It stops as
// soon as an agent is joined, because joining interrupts what is played.
func (c *Call) playInTurn(sounds []string) {
	if c.over || c.agent != nil || c.dropping {
		return
	}
	switch len(sounds) {
	case 0:
		c.playMusic()
	case 1:
		c.play(c.customer, sounds[0], true, nil)
	default:
		rest := sounds[1:]
		c.play(c.customer, sounds[0], false, func() { c.playInTurn(rest) })
	}
}

// mediaError turns an error of media into one of this package's.
func mediaError(err error) error {
	switch {
	case errors.Is(err, media.ErrNoCommonCodec), errors.Is(err, media.ErrNotEncrypted),
		errors.Is(err, media.ErrDescription):
		return fmt.Errorf("%w: %w", ErrNoCodec, err)
	case errors.Is(err, sdp.ErrSyntax), errors.Is(err, sdp.ErrTooLarge), errors.Is(err, sdp.ErrCrypto):
		return fmt.Errorf("%w: %w", ErrOffer, err)
	case errors.Is(err, media.ErrClosed):
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	return err
}

// SIPStatus is the final response that tells a caller about err: the one place
// where this package's errors become SIP.
func SIPStatus(err error) (code int, reason string) {
	switch {
	case errors.Is(err, ErrNoCodec):
		return 488, "Not Acceptable Here"
	case errors.Is(err, ErrOffer):
		return 400, "Bad Session Description"
	case errors.Is(err, ErrUnreachable):
		return 480, "Temporarily Unavailable"
	case errors.Is(err, ErrBusy):
		return 486, "Busy Here"
	case errors.Is(err, ErrDraining), errors.Is(err, ErrOverload), errors.Is(err, media.ErrNoPorts):
		return 503, "Service Unavailable"
	case errors.Is(err, ErrNoTrunk):
		return 503, "No trunk takes the call"
	case errors.Is(err, ErrEnded), errors.Is(err, ErrUnknown):
		return 481, "Call Does Not Exist"
	default:
		return 500, "Server Internal Error"
	}
}

// Reject refuses a customer's call that was not answered yet.
func (s *Switch) Reject(callID string, code int, reason string, h ...sip.Header) {
	c, err := s.find(callID)
	if err != nil {
		return
	}
	c.post(func() {
		if l := c.customer; l.live() && l.dialog != nil && l.state != StateAnswered {
			if err := l.dialog.Reject(code, reason, h...); err != nil {
				c.log.Debug("refuse the customer", "err", err)
			}
		}
		c.finish(event.BySystem, reason, sip.Cause{Code: code, Text: reason})
	})
}
