package campaign

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
)

// Directory holds the campaigns of a running gateway. Readers see one whole
// set; Set replaces it. Campaigns that it returns share their slices with the
// set and are read only.
type Directory struct {
	set atomic.Pointer[set]
}

type set struct {
	all      []Campaign // by name
	byName   map[string]int
	byDID    map[string]int
	byMember map[string][]int
	callers  map[string]CallerIDs
	outcomes map[string][]Outcome
}

// NewDirectory returns an empty directory.
func NewDirectory() *Directory {
	d := new(Directory)
	d.set.Store(new(set))
	return d
}

// Set replaces all campaigns and dispositions. It changes nothing when a
// campaign is wrong or when two have the same name or DID: the error is then
// of type Problems and its fields begin with the campaign's name.
func (d *Directory) Set(campaigns []Campaign, dispositions []Disposition) error {
	s := &set{
		all:    slices.Clone(campaigns),
		byName: make(map[string]int, len(campaigns)), byDID: map[string]int{},
		byMember: map[string][]int{}, callers: map[string]CallerIDs{},
	}
	slices.SortFunc(s.all, func(a, b Campaign) int { return cmp.Compare(a.Name, b.Name) })
	var p Problems
	for i := range s.all {
		c := &s.all[i]
		for _, e := range FieldsOf(c.Validate()) {
			p.add(c.Name+"."+e.Field, "%s", e.Problem)
		}
		if _, ok := s.byName[c.Name]; ok {
			p.add(c.Name+".name", "is used twice")
		}
		s.byName[c.Name] = i
		for _, did := range c.DIDs {
			if j, ok := s.byDID[did]; ok && j != i {
				p.add(c.Name+".did", "%s belongs to %q", did, s.all[j].Name)
			}
			s.byDID[did] = i
		}
		for _, m := range c.Members {
			s.byMember[m.User] = append(s.byMember[m.User], i)
		}
		if ids, err := ParseCallerIDs(c.CallerID); err == nil {
			s.callers[c.Name] = ids
		}
	}
	if len(p) > 0 {
		return p
	}
	s.outcomes = outcomes(dispositions)
	d.set.Store(s)
	return nil
}

// All returns the campaigns by name.
func (d *Directory) All() []Campaign { return slices.Clone(d.set.Load().all) }

// ByName returns the campaign of that name.
func (d *Directory) ByName(name string) (Campaign, bool) {
	s := d.set.Load()
	i, ok := s.byName[name]
	if !ok {
		return Campaign{}, false
	}
	return s.all[i], true
}

// ByDID returns the campaign that a dialled number belongs to. The number is
// in E.164 digits, as Normalize makes it (VOICE-04).
func (d *Directory) ByDID(number string) (Campaign, bool) {
	s := d.set.Load()
	i, ok := s.byDID[number]
	if !ok {
		return Campaign{}, false
	}
	return s.all[i], true
}

// ForAgent returns the campaigns that the user is a member of, by name.
func (d *Directory) ForAgent(user string) []Campaign {
	s := d.set.Load()
	out := make([]Campaign, 0, len(s.byMember[user]))
	for _, i := range s.byMember[user] {
		out = append(out, s.all[i])
	}
	return out
}

// Breaks returns the breaks that an agent may take: those of all campaigns
// that the agent is a member of (AGENT-08), each once, in alphabetical order.
func (d *Directory) Breaks(user string) []string {
	names := map[string]struct{}{}
	for _, c := range d.ForAgent(user) {
		for _, b := range c.Breaks {
			names[b] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Outbound returns the outbound campaigns that an agent may dial through, by
// name.
func (d *Directory) Outbound(user string) []Campaign {
	return slices.DeleteFunc(d.ForAgent(user), func(c Campaign) bool { return c.Direction != Outbound })
}

// CallerIDs returns a campaign's caller ids, nil when it has none.
func (d *Directory) CallerIDs(name string) CallerIDs { return d.set.Load().callers[name] }

// Outcomes returns a campaign's dispositions as a tree.
func (d *Directory) Outcomes(name string) []Outcome { return d.set.Load().outcomes[name] }

// Disposition returns the disposition that an agent chose, if the campaign
// has it (DISP-02).
func (d *Directory) Disposition(name, l1, l2, l3 string) (Disposition, error) {
	action, ok := find(d.Outcomes(name), l1, l2, l3)
	if !ok {
		return Disposition{}, &FieldError{Field: "l1", Problem: fmt.Sprintf("%q has no disposition %.60q / %.60q / %.60q", name, l1, l2, l3)}
	}
	return Disposition{Campaign: name, L1: l1, L2: l2, L3: l3, Action: action}, nil
}
