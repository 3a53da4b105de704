package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed testdata/*.xml
var scenarios embed.FS

// sippRun is what sipp counted.
type sippRun struct {
	total, succeeded, failed int
	answered, refused        []float64 // ms from INVITE to 200, to 503
}

// sipp places n calls at a rate a second from the plain trunk's address.
func (b *bench) sipp(ctx context.Context, scenario string, to netip.AddrPort, rate, n int) (sippRun, error) {
	var s sippRun
	dir, err := os.MkdirTemp(b.dir, "sipp-")
	if err != nil {
		return s, fmt.Errorf("sipp: %w", err)
	}
	xml, err := scenarios.ReadFile("testdata/" + scenario)
	if err != nil {
		return s, fmt.Errorf("sipp: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "s.xml"), xml, 0o600); err != nil {
		return s, fmt.Errorf("sipp: %w", err)
	}
	p, err := ports(ctx, 1)
	if err != nil {
		return s, err
	}
	sink, err := listen(ctx, hostTrunk) // what the gateway plays goes somewhere, as it would in life
	if err != nil {
		return s, err
	}
	defer func() { _ = sink.Close() }()
	limit := time.Duration(n/rate+60) * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	//nolint:gosec // a fixed program with our own arguments
	cmd := exec.CommandContext(ctx, "sipp", to.String(), "-sf", "s.xml", "-s", didPlain, "-i", hostTrunk, "-p", strconv.Itoa(p[0]),
		"-r", strconv.Itoa(rate), "-m", strconv.Itoa(n), "-l", "20000", "-nostdin", "-trace_stat", "-stf", "stat.csv", "-fd", "1",
		"-trace_rtt", "-rtt_freq", "1", "-timeout", fmt.Sprintf("%ds", n/rate+40), "-buff_size", "4194304", "-deadcall_wait", "0",
		"-key", "sink", strconv.Itoa(int(localOf(sink).Port())))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TERM=dumb")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1) { // 1: at least one call failed
		return s, fmt.Errorf("sipp: %w: %s", err, last(out, 400))
	}
	raw, err := os.ReadFile(filepath.Join(dir, "stat.csv")) //nolint:gosec // of our own folder
	if err != nil {
		return s, fmt.Errorf("sipp: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	names, values := strings.Split(lines[0], ";"), strings.Split(lines[len(lines)-1], ";")
	for i, name := range names {
		if i >= len(values) {
			break
		}
		count, err := strconv.Atoi(values[i])
		if err != nil {
			continue
		}
		switch name {
		case "SuccessfulCall(C)":
			s.succeeded = count
		case "FailedCall(C)":
			s.failed = count
		case "TotalCallCreated":
			s.total = count
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*rtt*.csv"))
	if err != nil {
		return s, fmt.Errorf("sipp: %w", err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f) //nolint:gosec // of our own folder
		if err != nil {
			return s, fmt.Errorf("sipp: %w", err)
		}
		for line := range strings.Lines(string(raw)) {
			f := strings.Split(strings.TrimSpace(line), ";")
			if len(f) != 3 {
				continue
			}
			took, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				continue
			}
			switch f[2] {
			case "1", "answered":
				s.answered = append(s.answered, took)
			case "2", "refused":
				s.refused = append(s.refused, took)
			}
		}
	}
	return s, nil
}
