package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/trunk"
)

// current is what is stored now.
type current struct {
	trunks       []trunk.Trunk
	users        []auth.User
	campaigns    []campaign.Campaign
	dispositions []campaign.Disposition
}

func (e *Engine) read(ctx context.Context) (c current, err error) {
	var errs [4]error
	c.trunks, errs[0] = e.o.Store.Trunks(ctx)
	c.users, errs[1] = e.o.Store.Users(ctx)
	c.campaigns, errs[2] = e.o.Store.Campaigns(ctx)
	c.dispositions, errs[3] = e.o.Store.AllDispositions(ctx)
	return c, wrap("read state", errors.Join(errs[:]...))
}

// plan works out what a request changes.
type plan struct {
	e         *Engine
	r         Request
	was       current
	trunks    map[string]trunk.Trunk // as they will be
	users     map[string]auth.User
	campaigns map[string]campaign.Campaign

	changes   Changes
	diff      []api.Change
	warnings  []string
	passwords []string
	wrong     []api.ProblemField
}

func (e *Engine) plan(ctx context.Context, r Request) (*plan, error) {
	was, err := e.read(ctx)
	if err != nil {
		return nil, err
	}
	p := &plan{e: e, r: r, was: was, trunks: map[string]trunk.Trunk{}, users: map[string]auth.User{}, campaigns: map[string]campaign.Campaign{}}
	revs := map[string]uint64{}
	for _, t := range was.trunks {
		p.trunks[t.Name] = t
		revs[KindTrunk+"/"+t.Name] = t.Rev
	}
	for _, u := range was.users {
		p.users[u.Username] = u
		revs[KindUser+"/"+u.Username] = u.Rev
	}
	for _, c := range was.campaigns {
		p.campaigns[c.Name] = c
		revs[KindCampaign+"/"+c.Name] = c.Rev
	}
	for name, rev := range r.Expect {
		if revs[name] != rev {
			return nil, fmt.Errorf("%s: %w", name, ErrConflict)
		}
	}
	for _, name := range r.Delete {
		if _, ok := revs[name]; !ok {
			return nil, fmt.Errorf("%s: %w", name, ErrNotFound)
		}
	}
	return p, nil
}

func (p *plan) bad(location, format string, args ...any) {
	if len(p.wrong) < maxProblems {
		p.wrong = append(p.wrong, api.ProblemField{Location: location, Message: fmt.Sprintf(format, args...)})
	}
}

func (p *plan) run(ctx context.Context) error {
	p.planTrunks()
	if err := p.planUsers(ctx); err != nil {
		return err
	}
	p.planCampaigns()
	lists := p.planDispositions()
	p.planDeletes(lists)
	p.crossCheck(lists)
	if len(p.wrong) > 0 {
		return &InvalidError{Fields: p.wrong}
	}
	return nil
}

func (p *plan) planTrunks() {
	named := map[string]bool{}
	for i, in := range p.r.State.Trunks {
		at := fmt.Sprintf("trunks[%d]", i)
		if named[in.Name] {
			p.bad(at+".name", "is given twice")
			continue
		}
		named[in.Name] = true
		old, exists := p.trunks[in.Name]
		var before api.Trunk
		if exists {
			before = TrunkOf(old)
		}
		next, secret, ok := p.trunk(at, in, before, old)
		if !ok {
			continue
		}
		if changed := p.note(KindTrunk, in.Name, exists, before, TrunkOf(next), secret); changed {
			p.changes.Trunks = append(p.changes.Trunks, next)
		}
		p.trunks[in.Name] = next
	}
}

func (p *plan) planUsers(ctx context.Context) error {
	named := map[string]bool{}
	for i, in := range p.r.State.Users {
		at := fmt.Sprintf("users[%d]", i)
		name := strings.ToLower(strings.TrimSpace(in.Username))
		if named[name] {
			p.bad(at+".username", "is given twice")
			continue
		}
		named[name] = true
		var before api.User
		var old *auth.User
		if u, ok := p.users[name]; ok {
			old, before = &u, UserOf(u)
		}
		made, err := p.e.o.Auth.MakeUser(ctx, old, userSpec(overlay(before, in)))
		if rule, ok := errors.AsType[*auth.RuleError](err); ok {
			p.bad(at+"."+rule.Field, "%s", rule.Reason)
			continue
		} else if err != nil {
			return err
		}
		var secrets []string
		for _, c := range made.Changed {
			if c == "password" || c == "devices" {
				secrets = append(secrets, c)
			}
		}
		if p.note(KindUser, name, old != nil, before, UserOf(made.User), secrets...) {
			p.changes.Users = append(p.changes.Users, made.User)
		}
		if made.PasswordChanged && old != nil {
			p.passwords = append(p.passwords, name)
		}
		p.users[name] = made.User
	}
	return nil
}

func (p *plan) planCampaigns() {
	named := map[string]bool{}
	for i, in := range p.r.State.Campaigns {
		at := fmt.Sprintf("campaigns[%d]", i)
		if named[in.Name] {
			p.bad(at+".name", "is given twice")
			continue
		}
		named[in.Name] = true
		old, exists := p.campaigns[in.Name]
		base := old
		if !exists {
			base = campaign.Defaults()
		}
		before := CampaignOf(&base)
		next, ok := p.campaign(at, overlay(before, in), base)
		if !ok {
			continue
		}
		if !exists {
			before = api.Campaign{}
		}
		p.setCampaign(next, exists, before)
	}
}

// setCampaign notes one campaign's change.
func (p *plan) setCampaign(next campaign.Campaign, exists bool, before api.Campaign) {
	if !p.note(KindCampaign, next.Name, exists, before, CampaignOf(&next)) {
		return
	}
	p.changes.Campaigns = slices.DeleteFunc(p.changes.Campaigns, func(c campaign.Campaign) bool { return c.Name == next.Name })
	p.changes.Campaigns = append(p.changes.Campaigns, next)
	p.campaigns[next.Name] = next
}

func label(d campaign.Disposition) string {
	return strings.TrimRight(strings.Join([]string{d.Campaign, d.L1, d.L2, d.L3}, "/"), "/")
}

func same(a, b campaign.Disposition) bool {
	return a.Campaign == b.Campaign && a.L1 == b.L1 && a.L2 == b.L2 && a.L3 == b.L3
}

// planDispositions returns the lists of all campaigns as they will be.
func (p *plan) planDispositions() map[string][]campaign.Disposition {
	lists, given := map[string][]campaign.Disposition{}, map[string][]campaign.Disposition{}
	touched := map[string]bool{}
	for _, d := range p.was.dispositions {
		lists[d.Campaign] = append(lists[d.Campaign], d)
	}
	for i, in := range p.r.State.Dispositions {
		at := fmt.Sprintf("dispositions[%d]", i)
		d := campaign.Disposition{Campaign: in.Campaign, L1: in.L1, L2: in.L2, L3: in.L3}
		if in.Action != nil {
			d.Action = *in.Action
		}
		if slices.ContainsFunc(given[d.Campaign], func(o campaign.Disposition) bool { return same(o, d) }) {
			p.bad(at, "is given twice")
			continue
		}
		list := lists[d.Campaign]
		if j := slices.IndexFunc(list, func(o campaign.Disposition) bool { return same(o, d) }); j >= 0 {
			if in.Action == nil {
				d.Action = list[j].Action
			}
			given[d.Campaign] = append(given[d.Campaign], d)
			if list[j] != d {
				p.note(KindDisposition, label(d), true, DispositionOf(list[j]), DispositionOf(d))
				list[j], touched[d.Campaign] = d, true
			}
			continue
		}
		for _, f := range campaign.FieldsOf(campaign.ValidateDispositions([]campaign.Disposition{d})) {
			p.bad(at+"."+f.Field, "%s", f.Problem)
		}
		given[d.Campaign] = append(given[d.Campaign], d)
		p.note(KindDisposition, label(d), false, api.Disposition{}, DispositionOf(d))
		lists[d.Campaign], touched[d.Campaign] = append(list, d), true
	}
	for name, list := range lists {
		if !p.r.Prune && !slices.Contains(p.r.Exact, name) {
			continue
		}
		for _, d := range list {
			if !slices.Contains(given[name], d) {
				p.diff = append(p.diff, api.Change{Op: "delete", Kind: KindDisposition, Name: label(d)})
				touched[name] = true
			}
		}
		if !slices.Equal(list, given[name]) {
			if !touched[name] {
				p.diff = append(p.diff, api.Change{Op: "change", Kind: KindDisposition, Name: name, Fields: []api.FieldChange{{Field: "order", To: "as given"}}})
			}
			lists[name], touched[name] = given[name], true
		}
	}
	for name := range touched {
		if p.changes.Dispositions == nil {
			p.changes.Dispositions = map[string][]campaign.Disposition{}
		}
		p.changes.Dispositions[name] = lists[name]
	}
	return lists
}

// planDeletes takes away what the request names and, with Prune, what it does
// not name.
func (p *plan) planDeletes(lists map[string][]campaign.Disposition) {
	keep := map[string]bool{}
	for _, t := range p.r.State.Trunks {
		keep[KindTrunk+"/"+t.Name] = true
	}
	for _, u := range p.r.State.Users {
		keep[KindUser+"/"+strings.ToLower(strings.TrimSpace(u.Username))] = true
	}
	for _, c := range p.r.State.Campaigns {
		keep[KindCampaign+"/"+c.Name] = true
	}
	gone := func(kind, name string) bool {
		key := kind + "/" + name
		if slices.Contains(p.r.Delete, key) || (p.r.Prune && !keep[key]) {
			p.diff = append(p.diff, api.Change{Op: "delete", Kind: kind, Name: name})
			return true
		}
		return false
	}
	for _, c := range p.was.campaigns {
		if gone(KindCampaign, c.Name) {
			p.changes.DeleteCampaigns = append(p.changes.DeleteCampaigns, c.Name)
			delete(p.campaigns, c.Name)
			delete(p.changes.Dispositions, c.Name) // they go with it
			delete(lists, c.Name)
		}
	}
	for _, u := range p.was.users {
		if gone(KindUser, u.Username) {
			p.changes.DeleteUsers = append(p.changes.DeleteUsers, u.Username)
			delete(p.users, u.Username)
			p.leaveCampaigns(u.Username)
		}
	}
	for _, t := range p.was.trunks {
		if gone(KindTrunk, t.Name) {
			p.changes.DeleteTrunks = append(p.changes.DeleteTrunks, t.Name)
			delete(p.trunks, t.Name)
		}
	}
}

// leaveCampaigns takes a deleted user out of the campaigns that the request
// does not set the members of.
func (p *plan) leaveCampaigns(user string) {
	for _, c := range p.was.campaigns {
		now, ok := p.campaigns[c.Name]
		if !ok || !slices.ContainsFunc(now.Members, func(m campaign.Member) bool { return m.User == user }) || p.setsMembers(c.Name) {
			continue
		}
		before := CampaignOf(&now)
		next := now
		next.Members = slices.DeleteFunc(slices.Clone(now.Members), func(m campaign.Member) bool { return m.User == user })
		p.setCampaign(next, true, before)
	}
}

func (p *plan) setsMembers(name string) bool {
	return slices.ContainsFunc(p.r.State.Campaigns, func(c api.Campaign) bool { return c.Name == name && c.Members != nil })
}

func storeError(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return wrap("write state", err)
}
