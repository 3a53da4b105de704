package rest

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/apply"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/campaign"
)

type campaignOutput struct {
	ETag string `header:"ETag"`
	Body api.CampaignView
}

// MemberPath names a member of a campaign.
type MemberPath struct {
	NamePath

	Username string `path:"username" minLength:"1" maxLength:"64"`
}

func (h *Handler) campaignRoutes() {
	read, write := need(auth.ScopeSelf, auth.ScopeRead), need(auth.ScopeWrite)
	add(h, route{http.MethodGet, "/campaigns", "campaigns", "campaigns", "Campaigns; one's own, or with the scope read all", read, 0, false}, h.campaigns)
	add(h, route{http.MethodGet, "/campaigns/{name}", "campaign", "campaigns", "One campaign", read, 0, false}, h.campaign)
	add(h, route{http.MethodPut, "/campaigns/{name}", "putCampaign", "campaigns", "Make or change a campaign; absent fields stay", write, http.StatusOK, false}, h.putCampaign)
	add(h, route{http.MethodDelete, "/campaigns/{name}", "deleteCampaign", "campaigns", "Delete a campaign and its dispositions", write, http.StatusNoContent, false},
		func(ctx context.Context, in *NameDelete) (*none, error) {
			return nil, h.remove(ctx, apply.KindCampaign+"/"+in.Name, in.Precondition)
		})
	add(h, route{http.MethodGet, "/campaigns/{name}/members", "members", "campaigns", "Members of a campaign", read, 0, false}, h.members)
	add(h, route{http.MethodPut, "/campaigns/{name}/members/{username}", "putMember", "campaigns", "Add or change a member", write, http.StatusNoContent, false}, h.putMember)
	add(h, route{http.MethodDelete, "/campaigns/{name}/members/{username}", "deleteMember", "campaigns", "Remove a member", write, http.StatusNoContent, false}, h.deleteMember)
	add(h, route{http.MethodGet, "/campaigns/{name}/dispositions", "dispositions", "campaigns", "Dispositions of a campaign, in order", read, 0, false}, h.dispositions)
	add(h, route{http.MethodPut, "/campaigns/{name}/dispositions", "putDispositions", "campaigns", "Replace the dispositions of a campaign", write, http.StatusNoContent, false}, h.putDispositions)
}

// mayRead reports whether the principal may see a campaign.
func mayRead(p auth.Principal, c *campaign.Campaign) bool {
	return p.Can(auth.ScopeRead) || (p.Username != "" && slices.ContainsFunc(c.Members, func(m campaign.Member) bool { return m.User == p.Username }))
}

func (h *Handler) campaigns(ctx context.Context, _ *none) (*listOutput[api.CampaignView], error) {
	all, err := h.o.State.Campaigns(ctx)
	out := list[api.CampaignView]()
	for i := range all {
		if mayRead(principalOf(ctx), &all[i]) {
			out.Body = append(out.Body, api.CampaignView{Campaign: apply.CampaignOf(&all[i]), Rev: all[i].Rev})
		}
	}
	return out, err
}

func (h *Handler) oneCampaign(ctx context.Context, name string) (campaign.Campaign, error) {
	all, err := h.o.State.Campaigns(ctx)
	if err != nil {
		return campaign.Campaign{}, err
	}
	c, ok := find(all, func(c campaign.Campaign) bool { return c.Name == name })
	if !ok || !mayRead(principalOf(ctx), &c) {
		return campaign.Campaign{}, apply.ErrNotFound
	}
	return c, nil
}

func (h *Handler) campaign(ctx context.Context, in *NamePath) (*campaignOutput, error) {
	c, err := h.oneCampaign(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return &campaignOutput{etag(c.Rev), api.CampaignView{Campaign: apply.CampaignOf(&c), Rev: c.Rev}}, nil
}

func (h *Handler) putCampaign(ctx context.Context, in *struct {
	NamePath
	Precondition

	Body api.Campaign
},
) (*campaignOutput, error) {
	if in.Body.Name != in.Name {
		return nil, otherName("name")
	}
	expect, err := in.expect(apply.KindCampaign + "/" + in.Name)
	if err != nil {
		return nil, err
	}
	if _, err := h.change(ctx, apply.Request{State: api.State{Campaigns: []api.Campaign{in.Body}}, Expect: expect}); err != nil {
		return nil, err
	}
	all, err := h.o.State.Campaigns(ctx)
	if err != nil {
		return nil, err
	}
	c, ok := find(all, func(c campaign.Campaign) bool { return c.Name == in.Name })
	if !ok {
		return nil, apply.ErrConflict // deleted by somebody else right away
	}
	return &campaignOutput{etag(c.Rev), api.CampaignView{Campaign: apply.CampaignOf(&c), Rev: c.Rev}}, nil
}

func (h *Handler) members(ctx context.Context, in *NamePath) (*listOutput[api.Member], error) {
	c, err := h.oneCampaign(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	out := list[api.Member]()
	out.Body = append(out.Body, *apply.CampaignOf(&c).Members...)
	return out, nil
}

// editMembers changes the list of members and tries again when somebody else
// was faster.
func (h *Handler) editMembers(ctx context.Context, name string, edit func([]api.Member) ([]api.Member, error)) error {
	const tries = 4
	for try := 1; ; try++ {
		all, err := h.o.State.Campaigns(ctx)
		if err != nil {
			return err
		}
		c, ok := find(all, func(c campaign.Campaign) bool { return c.Name == name })
		if !ok {
			return apply.ErrNotFound
		}
		members, err := edit(*apply.CampaignOf(&c).Members)
		if err != nil {
			return err
		}
		_, err = h.change(ctx, apply.Request{
			State:  api.State{Campaigns: []api.Campaign{{Name: name, Members: &members}}},
			Expect: map[string]uint64{apply.KindCampaign + "/" + name: c.Rev},
		})
		if !errors.Is(err, apply.ErrConflict) || try == tries {
			return err
		}
	}
}

func (h *Handler) putMember(ctx context.Context, in *struct {
	MemberPath

	Body struct {
		Penalty int  `json:"penalty,omitempty" minimum:"0" maximum:"1000"`
		Paused  bool `json:"paused,omitempty"`
	}
},
) (*none, error) {
	return nil, h.editMembers(ctx, in.Name, func(ms []api.Member) ([]api.Member, error) {
		m := api.Member{User: in.Username, Penalty: in.Body.Penalty, Paused: in.Body.Paused}
		if i := slices.IndexFunc(ms, func(m api.Member) bool { return m.User == in.Username }); i >= 0 {
			ms[i] = m
			return ms, nil
		}
		return append(ms, m), nil
	})
}

func (h *Handler) deleteMember(ctx context.Context, in *MemberPath) (*none, error) {
	return nil, h.editMembers(ctx, in.Name, func(ms []api.Member) ([]api.Member, error) {
		i := slices.IndexFunc(ms, func(m api.Member) bool { return m.User == in.Username })
		if i < 0 {
			return nil, apply.ErrNotFound
		}
		return slices.Delete(ms, i, i+1), nil
	})
}

func (h *Handler) dispositions(ctx context.Context, in *NamePath) (*listOutput[api.Disposition], error) {
	if _, err := h.oneCampaign(ctx, in.Name); err != nil {
		return nil, err
	}
	all, err := h.o.State.Dispositions(ctx)
	out := list[api.Disposition]()
	for _, d := range all {
		if d.Campaign == in.Name {
			out.Body = append(out.Body, apply.DispositionOf(d))
		}
	}
	return out, err
}

func (h *Handler) putDispositions(ctx context.Context, in *struct {
	NamePath

	Body []api.Disposition `nullable:"false" maxItems:"5000"`
},
) (*none, error) {
	all, err := h.o.State.Campaigns(ctx)
	if err != nil {
		return nil, err
	}
	if _, ok := find(all, func(c campaign.Campaign) bool { return c.Name == in.Name }); !ok {
		return nil, apply.ErrNotFound
	}
	for _, d := range in.Body {
		if d.Campaign != in.Name {
			return nil, otherName("campaign")
		}
	}
	_, err = h.change(ctx, apply.Request{State: api.State{Dispositions: in.Body}, Exact: []string{in.Name}})
	return nil, err
}

// is finds a campaign by its name.
func is(name string) func(campaign.Campaign) bool {
	return func(c campaign.Campaign) bool { return c.Name == name }
}
