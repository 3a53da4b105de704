package sip

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
)

// session is the session timer of RFC 4028, in both roles; core strand only.
type session struct {
	wanted   time.Duration // what we ask for as caller
	interval time.Duration // in force; 0 = none
	ours     bool          // we refresh
	update   bool          // the peer takes UPDATE
	local    []byte        // our last SDP, for a refresh by re-INVITE
	refresh  timer
	expiry   timer
}

func (s *session) stop() {
	s.refresh.stop()
	s.expiry.stop()
}

func seconds(d time.Duration) string { return strconv.Itoa(int((d + time.Second - 1) / time.Second)) }

func minSEHeader(d time.Duration) Header { return Header{"Min-SE", seconds(d)} }

// readPeer learns what the peer can do.
func (s *session) readPeer(m *message) {
	if m.has("Allow") {
		s.update = m.lists("Allow", methodUpdate)
	}
}

// refresher names our role for a request that we send.
func (s *session) refresher() string {
	switch {
	case s.interval == 0:
		return ""
	case s.ours:
		return "uac"
	}
	return "uas"
}

// askHeaders are those of an INVITE or UPDATE of ours.
func (s *session) askHeaders(interval, minSE time.Duration, refresher string) []Header {
	h := []Header{{"Supported", extTimer}}
	if interval <= 0 {
		return h
	}
	v := seconds(interval)
	if refresher != "" {
		v += ";refresher=" + refresher
	}
	return append(h, Header{"Session-Expires", v}, minSEHeader(minSE))
}

// parseExpires reads a Session-Expires header.
func parseExpires(m *message) (d time.Duration, refresher string) {
	v, rest, _ := strings.Cut(m.header("Session-Expires"), ";")
	n, ok := parseDigits(strings.TrimSpace(v), 1<<30)
	if !ok || n == 0 {
		return 0, ""
	}
	if ps, _, ok := parseParams(";" + rest); ok {
		refresher, _ = ps.Get("refresher")
	}
	return time.Duration(n) * time.Second, strings.ToLower(refresher)
}

// fromRequest takes the peer's wish and returns the headers of our 2xx; false
// means 422.
func (s *session) fromRequest(e *Endpoint, m *message) ([]Header, bool) {
	d, refresher := parseExpires(m)
	supports := m.lists("Supported", extTimer) || m.lists("Require", extTimer)
	if d == 0 {
		if m.method == methodInvite && e.o.SessionExpires > 0 && s.interval == 0 {
			// We watch over a peer that did not ask; it need not know.
			s.interval, s.ours = e.o.SessionExpires, true
			if supports {
				return []Header{{"Session-Expires", seconds(s.interval) + ";refresher=uas"}}, true
			}
		}
		return nil, true
	}
	if d < e.o.MinSE {
		if supports {
			return nil, false
		}
		d = e.o.MinSE // a proxy asked on behalf of a client that could not take 422
	}
	switch {
	case !supports:
		refresher = "uas"
	case refresher != "uas":
		refresher = "uac"
	}
	s.interval, s.ours = d, refresher == "uas"
	h := []Header{{"Session-Expires", seconds(d) + ";refresher=" + refresher}}
	if refresher == "uac" {
		h = append(h, Header{"Require", extTimer})
	}
	return h, true
}

// fromResponse takes the outcome from a 2xx to an INVITE or UPDATE of ours and
// starts the timers.
func (s *session) fromResponse(d *Dialog, m *message) {
	interval, refresher := parseExpires(m)
	switch {
	case interval > 0:
		s.interval, s.ours = interval, refresher != "uas"
	case s.interval == 0 && s.wanted > 0:
		s.interval, s.ours = s.wanted, true // the peer cannot; our refreshes still show whether it lives
	}
	s.start(d)
}

// start starts the timers anew (RFC 4028 section 10).
func (s *session) start(d *Dialog) {
	s.stop()
	if s.interval <= 0 {
		return
	}
	if s.ours {
		d.set(&s.refresh, s.interval/2, func() { s.renew(d) })
	}
	d.set(&s.expiry, s.interval-min(32*time.Second, s.interval/3), func() {
		d.bye(Cause{Kind: KindSessionTimer, Code: 408, Text: "session timer expired"})
	})
}

// renew refreshes the session by UPDATE, or by a re-INVITE with the same SDP
// if the peer has no UPDATE.
func (s *session) renew(d *Dialog) {
	interval, update, local := s.interval, s.update, s.local
	left := interval/2 - min(32*time.Second, interval/3)
	d.e.spawn(func() {
		ctx, cancel := context.WithTimeout(d.e.ctx, max(left, time.Second))
		defer cancel()
		h := s.askHeaders(interval, d.e.o.MinSE, "uac")
		if !update && len(local) > 0 {
			if _, err := d.modify(ctx, local, h); err != nil {
				d.post(func() { s.retry(d, err, nil) })
			}
			return // fromResponse has started the timers
		}
		m, err := d.request2(ctx, methodUpdate, h, nil)
		d.post(func() { s.retry(d, err, m) })
	})
}

// retry judges the outcome of a refresh. The expiry timer runs on, so that a
// session which cannot be refreshed ends by it.
func (s *session) retry(d *Dialog, err error, m *message) {
	if d.State() != StateConfirmed {
		return
	}
	if err == nil && m.code < 300 {
		d.refreshTarget(m)
		s.fromResponse(d, m)
		return
	}
	if err == nil {
		if m.code == 405 || m.code == 501 {
			s.update = false // it said otherwise; use re-INVITE
		}
		err = statusOf(m)
		if n, ok := parseDigits(m.header("Min-SE"), 86400); ok && m.code == 422 {
			s.interval = max(s.interval, time.Duration(n)*time.Second)
		}
	}
	var se *StatusError
	if errors.Is(err, ErrTimeout) || errors.As(err, &se) && se.Code == 408 {
		d.bye(Cause{Kind: KindSessionTimer, Code: 408, Text: "session not refreshed", Err: err})
		return
	}
	d.set(&s.refresh, max(s.interval/16, 2*time.Second), func() { s.renew(d) })
}
