package rest

import (
	"context"
	"net"
	"net/http"
	"strings"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/auth"
)

// endpointApp is the endpoint of an agent whose client brings its own phone.
const endpointApp = "app"

type sessionOutput struct{ Body api.Session }

func (h *Handler) sessionRoutes() {
	own := rule{session: true, mustChange: true}
	add(h, route{http.MethodPost, "/sessions", "signIn", "sessions", "Sign in", public(), http.StatusCreated, false}, h.signIn)
	add(h, route{http.MethodGet, "/sessions/current", "currentSession", "sessions", "The session of the token", own, 0, false}, h.currentSession)
	add(h, route{http.MethodDelete, "/sessions/current", "signOut", "sessions", "Sign out", own, http.StatusNoContent, false}, h.signOut)
	add(h, route{http.MethodPost, "/sessions/current/credentials", "newCredentials", "sessions", "New SIP and TURN secrets for this session", rule{session: true}, 0, false}, h.newCredentials)
	add(h, route{http.MethodPut, "/password", "changePassword", "sessions", "Change one's own password; other sessions end", own, http.StatusNoContent, false}, h.changePassword)
	add(h, route{http.MethodGet, "/sessions", "sessions", "sessions", "Live sessions; of oneself, or with the scope read of all", need(auth.ScopeSelf, auth.ScopeRead), 0, false}, h.sessions)
	add(h, route{http.MethodDelete, "/sessions/{id}", "endSession", "sessions", "End a session; that of somebody else needs the scope calls", need(auth.ScopeSelf, auth.ScopeCalls), http.StatusNoContent, false}, h.endSession)
	add(h, route{http.MethodPost, "/setup", "setUp", "sessions", "Make the first administrator with the token of the set-up link", public(), http.StatusCreated, false}, h.setUp)
}

func (h *Handler) signIn(ctx context.Context, in *struct{ Body api.SignIn }) (*sessionOutput, error) {
	q := requestOf(ctx)
	if in.Body.Phone && in.Body.Device != "" {
		return nil, Refuse(http.StatusUnprocessableEntity, "invalid", "phone and device exclude each other")
	}
	s, err := h.o.Auth.SignIn(ctx, auth.SignIn{Username: in.Body.Username, Password: in.Body.Password, Remote: q.remote, UserAgent: q.userAgent})
	if err != nil {
		return nil, err
	}
	q.who = s.User.Username
	endpoint := in.Body.Device
	if in.Body.Phone {
		endpoint = endpointApp
	}
	if endpoint != "" && !s.User.MustChangePassword {
		if err := h.agentSignIn(ctx, s.User, s.Session.ID, endpoint); err != nil {
			_ = h.o.Auth.End(ctx, s.Session.ID, s.User.Username, q.remote)
			return nil, err
		}
	}
	out := h.session(ctx, s)
	out.Token = s.Token
	return &sessionOutput{out}, nil
}

// agentSignIn makes a user available at an endpoint that they have.
func (h *Handler) agentSignIn(ctx context.Context, u auth.User, session, endpoint string) error {
	agentRole := false
	for _, r := range u.Roles {
		agentRole = agentRole || r == auth.RoleAgent || r == auth.RoleSupervisor
	}
	switch {
	case !agentRole:
		return Refuse(http.StatusForbidden, "not_an_agent", "this user is not an agent")
	case u.Extension == "":
		return Refuse(http.StatusConflict, "no_extension", "this user has no extension")
	case endpoint != endpointApp && !hasDevice(u, endpoint):
		return Refuse(http.StatusUnprocessableEntity, "unknown_device", "this user has no such device")
	}
	return h.o.Agents.SignIn(ctx, agent.SignIn{Agent: u.Username, Extension: u.Extension, Session: session, Endpoint: endpoint})
}

func hasDevice(u auth.User, name string) bool {
	for _, d := range u.Devices {
		if d.Name == name {
			return true
		}
	}
	return false
}

// session writes a session with whatever secrets it came with.
func (h *Handler) session(ctx context.Context, s auth.SignedIn) api.Session {
	out := api.Session{ID: s.Session.ID, ExpiresAt: s.Session.ExpiresAt, User: h.me(s.User)}
	if !s.PreviousSignInAt.IsZero() {
		out.PreviousSignInAt = &s.PreviousSignInAt
	}
	q := requestOf(ctx)
	if s.Session.SIPUser != "" {
		out.SIP = &api.SIP{
			URLs: forHost(h.o.Connect.SIPURLs, q.host), AOR: "sip:" + s.User.Extension + "@" + h.o.Connect.SIPRealm,
			Username: s.Session.SIPUser, Password: s.SIPPassword, Realm: h.o.Connect.SIPRealm,
		}
	}
	if urls := forHost(h.o.Connect.STUNURLs, q.host); len(urls) > 0 {
		out.ICEServers = append(out.ICEServers, api.ICE{URLs: urls})
	}
	if urls := forHost(h.o.Connect.TURNURLs, q.host); len(urls) > 0 && s.Session.TURNUser != "" {
		out.ICEServers = append(out.ICEServers, api.ICE{URLs: urls, Username: s.Session.TURNUser, Credential: s.TURNPassword})
	}
	return out
}

// forHost puts the host that the client used into addresses that have none of
// their own.
func forHost(urls []string, hostport string) []string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	out := make([]string, len(urls))
	for i, u := range urls {
		out[i] = strings.ReplaceAll(u, "%HOST%", host)
	}
	return out
}

func (h *Handler) me(u auth.User) api.Me {
	m := api.Me{
		Username: u.Username, FullName: u.FullName, Extension: u.Extension, Language: u.Language, Roles: []string{}, Scopes: []string{},
		MustChangePassword: u.MustChangePassword, Breaks: h.o.Directory.Breaks(u.Username),
	}
	for _, r := range u.Roles {
		m.Roles = append(m.Roles, string(r))
	}
	for _, s := range auth.ScopesOf(u) {
		m.Scopes = append(m.Scopes, string(s))
	}
	for _, d := range u.Devices {
		m.Devices = append(m.Devices, d.Name)
	}
	for _, c := range h.o.Directory.ForAgent(u.Username) {
		m.Campaigns = append(m.Campaigns, c.Name)
	}
	return m
}

func (h *Handler) currentSession(ctx context.Context, _ *none) (*sessionOutput, error) {
	p := principalOf(ctx)
	s, ok := h.o.Auth.Session(p.SessionID)
	u, ok2 := h.o.Auth.User(p.Username)
	if !ok || !ok2 {
		return nil, auth.ErrToken
	}
	return &sessionOutput{h.session(ctx, auth.SignedIn{Session: s, User: u})}, nil
}

func (h *Handler) newCredentials(ctx context.Context, _ *none) (*sessionOutput, error) {
	s, err := h.o.Auth.Credentials(ctx, principalOf(ctx).SessionID)
	if err != nil {
		return nil, err
	}
	return &sessionOutput{h.session(ctx, s)}, nil
}

func (h *Handler) signOut(ctx context.Context, _ *none) (*none, error) {
	p := principalOf(ctx)
	return nil, h.o.Auth.End(ctx, p.SessionID, p.Name(), requestOf(ctx).remote)
}

func (h *Handler) changePassword(ctx context.Context, in *struct{ Body api.PasswordChange }) (*none, error) {
	p := principalOf(ctx)
	return nil, h.o.Auth.ChangePassword(ctx, p.Username, in.Body.OldPassword, in.Body.NewPassword, requestOf(ctx).remote, p.SessionID)
}

func (h *Handler) sessions(ctx context.Context, _ *none) (*listOutput[api.SessionView], error) {
	p := principalOf(ctx)
	whose := p.Username
	if p.Can(auth.ScopeRead) {
		whose = ""
	}
	out := list[api.SessionView]()
	for _, s := range h.o.Auth.Sessions(whose) {
		out.Body = append(out.Body, api.SessionView{
			ID: s.ID, Username: s.Username, CreatedAt: s.CreatedAt, ExpiresAt: s.ExpiresAt,
			LastSeenAt: s.LastSeenAt, RemoteAddr: s.RemoteAddr, UserAgent: s.UserAgent,
		})
	}
	return out, nil
}

func (h *Handler) endSession(ctx context.Context, in *struct {
	ID string `path:"id" maxLength:"64"`
},
) (*none, error) {
	p := principalOf(ctx)
	s, ok := h.o.Auth.Session(in.ID)
	if !ok || (s.Username != p.Username && !p.Can(auth.ScopeCalls)) {
		return nil, auth.ErrNotFound // the same, so that IDs cannot be probed
	}
	return nil, h.o.Auth.End(ctx, in.ID, p.Name(), requestOf(ctx).remote)
}

func (h *Handler) setUp(ctx context.Context, in *struct{ Body api.SetUp }) (*struct{ Body api.Me }, error) {
	u, err := h.o.Auth.SetUp(ctx, in.Body.Token, auth.UserSpec{
		Username: in.Body.Username, FullName: in.Body.FullName, Password: in.Body.Password,
	}, requestOf(ctx).remote)
	if err != nil {
		return nil, err
	}
	return &struct{ Body api.Me }{h.me(u)}, nil
}

// listOutput is a list that is never null.
type listOutput[T any] struct {
	Body []T `nullable:"false"`
}

func list[T any]() *listOutput[T] { return &listOutput[T]{Body: []T{}} }
