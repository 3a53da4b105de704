package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/auth"
)

func (h *Handler) adminRoutes() {
	admin := need(auth.ScopeAdmin)
	add(h, route{http.MethodGet, "/tokens", "tokens", "tokens", "API tokens", admin, 0, false}, h.tokens)
	add(h, route{http.MethodPost, "/tokens", "newToken", "tokens", "Make an API token; its text is told once", admin, http.StatusCreated, false}, h.newToken)
	add(h, route{http.MethodDelete, "/tokens/{id}", "endToken", "tokens", "End an API token", admin, http.StatusNoContent, false}, h.endToken)
}

func tokenOf(t auth.APIToken) api.Token {
	return api.Token{ID: t.ID, Name: t.Name, Scopes: t.Scopes, CreatedBy: t.CreatedBy, CreatedAt: t.CreatedAt, ExpiresAt: moment(t.ExpiresAt)}
}

func (h *Handler) tokens(context.Context, *none) (*listOutput[api.Token], error) {
	out := list[api.Token]()
	for _, t := range h.o.Auth.APITokens() {
		out.Body = append(out.Body, tokenOf(t))
	}
	return out, nil
}

func (h *Handler) newToken(ctx context.Context, in *struct{ Body api.TokenRequest }) (*struct{ Body api.Token }, error) {
	var expires time.Time
	if in.Body.ExpiresAt != nil {
		expires = *in.Body.ExpiresAt
	}
	scopes := make([]auth.Scope, len(in.Body.Scopes))
	for i, s := range in.Body.Scopes {
		scopes[i] = auth.Scope(s)
	}
	t, text, err := h.o.Auth.NewAPIToken(ctx, in.Body.Name, scopes, expires, principalOf(ctx), requestOf(ctx).remote)
	if err != nil {
		return nil, err
	}
	out := tokenOf(t)
	out.Token = text
	return &struct{ Body api.Token }{out}, nil
}

func (h *Handler) endToken(ctx context.Context, in *struct {
	ID string `path:"id" minLength:"1" maxLength:"64"`
},
) (*none, error) {
	return nil, h.o.Auth.EndAPIToken(ctx, in.ID, principalOf(ctx), requestOf(ctx).remote)
}
