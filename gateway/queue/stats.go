package queue

import (
	"sync/atomic"
	"time"
)

// Histogram counts durations by upper bound: N[i] are those up to Bounds()[i]
// and above the bound before, the last one those above all bounds.
type Histogram struct {
	N     [11]uint64
	SumNs uint64
	Count uint64
}

// Bounds returns the upper bounds of a Histogram's counts.
func Bounds() [10]time.Duration {
	const us, ms = time.Microsecond, time.Millisecond
	return [10]time.Duration{100 * us, 250 * us, 500 * us, ms, 2 * ms, 5 * ms, 10 * ms, 50 * ms, 250 * ms, time.Second}
}

// Quantile returns the upper bound within which the share q (0 to 1) of the
// durations lies.
func (h Histogram) Quantile(q float64) time.Duration {
	bounds := Bounds()
	var n uint64
	for i, b := range bounds {
		n += h.N[i]
		if float64(n) >= q*float64(h.Count) {
			return b
		}
	}
	return time.Hour
}

// histogram is a Histogram that several goroutines may add to.
type histogram struct {
	n   [11]atomic.Uint64
	sum atomic.Uint64
}

func (h *histogram) add(d time.Duration) {
	i := 0
	for _, b := range Bounds() {
		if d <= b {
			break
		}
		i++
	}
	h.n[i].Add(1)
	h.sum.Add(uint64(max(0, d)))
}

func (h *histogram) read() Histogram {
	out := Histogram{SumNs: h.sum.Load()}
	for i := range h.n {
		out.N[i] = h.n[i].Load()
		out.Count += out.N[i]
	}
	return out
}

// counters are the runner's own.
type counters struct {
	entries, waiting                             atomic.Int64
	overloads, repairs, offers, failed, refusals atomic.Uint64
	ringDelay                                    histogram
}

// Stats returns the runner's counters, without waiting for it.
func (r *Runner) Stats() Stats {
	return Stats{
		Entries: int(r.count.entries.Load()), Waiting: int(r.count.waiting.Load()),
		Mailbox: len(r.mailbox), Facts: r.facts.Pending(), Actions: r.actions.Pending(),
		Overloads: r.count.overloads.Load(), Repairs: r.count.repairs.Load(), Offers: r.count.offers.Load(),
		FactsFailed: r.count.failed.Load(), RingDelay: r.count.ringDelay.read(),
	}
}
