package campaign

import "strings"

// Outcome is one node of a campaign's tree of dispositions, up to three levels
// deep (DISP-02).
type Outcome struct {
	Label string
	// Action is what follows when this node is the choice; see Disposition.
	Action string
	// Final says that the node may be chosen as it is, without going deeper.
	Final bool
	Next  []Outcome
}

// outcomes makes a tree for each campaign, in the order of the list.
func outcomes(ds []Disposition) map[string][]Outcome {
	trees := map[string][]Outcome{}
	for _, d := range ds {
		trees[d.Campaign] = plant(trees[d.Campaign], d.Action, d.L1, d.L2, d.L3)
	}
	return trees
}

func plant(level []Outcome, action, label string, deeper ...string) []Outcome {
	if label == "" {
		return level
	}
	at := -1
	for i := range level {
		if level[i].Label == label {
			at = i
		}
	}
	if at < 0 {
		level = append(level, Outcome{Label: label})
		at = len(level) - 1
	}
	if len(deeper) == 0 || deeper[0] == "" {
		level[at].Action, level[at].Final = action, true
		return level
	}
	level[at].Next = plant(level[at].Next, action, deeper[0], deeper[1:]...)
	return level
}

func find(level []Outcome, label string, deeper ...string) (action string, ok bool) {
	for _, o := range level {
		if o.Label != label {
			continue
		}
		if len(deeper) == 0 || deeper[0] == "" {
			return o.Action, o.Final
		}
		return find(o.Next, deeper[0], deeper[1:]...)
	}
	return "", false
}

// ValidateDispositions reports what is wrong with a list of dispositions, as
// Problems: levels left out, unknown actions.
func ValidateDispositions(ds []Disposition) error {
	var p Problems
	for _, d := range ds {
		name := strings.TrimRight(strings.Join([]string{d.Campaign, d.L1, d.L2, d.L3}, "/"), "/")
		if d.Campaign == "" {
			p.add("campaign", "is missing in disposition %.100q", name)
		}
		if d.L1 == "" {
			p.add("l1", "is missing in disposition %.100q", name)
		}
		if d.L2 == "" && d.L3 != "" {
			p.add("l2", "is missing in disposition %.100q, which has l3", name)
		}
		switch d.Action {
		case "", "RESPOOL", "RESPOOLALTERNATIVE", "BLACKLIST", "SCHEDULE":
		default:
			p.add("action", "%.30q of disposition %.100q is not known", d.Action, name)
		}
	}
	if len(p) > 0 {
		return p
	}
	return nil
}
