package apply

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/campaign"
)

// crossCheck finds what is wrong between objects as they will be.
func (p *plan) crossCheck(lists map[string][]campaign.Disposition) {
	p.checkUsers()
	all := make([]campaign.Campaign, 0, len(p.campaigns))
	for _, c := range p.campaigns {
		all = append(all, c)
		at := p.place(KindCampaign, c.Name)
		if c.Trunk != "" {
			if _, ok := p.trunks[c.Trunk]; !ok {
				p.bad(at+".trunk", "there is no trunk %q", c.Trunk)
			}
		}
		for i, m := range c.Members {
			if _, ok := p.users[m.User]; !ok {
				p.bad(fmt.Sprintf("%s.members[%d].user", at, i), "there is no user %q", m.User)
			}
		}
	}
	for _, e := range campaign.FieldsOf(campaign.NewDirectory().Set(all, nil)) {
		name := e.Field
		if i := strings.LastIndexByte(e.Field, '.'); i >= 0 {
			name = e.Field[:i]
		}
		p.bad(p.place(KindCampaign, name)+strings.TrimPrefix(e.Field, name), "%s", e.Problem)
	}
	for name := range lists {
		if _, ok := p.campaigns[name]; !ok && len(lists[name]) > 0 {
			p.bad(p.place(KindDisposition, name), "there is no campaign %q", name)
		}
	}
}

func (p *plan) checkUsers() {
	admin := func(u auth.User) bool { return u.State == auth.UserActive && slices.Contains(u.Roles, auth.RoleAdmin) }
	owner := map[string]string{}
	admins := 0
	for _, u := range p.was.users { // first the stored ones, so that a newcomer is blamed
		if n, ok := p.users[u.Username]; ok && n.Extension == u.Extension && n.Extension != "" {
			owner[n.Extension] = n.Username
		}
	}
	for name, u := range p.users {
		if admin(u) {
			admins++
		}
		if u.Extension == "" {
			continue
		}
		if o, ok := owner[u.Extension]; ok && o != name {
			p.bad(p.place(KindUser, name)+".extension", "%s belongs to user %q", u.Extension, o)
			continue
		}
		owner[u.Extension] = name
	}
	if admins == 0 && slices.ContainsFunc(p.was.users, admin) {
		p.bad("users", "no active administrator would be left")
	}
}

// place is where an object stands in the request, or its name when the request
// does not hold it.
func (p *plan) place(kind, name string) string {
	at := -1
	switch kind {
	case KindUser:
		for i, u := range p.r.State.Users {
			if strings.EqualFold(strings.TrimSpace(u.Username), name) {
				at = i
			}
		}
	case KindCampaign:
		for i, c := range p.r.State.Campaigns {
			if c.Name == name {
				at = i
			}
		}
	case KindDisposition:
		for i, d := range p.r.State.Dispositions {
			if d.Campaign == name {
				at = i
				break
			}
		}
	default:
	}
	if at < 0 {
		return kind + " " + name
	}
	return fmt.Sprintf("%ss[%d]", kind, at)
}
