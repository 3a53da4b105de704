// Command testsum runs go test and closes with one line that counts:
// "N passed, N failed, N skipped". It prints the output of what failed and one
// line for each package.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
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
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	os.Exit(run(args))
}

func run(args []string) int {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...) //nolint:gosec,noctx // the Makefile's own arguments; ends with the tests
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		return 1
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		return 1
	}
	t := &tally{output: map[string][]string{}}
	t.read(pipe)
	code := 0
	if err := cmd.Wait(); err != nil {
		code = 1
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			fmt.Fprintln(os.Stderr, "testsum:", err)
		}
		if t.failed == 0 {
			t.failed = 1 // the build, or go itself
		}
	}
	say("%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
	return code
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
		}
		say("FAIL  %s %s\n%s", e.Package, e.Test, strings.Join(t.output[key], ""))
	case "build-fail":
		say("FAIL  build %s\n%s", e.Package, strings.Join(t.output[key], ""))
	default:
		return
	}
	delete(t.output, key)
}

// say prints; a closed standard output ends the run anyway.
func say(format string, a ...any) {
	_, _ = fmt.Fprintf(os.Stdout, format, a...)
}
