package rest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/event"
)

const (
	subprotocol = "cordboard.v1"
	// tokenWithin is how long a client may take to send its token.
	tokenWithin  = 10 * time.Second
	pingEvery    = 20 * time.Second
	pongWithin   = 50 * time.Second
	writeWithin  = 10 * time.Second
	maxMessage   = 4 << 10
	maxConns     = 10_000
	maxAnonymous = 500
	maxPerOwner  = 20
)

// gate counts event connections and ends those of a session.
type gate struct {
	mu        sync.Mutex
	closed    bool
	anonymous int
	all       map[*conn]struct{}
}

func (g *gate) init() { g.all = map[*conn]struct{}{} }

// enter admits a connection whose owner is not known yet.
func (g *gate) enter(c *conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || len(g.all) >= maxConns || g.anonymous >= maxAnonymous {
		return false
	}
	g.all[c] = struct{}{}
	g.anonymous++
	c.h.conns.Add(1) // under the lock: after close nobody is added
	return true
}

// own notes whose the connection is.
func (g *gate) own(c *conn, p auth.Principal) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for o := range g.all {
		if o.known && o.p.SessionID == p.SessionID && o.p.TokenID == p.TokenID {
			n++
		}
	}
	if n >= maxPerOwner {
		return false
	}
	c.p, c.known = p, true
	g.anonymous--
	return true
}

func (g *gate) leave(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !c.known {
		g.anonymous--
	}
	delete(g.all, c)
	c.h.conns.Done()
}

func (g *gate) end(session string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.all {
		if c.known && c.p.SessionID == session {
			c.cancel(errEnded)
		}
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for c := range g.all {
		c.cancel(errStopping)
	}
}

// closeError ends a connection with a close code.
type closeError struct {
	code int
	text string
}

// Error implements error.
func (e *closeError) Error() string { return e.text }

var (
	errEnded    = &closeError{api.CloseEnded, "the session ended"}
	errStopping = &closeError{websocket.CloseGoingAway, "the gateway stops"}
	errLagging  = &closeError{api.CloseLagging, "read too slowly: resume with since"}
	errNoToken  = &closeError{api.CloseUnauthorized, "a valid token is needed"}
	errScope    = &closeError{api.CloseForbidden, "the permission for this is missing"}
	errTooMany  = &closeError{websocket.CloseTryAgainLater, "too many connections"}
)

// conn is one event connection.
type conn struct {
	h      *Handler
	ws     *websocket.Conn
	q      *request
	cancel context.CancelCauseFunc
	tokens chan string // from the first message

	known bool // guarded by the gate
	p     auth.Principal
}

// events upgrades to the WebSocket of live events.
func (h *Handler) events(w http.ResponseWriter, r *http.Request) {
	since, given, err := sinceOf(r.URL.Query())
	if err != nil {
		writeProblem(w, Refuse(http.StatusUnprocessableEntity, "invalid", err.Error()))
		return
	}
	if !websocket.IsWebSocketUpgrade(r) {
		refusal := Refuse(http.StatusUpgradeRequired, "upgrade_required", "this address speaks WebSocket")
		refusal.Header = http.Header{"Upgrade": {"websocket"}}
		writeProblem(w, refusal)
		return
	}
	q := requestOf(r.Context())
	token := q.token
	if t := r.URL.Query().Get("token"); token == "" && t != "" {
		token = t
	}
	for _, s := range websocket.Subprotocols(r) {
		if t, ok := strings.CutPrefix(s, "bearer."); ok && token == "" {
			token = t
		}
	}
	if token != "" { // refused before the upgrade, so that plain HTTP says why
		if _, err := h.o.Auth.Authenticate(token, q.local); err != nil {
			refusal := Refuse(http.StatusUnauthorized, "unauthorized", "a valid bearer token is needed")
			refusal.Header = http.Header{"Www-Authenticate": {"Bearer"}}
			writeProblem(w, refusal)
			return
		}
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(r.Context()))
	defer cancel(nil)
	c := &conn{h: h, q: q, cancel: cancel, tokens: make(chan string, 1)}
	if !h.gate.enter(c) {
		refusal := Refuse(http.StatusServiceUnavailable, "too_many_connections", "there are too many event connections")
		refusal.Header = http.Header{"Retry-After": {"5"}}
		writeProblem(w, refusal)
		return
	}
	defer h.gate.leave(c)
	up := websocket.Upgrader{
		HandshakeTimeout: writeWithin, ReadBufferSize: 1024, WriteBufferSize: 4096, WriteBufferPool: &h.buffers,
		Subprotocols: []string{subprotocol}, CheckOrigin: sameOrigin,
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			writeProblem(w, Refuse(status, "upgrade_refused", reason.Error()))
		},
	}
	w.Header().Del("Content-Security-Policy")
	ws, err := up.Upgrade(unwrap(w), r, nil)
	if err != nil {
		return // answered
	}
	c.ws = ws
	c.serve(ctx, token, since, given)
}

func unwrap(w http.ResponseWriter) http.ResponseWriter {
	if s, ok := w.(*statusWriter); ok {
		s.status = http.StatusSwitchingProtocols
		return s.ResponseWriter
	}
	return w
}

// sameOrigin lets browsers in from the gateway's own pages only; programs send
// no Origin.
func sameOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

func sinceOf(v url.Values) (since uint64, given bool, err error) {
	for k, vs := range v {
		if (k != "since" && k != "token") || len(vs) != 1 {
			return 0, false, errors.New("only since and token are known, each once")
		}
	}
	if !v.Has("since") {
		return 0, false, nil
	}
	since, err = strconv.ParseUint(v.Get("since"), 10, 63)
	if err != nil {
		return 0, false, errors.New("since must be a sequence number")
	}
	return since, true, nil
}

// serve runs the connection to its end.
func (c *conn) serve(ctx context.Context, token string, since uint64, given bool) {
	var readers sync.WaitGroup
	readers.Go(func() { c.read(ctx) })
	err := c.write(ctx, token, since, given)
	if ce, ok := errors.AsType[*closeError](err); ok {
		msg := websocket.FormatCloseMessage(ce.code, ce.text)
		_ = c.ws.WriteControl(websocket.CloseMessage, msg, time.Now().Add(time.Second))
	}
	c.cancel(err)
	_ = c.ws.Close()
	readers.Wait()
}

// read takes the client's token and its pongs; anything else is ignored.
func (c *conn) read(ctx context.Context) {
	c.ws.SetReadLimit(maxMessage)
	extend := func(string) error { return c.ws.SetReadDeadline(time.Now().Add(pongWithin)) }
	c.ws.SetPongHandler(extend)
	_ = extend("")
	for {
		kind, b, err := c.ws.ReadMessage()
		if err != nil {
			c.cancel(err)
			return
		}
		if ctx.Err() != nil {
			return
		}
		var m struct {
			Token string `json:"token"`
		}
		if kind == websocket.TextMessage && json.Unmarshal(b, &m) == nil && m.Token != "" {
			select {
			case c.tokens <- m.Token:
			default: // one is enough
			}
		}
	}
}

func (c *conn) write(ctx context.Context, token string, since uint64, given bool) error {
	if token == "" {
		wait := time.NewTimer(tokenWithin)
		defer wait.Stop()
		select {
		case token = <-c.tokens:
		case <-wait.C:
			return errNoToken
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	p, err := c.h.o.Auth.Authenticate(token, c.q.local)
	switch {
	case err != nil:
		return errNoToken
	case p.MustChangePassword || (!p.Can(auth.ScopeSelf) && !p.Can(auth.ScopeRead)):
		return errScope
	case !c.h.gate.own(c, p):
		return errTooMany
	}
	c.q.who = p.Name()
	cursor, err := c.begin(ctx, since, given)
	if err != nil {
		return err
	}
	return c.follow(ctx, cursor)
}

// begin finds where to start, and brings the client up to the ring.
func (c *conn) begin(ctx context.Context, since uint64, given bool) (uint64, error) {
	v := c.h.hub.after(since)
	for v.waiting && !v.done {
		select {
		case <-v.changed:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		v = c.h.hub.after(since)
	}
	if !given {
		return v.last, c.notice(api.EventReady, v.last)
	}
	first, err := c.h.o.Facts.First(ctx)
	if err != nil {
		return 0, &closeError{websocket.CloseTryAgainLater, "the stream cannot be read now"}
	}
	if since > v.last || since+1 < first {
		// another installation's sequence, or facts that are gone
		if err := c.notice(api.EventReset, v.last); err != nil {
			return 0, err
		}
		return v.last, c.notice(api.EventReady, v.last)
	}
	cursor := since
	for v.behind {
		target := v.last
		if cursor, err = c.catchUp(ctx, cursor, target); err != nil {
			return 0, err
		}
		v = c.h.hub.after(cursor)
	}
	for _, it := range v.items {
		if err := c.send(it); err != nil {
			return 0, err
		}
		cursor = it.seq
	}
	return cursor, c.notice(api.EventReady, cursor)
}

var errCaughtUp = errors.New("caught up")

// catchUp reads the stream itself from the cursor to the target.
func (c *conn) catchUp(ctx context.Context, cursor, target uint64) (uint64, error) {
	err := c.h.o.Facts.Read(ctx, cursor, func(f event.Fact) error {
		if err := c.send(newItem(f, c.h.o.Log)); err != nil {
			return err
		}
		if cursor = f.Seq; cursor >= target {
			return errCaughtUp
		}
		return nil
	})
	switch {
	case errors.Is(err, errCaughtUp):
		return cursor, nil
	case ctx.Err() != nil:
		return cursor, context.Cause(ctx)
	case err != nil:
		return cursor, err
	default:
		return cursor, errStopping
	}
}

// follow sends what comes from now on.
func (c *conn) follow(ctx context.Context, cursor uint64) error {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		v := c.h.hub.after(cursor)
		if v.behind {
			if err := c.notice(api.EventLagging, cursor); err != nil {
				return err
			}
			return errLagging
		}
		for _, it := range v.items {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := c.send(it); err != nil {
				return err
			}
			cursor = it.seq
		}
		if v.done {
			return errStopping
		}
		select {
		case <-v.changed:
		case <-ping.C:
			if !c.alive() {
				return errEnded
			}
			if err := c.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeWithin)); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *conn) alive() bool {
	if c.p.SessionID != "" {
		return c.h.o.Auth.Touch(c.p.SessionID)
	}
	return c.h.o.Auth.TokenAlive(c.p.TokenID)
}

// send writes one fact if the client may see it.
func (c *conn) send(it item) error {
	e := it.encoded()
	if e.text == nil || !c.sees(it.kind, e.about) {
		return nil
	}
	_ = c.ws.SetWriteDeadline(time.Now().Add(writeWithin))
	return c.ws.WriteMessage(websocket.TextMessage, e.text)
}

// sees says who sees what: the audit is for administrators; who may read sees
// all the rest; an agent sees what is about them and about their campaigns.
func (c *conn) sees(kind event.Kind, who about) bool {
	switch {
	case kind == event.KindAudit:
		return c.p.Can(auth.ScopeAdmin)
	case c.p.Can(auth.ScopeRead):
		return true
	case c.p.Username == "":
		return false
	case who.Agent == c.p.Username:
		return true
	}
	name := who.Campaign
	if name == "" {
		name = who.Queue
	}
	return name != "" && slices.ContainsFunc(c.h.o.Directory.ForAgent(c.p.Username), is(name))
}

// notice tells something about the connection itself.
func (c *conn) notice(kind string, seq uint64) error {
	_ = c.ws.SetWriteDeadline(time.Now().Add(writeWithin))
	return c.ws.WriteJSON(api.Event{Seq: seq, Time: time.Now().UTC(), Type: kind, Data: json.RawMessage("{}")})
}
