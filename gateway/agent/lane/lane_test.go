package lane

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestOneLaneKeepsItsOrderAndLanesRunSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := New(8)
		var wg sync.WaitGroup
		wg.Go(func() { l.Run(ctx) })
		var mu sync.Mutex
		got := map[string][]int{}
		start := time.Now()
		for i := range 10 {
			for _, key := range []string{"a", "b", "c"} {
				l.Do(key, func(context.Context) {
					time.Sleep(time.Second)
					mu.Lock()
					defer mu.Unlock()
					got[key] = append(got[key], i)
				})
			}
		}
		cancel() // what was accepted is done all the same
		wg.Wait()
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("took %s: lanes waited for each other", took)
		}
		for _, key := range []string{"a", "b", "c"} {
			if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}; !slices.Equal(got[key], want) {
				t.Errorf("lane %s ran %v", key, got[key])
			}
		}
		if l.Pending() != 0 || l.Do("a", func(context.Context) {}) {
			t.Error("closed lanes took a task")
		}
	})
}

func BenchmarkDo(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	l := New(8)
	var wg sync.WaitGroup
	wg.Go(func() { l.Run(ctx) })
	keys := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	i := 0
	for b.Loop() {
		l.Do(keys[i%8], func(context.Context) {})
		i++
	}
	cancel()
	wg.Wait()
}
