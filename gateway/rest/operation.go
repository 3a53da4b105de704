package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/auth"
)

const ruleKey = "rule"

// rule says who may call an operation.
type rule struct {
	public     bool
	session    bool // a signed-in user, not a token
	mustChange bool // also while the password must be changed
	scopes     []auth.Scope
}

func public() rule { return rule{public: true} }

func need(scopes ...auth.Scope) rule { return rule{scopes: scopes} }

func (h *Handler) config() huma.Config {
	c := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Cordboard", Version: h.o.Version,
				Description: "The API of a Cordboard gateway. Times are RFC 3339 in UTC, names carry their unit, every error is application/problem+json with a stable code.",
				License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Servers: []*huma.Server{{URL: prefix}},
			Components: &huma.Components{
				Schemas:         huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{"bearer": {Type: "http", Scheme: "bearer", Description: "a session's token, an API token, or the admin token from this machine"}},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{toProblem},
	}
	return c
}

// route describes one operation.
type route struct {
	method, path, id, tag, summary string
	who                            rule
	status                         int // of success, 0 = by method
	large                          bool
}

// add registers an operation; errors of fn become problems.
func add[I, O any](h *Handler, rt route, fn func(ctx context.Context, in *I) (*O, error)) {
	op := huma.Operation{
		OperationID: rt.id, Method: rt.method, Path: rt.path, Summary: rt.summary, Tags: []string{rt.tag},
		DefaultStatus: rt.status, MaxBodyBytes: maxBody + 1, BodyReadTimeout: -1, // the body is read before, under these limits
		Metadata: map[string]any{ruleKey: rt.who},
		Errors: []int{
			http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusRequestEntityTooLarge,
			http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusServiceUnavailable,
		},
	}
	if rt.large {
		op.MaxBodyBytes = maxState + 1
	}
	if !rt.who.public {
		scopes := []string{}
		for _, s := range rt.who.scopes {
			scopes = append(scopes, string(s))
		}
		op.Security = []map[string][]string{{"bearer": {}}}
		op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
		op.Extensions = map[string]any{"x-scopes": scopes}
	}
	huma.Register(h.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := fn(ctx, in)
		if err != nil {
			return nil, h.problem(ctx, err)
		}
		return out, nil
	})
}

// document makes the OpenAPI document: the operations, our form of problems,
// and the routes that are not huma's.
func (h *Handler) document() error {
	oa := h.api.OpenAPI()
	if m := oa.Components.Schemas.Map()["ErrorModel"]; m != nil {
		m.Properties["code"] = &huma.Schema{Type: "string", Description: "stable: clients choose their text by it"}
		if d := oa.Components.Schemas.Map()["ErrorDetail"]; d != nil {
			delete(d.Properties, "value")
		}
		delete(m.Properties, "instance")
	}
	schema := oa.Components.Schemas.Schema(reflect.TypeFor[api.Event](), true, "Event")
	oa.AddOperation(&huma.Operation{
		OperationID: "events", Method: http.MethodGet, Path: "/events", Tags: []string{"events"},
		Summary: "Live events over WebSocket",
		Description: "Upgrades to a WebSocket on which each message is an Event. ?since=SEQ resumes after that sequence. The token comes as " +
			"Authorization: Bearer, as ?token=, as the subprotocol bearer.TOKEN beside cordboard.v1, or in the first message {\"token\":\"…\"}. " +
			fmt.Sprintf("Close codes: %d no or wrong token, %d not allowed, %d session ended, %d read too slowly (resume with since).",
				api.CloseUnauthorized, api.CloseForbidden, api.CloseEnded, api.CloseLagging),
		Parameters: []*huma.Param{
			{Name: "since", In: "query", Schema: &huma.Schema{Type: "integer", Format: "int64"}},
			{Name: "token", In: "query", Schema: &huma.Schema{Type: "string"}},
		},
		Responses: map[string]*huma.Response{"101": {Description: "Switching Protocols; messages are Events", Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}},
		Security:  []map[string][]string{{"bearer": {}}},
	})
	b, err := json.Marshal(oa)
	if err != nil {
		return fmt.Errorf("openapi document: %w", err)
	}
	h.openAPI = b
	return nil
}

func (h *Handler) serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/openapi+json")
	_, _ = w.Write(h.openAPI)
}

func (h *Handler) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"status":"ok"}` + "\n"))
}

func (h *Handler) readyz(w http.ResponseWriter, r *http.Request) {
	if err := h.o.Ready(r.Context()); err != nil {
		refusal := Refuse(http.StatusServiceUnavailable, "not_ready", clip(err.Error(), 500))
		refusal.Header = http.Header{"Retry-After": {"2"}}
		writeProblem(w, refusal)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"status":"ready"}` + "\n"))
}

// etag writes a revision as an entity tag.
func etag(rev uint64) string { return fmt.Sprintf("%q", fmt.Sprint(rev)) }

// Precondition holds the headers by which a client says what it knows of an
// object.
type Precondition struct {
	IfMatch     string `header:"If-Match" maxLength:"40" doc:"the ETag that the object must still have"`
	IfNoneMatch string `header:"If-None-Match" maxLength:"40" doc:"* = the object must not exist"`
}

// expect turns the headers into what the engine checks.
func (p Precondition) expect(key string) (map[string]uint64, error) {
	switch {
	case p.IfNoneMatch == "*":
		return map[string]uint64{key: 0}, nil
	case p.IfNoneMatch != "":
		return nil, Refuse(http.StatusBadRequest, "bad_request", "If-None-Match may only be *")
	case p.IfMatch == "" || p.IfMatch == "*":
		return nil, nil
	}
	var rev uint64
	if _, err := fmt.Sscanf(strings.Trim(p.IfMatch, `"`), "%d", &rev); err != nil || rev == 0 || etag(rev) != p.IfMatch {
		return nil, Refuse(http.StatusBadRequest, "bad_request", "If-Match must be an ETag of this object")
	}
	return map[string]uint64{key: rev}, nil
}

type none struct{}
