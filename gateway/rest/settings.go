package rest

import (
	"context"
	"net/http"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/apply"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/trunk"
)

// NamePath names an object. It and its like are parts of inputs, exported
// because huma reads embedded structs only then.
type NamePath struct {
	Name string `path:"name" minLength:"1" maxLength:"100"`
}

// NameDelete is the input of a deletion.
type NameDelete struct {
	NamePath
	Precondition
}

// UserPath names a user.
type UserPath struct {
	Username string `path:"username" minLength:"1" maxLength:"64"`
}

type trunkOutput struct {
	ETag string `header:"ETag"`
	Body api.TrunkView
}

type userOutput struct {
	ETag string `header:"ETag"`
	Body api.UserView
}

func (h *Handler) settingRoutes() {
	admin, read := need(auth.ScopeAdmin), need(auth.ScopeRead)
	add(h, route{http.MethodGet, "/state", "exportState", "state", "The whole state without secrets", admin, 0, false}, h.exportState)
	add(h, route{http.MethodPut, "/state", "applyState", "state", "Make the state so, as a whole or not at all", admin, http.StatusOK, true}, h.applyState)
	add(h, route{http.MethodGet, "/trunks", "trunks", "trunks", "All trunks", read, 0, false}, h.trunks)
	add(h, route{http.MethodGet, "/trunks/{name}", "trunk", "trunks", "One trunk", read, 0, false}, h.trunk)
	add(h, route{http.MethodPut, "/trunks/{name}", "putTrunk", "trunks", "Make or change a trunk; absent fields stay", admin, http.StatusOK, false}, h.putTrunk)
	add(h, route{http.MethodDelete, "/trunks/{name}", "deleteTrunk", "trunks", "Delete a trunk", admin, http.StatusNoContent, false},
		func(ctx context.Context, in *NameDelete) (*none, error) {
			return nil, h.remove(ctx, apply.KindTrunk+"/"+in.Name, in.Precondition)
		})
	add(h, route{http.MethodGet, "/users", "users", "users", "All users", read, 0, false}, h.users)
	add(h, route{http.MethodGet, "/users/{username}", "user", "users", "One user", read, 0, false}, h.user)
	add(h, route{http.MethodPut, "/users/{username}", "putUser", "users", "Make or change a user; absent fields stay, and a password set here must be changed at the next sign-in unless mustChangePassword is false", admin, http.StatusOK, false}, h.putUser)
	add(h, route{http.MethodDelete, "/users/{username}", "deleteUser", "users", "Delete a user", admin, http.StatusNoContent, false},
		func(ctx context.Context, in *struct {
			UserPath
			Precondition
		},
		) (*none, error) {
			return nil, h.remove(ctx, apply.KindUser+"/"+in.Username, in.Precondition)
		})
}

// change is one request to the engine in the name of who asks.
func (h *Handler) change(ctx context.Context, r apply.Request) (api.Diff, error) {
	r.By, r.Remote = principalOf(ctx).Name(), requestOf(ctx).remote
	return h.o.State.Apply(ctx, r)
}

func (h *Handler) remove(ctx context.Context, key string, pre Precondition) error {
	expect, err := pre.expect(key)
	if err != nil {
		return err
	}
	_, err = h.change(ctx, apply.Request{Delete: []string{key}, Expect: expect})
	return err
}

func (h *Handler) exportState(ctx context.Context, _ *none) (*struct{ Body api.State }, error) {
	s, err := h.o.State.Export(ctx)
	return &struct{ Body api.State }{s}, err
}

func (h *Handler) applyState(ctx context.Context, in *struct {
	DryRun bool `query:"dryRun" doc:"only say what would change"`
	Prune  bool `query:"prune" doc:"delete what the state does not name"`
	Body   api.State
},
) (*struct{ Body api.Diff }, error) {
	d, err := h.change(ctx, apply.Request{State: in.Body, DryRun: in.DryRun, Prune: in.Prune})
	return &struct{ Body api.Diff }{d}, err
}

func (h *Handler) trunks(ctx context.Context, _ *none) (*listOutput[api.TrunkView], error) {
	all, err := h.o.State.Trunks(ctx)
	out := list[api.TrunkView]()
	for _, t := range all {
		out.Body = append(out.Body, api.TrunkView{Trunk: apply.TrunkOf(t), Rev: t.Rev})
	}
	return out, err
}

func (h *Handler) trunk(ctx context.Context, in *NamePath) (*trunkOutput, error) {
	all, err := h.o.State.Trunks(ctx)
	if err != nil {
		return nil, err
	}
	t, ok := find(all, func(t trunk.Trunk) bool { return t.Name == in.Name })
	if !ok {
		return nil, apply.ErrNotFound
	}
	return &trunkOutput{etag(t.Rev), api.TrunkView{Trunk: apply.TrunkOf(t), Rev: t.Rev}}, nil
}

func (h *Handler) putTrunk(ctx context.Context, in *struct {
	NamePath
	Precondition

	Body api.Trunk
},
) (*trunkOutput, error) {
	if in.Body.Name != in.Name {
		return nil, otherName("name")
	}
	expect, err := in.expect(apply.KindTrunk + "/" + in.Name)
	if err != nil {
		return nil, err
	}
	if _, err := h.change(ctx, apply.Request{State: api.State{Trunks: []api.Trunk{in.Body}}, Expect: expect}); err != nil {
		return nil, err
	}
	return h.trunk(ctx, &in.NamePath)
}

func otherName(field string) error {
	r := Refuse(http.StatusUnprocessableEntity, "invalid", "the body names another object than the address")
	r.Errors = []api.ProblemField{{Location: "body." + field, Message: "differs from the address"}}
	return r
}

func userView(u auth.User) api.UserView {
	v := api.UserView{User: apply.UserOf(u), Rev: u.Rev}
	if !u.LastSignInAt.IsZero() {
		v.LastSignInAt = &u.LastSignInAt
	}
	return v
}

func (h *Handler) users(context.Context, *none) (*listOutput[api.UserView], error) {
	out := list[api.UserView]()
	for _, u := range h.o.Auth.Users() {
		out.Body = append(out.Body, userView(u))
	}
	return out, nil
}

func (h *Handler) user(_ context.Context, in *UserPath) (*userOutput, error) {
	u, ok := h.o.Auth.User(in.Username)
	if !ok {
		return nil, apply.ErrNotFound
	}
	return &userOutput{etag(u.Rev), userView(u)}, nil
}

func (h *Handler) putUser(ctx context.Context, in *struct {
	UserPath
	Precondition

	Body api.User
},
) (*userOutput, error) {
	if in.Body.Username != in.Username {
		return nil, otherName("username")
	}
	if in.Body.Password != nil && in.Body.MustChangePassword == nil {
		in.Body.MustChangePassword = new(true) // ADMIN-04, SEC-04
	}
	expect, err := in.expect(apply.KindUser + "/" + in.Username)
	if err != nil {
		return nil, err
	}
	if _, err := h.change(ctx, apply.Request{State: api.State{Users: []api.User{in.Body}}, Expect: expect}); err != nil {
		return nil, err
	}
	return h.user(ctx, &in.UserPath)
}

func find[T any](all []T, is func(T) bool) (found T, ok bool) {
	for _, x := range all {
		if is(x) {
			return x, true
		}
	}
	return found, false
}
