package trunk

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
)

// jitter spreads d by a tenth each way, so that trunks do not act in step.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)*0.2*float64(d)) //nolint:gosec // spreads load, keeps no secret
}

// wait waits for d, a kick or the end; false at the end.
func wait(ctx context.Context, d time.Duration, kick <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-kick:
		return true
	case <-t.C:
		return true
	}
}

// keepAlive asks the carrier with OPTIONS until ctx ends.
func (l *Line) keepAlive(ctx context.Context) {
	tm := l.t.o.Timing
	for {
		l.probe(ctx)
		next := tm.KeepAlive
		l.mu.Lock()
		if l.fails > 0 && l.status.State != StateDown {
			next = min(next, tm.Timeout) // in doubt: find out soon
		}
		l.mu.Unlock()
		if !wait(ctx, jitter(next), nil) {
			return
		}
		l.resolve(ctx)
	}
}

// probe sends one OPTIONS and notes what it says of the carrier.
func (l *Line) probe(ctx context.Context) {
	each, cancel := context.WithTimeout(ctx, l.t.o.Timing.Timeout)
	defer cancel()
	began := time.Now()
	res, err := l.t.o.Endpoint.Send(each, l.request("OPTIONS", ""))
	if ctx.Err() != nil {
		return
	}
	switch {
	case err != nil:
		l.failed(fmt.Errorf("OPTIONS: %w", err))
	case res.Code == 408 || res.Code == 503:
		l.failed(fmt.Errorf("OPTIONS: %w", &sip.StatusError{Code: res.Code, Reason: res.Reason}))
	default:
		l.alive(time.Since(began))
	}
}

// request is one to the carrier itself, outside of calls.
func (l *Line) request(method, user string) sip.Outgoing {
	uri := sip.URI{Scheme: "sip", Host: l.cfg.uriHost(), Port: l.cfg.port}
	from := sip.URI{Scheme: "sip", User: user, Host: l.cfg.uriHost()}
	if user == "" {
		from = l.ourURI("")
	}
	to := uri
	to.User = user
	return sip.Outgoing{
		Method: method, URI: uri, From: sip.Address{URI: from}, To: sip.Address{URI: to},
		Destination: l.destination(), Transport: string(l.cfg.Transport), Credentials: l.credentials(),
	}
}

// alive notes that the carrier answers.
func (l *Line) alive(rtt time.Duration) {
	l.mu.Lock()
	was := l.status.State
	l.fails = 0
	l.status.State, l.status.RTT = StateUp, rtt
	if !l.cfg.Register || l.status.Registered {
		l.status.LastError = ""
	}
	if was != StateUp {
		l.status.Since = time.Now()
	}
	l.mu.Unlock()
	if was == StateUp {
		return
	}
	l.t.log.Info("trunk up", "trunk", l.cfg.Name, "rtt", rtt)
	if was == StateDown {
		select { // it may have forgotten us
		case l.kick <- struct{}{}:
		default:
		}
	}
	l.t.o.OnState(l.Status())
}

// failed notes that the carrier did not answer, or said that it cannot serve.
func (l *Line) failed(err error) {
	l.mu.Lock()
	l.fails++
	l.status.LastError = err.Error()
	down := l.fails >= l.t.o.Timing.Failures && l.status.State != StateDown
	if down {
		l.status.State, l.status.Since = StateDown, time.Now()
	}
	l.mu.Unlock()
	l.nextPlace()
	if down {
		l.t.log.Warn("trunk down", "trunk", l.cfg.Name, "err", err)
		l.t.o.OnState(l.Status())
	}
}
