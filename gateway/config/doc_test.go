package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of keys into docs/operations.md")

// keyTable is the table of all keys.
func keyTable() string {
	var b strings.Builder
	b.WriteString("| key | environment | default | meaning |\n|---|---|---|---|\n")
	for _, k := range Keys() {
		def := ""
		if k.Default != "" {
			def = "`" + k.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n", k.Path, k.Env, def, strings.ReplaceAll(k.Doc, "|", "\\|"))
	}
	return b.String()
}

// The operators' document has every key with its default and meaning.
func TestOperationsDocument(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "operations.md")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- config:begin", "<!-- config:end -->"
	head, rest, ok := strings.Cut(string(raw), begin)
	mark, rest, ok2 := strings.Cut(rest, "\n")
	old, tail, ok3 := strings.Cut(rest, end)
	if !ok || !ok2 || !ok3 {
		t.Fatalf("%s has lost the marks of the table", file)
	}
	want := keyTable()
	if strings.TrimSpace(old) == strings.TrimSpace(want) {
		return
	}
	if !*update {
		t.Fatalf("the table of keys in %s is old: run go test ./gateway/config -run TestOperationsDocument -update", file)
	}
	if err := os.WriteFile(file, []byte(head+begin+mark+"\n"+want+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}
