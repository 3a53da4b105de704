package trunk

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cordboard/cordboard/gateway/sip"
)

const (
	// shortest is the shortest registration that is taken as granted.
	shortest = 20 * time.Second

	// leaveFor bounds the REGISTER that ends a registration.
	leaveFor = 2 * time.Second

	// cseqStep leaves room for the challenges that Send answers by itself.
	cseqStep = 4
)

// registration is the state of one trunk's outbound registration. It belongs
// to the goroutine of register.
type registration struct {
	callID string
	cseq   uint32
	ask    time.Duration // Expires that is asked for
	fails  int
}

// register keeps the trunk registered with its carrier until ctx ends.
func (l *Line) register(ctx context.Context) {
	r := &registration{callID: uuid.NewString(), cseq: 1, ask: l.t.o.Timing.Expires}
	for {
		granted, err := l.registerOnce(ctx, r)
		if ctx.Err() != nil {
			break
		}
		var next time.Duration
		if err == nil {
			r.fails = 0
			l.registered(granted)
			next = jitter(granted * 4 / 5)
		} else {
			r.fails++
			l.unregistered(err)
			next = l.backOff(r.fails, err)
		}
		if !wait(ctx, next, l.kick) {
			break
		}
	}
	l.leave(ctx, r)
}

// registerOnce sends a REGISTER, and another one if the carrier wants a longer
// interval (423).
func (l *Line) registerOnce(ctx context.Context, r *registration) (time.Duration, error) {
	for range 2 {
		res, err := l.sendRegister(ctx, r, r.ask)
		if err != nil {
			return 0, err
		}
		if res.Code == 423 {
			n, err := strconv.ParseUint(strings.TrimSpace(res.Header("Min-Expires")), 10, 31)
			if err == nil && time.Duration(n)*time.Second > r.ask {
				r.ask = time.Duration(n) * time.Second
				continue
			}
		}
		if res.Code < 200 || res.Code > 299 {
			return 0, fmt.Errorf("REGISTER: %w", &sip.StatusError{
				Code: res.Code, Reason: res.Reason, RetryAfter: seconds(res.Header("Retry-After")),
			})
		}
		return l.granted(res, r.ask), nil
	}
	return 0, fmt.Errorf("REGISTER: %w", &sip.StatusError{Code: 423, Reason: "Interval Too Brief"})
}

func (l *Line) sendRegister(ctx context.Context, r *registration, expires time.Duration) (sip.Response, error) {
	o := l.request("REGISTER", l.cfg.Username)
	o.CallID, o.CSeq = r.callID, r.cseq
	r.cseq += cseqStep
	secs := strconv.Itoa(int(expires / time.Second))
	o.Headers = []sip.Header{
		{Name: "Contact", Value: "<" + l.ourURI(l.token()).String() + ">;expires=" + secs},
		{Name: "Expires", Value: secs},
	}
	res, err := l.t.o.Endpoint.Send(ctx, o)
	if err != nil {
		return res, fmt.Errorf("REGISTER: %w", err)
	}
	return res, nil
}

// granted is how long the carrier keeps us: what it says of our contact, else
// its Expires, else what we asked for.
func (l *Line) granted(res sip.Response, asked time.Duration) time.Duration {
	d := asked
	if s := seconds(res.Header("Expires")); s > 0 {
		d = s
	}
	for _, c := range res.Contacts() {
		if c.URI.User == l.token() && c.Expires > 0 {
			d = time.Duration(min(c.Expires, 1<<30)) * time.Second
		}
	}
	return max(d, shortest)
}

// leave ends the registration as far as the carrier lets us, in a moment.
func (l *Line) leave(ctx context.Context, r *registration) {
	if !l.Status().Registered {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveFor)
	defer cancel()
	if _, err := l.sendRegister(ctx, r, 0); err != nil {
		l.t.log.DebugContext(ctx, "trunk unregister", "trunk", l.cfg.Name, "err", err)
	}
}

func (l *Line) registered(d time.Duration) {
	l.mu.Lock()
	was := l.status.Registered
	l.status.Registered, l.status.Until, l.status.LastError = true, time.Now().Add(d), ""
	l.mu.Unlock()
	if !was {
		l.t.log.Info("trunk registered", "trunk", l.cfg.Name, "expires", d)
		l.t.o.OnState(l.Status())
	}
}

// unregistered notes a failed REGISTER. What was granted before still holds
// until its end.
func (l *Line) unregistered(err error) {
	l.mu.Lock()
	was := l.status.Registered
	l.status.LastError = err.Error()
	gone := was && (refused(err) || !time.Now().Before(l.status.Until))
	if gone {
		l.status.Registered = false
	}
	l.mu.Unlock()
	l.t.log.Warn("trunk registration", "trunk", l.cfg.Name, "err", err)
	if gone {
		l.t.o.OnState(l.Status())
	}
	l.nextPlace()
}

// refused reports whether the carrier itself said no, and not the network.
func refused(err error) bool {
	var s *sip.StatusError
	return errors.As(err, &s) && s.Code != 408 && s.Code < 500
}

// backOff is the wait after the nth failure in a row.
func (l *Line) backOff(n int, err error) time.Duration {
	tm := l.t.o.Timing
	d := tm.RetryFirst
	for range min(n-1, 16) {
		d = min(2*d, tm.RetryMost)
	}
	if s, ok := errors.AsType[*sip.StatusError](err); ok {
		if refused(err) {
			d = max(d, min(6*tm.RetryFirst, tm.RetryMost)) // a wrong password is not mended by asking again
		}
		d = max(d, min(s.RetryAfter, tm.RetryMost))
	}
	return jitter(d)
}

// seconds reads a delta-seconds value, 0 if it is none.
func seconds(s string) time.Duration {
	s, _, _ = strings.Cut(s, ";")
	s, _, _ = strings.Cut(s, "(")
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}
