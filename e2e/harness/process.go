//go:build e2e && linux

package harness

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience is how long a test waits for what should happen at once. The
// machines that run the tests are busy with other tests.
const Patience = 30 * time.Second

// maxLines bounds what is kept of a process's output.
const maxLines = 20000

// Process is a program that the test runs. Its output is kept line by line.
type Process struct {
	name  string
	cmd   *exec.Cmd
	lines *Log[string]
	done  chan struct{}
	err   error
}

// Run starts a program that is ended with the test. Standard output and
// standard error are kept; onLine, if not nil, gets each line of standard
// output instead of the log.
func Run(tb testing.TB, onLine func(string), path string, args ...string) *Process {
	tb.Helper()
	return RunIn(tb, "", nil, onLine, path, args...)
}

// RunIn is Run in a folder and with more variables of the environment.
func RunIn(tb testing.TB, dir string, env []string, onLine func(string), path string, args ...string) *Process {
	tb.Helper()
	return prepare(dir, env, path, args).start(tb, onLine)
}

// runPiped is RunIn with a standard input.
func runPiped(tb testing.TB, dir string, onLine func(string), path string, args ...string) (*Process, io.WriteCloser) {
	tb.Helper()
	p := prepare(dir, nil, path, args)
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = stdin.Close() })
	return p.start(tb, onLine), stdin
}

func prepare(dir string, env []string, path string, args []string) *Process {
	p := &Process{name: path[strings.LastIndexByte(path, '/')+1:], lines: NewLog[string](), done: make(chan struct{})}
	p.cmd = exec.Command(path, args...) //nolint:gosec,noctx // the test names it; ended by the clean-up
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	return p
}

func (p *Process) start(tb testing.TB, onLine func(string)) *Process {
	tb.Helper()
	out, err1 := p.cmd.StdoutPipe()
	errs, err2 := p.cmd.StderrPipe()
	if err := errors.Join(err1, err2, p.cmd.Start()); err != nil {
		tb.Fatalf("start %s: %v", p.name, err)
	}
	if onLine == nil {
		onLine = p.keep
	}
	var readers sync.WaitGroup
	readers.Go(func() { eachLine(out, onLine) })
	readers.Go(func() { eachLine(errs, p.keep) })
	go func() {
		defer close(p.done)
		readers.Wait()
		p.err = p.cmd.Wait()
	}()
	tb.Cleanup(func() { p.end(tb) })
	return p
}

func eachLine(r io.Reader, fn func(string)) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		fn(s.Text())
	}
	_, _ = io.Copy(io.Discard, r) // a line too long must not stop the process
}

func (p *Process) keep(line string) { p.lines.Add(line) }

// end stops a process with its test and, if the test failed, shows what it said.
func (p *Process) end(tb testing.TB) {
	tb.Helper()
	select {
	case <-p.done:
	default:
		p.Signal(syscall.SIGTERM)
		if !p.Exited(10 * time.Second) {
			p.Signal(syscall.SIGKILL)
			<-p.done
		}
	}
	if tb.Failed() {
		tb.Logf("%s said (the end of it):\n%s", p.name, p.Tail(120))
	}
}

// Signal sends a signal to the process.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Exited reports whether the process ends within d.
func (p *Process) Exited(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}

// Wait waits for the process's end and returns its exit code; -1 when it was
// killed. It fails the test when that takes longer than d.
func (p *Process) Wait(tb testing.TB, d time.Duration) int {
	tb.Helper()
	if !p.Exited(d) {
		tb.Fatalf("%s still runs after %v", p.name, d)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Tail returns the last n lines of the output.
func (p *Process) Tail(n int) string {
	all := p.lines.All()
	return strings.Join(all[max(0, len(all)-n):], "\n")
}

// Expect waits until a line of the output holds text, and returns the line.
func (p *Process) Expect(tb testing.TB, text string) string {
	tb.Helper()
	line, ok := p.lines.Wait(tb.Context(), Patience, 0, func(s string) bool { return strings.Contains(s, text) })
	if !ok {
		tb.Fatalf("%s did not say %q", p.name, text)
	}
	return line
}

// Log keeps things in their order and lets tests wait for one.
type Log[T any] struct {
	mu    sync.Mutex
	all   []T
	grown chan struct{}
}

// NewLog makes an empty Log.
func NewLog[T any]() *Log[T] { return &Log[T]{grown: make(chan struct{})} }

// Add appends.
func (l *Log[T]) Add(v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) >= maxLines {
		return
	}
	l.all = append(l.all, v)
	close(l.grown)
	l.grown = make(chan struct{})
}

// All returns everything so far.
func (l *Log[T]) All() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clip(l.all)
}

// Wait returns the first thing from index from on that matches, waiting for it.
func (l *Log[T]) Wait(ctx context.Context, d time.Duration, from int, match func(T) bool) (found T, ok bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for i := from; ; {
		l.mu.Lock()
		all, grown := l.all, l.grown
		l.mu.Unlock()
		for ; i < len(all); i++ {
			if match(all[i]) {
				return all[i], true
			}
		}
		select {
		case <-grown:
		case <-timer.C:
			return found, false
		case <-ctx.Done():
			return found, false
		}
	}
}

// Until waits until ok holds, asking again and again.
func Until(tb testing.TB, d time.Duration, what string, ok func() bool) {
	tb.Helper()
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("not within %v: %s", d, what)
		case <-tb.Context().Done():
			tb.Fatal(tb.Context().Err())
		}
	}
}
