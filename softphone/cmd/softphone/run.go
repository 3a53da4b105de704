package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/cordboard/cordboard/softphone"
	"github.com/cordboard/cordboard/softphone/audio"
)

// Exit codes.
const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
)

// registerLimit is how long --dial waits for the registration.
const registerLimit = 30 * time.Second

// run is the program; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitFine
	case errors.Is(err, errUsage):
		complain(stderr, err)
		return exitUsage
	case err != nil:
		complain(stderr, err)
		return exitFailed
	}
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	out := newPrinter(stdout)
	if err := work(ctx, o, out, log); err != nil {
		out.problem(err)
		return exitFailed
	}
	if out.err != nil {
		complain(stderr, out.err)
		return exitFailed
	}
	return exitFine
}

func complain(w io.Writer, err error) {
	// Nothing is left to tell it to if this fails.
	_, _ = fmt.Fprintf(w, "softphone: %v\n", err)
}

var errCalls = errors.New("not every call ended normally")

// work runs the phone until its calls are over or ctx ends.
func work(ctx context.Context, o options, out *printer, log *slog.Logger) (err error) {
	secret, err := o.secret(os.Stdin)
	if err != nil {
		return err
	}
	conf, err := o.tls()
	if err != nil {
		return err
	}
	files := &audio.Files{Play: o.play, Record: o.record}
	c := softphone.Config{
		Log: log, Server: o.server, User: o.user, Password: secret, TLS: conf, RelayOnly: o.turnOnly,
		MaxCalls: max(8, o.calls), UserAgent: "Cordboard softphone",
	}
	if o.codec != "" {
		c.Codecs = []string{o.codec}
	}
	if o.play != "" || o.record != "" {
		if err := files.Load(); err != nil {
			return fmt.Errorf("sound: %w", err)
		}
		c.Device = files
	}
	d := &desk{o: o.action, out: out, over: make(chan error, 1), ready: make(chan struct{})}
	c.OnEvent = d.event
	if o.api != "" {
		s, err := signIn(ctx, o.api, o.login, secret, conf)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.signOut(ctx)) }()
		s.configure(&c)
		kctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { d.finish(s.keep(kctx)) })
		defer wg.Wait()
		defer cancel()
	}
	p, err := softphone.New(c)
	if err != nil {
		return fmt.Errorf("phone: %w", err)
	}
	d.phone = p
	if err := p.Start(ctx); err != nil {
		return errors.Join(fmt.Errorf("phone: %w", err), p.Close())
	}
	err = d.work(ctx)
	return errors.Join(err, p.Close(), d.verdict())
}

// desk does with calls what was asked for.
type desk struct {
	o     action
	out   *printer
	phone *softphone.Phone
	over  chan error    // the work is done, or cannot be
	ready chan struct{} // registered for the first time

	mu     sync.Mutex
	placed bool
	ended  int
	failed int
	live   map[softphone.CallID]*time.Timer
}

// work waits until everything asked for is done.
func (d *desk) work(ctx context.Context) error {
	if d.o.dial != "" {
		t := time.NewTimer(registerLimit)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return nil
		case err := <-d.over:
			return err
		case <-t.C:
			return fmt.Errorf("not registered within %v", registerLimit)
		case <-d.ready:
		}
		for range max(1, d.o.calls) {
			if _, err := d.phone.Dial(d.o.dial, softphone.DialOptions{}); err != nil {
				return fmt.Errorf("dial: %w", err)
			}
		}
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-d.over:
		return err
	}
}

// finish ends work; the first one counts.
func (d *desk) finish(err error) {
	select {
	case d.over <- err:
	default:
	}
}

// event is called by the phone, one event at a time.
func (d *desk) event(e softphone.Event) {
	d.out.event(e)
	var err error
	switch e := e.(type) {
	case softphone.Registered:
		d.registered()
	case softphone.Unregistered:
		if e.RetryIn == 0 {
			d.finish(e.Err)
		}
	case softphone.Incoming:
		if d.o.answer && !e.AutoAnswer {
			err = d.phone.Answer(e.Call)
		}
	case softphone.Answered:
		err = d.answered(e.Call)
	case softphone.Ended:
		d.count(e)
	default:
	}
	if err != nil && !errors.Is(err, softphone.ErrNoCall) && !errors.Is(err, softphone.ErrState) {
		d.out.problem(err)
	}
}

func (d *desk) registered() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.placed {
		d.placed = true
		close(d.ready)
	}
}

func (d *desk) answered(id softphone.CallID) error {
	if d.o.hangupAfter > 0 {
		d.mu.Lock()
		if d.live == nil {
			d.live = map[softphone.CallID]*time.Timer{}
		}
		d.live[id] = time.AfterFunc(d.o.hangupAfter, func() {
			if err := d.phone.Hangup(id); err != nil && !errors.Is(err, softphone.ErrNoCall) {
				d.out.problem(err)
			}
		})
		d.mu.Unlock()
	}
	if d.o.digits == "" {
		return nil
	}
	return d.phone.SendDTMF(id, d.o.digits)
}

func (d *desk) count(e softphone.Ended) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.live[e.Call]; t != nil {
		t.Stop()
		delete(d.live, e.Call)
	}
	d.ended++
	if !e.Normal {
		d.failed++
	}
	if (d.o.dial != "" && d.ended >= max(1, d.o.calls)) || (d.o.answer && d.o.calls > 0 && d.ended >= d.o.calls) {
		d.finish(nil)
	}
}

// verdict is an error if a call failed.
func (d *desk) verdict() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed > 0 {
		return fmt.Errorf("%d of %d calls: %w", d.failed, d.ended, errCalls)
	}
	return nil
}
