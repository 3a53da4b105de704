package rest

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"math"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/apply"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/report"
)

const problemType = "application/problem+json"

// Refusal is an error with the status and the stable code that clients get.
type Refusal struct { //nolint:errname // an answer more than a failure
	Status int
	Code   string
	Detail string
	Errors []api.ProblemField
	Header http.Header
}

// Refuse makes a Refusal.
func Refuse(status int, code, detail string) *Refusal {
	return &Refusal{Status: status, Code: code, Detail: detail}
}

// Error implements error.
func (r *Refusal) Error() string { return r.Detail }

// GetStatus implements huma.StatusError.
func (r *Refusal) GetStatus() int { return r.Status }

// GetHeaders implements huma.HeadersError.
func (r *Refusal) GetHeaders() http.Header { return r.Header }

// ContentType implements huma.ContentTypeFilter.
func (r *Refusal) ContentType(string) string { return problemType }

// MarshalJSON writes the problem (RFC 9457).
func (r *Refusal) MarshalJSON() ([]byte, error) {
	return json.Marshal(r.problem())
}

func (r *Refusal) problem() api.Problem {
	return api.Problem{Type: "about:blank", Title: http.StatusText(r.Status), Status: r.Status, Detail: r.Detail, Code: r.Code, Errors: r.Errors}
}

// problem is the only place where errors become HTTP.
func (h *Handler) problem(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var (
		refusal   *Refusal
		throttled *auth.ThrottledError
		rule      *auth.RuleError
		invalid   *apply.InvalidError
	)
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.As(err, &throttled):
		r := Refuse(http.StatusTooManyRequests, "throttled", throttled.Error())
		r.Header = http.Header{"Retry-After": {strconv.Itoa(int(math.Ceil(throttled.After.Seconds())))}}
		return r
	case errors.As(err, &rule):
		r := Refuse(http.StatusUnprocessableEntity, "invalid", rule.Error())
		r.Errors = []api.ProblemField{{Location: "body." + rule.Field, Message: rule.Reason}}
		return r
	case errors.As(err, &invalid):
		r := Refuse(http.StatusUnprocessableEntity, "invalid", "the state is not valid")
		for _, f := range invalid.Fields {
			r.Errors = append(r.Errors, api.ProblemField{Location: "body." + f.Location, Message: f.Message})
		}
		return r
	}
	for _, k := range []struct {
		is     error
		status int
		code   string
	}{
		{auth.ErrCredentials, http.StatusUnauthorized, "wrong_credentials"},
		{auth.ErrBlocked, http.StatusForbidden, "account_blocked"},
		{auth.ErrInactive, http.StatusForbidden, "account_inactive"},
		{auth.ErrToken, http.StatusUnauthorized, "unauthorized"},
		{auth.ErrSetUp, http.StatusForbidden, "set_up_refused"},
		{auth.ErrMustChange, http.StatusForbidden, "password_change_required"},
		{auth.ErrNotFound, http.StatusNotFound, "not_found"},
		{auth.ErrBusy, http.StatusServiceUnavailable, "busy"},
		{apply.ErrConflict, http.StatusConflict, "conflict"},
		{apply.ErrNotFound, http.StatusNotFound, "not_found"},
		{report.ErrFilter, http.StatusUnprocessableEntity, "invalid"},
		{agent.ErrUnknown, http.StatusNotFound, "not_found"},
		{agent.ErrSignedOut, http.StatusConflict, "agent_signed_out"},
		{agent.ErrBusy, http.StatusConflict, "agent_busy"},
		{agent.ErrUnavailable, http.StatusConflict, "agent_unavailable"},
		{agent.ErrNoReason, http.StatusUnprocessableEntity, "invalid"},
		{agent.ErrNotOnBreak, http.StatusConflict, "not_on_break"},
		{agent.ErrNotWrapUp, http.StatusConflict, "not_in_wrap_up"},
		{agent.ErrClosed, http.StatusServiceUnavailable, "stopping"},
		{event.ErrClosed, http.StatusServiceUnavailable, "stopping"},
		{event.ErrFull, http.StatusServiceUnavailable, "journal_full"},
		{fs.ErrNotExist, http.StatusNotFound, "not_found"},
		{context.DeadlineExceeded, http.StatusServiceUnavailable, "timeout"},
		{context.Canceled, http.StatusServiceUnavailable, "cancelled"},
	} {
		if errors.Is(err, k.is) {
			r := Refuse(k.status, k.code, k.is.Error())
			if k.status == http.StatusServiceUnavailable {
				r.Header = http.Header{"Retry-After": {"2"}}
			}
			if k.status == http.StatusUnauthorized {
				r.Header = http.Header{"Www-Authenticate": {"Bearer"}}
			}
			return r
		}
	}
	// what went wrong inside is for the log, not for the client
	h.o.Log.ErrorContext(ctx, "request failed", "err", err)
	return Refuse(http.StatusInternalServerError, "internal", "something went wrong; the log says what")
}

// codeOf names the problems that the HTTP layers find themselves.
func codeOf(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "bad_request"
	case http.StatusUnauthorized:
		return "unauthorized"
	case http.StatusForbidden:
		return "forbidden"
	case http.StatusNotFound:
		return "not_found"
	case http.StatusMethodNotAllowed:
		return "method_not_allowed"
	case http.StatusNotAcceptable:
		return "not_acceptable"
	case http.StatusRequestTimeout:
		return "timeout"
	case http.StatusRequestEntityTooLarge:
		return "too_large"
	case http.StatusUnsupportedMediaType:
		return "unsupported_media_type"
	case http.StatusUnprocessableEntity:
		return "invalid"
	case http.StatusServiceUnavailable:
		return "unavailable"
	default:
		if status < http.StatusInternalServerError {
			return "refused"
		}
		return "internal"
	}
}

// toProblem turns huma's own errors into ours and drops the wrong values from
// them: a value may be a password in the wrong place.
func toProblem(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	r := Refuse(m.Status, codeOf(m.Status), m.Detail)
	for _, e := range m.Errors {
		r.Errors = append(r.Errors, api.ProblemField{Location: e.Location, Message: e.Message})
	}
	if m.Status >= http.StatusInternalServerError {
		r.Detail, r.Errors = "something went wrong; the log says what", nil
	}
	return r, nil
}

// writeProblem answers outside of huma.
func writeProblem(w http.ResponseWriter, r *Refusal) {
	maps.Copy(w.Header(), r.Header)
	w.Header().Set("Content-Type", problemType)
	w.Header().Set("Cache-Control", "no-store")
	b, err := r.MarshalJSON()
	if err != nil {
		b = []byte("{}")
	}
	w.WriteHeader(r.Status)
	_, _ = w.Write(append(b, '\n')) //nolint:gosec // JSON with its content type and nosniff
}
