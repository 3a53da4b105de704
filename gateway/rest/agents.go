package rest

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/event"
)

// AgentPath names an agent.
type AgentPath struct {
	Agent string `path:"agent" minLength:"1" maxLength:"64" doc:"a user name, or me"`
}

type agentOutput struct{ Body api.Agent }

func (h *Handler) agentRoutes() {
	who := need(auth.ScopeSelf, auth.ScopeCalls)
	add(h, route{http.MethodGet, "/agents", "agents", "agents", "All agents that have ever signed in since the start", need(auth.ScopeRead), 0, false}, h.agents)
	add(h, route{http.MethodGet, "/agents/{agent}", "agent", "agents", "One agent", need(auth.ScopeSelf, auth.ScopeRead), 0, false}, h.agent)
	add(h, route{http.MethodPost, "/agents/me/sign-in", "agentSignIn", "agents", "Become available at an endpoint: the app or a registered device", rule{session: true, scopes: []auth.Scope{auth.ScopeSelf}}, http.StatusOK, false}, h.agentSignInMe)
	add(h, route{http.MethodPost, "/agents/{agent}/sign-out", "agentSignOut", "agents", "End an agent's work; a call goes on", who, http.StatusOK, false},
		func(ctx context.Context, in *struct {
			AgentPath

			Body api.AgentSignOut
		},
		) (*agentOutput, error) {
			return h.steer(ctx, in.Agent, "agent signed out", func(name string) error { return h.o.Agents.SignOut(ctx, name, in.Body.Message) })
		})
	add(h, route{http.MethodPost, "/agents/{agent}/break", "agentBreak", "agents", "Begin a break", who, http.StatusOK, false},
		func(ctx context.Context, in *struct {
			AgentPath

			Body api.Break
		},
		) (*agentOutput, error) {
			return h.steer(ctx, in.Agent, "agent break", func(name string) error {
				// AGENT-08: the breaks are those of the agent's campaigns; without any, each motive will do.
				if known := h.o.Directory.Breaks(name); len(known) > 0 && !slices.Contains(known, in.Body.Motive) {
					return Refuse(http.StatusUnprocessableEntity, "unknown_break", "the agent's campaigns have no such break")
				}
				return h.o.Agents.Break(ctx, name, in.Body.Motive, in.Body.Comment)
			})
		})
	add(h, route{http.MethodPost, "/agents/{agent}/unbreak", "agentUnbreak", "agents", "End a break or a pause", who, http.StatusOK, false},
		func(ctx context.Context, in *AgentPath) (*agentOutput, error) {
			return h.steer(ctx, in.Agent, "agent unbreak", func(name string) error { return h.o.Agents.Unbreak(ctx, name) })
		})
	add(h, route{http.MethodPost, "/agents/{agent}/finish-wrap-up", "agentFinishWrapUp", "agents", "End wrap-up early", who, http.StatusOK, false},
		func(ctx context.Context, in *AgentPath) (*agentOutput, error) {
			return h.steer(ctx, in.Agent, "agent wrap-up finished", func(name string) error { return h.o.Agents.FinishWrapUp(ctx, name) })
		})
}

// whose resolves "me" and checks that the principal may act for the agent.
func whose(ctx context.Context, name string, others auth.Scope) (string, error) {
	p := principalOf(ctx)
	if name == "me" {
		if p.Username == "" {
			return "", Refuse(http.StatusForbidden, "forbidden", "a token is nobody: name the agent")
		}
		return p.Username, nil
	}
	if name != p.Username && !p.Can(others) {
		return "", Refuse(http.StatusForbidden, "forbidden", "the permission for other agents is missing")
	}
	return name, nil
}

// steer changes an agent's state; what is done to others is audited.
func (h *Handler) steer(ctx context.Context, name, action string, do func(name string) error) (*agentOutput, error) {
	name, err := whose(ctx, name, auth.ScopeCalls)
	if err != nil {
		return nil, err
	}
	if err := do(name); err != nil {
		return nil, err
	}
	if p := principalOf(ctx); p.Username != name {
		h.audit(ctx, action, name)
	}
	return h.agentView(name)
}

func (h *Handler) agentView(name string) (*agentOutput, error) {
	u, known := h.o.Auth.User(name)
	v, ok := h.o.Agents.Snapshot(name)
	if !ok {
		if !known {
			return nil, agent.ErrUnknown
		}
		v = agent.View{Agent: name, State: agent.Offline, Reason: agent.ReasonSignedOut}
	}
	return &agentOutput{agentOf(v, u)}, nil
}

func agentOf(v agent.View, u auth.User) api.Agent {
	a := api.Agent{
		Agent: v.Agent, FullName: u.FullName, Extension: u.Extension, SignedIn: v.SignedIn, SignedInAt: moment(v.SignedInAt), Endpoint: v.Endpoint,
		Reachable: v.Reachable, State: string(v.State), Reason: v.Reason, Since: v.Since.UTC(), Until: moment(v.Until), Paused: v.Paused,
		PauseReason: v.PauseReason, CallID: v.CallID, Campaign: v.Campaign, Calls: v.Calls, Rev: v.Rev,
	}
	if v.Extension != "" {
		a.Extension = v.Extension
	}
	return a
}

// moment writes a time that may be none.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC())
}

func (h *Handler) agents(context.Context, *none) (*listOutput[api.Agent], error) {
	out := list[api.Agent]()
	for _, v := range h.o.Agents.All() {
		u, _ := h.o.Auth.User(v.Agent)
		out.Body = append(out.Body, agentOf(v, u))
	}
	return out, nil
}

func (h *Handler) agent(ctx context.Context, in *AgentPath) (*agentOutput, error) {
	name, err := whose(ctx, in.Agent, auth.ScopeRead)
	if err != nil {
		return nil, err
	}
	return h.agentView(name)
}

func (h *Handler) agentSignInMe(ctx context.Context, in *struct{ Body api.AgentSignIn }) (*agentOutput, error) {
	p := principalOf(ctx)
	u, ok := h.o.Auth.User(p.Username)
	if !ok {
		return nil, auth.ErrToken
	}
	if err := h.agentSignIn(ctx, u, p.SessionID, in.Body.Endpoint); err != nil {
		return nil, err
	}
	return h.agentView(p.Username)
}

// audit notes who did what to whom (SEC-21).
func (h *Handler) audit(ctx context.Context, action, object string) {
	q := requestOf(ctx)
	host := ""
	if q.remote.IsValid() {
		host = q.remote.String()
	}
	err := h.o.Journal.Append(ctx, time.Now(), event.Audit{User: principalOf(ctx).Name(), Host: host, Action: action, Object: object})
	if err != nil {
		h.o.Log.ErrorContext(ctx, "audit fact not taken", "action", action, "err", err)
	}
}
