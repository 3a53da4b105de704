// Command bench measures the gateway against its goals and against peers that
// were not written here: sipp places the calls, Debian's rtpengine and coturn
// relay the same packets in alternated rounds. It writes bench/results.json;
// docs/benchmarks.md says what is measured and how.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cordboard/cordboard/gateway/config"
	"github.com/cordboard/cordboard/gateway/server"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if len(os.Args) == 4 && os.Args[1] == profiledCommand {
		if err := serveProfiled(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
		return 0
	}
	b := &bench{out: os.Stdout}
	quick := flag.Bool("quick", false, "short rounds, about three minutes in all; the figures are rougher")
	only := flag.String("only", "", "comma-separated goals to measure; none = all of: "+strings.Join(goalNames(), " "))
	flag.StringVar(&b.results, "o", "bench/results.json", "file for the results")
	flag.StringVar(&b.profiles, "profile", "", "folder for CPU and heap profiles of the gateway; figures taken with them are not clean")
	flag.IntVar(&b.rounds, "rounds", 3, "alternated rounds of each comparison")
	flag.DurationVar(&b.patience, "patience", time.Minute, "how long to wait before each round for a machine that is busy with other things")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "bench: no arguments are expected")
		return 2
	}
	b.quick = *quick
	if b.quick {
		b.rounds, b.patience = 1, 0
	}
	if err := b.run(ctx, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

// profiledCommand makes this program the gateway itself, with profiles.
const profiledCommand = "serve-profiled"

// serveProfiled runs a gateway until SIGTERM and writes its profiles.
func serveProfiled(file, dir string) error {
	c, err := config.Load(file, nil)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM)
	stop, err := profile(dir)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	err = server.Run(context.Background(), server.Options{Config: c, Log: log, Version: "bench", Out: io.Discard}, signals)
	return errors.Join(err, stop())
}

// goal is one thing that is measured.
type goal struct {
	name string
	run  func(*bench, context.Context) error
}

func goals() []goal {
	return []goal{
		{"queue", (*bench).queue},
		{"overload", (*bench).overload},
		{"media", (*bench).media},
		{"webrtc", (*bench).webrtc},
		{"agents", (*bench).agents},
		{"growth", (*bench).growth},
		{"turn", (*bench).turn},
	}
}

func goalNames() []string {
	var out []string
	for _, g := range goals() {
		out = append(out, g.name)
	}
	return out
}

// result is one figure, as results.json has it.
type result struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	N     int     `json:"n"`
	Note  string  `json:"note"`
}

// bench runs goals and collects their results.
type bench struct {
	out      io.Writer
	results  string
	profiles string
	quick    bool
	rounds   int
	patience time.Duration
	gateway  string // the built program
	dir      string
	list     []result
}

func (b *bench) run(ctx context.Context, only string) (err error) {
	var todo []goal
	wanted := map[string]bool{}
	for name := range strings.FieldsFuncSeq(only, func(r rune) bool { return r == ',' }) {
		wanted[name] = true
	}
	all := len(wanted) == 0
	for _, g := range goals() {
		if all || wanted[g.name] {
			todo = append(todo, g)
			delete(wanted, g.name)
		}
	}
	for name := range wanted {
		return fmt.Errorf("there is no goal %q", name)
	}
	if b.dir, err = os.MkdirTemp("", "cordboard-bench-"); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := b.build(ctx); err != nil {
		return err
	}
	b.say("machine: %s", machine())
	var errs []error
	for _, g := range todo {
		b.say("== %s (load average %s)", g.name, loadAverage())
		if err := g.run(b, ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", g.name, err))
			b.say("   %v", err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(append(errs, b.write(only != ""))...)
}

// write keeps the results; those of goals that were not measured now stay.
func (b *bench) write(keep bool) error {
	var old []result
	if raw, err := os.ReadFile(b.results); err == nil && keep {
		if err := json.Unmarshal(raw, &old); err != nil {
			return fmt.Errorf("read %s: %w", b.results, err)
		}
	}
	fresh := map[string]bool{}
	for _, r := range b.list {
		fresh[r.Name] = true
	}
	var list []result
	for _, r := range old {
		if !fresh[r.Name] {
			list = append(list, r)
		}
	}
	list = append(list, b.list...)
	raw, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(b.results), 0o750); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := os.WriteFile(b.results, append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

// add keeps and shows one figure.
func (b *bench) add(name string, value float64, unit string, n int, note string, a ...any) {
	r := result{Name: name, Value: value, Unit: unit, N: n, Note: fmt.Sprintf(note, a...)}
	b.list = append(b.list, r)
	b.say("   %-34s %10.3f %-8s n=%-6d %s", r.Name, r.Value, r.Unit, r.N, r.Note)
}

func (b *bench) say(format string, a ...any) {
	fmt.Fprintf(b.out, format+"\n", a...) //nolint:errcheck // a closed terminal is no reason to stop
}

// short picks the figure of a quick run or that of a full one.
func (b *bench) short(quick, full int) int {
	if b.quick {
		return quick
	}
	return full
}

// wait lets d go by; it reports the end of ctx.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// until waits until ok says so.
func until(ctx context.Context, limit time.Duration, what string, ok func() bool) error {
	end := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(end) {
			return fmt.Errorf("%w: %s", errLate, what)
		}
		if err := wait(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

var errLate = errors.New("waited in vain")
