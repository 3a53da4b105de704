// Command testsum runs go test and closes with one line that counts:
// "N passed, N failed, N skipped". It prints the output of what failed and one
// line for each package. Several sets of arguments, each after a --, are run
// one after another and counted together.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// event is one line of go test -json (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

type tally struct {
	passed, failed, skipped int
	output                  map[string][]string
}

func main() {
	t := &tally{output: map[string][]string{}}
	code := 0
	for _, args := range sets(os.Args[1:]) {
		if err := t.run(args); err != nil {
			say("testsum: %v\n", err)
			code = 1
		}
	}
	say("%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
	os.Exit(code)
}

// sets splits arguments at each --.
func sets(args []string) [][]string {
	var out [][]string
	for _, a := range args {
		if a == "--" {
			out = append(out, nil)
			continue
		}
		if len(out) == 0 {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], a)
	}
	return out
}

// run runs go test once; an error means that something failed.
func (t *tally) run(args []string) error {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...) //nolint:gosec,noctx // the Makefile's own arguments; ends with the tests
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("read go test: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start go test: %w", err)
	}
	before := t.failed
	t.read(pipe)
	if err := cmd.Wait(); err != nil {
		if t.failed == before {
			t.failed++ // the build, or go itself
		}
		return fmt.Errorf("go test: %w", err)
	}
	return nil
}

func (t *tally) read(r io.Reader) {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), 16<<20)
	for sc.Scan() {
		var e event
		if json.Unmarshal(sc.Bytes(), &e) != nil {
			say("%s\n", sc.Text())
			continue
		}
		t.count(e)
	}
}

func (t *tally) count(e event) {
	if e.Package == "" {
		e.Package = e.ImportPath
	}
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		if len(t.output[key]) < 5000 {
			t.output[key] = append(t.output[key], e.Output)
		}
		return
	case "pass":
		if e.Test != "" {
			t.passed++
		} else {
			say("ok    %-60s %.1fs\n", e.Package, e.Elapsed)
		}
	case "skip":
		if e.Test != "" {
			t.skipped++
			say("skip  %s %s: %s\n", e.Package, e.Test, strings.Join(t.output[key], ""))
		}
	case "fail":
		if e.Test != "" {
			t.failed++
		} else { // a panic or the time limit leaves tests without an end
			t.unfinished(e.Package)
		}
		say("FAIL  %s %s\n%s", e.Package, e.Test, strings.Join(t.output[key], ""))
	case "build-fail":
		say("FAIL  build %s\n%s", e.Package, strings.Join(t.output[key], ""))
	default:
		return
	}
	delete(t.output, key)
}

// unfinished prints what tests of a package said that never ended.
func (t *tally) unfinished(pkg string) {
	for key, lines := range t.output {
		if strings.HasPrefix(key, pkg+" ") && key != pkg+" " {
			say("UNFINISHED  %s\n%s", key, strings.Join(lines, ""))
			delete(t.output, key)
		}
	}
}

// say prints; a closed standard output ends the run anyway.
func say(format string, a ...any) {
	_, _ = fmt.Fprintf(os.Stdout, format, a...)
}
