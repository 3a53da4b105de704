package ua

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
)

const (
	// minRefresh bounds how often a registration is refreshed, whatever the server grants.
	minRefresh = time.Second
	// unregisterTime is how long Close waits for the server.
	unregisterTime = 2 * time.Second
	dialTime       = 10 * time.Second
)

// run keeps the agent registered until ctx ends.
func (a *Agent) run(ctx context.Context) {
	attempt := 0
	for {
		err := a.session(ctx, func() { attempt = 0 })
		a.mu.Lock()
		a.flow = nil
		a.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrCredentials) {
			// Trying again would only lock the user out. Nothing changes until a new Agent is made.
			a.ev.Unregistered(err, 0)
			<-ctx.Done()
			return
		}
		wait := a.c.Backoff.next(attempt)
		var se *sip.StatusError
		if errors.As(err, &se) && se.RetryAfter > 0 {
			wait = se.RetryAfter + wait
		}
		attempt++
		a.log.InfoContext(ctx, "phone not registered", "retry_ms", wait.Milliseconds(), "err", err)
		a.ev.Unregistered(err, max(wait, time.Millisecond))
		if !a.pause(ctx, wait) {
			return
		}
	}
}

// pause waits, but no longer than until Check.
func (a *Agent) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.check:
	case <-ctx.Done():
		return false
	}
	return true
}

// session is one connection, from its start to its end.
func (a *Agent) session(ctx context.Context, up func()) error {
	dctx, cancel := context.WithTimeout(ctx, dialTime)
	flow, err := a.ep.DialWebSocket(dctx, a.c.Server, a.c.TLS)
	cancel()
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer a.ep.CloseFlow(flow)
	granted, err := a.register(ctx, flow, a.c.Expires)
	if err != nil {
		return err
	}
	up()
	a.adopt(flow)
	a.ev.Registered(granted)
	t := time.NewTimer(refreshIn(granted))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			a.farewell(ctx, flow)
			return context.Cause(ctx)
		case f := <-a.closed:
			if f == flow {
				return sip.ErrFlowGone
			}
			continue
		case <-t.C:
		case <-a.check:
		}
		if granted, err = a.register(ctx, flow, a.c.Expires); err != nil {
			return err
		}
		t.Reset(refreshIn(granted))
	}
}

// adopt makes the flow the present one, for new calls and for those that live.
func (a *Agent) adopt(flow sip.Flow) {
	a.mu.Lock()
	a.flow = &flow
	live := make([]*sip.Dialog, 0, len(a.dialogs))
	for d := range a.dialogs {
		live = append(live, d)
	}
	a.mu.Unlock()
	for _, d := range live {
		d.UpdateFlow(flow)
	}
}

// refreshIn is early enough for two more attempts.
func refreshIn(granted time.Duration) time.Duration {
	return max(minRefresh, min(granted*3/4, granted-30*time.Second), granted/2)
}

func (a *Agent) farewell(ctx context.Context, flow sip.Flow) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unregisterTime)
	defer cancel()
	if _, err := a.register(ctx, flow, 0); err != nil {
		a.log.DebugContext(ctx, "phone left without unregistering", "err", err)
	}
}

// register sends one REGISTER and returns the time that was granted.
func (a *Agent) register(ctx context.Context, flow sip.Flow, expires time.Duration) (time.Duration, error) {
	actx, cancel := context.WithTimeout(ctx, a.c.Answer)
	defer cancel()
	cseq := a.cseq
	a.cseq += 5 // Send takes one more for each challenge
	res, err := a.ep.Send(actx, sip.Outgoing{
		Method: "REGISTER", URI: a.registry, From: a.aor, To: sip.Address{URI: a.aor.URI}, Flow: &flow,
		CallID: a.callID, CSeq: cseq, Credentials: a.credentials(),
		Headers: []sip.Header{
			{Name: "Contact", Value: a.contact},
			{Name: "Expires", Value: strconv.Itoa(int(expires / time.Second))},
			{Name: "Supported", Value: "outbound"},
			{Name: "Allow", Value: "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE"},
		},
	})
	if err != nil {
		return 0, fmt.Errorf("register: %w", err)
	}
	switch {
	case res.Code >= 200 && res.Code < 300:
		return a.granted(res, expires), nil
	case res.Code == 423 && expires > 0: // RFC 3261 section 10.2.8
		if lowest := seconds(res.Header("Min-Expires")); lowest > expires {
			a.c.Expires = lowest
			return a.register(ctx, flow, lowest)
		}
	}
	refused := &sip.StatusError{Code: res.Code, Reason: res.Reason, RetryAfter: seconds(firstToken(res.Header("Retry-After")))}
	if (res.Code == 401 || res.Code == 403 || res.Code == 407) && refused.RetryAfter == 0 {
		return 0, fmt.Errorf("register: %w", errors.Join(ErrCredentials, refused))
	}
	return 0, fmt.Errorf("register: %w", refused)
}

// granted finds our contact among those of the answer.
func (a *Agent) granted(res sip.Response, asked time.Duration) time.Duration {
	for _, c := range res.Contacts() {
		if c.Expires > 0 && strings.Contains(a.contact, c.URI.Host) {
			return time.Duration(c.Expires) * time.Second
		}
	}
	if d := seconds(res.Header("Expires")); d > 0 {
		return d
	}
	return asked
}

func firstToken(s string) string {
	s, _, _ = strings.Cut(s, ";")
	s, _, _ = strings.Cut(s, "(")
	return strings.TrimSpace(s)
}
