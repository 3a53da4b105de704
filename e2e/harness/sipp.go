//go:build e2e && linux

package harness

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// SippOptions of one run of sipp, which talks UDP from 127.0.0.1.
type SippOptions struct {
	// Scenario is a file; empty = none, Args say what to do.
	Scenario string
	// Remote is host:port; empty = sipp waits for calls.
	Remote string
	// Port is where it listens; 0 = a free one.
	Port int
	// Keys are the [keywords] of the scenario.
	Keys map[string]string
	// Calls is how many calls it makes or takes; 0 = 1.
	Calls int
	// Patience ends it with an error; 0 = a minute.
	Patience time.Duration
	// Tone makes tone.al, which a scenario plays by rtp_stream.
	Tone float64
	// Pause is how long a <pause/> of the scenario takes.
	Pause time.Duration
	Args  []string
}

// Sipp is a running sipp.
type Sipp struct {
	*Process

	Port int
}

// Sipp starts sipp with a media port of its own.
func (g *Gateway) Sipp(t testing.TB, o SippOptions) *Sipp {
	t.Helper()
	path := Need(t, "sipp")
	if o.Port == 0 {
		o.Port = g.Port(t)
	}
	if o.Calls == 0 {
		o.Calls = 1
	}
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	media := strconv.Itoa(g.RTPPort(t))
	_ = g.RTPPort(t) // sipp's sockets for video are two ports further
	var args []string
	if o.Remote != "" {
		args = append(args, o.Remote)
	}
	if o.Scenario != "" {
		abs, err := filepath.Abs(o.Scenario)
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, "-sf", abs)
	}
	args = append(args, "-i", "127.0.0.1", "-p", strconv.Itoa(o.Port), "-mi", "127.0.0.1", "-mp", media,
		"-m", strconv.Itoa(o.Calls), "-nostdin", "-timeout", strconv.Itoa(int(o.Patience.Seconds())), "-timeout_error", "-trace_err", "-error_file", "/dev/stderr")
	if o.Pause > 0 {
		args = append(args, "-d", strconv.Itoa(int(o.Pause.Milliseconds())))
	}
	for k, v := range o.Keys {
		args = append(args, "-key", k, v)
	}
	dir := t.TempDir()
	if o.Tone > 0 {
		rawTone(t, filepath.Join(dir, "tone.al"), o.Tone)
	}
	p := RunIn(t, dir, nil, func(string) {}, path, append(args, o.Args...)...)
	if o.Remote == "" {
		Until(t, Patience, "sipp listens", func() bool {
			if p.Exited(0) {
				t.Fatalf("sipp ended:\n%s", p.Tail(20))
			}
			return !free(o.Port)
		})
	}
	return &Sipp{Port: o.Port, Process: p}
}

// Succeeds waits until sipp has ended and fails the test unless all its calls
// went as the scenario says.
func (s *Sipp) Succeeds(t testing.TB) {
	t.Helper()
	if code := s.Wait(t, 2*time.Minute); code != 0 {
		t.Fatalf("sipp ended with %d:\n%s", code, s.Tail(40))
	}
}

// rawTone writes 20 s of a tone as headerless A-law, which sipp sends as it is.
func rawTone(t testing.TB, file string, hz float64) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), Need(t, "sox"), ToneFile(t, hz, 20*time.Second), "-t", "al", file).CombinedOutput() //nolint:gosec // the test's own files
	if err != nil {
		t.Fatalf("sox: %v\n%s", err, out)
	}
}
