package rest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cordboard/cordboard/gateway/auth"
)

const (
	prefix = "/api/v1"
	// maxBody bounds request bodies, maxState that of a whole state.
	maxBody  = 1 << 20
	maxState = 16 << 20
	// maxURI bounds path and query.
	maxURI = 8 << 10
	// bodyWithin is how long a client may take to send a body, answerWithin
	// how long an answer may take in all, stateWithin that of a whole state,
	// which may hold thousands of passwords to hash.
	bodyWithin   = 15 * time.Second
	answerWithin = 30 * time.Second
	stateWithin  = 10 * time.Minute
)

type contextKey int

const (
	requestKey contextKey = iota
	principalKey
)

// request is what handlers know of the HTTP request.
type request struct {
	remote    netip.Addr
	local     bool // over loopback and not forwarded
	host      string
	secure    bool
	userAgent string
	token     string
	who       string // set by authorize, for the log
}

func requestOf(ctx context.Context) *request {
	if r, ok := ctx.Value(requestKey).(*request); ok {
		return r
	}
	return &request{}
}

func principalOf(ctx context.Context) auth.Principal {
	p, _ := ctx.Value(principalKey).(auth.Principal)
	return p
}

func newRequest(r *http.Request) *request {
	q := &request{host: r.Host, secure: r.TLS != nil, userAgent: r.UserAgent(), token: bearer(r)}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		if a, err := netip.ParseAddr(host); err == nil {
			q.remote = a.Unmap().WithZone("")
		}
	}
	q.local = q.remote.IsLoopback()
	for _, k := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Get(k) != "" {
			q.local = false
		}
	}
	return q
}

func bearer(r *http.Request) string {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	sw := &statusWriter{ResponseWriter: w}
	q := newRequest(r)
	ctx := context.WithValue(r.Context(), requestKey, q)
	defer func() {
		if v := recover(); v != nil {
			if v == http.ErrAbortHandler { //nolint:errorlint // a sentinel of net/http
				panic(v)
			}
			h.o.Log.ErrorContext(ctx, "request handler panicked", "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
			if sw.status == 0 {
				writeProblem(sw, Refuse(http.StatusInternalServerError, "internal", "something went wrong; the log says what"))
			}
		}
		level := slog.LevelDebug
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			level = slog.LevelInfo
		}
		// neither query nor headers: both may hold tokens
		h.o.Log.Log(ctx, level, "request done", "method", r.Method, "path", r.URL.Path, "status", sw.status,
			"ms", time.Since(start).Milliseconds(), "who", q.who, "remote", q.remote.String())
	}()
	h.secureHeaders(sw, r)
	r = r.WithContext(ctx)
	handler, refusal := h.route(sw, r)
	if refusal != nil {
		writeProblem(sw, refusal)
		return
	}
	handler.ServeHTTP(sw, r)
}

// route finds the handler and reads the body under its limits, before anything
// else sees the request.
func (h *Handler) route(w http.ResponseWriter, r *http.Request) (http.Handler, *Refusal) {
	if len(r.RequestURI) > maxURI {
		return nil, Refuse(http.StatusRequestURITooLong, "too_large", "the address is too long")
	}
	handler, pattern := h.mux.Handler(r)
	if pattern == "" {
		p := probe{header: http.Header{}}
		handler.ServeHTTP(&p, r)
		refusal := Refuse(http.StatusNotFound, codeOf(http.StatusNotFound), "there is nothing at this address")
		if p.status == http.StatusMethodNotAllowed {
			refusal = Refuse(p.status, codeOf(p.status), "this address does not take "+clip(r.Method, 20))
			refusal.Header = http.Header{"Allow": p.header.Values("Allow")}
		}
		return nil, refusal
	}
	if strings.HasSuffix(pattern, "/events") || strings.HasSuffix(pattern, "/audio") || strings.HasSuffix(pattern, prefix+"/backup") {
		return h.mux, nil // they set their own deadlines
	}
	limit, within := int64(maxBody), answerWithin
	if strings.HasSuffix(pattern, prefix+"/state") {
		limit, within = maxState, stateWithin
	}
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(within)) // not every test's writer has one
	if refusal := h.readBody(w, r, limit); refusal != nil {
		return nil, refusal
	}
	return h.mux, nil
}

// readBody replaces the body by bytes in memory.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request, limit int64) *Refusal {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	tooLarge := Refuse(http.StatusRequestEntityTooLarge, "too_large", "the body is too large")
	if r.ContentLength > limit {
		return tooLarge
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyWithin))
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	_ = rc.SetReadDeadline(time.Time{})
	var max *http.MaxBytesError
	var nerr net.Error
	switch {
	case errors.As(err, &max):
		return tooLarge
	case errors.As(err, &nerr) && nerr.Timeout():
		return Refuse(http.StatusRequestTimeout, "timeout", "the body did not come in time")
	case err != nil:
		return Refuse(http.StatusBadRequest, "bad_request", "the body cannot be read")
	}
	if len(b) > 0 {
		mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || mt != "application/json" {
			return Refuse(http.StatusUnsupportedMediaType, "unsupported_media_type", "the body must be application/json")
		}
		r.Header.Set("Content-Type", "application/json")
	}
	r.Body = io.NopCloser(bytes.NewReader(b))
	r.ContentLength = int64(len(b))
	return nil
}

// secureHeaders are sent with every answer (SEC-14, SEC-16).
func (h *Handler) secureHeaders(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("Cache-Control", "no-store")
	head.Set("X-Frame-Options", "DENY")
	head.Set("X-Xss-Protection", "0") // its filter did harm; the policy above does the work
	if h.o.Secure || r.TLS != nil {
		head.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// authorize lets a request through that has one of the scopes of its operation.
func (h *Handler) authorize(ctx huma.Context, next func(huma.Context)) {
	rule, _ := ctx.Operation().Metadata[ruleKey].(rule)
	if rule.public {
		next(ctx)
		return
	}
	q := requestOf(ctx.Context())
	refuse := func(r *Refusal) {
		for k, vs := range r.Header {
			ctx.SetHeader(k, vs[0])
		}
		ctx.SetHeader("Content-Type", problemType)
		ctx.SetStatus(r.Status)
		if b, err := r.MarshalJSON(); err == nil {
			_, _ = ctx.BodyWriter().Write(b)
		}
	}
	p, err := h.o.Auth.Authenticate(q.token, q.local)
	if err != nil {
		r := Refuse(http.StatusUnauthorized, "unauthorized", "a valid bearer token is needed")
		r.Header = http.Header{"Www-Authenticate": {"Bearer"}}
		refuse(r)
		return
	}
	q.who = p.Name()
	if p.MustChangePassword && !rule.mustChange {
		refuse(Refuse(http.StatusForbidden, "password_change_required", auth.ErrMustChange.Error()))
		return
	}
	if rule.session && p.SessionID == "" {
		refuse(Refuse(http.StatusForbidden, "forbidden", "this needs a signed-in user"))
		return
	}
	ok := len(rule.scopes) == 0
	for _, s := range rule.scopes {
		ok = ok || p.Can(s)
	}
	if !ok {
		refuse(Refuse(http.StatusForbidden, "forbidden", "the permission for this is missing"))
		return
	}
	next(huma.WithValue(ctx, principalKey, p))
}

// probe finds out what the mux says of an address that it does not know.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }
func (p *probe) WriteHeader(status int)      { p.status = status }

// statusWriter remembers the status for the log.
type statusWriter struct {
	http.ResponseWriter

	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController and the WebSocket upgrade reach the
// connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
