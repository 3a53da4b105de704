// Package lane runs tasks in lanes: those of one key one after another in the
// order in which they were given, those of different keys side by side. It is
// how facts about one agent or one call stay in order while nobody waits for
// somebody else's journal acknowledgement.
//
// The package owns its workers and nothing else. Giving it a task never
// blocks; who gives tasks bounds their number by looking at Pending.
package lane

import (
	"context"
	"sync"
)

// Task is one piece of work. Its context is not cancelled when Run's is: what
// was accepted is done.
type Task func(ctx context.Context)

// Lanes runs tasks. Make one with New and start it with Run; tasks given
// before Run wait for it.
type Lanes struct {
	workers int

	mu      sync.Mutex
	wake    *sync.Cond
	lanes   map[string]*queue // those with tasks, waiting or running
	ready   []*queue          // those with tasks of which none is running
	pending int
	closed  bool
}

type queue struct {
	key   string
	tasks []Task
}

// New returns lanes that run up to the given number of tasks at once.
func New(workers int) *Lanes {
	l := &Lanes{workers: max(1, workers), lanes: map[string]*queue{}}
	l.wake = sync.NewCond(&l.mu)
	return l
}

// Do gives a task to a lane and returns at once. It reports false, and the
// task will not run, when the lanes are closed.
func (l *Lanes) Do(key string, t Task) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.pending++
	if q, ok := l.lanes[key]; ok {
		q.tasks = append(q.tasks, t)
		return true
	}
	q := &queue{key: key, tasks: []Task{t}}
	l.lanes[key] = q
	l.ready = append(l.ready, q)
	l.wake.Signal()
	return true
}

// Pending returns how many tasks have not ended yet.
func (l *Lanes) Pending() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pending
}

// Run runs tasks until ctx ends, then those that are left, and returns when the
// last one has ended. It may be called once.
func (l *Lanes) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for range l.workers {
		wg.Go(func() { l.work(context.WithoutCancel(ctx)) })
	}
	<-ctx.Done()
	l.mu.Lock()
	l.closed = true
	l.wake.Broadcast()
	l.mu.Unlock()
	wg.Wait()
}

func (l *Lanes) work(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for len(l.ready) == 0 {
			if l.closed {
				return // a lane that is running now is finished by its own worker
			}
			l.wake.Wait()
		}
		q := l.ready[0]
		l.ready[0] = nil
		l.ready = l.ready[1:]
		t := q.tasks[0]
		q.tasks[0] = nil
		q.tasks = q.tasks[1:]
		l.run(ctx, t)
		l.pending--
		if len(q.tasks) == 0 {
			delete(l.lanes, q.key)
			continue
		}
		l.ready = append(l.ready, q)
		l.wake.Signal()
	}
}

// run runs one task without the lock.
func (l *Lanes) run(ctx context.Context, t Task) {
	l.mu.Unlock()
	defer l.mu.Lock()
	t(ctx)
}
