package carrier

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/sip"
)

// party is one simulated person in a call.
type party struct {
	sip.NoEvents
	media.NoPortEvents

	b      Behaviour
	caller bool
	port   *media.Port

	answered chan struct{}
	ended    chan struct{}
	once     sync.Once
	cause    sip.Cause // written before ended is closed
}

func newParty(b Behaviour, caller bool) *party {
	return &party{b: b, caller: caller, answered: make(chan struct{}), ended: make(chan struct{})}
}

// Answered implements sip.Events.
func (p *party) Answered(sdp []byte) {
	if p.caller && len(sdp) > 0 {
		if err := p.port.Answered(sdp); err != nil {
			return // the run ends by its context or the far side
		}
	}
	p.once.Do(func() { close(p.answered) })
}

// Offer implements sip.Events: hold and media changes of the gateway.
func (p *party) Offer(offer []byte) (answer []byte, code int) {
	answer, err := p.port.Answer(context.Background(), offer) //nolint:forbidigo // the interface gives none, and it does not block
	if err != nil {
		return nil, 488
	}
	return answer, 200
}

// Ended implements sip.Events.
func (p *party) Ended(c sip.Cause) {
	p.cause = c
	close(p.ended)
}

// run lives through the call and returns how it went.
func (p *party) run(ctx context.Context, d *sip.Dialog, start time.Time) (res Result, err error) {
	defer func() { res.Quality = p.port.Close() }()
	select {
	case <-p.answered:
		res.Answered = true
		res.Waited = time.Since(start)
	case <-p.ended:
		res.Cause = p.cause
		return res, nil
	case <-ctx.Done():
		return res, p.gone(d)
	}
	up := time.Now()
	defer func() { res.Lasted = time.Since(up) }()
	if p.act(ctx) {
		err = p.leave(d)
	}
	select {
	case <-p.ended:
		res.Cause = p.cause
	case <-ctx.Done():
		err = p.gone(d)
	}
	return res, err
}

// goodbye bounds how long a person who leaves waits for the call to be over:
// a BYE may wait for an ACK, a CANCEL for a first response.
const goodbye = 2 * time.Second

// gone hangs up because the carrier stops, or whoever placed the call.
func (p *party) gone(d *sip.Dialog) error {
	if err := p.leave(d); err != nil && !errors.Is(err, sip.ErrEnded) {
		return err
	}
	t := time.NewTimer(goodbye)
	defer t.Stop()
	select {
	case <-p.ended:
	case <-t.C:
	}
	return nil
}

// act speaks and presses keys; it reports whether the person hangs up now.
func (p *party) act(ctx context.Context) bool {
	if p.b.Spoken != nil {
		var patience <-chan time.Time
		if p.b.Patience > 0 {
			t := time.NewTimer(p.b.Patience)
			defer t.Stop()
			patience = t.C
		}
		select {
		case <-p.b.Spoken:
		case <-patience:
			return true
		case <-p.ended:
			return false
		case <-ctx.Done():
			return true
		}
	}
	for i, line := range p.b.Lines {
		if !p.say(ctx, line) || !p.pause(ctx, p.b.Pause) {
			return false
		}
		if i == 0 && p.b.Digits != "" {
			if err := p.port.SendDTMF(p.b.Digits, 120*time.Millisecond); err != nil {
				return true
			}
			if !p.pause(ctx, time.Duration(len(p.b.Digits))*250*time.Millisecond) {
				return false
			}
		}
	}
	return p.b.HangsUp
}

// say plays a line to its end; false when the call is over.
func (p *party) say(ctx context.Context, line media.Source) bool {
	done := make(chan struct{})
	p.port.Play(line, media.PlayOptions{Done: func(error) { close(done) }})
	select {
	case <-done:
		return true
	case <-p.ended:
		return false
	case <-ctx.Done():
		return false
	}
}

func (p *party) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.ended:
		return false
	case <-ctx.Done():
		return false
	}
}

// leave hangs up.
func (p *party) leave(d *sip.Dialog) error {
	return d.Hangup(sip.Cause{Code: 200, Q850: 16, Text: "bye"})
}
