package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/apply"
	"github.com/cordboard/cordboard/gateway/config"
)

func document(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// section is what stands under a heading.
func section(t *testing.T, doc, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(doc, "\n"+heading+"\n")
	if !ok {
		t.Fatalf("no section %q", heading)
	}
	level := heading[:strings.IndexByte(heading, ' ')+1]
	if i := strings.Index(rest, "\n"+level); i >= 0 {
		rest = rest[:i]
	}
	if i := strings.Index(rest, "\n## "); i >= 0 {
		rest = rest[:i]
	}
	return rest
}

// Each key of the state file is explained.
func TestStateFileIsDocumented(t *testing.T) {
	doc := document(t, "docs/operations.md")
	for heading, typ := range map[string]reflect.Type{
		"### Keys of a trunk": reflect.TypeFor[api.Trunk](), "### Keys of a user": reflect.TypeFor[api.User](),
		"### Keys of a campaign": reflect.TypeFor[api.Campaign](), "### Keys of a disposition": reflect.TypeFor[api.Disposition](),
	} {
		text := section(t, doc, heading)
		for f := range typ.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !regexp.MustCompile(`(?m)^\|[^|]*` + "`" + name + "`").MatchString(text) {
				t.Errorf("%s: %s is missing", heading, name)
			}
		}
	}
	for _, inner := range []reflect.Type{reflect.TypeFor[api.Device](), reflect.TypeFor[api.Member]()} {
		for f := range inner.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !strings.Contains(doc, "`"+name+"`") {
				t.Errorf("%s of %s is missing", name, inner)
			}
		}
	}
}

// The examples in the documents are valid.
func TestExamplesAreValid(t *testing.T) {
	n := 0
	for _, name := range []string{"docs/operations.md", "README.md"} {
		for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(document(t, name), -1) {
			n++
			text := m[1]
			var err error
			switch {
			case strings.HasPrefix(text, "trunks:"):
				_, err = apply.Parse(name, []byte(text))
			case strings.HasPrefix(text, "- {name:"):
				_, err = apply.Parse(name, []byte("trunks:\n"+text))
			default:
				_, err = config.Parse(name, []byte(text))
			}
			if err != nil {
				t.Errorf("%s:\n%s%v", name, text, err)
			}
		}
	}
	if n < 6 {
		t.Errorf("only %d examples", n)
	}
}

// Each metric is explained, and each explained one exists.
func TestMetricsAreDocumented(t *testing.T) {
	names := regexp.MustCompile(`cordboard_[a-z_]+`)
	told := names.FindAllString(section(t, document(t, "docs/operations.md"), "## Metrics"), -1)
	var made []string
	files, err := filepath.Glob(filepath.Join("server", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\.(?:gauge|counter|histogram)\("(cordboard_[a-z_]+)"`).FindAllStringSubmatch(string(b), -1) {
			made = append(made, m[1])
		}
	}
	if len(made) < 20 {
		t.Fatalf("found only %v", made)
	}
	for _, m := range made {
		if !slices.Contains(told, m) {
			t.Errorf("%s is not in docs/operations.md", m)
		}
	}
	for _, m := range told {
		if !slices.Contains(made, m) {
			t.Errorf("docs/operations.md tells of %s, which there is not", m)
		}
	}
	// and what a gateway shows is what its code says
	e := newEnvironment(t)
	e.ready(start(t, e.vars, "serve"))
	res, err := http.Get(e.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^(cordboard_[a-z_]+)`).FindAllString(string(b), -1) {
		if !slices.Contains(told, m) {
			t.Errorf("%s is shown and not told of", m)
		}
	}
}

// Targets that documents name exist, and every target is in docs/testing.md
// or the README.
func TestTargetsAreDocumented(t *testing.T) {
	makefile := document(t, "Makefile")
	var targets []string
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):.*## `).FindAllStringSubmatch(makefile, -1) {
		targets = append(targets, m[1])
	}
	all := ""
	for _, name := range []string{"docs/testing.md", "README.md", "docs/operations.md"} {
		text := document(t, name)
		all += text
		for _, m := range regexp.MustCompile("`make ([a-z-]+)|(?m)^make ([a-z-]+)").FindAllStringSubmatch(text, -1) {
			if name := m[1] + m[2]; !slices.Contains(targets, name) {
				t.Errorf("make %s is told of, which there is not", name)
			}
		}
	}
	for _, target := range targets {
		if !strings.Contains(all, "make "+target) {
			t.Errorf("make %s is told of nowhere", target)
		}
	}
}

// Links between the documents lead somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	for _, name := range []string{"README.md", "docs/operations.md", "docs/testing.md", "docs/architecture.md"} {
		text := document(t, name)
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || target == "docs/benchmarks.md" || target == "benchmarks.md" {
				continue // elsewhere, or written by make bench
			}
			file := name
			if target != "" {
				file = filepath.ToSlash(filepath.Join(filepath.Dir(name), target))
			}
			if _, err := os.Stat(filepath.Join("..", file)); err != nil {
				t.Errorf("%s: %s leads nowhere", name, m[1])
				continue
			}
			if anchor != "" && !slices.Contains(anchors(document(t, file)), anchor) {
				t.Errorf("%s: %s has no such heading", name, m[1])
			}
		}
	}
}

// anchors are the headings as GitHub names them.
func anchors(doc string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(doc, -1) {
		name := strings.ToLower(m[1])
		name = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(name, "")
		out = append(out, strings.ReplaceAll(name, " ", "-"))
	}
	return out
}
