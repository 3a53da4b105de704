package softphone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordboard/cordboard/gateway/media/dtmf"
	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/softphone/audio"
	"github.com/cordboard/cordboard/softphone/rtc"
)

const (
	// mailboxSize bounds what waits for a call.
	mailboxSize = 64
	// farewell is how long a call that has ended waits for its dialog to end too.
	farewell = 5 * time.Second
	// setupLimit is how long the first path for media is looked for.
	setupLimit = 12 * time.Second
	// reinviteLimit bounds one re-INVITE.
	reinviteLimit = 10 * time.Second
)

// Call-Info, Answer-Mode: see RFC 3261 section 20.9, RFC 5373.
const (
	headerCall     = "X-Cordboard-Call"
	headerCampaign = "X-Cordboard-Campaign"
	headerWaited   = "X-Cordboard-Waited"
)

// stage is where a call stands.
type stage int32

const (
	stageNew      stage = iota
	stageRinging        // either side
	stageAnswered       // signalling is done, media is being connected
	stageTalking
	stageEnded
)

// outcome is why a call ends.
type outcome struct {
	cause  string
	text   string
	code   int
	normal bool
	local  bool // this side ends it: the far side is to be told
}

// call is one call. Its goroutine (run) owns everything that is not marked otherwise.
type call struct {
	p       *Phone
	id      CallID
	log     *slog.Logger
	dialled bool
	mailbox chan func(context.Context)
	done    chan struct{}

	stage    atomic.Int32
	muted    atomic.Bool
	wantHold atomic.Bool

	shared

	held, farHeld bool
	offer         []byte // of an incoming call
	guid          string
	beep          bool
	answeredAt    time.Time
	setup         time.Duration
	path          path
	pump          sync.WaitGroup
	stopPump      func()
}

// shared is what other goroutines ask of a call.
type shared struct {
	mu       sync.Mutex
	dialog   *sip.Dialog
	sess     *rtc.Session
	why      *outcome
	over     chan struct{} // closed when why is set
	gone     chan struct{} // closed when the dialog has ended
	goneOnce sync.Once
}

func newCall(p *Phone, id CallID) *call {
	c := &call{
		p: p, id: id, log: p.log.With("call_id", string(id)),
		mailbox: make(chan func(context.Context), mailboxSize), done: make(chan struct{}),
	}
	c.over, c.gone = make(chan struct{}), make(chan struct{})
	return c
}

// run owns the call until it is over.
func (c *call) run(ctx context.Context) {
	defer close(c.done)
	defer c.p.remove(c.id)
	live, cancel := context.WithCancel(ctx)
	defer cancel()
	// What is being negotiated must not hold up the end of the call.
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-c.over:
			cancel()
		case <-stop:
		}
	})
	tick := time.NewTicker(pathTick)
	defer tick.Stop()
	for c.at() != stageEnded {
		select {
		case fn := <-c.mailbox:
			if c.ending() == nil {
				fn(live)
			}
		case <-tick.C:
			c.lookAtPath(live)
		case <-c.over:
			c.finish(ctx)
		case <-ctx.Done():
			c.end(outcome{cause: CauseHangup, normal: true, local: true})
		}
	}
	close(stop)
	wg.Wait()
	c.linger()
}

// post hands fn to the call's goroutine; of a call that is over it is forgotten.
func (c *call) post(fn func(context.Context)) {
	select {
	case c.mailbox <- fn:
	case <-c.over:
	case <-c.done:
	}
}

func (c *call) at() stage { return stage(c.stage.Load()) }

func (c *call) answerable() bool { return !c.dialled && c.at() == stageRinging }

func (c *call) talking() bool { return c.at() == stageTalking }

// end decides how the call ends; the first one wins. It tells the far side at once and never blocks.
func (c *call) end(o outcome) {
	c.mu.Lock()
	if c.why != nil {
		c.mu.Unlock()
		return
	}
	c.why = &o
	d := c.dialog
	close(c.over)
	c.mu.Unlock()
	if d != nil && o.local {
		c.sayGoodbye(d, o)
	}
}

func (c *call) sayGoodbye(d *sip.Dialog, o outcome) {
	var err error
	if !c.dialled && (d.State() == sip.StateTrying || d.State() == sip.StateRinging) {
		code := o.code
		if code == 0 {
			code = 480
		}
		err = d.Reject(code, "")
	} else {
		err = d.Hangup(sip.Cause{Kind: sip.KindNormal, Q850: 16, Text: o.text})
	}
	if err != nil && !errors.Is(err, sip.ErrEnded) {
		c.log.Debug("call not ended cleanly", "err", err)
	}
}

func (c *call) ending() *outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

// finish stops the media and tells that the call is over.
func (c *call) finish(ctx context.Context) {
	c.stage.Store(int32(stageEnded))
	o := c.ending()
	var q Quality
	if s := c.session(); s != nil {
		q = c.quality()
	}
	if c.stopPump != nil {
		c.stopPump()
		c.pump.Wait()
	}
	if s := c.session(); s != nil {
		if err := s.Close(); err != nil {
			c.log.DebugContext(ctx, "media not closed cleanly", "err", err)
		}
	}
	e := Ended{Call: c.id, Normal: o.normal, Cause: o.cause, Text: o.text, Code: o.code, Quality: q}
	if !c.answeredAt.IsZero() {
		e.Duration = time.Since(c.answeredAt)
	}
	c.p.events.put(e)
}

// linger waits for the dialog, so that its last message is sent before the connection closes.
func (c *call) linger() {
	c.mu.Lock()
	d := c.dialog
	c.mu.Unlock()
	if d == nil {
		return
	}
	t := time.NewTimer(farewell)
	defer t.Stop()
	select {
	case <-c.gone:
	case <-t.C:
	}
	c.p.agent.Forget(d)
}

func (c *call) session() *rtc.Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sess
}

func (c *call) quality() Quality {
	s := c.session()
	if s == nil {
		return Quality{}
	}
	q := s.Quality()
	return Quality{RTT: q.RTT, Jitter: q.Jitter, Loss: q.Loss, FarLoss: q.FarLoss, MOS: q.MOS}
}

// fail ends the call because this phone cannot go on.
func (c *call) fail(err error) {
	o := outcome{cause: CauseFailed, text: err.Error(), code: 500, local: true}
	switch {
	case errors.Is(err, rtc.ErrNoCommonCodec), errors.Is(err, rtc.ErrDescription):
		o.cause, o.code = CauseNoCodec, 488
	case errors.Is(err, rtc.ErrNoRelay):
		o.cause, o.code = CauseNoMedia, 480
	case errors.Is(err, context.Canceled) && c.ending() != nil:
		return
	}
	c.end(o)
}

// newSession makes the media of the call.
func (c *call) newSession() (*rtc.Session, error) {
	s, err := c.p.media.NewSession(rtc.Callbacks{
		OnState: func() {
			select {
			case c.mailbox <- c.pathChanged:
			default: // the tick looks, too
			}
		},
		OnDigit: func(d byte, t time.Duration) { c.p.events.put(Digit{Call: c.id, Digit: d, For: t}) },
	})
	if err != nil {
		return nil, fmt.Errorf("media: %w", err)
	}
	c.mu.Lock()
	c.sess = s
	c.mu.Unlock()
	return s, nil
}

// dial places the call.
func (c *call) dial(ctx context.Context, to string, headers []sip.Header) {
	s, err := c.newSession()
	if err != nil {
		c.fail(err)
		return
	}
	offer, err := s.Offer(ctx, false, false)
	if err != nil {
		c.fail(err)
		return
	}
	d, err := c.p.agent.Invite(ctx, to, offer, headers, dialogEvents{c: c})
	if err != nil {
		c.fail(err)
		return
	}
	c.take(d)
}

// take keeps the dialog; a call that was hung up meanwhile says so.
func (c *call) take(d *sip.Dialog) {
	c.mu.Lock()
	c.dialog = d
	o := c.why
	c.mu.Unlock()
	if o != nil && o.local {
		c.sayGoodbye(d, *o)
	}
}

// progress is a 18x.
func (c *call) progress(code int, sdp []byte) {
	if c.at() >= stageAnswered {
		return
	}
	early := len(sdp) > 0
	if s := c.session(); early && s != nil && s.Codec() == "" {
		if err := s.Answered(sdp); err != nil {
			c.p.events.put(Problem{Call: c.id, Err: err})
			early = false
		} else {
			c.startPump()
		}
	}
	first := c.at() == stageNew
	c.stage.Store(int32(stageRinging))
	if first || early {
		c.p.events.put(Ringing{Call: c.id, EarlyMedia: early})
	}
	c.log.Debug("call in progress", "code", code)
}

// accepted is the 200 of a dialled call.
func (c *call) accepted(sdp []byte) {
	s := c.session()
	if s == nil || c.at() >= stageAnswered {
		return
	}
	if s.Codec() == "" {
		if err := s.Answered(sdp); err != nil {
			c.fail(err)
			return
		}
	}
	c.connectMedia()
}

// answer takes an incoming call.
func (c *call) answer(ctx context.Context) {
	if !c.answerable() {
		return
	}
	s, err := c.newSession()
	if err != nil {
		c.fail(err)
		return
	}
	var sdp []byte
	if len(c.offer) > 0 {
		sdp, err = s.Answer(ctx, c.offer, false)
	} else { // the caller wants our offer; its answer comes with the ACK
		sdp, err = s.Offer(ctx, false, false)
	}
	if err != nil {
		c.fail(err)
		return
	}
	c.mu.Lock()
	d := c.dialog
	c.mu.Unlock()
	if err := d.Answer(sdp); err != nil {
		c.fail(err)
		return
	}
	if len(c.offer) > 0 {
		c.connectMedia()
	}
}

// acknowledged is the ACK of an incoming call, with the answer if the offer was ours.
func (c *call) acknowledged(sdp []byte) {
	s := c.session()
	if len(sdp) == 0 || s == nil {
		return
	}
	if err := s.Answered(sdp); err != nil {
		if c.at() < stageAnswered {
			c.fail(err)
		}
		return
	}
	if c.at() < stageAnswered {
		c.connectMedia()
	}
	c.tellFarHold(s.FarHold())
}

// connectMedia begins to talk, as soon as ICE and DTLS are done.
func (c *call) connectMedia() {
	c.answeredAt = time.Now()
	c.stage.Store(int32(stageAnswered))
	c.startPump()
	c.path.until = time.Now().Add(setupLimit)
	if s := c.session(); s != nil && s.State() == rtc.StateConnected {
		c.connected()
	}
}

func (c *call) connected() {
	c.stage.Store(int32(stageTalking))
	c.setup = time.Since(c.answeredAt)
	c.path = path{}
	s := c.session()
	c.p.events.put(Answered{Call: c.id, Codec: s.Codec(), Setup: c.setup, GUID: c.guid})
	c.tellFarHold(s.FarHold())
}

// startPump opens the device and moves sound both ways.
func (c *call) startPump() {
	s := c.session()
	if c.stopPump != nil || s == nil {
		return
	}
	rate := s.Rate()
	if _, deaf := c.p.c.Device.(audio.Null); deaf {
		rate = audio.RateNarrow // nobody hears the difference, and it costs a fifth
	}
	stream, err := c.p.c.Device.Open(rate)
	if err != nil {
		c.p.events.put(Problem{Call: c.id, Err: fmt.Errorf("sound device: %w", err)})
		stream, err = audio.Null{}.Open(rate)
		if err != nil {
			c.fail(err)
			return
		}
	}
	w := &worker{c: c, s: s, stream: stream, rate: rate}
	if c.beep {
		w.beep = beepTone(rate)
	}
	stop := make(chan struct{})
	c.stopPump = sync.OnceFunc(func() { close(stop) })
	c.pump.Go(func() { w.run(stop) })
}

// press sends digits: as telephone events, or by INFO to a far side that takes none.
func (c *call) press(digits string) error {
	s := c.session()
	if s == nil || c.at() == stageEnded {
		return ErrState
	}
	err := s.Press(digits, 0)
	if !errors.Is(err, rtc.ErrNoDigits) {
		return err //nolint:wrapcheck // says it all
	}
	if err := dtmf.Valid(digits); err != nil {
		return fmt.Errorf("digits: %w", err)
	}
	if len(digits) > dtmf.MaxQueue {
		return dtmf.ErrFull
	}
	c.post(func(ctx context.Context) { c.pressByInfo(ctx, digits) })
	return nil
}

func (c *call) pressByInfo(ctx context.Context, digits string) {
	for i := range len(digits) {
		t, body, err := dtmf.FormatInfo(digits[i], 0)
		if err != nil {
			continue // a comma
		}
		ictx, cancel := context.WithTimeout(ctx, reinviteLimit)
		err = c.dialogOf().Info(ictx, t, body)
		cancel()
		if err != nil {
			c.p.events.put(Problem{Call: c.id, Err: fmt.Errorf("digit: %w", err)})
			return
		}
	}
}

func (c *call) dialogOf() *sip.Dialog {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialog
}
