package apply

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/cordboard/cordboard/gateway/api"
)

// note records how an object changes and reports whether it does. secrets name
// fields that differ but are never shown.
func (p *plan) note(kind, name string, exists bool, before, after any, secrets ...string) bool {
	c := api.Change{Op: "change", Kind: kind, Name: name}
	if !exists {
		c.Op = "add"
	}
	b, a := reflect.ValueOf(before), reflect.ValueOf(after)
	for i := range a.NumField() {
		field := jsonName(a.Type().Field(i))
		from, to := shown(b.Field(i)), shown(a.Field(i))
		if from == to || (!exists && (to == "" || isKey(kind, field))) {
			continue
		}
		c.Fields = append(c.Fields, api.FieldChange{Field: field, From: from, To: to})
	}
	for _, s := range secrets {
		if s != "" && !slices.ContainsFunc(c.Fields, func(f api.FieldChange) bool { return f.Field == s }) {
			c.Fields = append(c.Fields, api.FieldChange{Field: s, To: "(secret)"})
		}
	}
	if exists && len(c.Fields) == 0 {
		return false
	}
	p.diff = append(p.diff, c)
	return true
}

func isKey(kind, field string) bool {
	return field == "name" || field == "username" || (kind == KindDisposition && field != "action")
}

// shown writes a field's value for people; empty values are empty text.
func shown(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Slice:
		if v.Len() == 0 {
			return ""
		}
	default:
		if v.IsZero() {
			return ""
		}
	}
	b, err := json.Marshal(v.Interface())
	if err != nil {
		return fmt.Sprint(v.Interface())
	}
	return string(b)
}

// WriteDiff prints a diff for people: one line for each object, one for each
// field.
func WriteDiff(w io.Writer, d api.Diff) error {
	var b strings.Builder
	count := map[string]int{}
	for _, c := range d.Changes {
		count[c.Op]++
		fmt.Fprintf(&b, "%s %s %s\n", map[string]string{"add": "+", "change": "~", "delete": "-"}[c.Op], c.Kind, c.Name)
		for _, f := range c.Fields {
			switch {
			case c.Op == "add" || f.From == "":
				fmt.Fprintf(&b, "    %s: %s\n", f.Field, f.To)
			default:
				fmt.Fprintf(&b, "    %s: %s -> %s\n", f.Field, f.From, orEmpty(f.To))
			}
		}
	}
	for _, warning := range d.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", warning)
	}
	switch {
	case len(d.Changes) == 0:
		b.WriteString("nothing to change\n")
	case d.DryRun:
		fmt.Fprintf(&b, "would add %d, change %d, delete %d\n", count["add"], count["change"], count["delete"])
	default:
		fmt.Fprintf(&b, "added %d, changed %d, deleted %d\n", count["add"], count["change"], count["delete"])
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print diff: %w", err)
	}
	return nil
}

func orEmpty(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}
