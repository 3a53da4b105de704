package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of /proc/PID/stat: USER_HZ is 100 on every Linux.
const tick = 10 * time.Millisecond

// cpu is the time that a process has used, user and system, by its own
// accounting.
func cpu(pid int) (time.Duration, error) {
	// schedstat counts in nanoseconds but of one thread; the sum over the
	// threads would lose those that ended.
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("cpu time: %w", err)
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 13 {
		return 0, fmt.Errorf("cpu time of %d: %w", pid, errProc)
	}
	var ticks int64
	for _, v := range f[11:13] { // utime, stime
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("cpu time: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

var errProc = errors.New("the kernel's answer is not understood")

// memory is a process's resident memory, its share of shared pages only.
func memory(pid int) (kb int, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, fmt.Errorf("memory: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "Pss:"); ok {
			if kb, err = strconv.Atoi(strings.Fields(v)[0]); err != nil {
				return 0, fmt.Errorf("memory: %w", err)
			}
			return kb, nil
		}
	}
	return 0, errProc
}

// meter measures the CPU of a process over a window of time.
type meter struct {
	pid  int
	cpu  time.Duration
	from time.Time
}

func measure(pid int) (meter, error) {
	used, err := cpu(pid)
	return meter{pid, used, time.Now()}, err
}

// read returns the CPU used since measure and how long that is ago.
func (m meter) read() (used, took time.Duration, err error) {
	now, err := cpu(m.pid)
	return now - m.cpu, time.Since(m.from), err
}

// busy is the share of all cores that is in use over a moment.
func busy(ctx context.Context) (float64, error) {
	read := func() (idle, all float64, err error) {
		b, err := os.ReadFile("/proc/stat")
		if err != nil {
			return 0, 0, fmt.Errorf("cpu time: %w", err)
		}
		first, _, _ := strings.Cut(string(b), "\n")
		for i, f := range strings.Fields(first)[1:] {
			n, err := strconv.ParseFloat(f, 64)
			if err != nil {
				return 0, 0, fmt.Errorf("cpu time: %w", err)
			}
			if all += n; i == 3 || i == 4 { // idle, waiting for a disk
				idle += n
			}
		}
		return idle, all, nil
	}
	idle, all, err := read()
	if err != nil {
		return 0, err
	}
	if err := wait(ctx, 2*time.Second); err != nil {
		return 0, err
	}
	idle2, all2, err := read()
	return 1 - (idle2-idle)/max(1, all2-all), err
}

// calm waits until the machine has little else to do, or until patience is at
// an end: then the figures are rougher.
func (b *bench) calm(ctx context.Context) error {
	for end := time.Now().Add(b.patience); ; {
		share, err := busy(ctx)
		if err != nil || share < calmShare {
			return err
		}
		if time.Now().After(end) {
			b.say("   the machine is not calm: %.0f %% of it is in use", 100*share)
			return nil
		}
	}
}

// calmShare of the cores may be in use before a round.
const calmShare = 0.15

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(b))[0]
}

func machine() string {
	model := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.TrimSpace(strings.TrimLeft(v, " \t:"))
				break
			}
		}
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		kernel = []byte("unknown")
	}
	return fmt.Sprintf("%d × %s, Linux %s, %s", runtime.NumCPU(), model, strings.TrimSpace(string(kernel)), runtime.Version())
}

// profile writes a CPU profile until stop, and then one of the heap.
func profile(dir string) (stop func() error, err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil { //nolint:gosec // the folder that the user named
		return nil, fmt.Errorf("profile: %w", err)
	}
	f, err := os.Create(filepath.Join(dir, "cpu.pprof")) //nolint:gosec // the folder that the user named
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("profile: %w", err), f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		h, err := os.Create(filepath.Join(dir, "heap.pprof")) //nolint:gosec // the folder that the user named
		if err != nil {
			return errors.Join(fmt.Errorf("profile: %w", err), f.Close())
		}
		return errors.Join(f.Close(), pprof.WriteHeapProfile(h), h.Close())
	}, nil
}

// median of a list; 0 of an empty one.
func median[T ~float64 | ~int64](list []T) T { return percentile(list, 50) }

// percentile of a list; 0 of an empty one.
func percentile[T ~float64 | ~int64](list []T, p int) T {
	if len(list) == 0 {
		return 0
	}
	s := slices.Clone(list)
	slices.Sort(s)
	return s[min(len(s)-1, len(s)*p/100)]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
