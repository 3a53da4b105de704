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
func (g *Gateway) Sipp(tb testing.TB, o SippOptions) *Sipp {
	tb.Helper()
	path := Need(tb, "sipp")
	if o.Port == 0 {
		o.Port = g.Port(tb)
	}
	if o.Calls == 0 {
		o.Calls = 1
	}
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	media := strconv.Itoa(g.RTPPort(tb))
	_ = g.RTPPort(tb) // sipp's sockets for video are two ports further
	var args []string
	if o.Remote != "" {
		args = append(args, o.Remote)
	}
	if o.Scenario != "" {
		abs, err := filepath.Abs(o.Scenario)
		if err != nil {
			tb.Fatal(err)
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
	dir := tb.TempDir()
	if o.Tone > 0 {
		rawTone(tb, filepath.Join(dir, "tone.al"), o.Tone)
	}
	p := RunIn(tb, dir, nil, func(string) {}, path, append(args, o.Args...)...)
	if o.Remote == "" {
		Until(tb, Patience, "sipp listens", func() bool {
			if p.Exited(0) {
				tb.Fatalf("sipp ended:\n%s", p.Tail(20))
			}
			return !free(o.Port)
		})
	}
	return &Sipp{Port: o.Port, Process: p}
}

// Succeeds waits until sipp has ended and fails the test unless all its calls
// went as the scenario says.
func (s *Sipp) Succeeds(tb testing.TB) {
	tb.Helper()
	if code := s.Wait(tb, 2*time.Minute); code != 0 {
		tb.Fatalf("sipp ended with %d:\n%s", code, s.Tail(40))
	}
}

// rawTone writes 20 s of a tone as headerless A-law, which sipp sends as it is.
func rawTone(tb testing.TB, file string, hz float64) {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), Need(tb, "sox"), ToneFile(tb, hz, 20*time.Second), "-t", "al", file).CombinedOutput() //nolint:gosec // the test's own files
	if err != nil {
		tb.Fatalf("sox: %v\n%s", err, out)
	}
}
