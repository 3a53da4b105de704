package rest

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/event"
)

// CallPath names a call.
type CallPath struct {
	ID string `path:"id" minLength:"1" maxLength:"64"`
}

func (h *Handler) callRoutes() {
	see, who := need(auth.ScopeSelf, auth.ScopeRead), need(auth.ScopeSelf, auth.ScopeCalls)
	add(h, route{http.MethodGet, "/calls", "calls", "calls", "Live calls; one's own, or with the scope read all", see, 0, false}, h.calls)
	add(h, route{http.MethodGet, "/calls/{id}", "call", "calls", "One live call", see, 0, false}, h.call)
	add(h, route{http.MethodPost, "/calls", "dial", "calls", "Ring the agent's phone, then the number, through an outbound campaign", who, http.StatusCreated, false}, h.dial)
	add(h, route{http.MethodDelete, "/calls/{id}", "hangUp", "calls", "End a call", who, http.StatusNoContent, false}, h.hangUp)
	add(h, route{http.MethodPut, "/calls/{id}/disposition", "disposeCall", "calls", "Give a call its outcome", who, http.StatusNoContent, false}, h.dispose)
	add(h, route{http.MethodGet, "/queues", "queues", "queues", "Live queues; those of one's campaigns, or with the scope read all", see, 0, false}, h.queues)
	add(h, route{http.MethodGet, "/queues/{name}", "queue", "queues", "One live queue", see, 0, false}, h.queue)
}

// concerns reports whether a call is the agent's.
func concerns(c *api.Call, agentName string) bool {
	return agentName != "" && (c.Agent == agentName || slices.Contains(c.Ringing, agentName) ||
		slices.ContainsFunc(c.Legs, func(l api.Leg) bool { return l.Agent == agentName }))
}

func (h *Handler) liveCalls(ctx context.Context, all auth.Scope) ([]api.Call, error) {
	calls, err := h.o.Calls.Live(ctx)
	if err != nil {
		return nil, err
	}
	p := principalOf(ctx)
	if p.Can(all) {
		return calls, nil
	}
	return slices.DeleteFunc(calls, func(c api.Call) bool { return !concerns(&c, p.Username) }), nil
}

func (h *Handler) calls(ctx context.Context, _ *none) (*listOutput[api.Call], error) {
	calls, err := h.liveCalls(ctx, auth.ScopeRead)
	out := list[api.Call]()
	out.Body = append(out.Body, calls...)
	return out, err
}

func (h *Handler) call(ctx context.Context, in *CallPath) (*struct{ Body api.Call }, error) {
	calls, err := h.liveCalls(ctx, auth.ScopeRead)
	if err != nil {
		return nil, err
	}
	c, ok := find(calls, func(c api.Call) bool { return c.ID == in.ID })
	if !ok {
		return nil, errNoCall()
	}
	return &struct{ Body api.Call }{c}, nil
}

func errNoCall() error {
	return Refuse(http.StatusNotFound, "call_not_found", "there is no such live call")
}

func (h *Handler) dial(ctx context.Context, in *struct{ Body api.Dial }) (*struct{ Body api.Dialled }, error) {
	name := in.Body.Agent
	if name == "" {
		name = "me"
	}
	name, err := whose(ctx, name, auth.ScopeCalls)
	if err != nil {
		return nil, err
	}
	number := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -./()", r) {
			return -1
		}
		return r
	}, in.Body.Number)
	if rest := strings.TrimPrefix(number, "+"); rest == "" || strings.Trim(rest, "0123456789*#") != "" {
		return nil, Refuse(http.StatusUnprocessableEntity, "invalid_number", "the number must be digits")
	}
	campaignName := in.Body.Campaign
	outbound := h.o.Directory.Outbound(name)
	switch {
	case campaignName == "" && len(outbound) == 1:
		campaignName = outbound[0].Name
	case campaignName == "" && len(outbound) > 1:
		return nil, Refuse(http.StatusUnprocessableEntity, "campaign_needed", "the agent has several outbound campaigns: name one")
	case campaignName == "":
		return nil, Refuse(http.StatusForbidden, "no_outbound_campaign", "the agent has no outbound campaign")
	default:
		if _, ok := find(outbound, is(campaignName)); !ok {
			return nil, Refuse(http.StatusForbidden, "not_a_member", "the agent is not a member of this outbound campaign")
		}
	}
	id, err := h.o.Calls.Dial(ctx, name, number, campaignName)
	if err != nil {
		return nil, err
	}
	if principalOf(ctx).Username != name {
		h.audit(ctx, "call dialled for agent", name+" "+id)
	}
	return &struct{ Body api.Dialled }{api.Dialled{CallID: id}}, nil
}

func (h *Handler) hangUp(ctx context.Context, in *CallPath) (*none, error) {
	calls, err := h.liveCalls(ctx, auth.ScopeCalls)
	if err != nil {
		return nil, err
	}
	c, ok := find(calls, func(c api.Call) bool { return c.ID == in.ID })
	if !ok {
		return nil, errNoCall()
	}
	by := event.BySystem
	if p := principalOf(ctx); concerns(&c, p.Username) {
		by = event.ByAgent
	} else {
		h.audit(ctx, "call hung up", in.ID)
	}
	return nil, h.o.Calls.Hangup(ctx, in.ID, by)
}

func (h *Handler) dispose(ctx context.Context, in *struct {
	CallPath

	Body api.CallDisposition
},
) (*none, error) {
	p := principalOf(ctx)
	return nil, h.o.Calls.Dispose(ctx, in.ID, p.Username, p.Can(auth.ScopeCalls), in.Body)
}

func (h *Handler) liveQueues(ctx context.Context) ([]api.Queue, error) {
	queues, err := h.o.Queues.Live(ctx)
	if err != nil {
		return nil, err
	}
	p := principalOf(ctx)
	if p.Can(auth.ScopeRead) {
		return queues, nil
	}
	own := h.o.Directory.ForAgent(p.Username)
	return slices.DeleteFunc(queues, func(q api.Queue) bool {
		_, ok := find(own, is(q.Name))
		return !ok
	}), nil
}

func (h *Handler) queues(ctx context.Context, _ *none) (*listOutput[api.Queue], error) {
	queues, err := h.liveQueues(ctx)
	out := list[api.Queue]()
	out.Body = append(out.Body, queues...)
	return out, err
}

func (h *Handler) queue(ctx context.Context, in *NamePath) (*struct{ Body api.Queue }, error) {
	queues, err := h.liveQueues(ctx)
	if err != nil {
		return nil, err
	}
	q, ok := find(queues, func(q api.Queue) bool { return q.Name == in.Name })
	if !ok {
		return nil, Refuse(http.StatusNotFound, "not_found", "there is no such queue")
	}
	return &struct{ Body api.Queue }{q}, nil
}
