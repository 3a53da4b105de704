package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/softphone"
)

const (
	// signInLimit is how long a gateway that does not answer yet is tried.
	signInLimit  = 30 * time.Second
	requestLimit = 10 * time.Second
	// keepEvery is how often the session is used, so that it does not end for want of use.
	keepEvery = 5 * time.Minute
	maxAnswer = 1 << 20
)

var (
	errSession = errors.New("the session was ended by the gateway")
	errNoPhone = errors.New("the gateway gave no phone: the user needs an extension and the role agent")
)

// statusError is an answer of the gateway that is not 2xx.
type statusError struct {
	status int
	title  string
	after  time.Duration
}

// Error implements error.
func (e *statusError) Error() string { return fmt.Sprintf("gateway answered %d %s", e.status, e.title) }

// session is a sign-in like the desktop's.
type session struct {
	base   string
	client *http.Client
	api.Session
}

// signIn opens a session that makes the user an available agent. A gateway that is not up yet is waited for.
func signIn(ctx context.Context, base, login, password string, conf *tls.Config) (*session, error) {
	s := &session{
		base: strings.TrimRight(base, "/"),
		client: &http.Client{
			Timeout:   requestLimit,
			Transport: &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true, MaxIdleConns: 1, IdleConnTimeout: time.Minute},
		},
	}
	ctx, cancel := context.WithTimeout(ctx, signInLimit)
	defer cancel()
	for try := 0; ; try++ {
		err := s.do(ctx, http.MethodPost, "/api/v1/sessions", api.SignIn{Username: login, Password: password, Phone: true}, &s.Session)
		if err == nil {
			break
		}
		wait := time.Duration(float64(min(4, try+1)) * float64(time.Second) * (0.5 + rand.Float64()/2)) //nolint:gosec // G404: no secret
		if se, ok := errors.AsType[*statusError](err); ok {
			if se.status != http.StatusServiceUnavailable && se.status != http.StatusTooManyRequests {
				return nil, fmt.Errorf("sign in: %w", err)
			}
			wait += se.after
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, fmt.Errorf("sign in: %w", err)
		}
	}
	if s.SIP == nil || len(s.SIP.URLs) == 0 {
		return nil, errors.Join(errNoPhone, s.signOut(ctx))
	}
	return s, nil
}

// configure sets what the gateway told.
func (s *session) configure(c *softphone.Config) {
	c.Server, c.User, c.Password, c.Domain = s.SIP.URLs[0], s.SIP.Username, s.SIP.Password, s.SIP.Realm
	if u, err := sip.ParseURI(s.SIP.AOR); err == nil {
		c.AoR = u.User
		if u.Host != "" {
			c.Domain = u.Host
		}
	}
	c.DisplayName = s.User.FullName
	for _, i := range s.ICEServers {
		c.Servers = append(c.Servers, softphone.Server{URLs: i.URLs, Username: i.Username, Password: i.Credential})
	}
}

// keep uses the session now and then, until ctx ends (nil) or the session does.
func (s *session) keep(ctx context.Context) error {
	t := time.NewTicker(keepEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		var se *statusError
		err := s.do(ctx, http.MethodGet, "/api/v1/sessions/current", nil, nil)
		if errors.As(err, &se) && (se.status == http.StatusUnauthorized || se.status == http.StatusNotFound) {
			return errSession
		}
	}
}

// signOut ends the session, even when ctx has ended.
func (s *session) signOut(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestLimit)
	defer cancel()
	err := s.do(ctx, http.MethodDelete, "/api/v1/sessions/current", nil, nil)
	s.client.CloseIdleConnections()
	var se *statusError
	if errors.As(err, &se) && (se.status == http.StatusUnauthorized || se.status == http.StatusNotFound) {
		return nil // it is over already
	}
	if err != nil {
		return fmt.Errorf("sign out: %w", err)
	}
	return nil
}

func (s *session) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if s.Token != "" {
		req.Header.Set("Authorization", "Bearer "+s.Token)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return problem(res, b)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// problem reads application/problem+json.
func problem(res *http.Response, body []byte) error {
	var p struct{ Title, Detail string }
	e := &statusError{status: res.StatusCode, title: http.StatusText(res.StatusCode)}
	if err := json.Unmarshal(body, &p); err == nil && p.Title != "" {
		e.title = p.Title
		if p.Detail != "" {
			e.title += ": " + p.Detail
		}
	}
	if n, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && n > 0 && n < 3600 {
		e.after = time.Duration(n) * time.Second
	}
	return e
}
