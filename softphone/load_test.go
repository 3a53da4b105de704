package softphone_test

import (
	"runtime"
	"testing"

	"github.com/cordboard/cordboard/softphone"
)

// A phone in a load run is light: what one more call costs, the stub's half of it included.
func TestMemoryOfACall(t *testing.T) {
	g, p := registered(t, func(c *softphone.Config) { c.Device, c.MaxCalls, c.Codecs = nil, 64, []string{"PCMA"} })
	heap := func() float64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapInuse+m.StackInuse) / 1024
	}
	dial := func(n int) {
		for range n {
			if _, err := p.Dial("1", softphone.DialOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		for range n {
			<-g.legs
			next[softphone.Answered](p)
		}
	}
	dial(4)
	before, routines := heap(), runtime.NumGoroutine()
	for range 8 { // one after another: a busy machine is no measure of memory
		dial(5)
	}
	each := (heap() - before) / 40
	t.Logf("%.0f KiB and %d goroutines a call, both sides", each, (runtime.NumGoroutine()-routines)/40)
	if each > 1200 {
		t.Errorf("%.0f KiB a call", each)
	}
}
