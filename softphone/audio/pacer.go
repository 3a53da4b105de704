package audio

import "time"

// maxCatchUp is how many frames a late pacer makes good; a longer stall (a suspended machine) is skipped.
const maxCatchUp = 10

// Pacer gives one tick each 20 ms. Its deadlines are counted from the start, so they do not drift:
// a tick that came late is followed by one that comes early.
type Pacer struct {
	every time.Duration
	next  time.Time
	timer *time.Timer
}

// NewPacer makes a pacer whose first tick is due at once.
func NewPacer() *Pacer {
	t := time.NewTimer(0)
	if !t.Stop() {
		select {
		case <-t.C:
		default:
		}
	}
	return &Pacer{every: FrameTime, next: time.Now(), timer: t}
}

// Wait blocks until the next tick. It returns how many ticks were given up because the pacer was stalled
// for longer than it can make good (normally 0), and false when stop was closed.
func (p *Pacer) Wait(stop <-chan struct{}) (skipped int, ok bool) {
	now := time.Now()
	if late := now.Sub(p.next); late > maxCatchUp*p.every {
		skipped = int(late / p.every)
		p.next = p.next.Add(time.Duration(skipped) * p.every)
	}
	if wait := p.next.Sub(now); wait > 0 {
		p.timer.Reset(wait)
		select {
		case <-p.timer.C:
		case <-stop:
			p.timer.Stop()
			return skipped, false
		}
	} else {
		select {
		case <-stop:
			return skipped, false
		default:
		}
	}
	p.next = p.next.Add(p.every)
	return skipped, true
}
