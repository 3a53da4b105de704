package media

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

const (
	// flushEvery is how often a recording goes to its file.
	flushEvery = time.Second
	// flushSlots spreads the recordings over that time.
	flushSlots = 20
	// flushLag is how old speech is when it is written: later packets are lost to it.
	flushLag = 400 * time.Millisecond
	// flushChunk bounds one write: samples of both sides.
	flushChunk = 1 << 14
	// headerEvery is how many flushes pass between two updates of the header.
	headerEvery = 5
)

// ErrRecorderClosed says that no more recordings can begin.
var ErrRecorderClosed = errors.New("recorder is closed")

// RecorderOptions of a Recorder.
type RecorderOptions struct {
	Log     *slog.Logger
	Writers int  // goroutines that write files (2 when zero)
	Sync    bool // fsync a recording before Stop returns
}

// RecordOptions of one recording.
type RecordOptions struct {
	// Codec fixes the coding of the file, PCMU or PCMA; empty = that of the first
	// G.711 packet, so that a pure G.711 call is never recoded.
	Codec string
	// Failed is told, once and on a goroutine of the recorder, that the recording
	// ended early (disk full…). The call goes on. It may call Stop.
	Failed func(error)
}

// RecordingInfo is what is known of a recording when it has ended.
type RecordingInfo struct {
	Path     string
	Duration time.Duration
	Bytes    int64         // of the file
	SHA256   string        // of the file, hexadecimal
	Lost     time.Duration // speech that came but found no place, both sides
}

// Recorder writes recordings with a few goroutines shared by all of them.
type Recorder struct {
	log  *slog.Logger
	sync bool
	work chan *Recording
	quit chan struct{}
	wg   sync.WaitGroup
	pool sync.Pool // *[2 * flushChunk]byte

	mu     sync.Mutex
	closed bool
	next   int
	slots  [flushSlots]map[*Recording]struct{}
}

// NewRecorder starts the writers.
func NewRecorder(o RecorderOptions) *Recorder {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Writers <= 0 {
		o.Writers = 2
	}
	r := &Recorder{log: o.Log, sync: o.Sync, work: make(chan *Recording, 4096), quit: make(chan struct{})}
	r.pool.New = func() any { return new([2 * flushChunk]byte) }
	for i := range r.slots {
		r.slots[i] = map[*Recording]struct{}{}
	}
	r.wg.Go(r.pace)
	for range o.Writers {
		r.wg.Go(r.write)
	}
	return r
}

// Record starts a stereo recording in a new file at path (customer left, agent
// right), making its folder. The clock of the recording starts now.
func (r *Recorder) Record(path string, o RecordOptions) (*Recording, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640) //nolint:gosec // the caller names the file; recordings are readable to the service's group
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	rec := &Recording{owner: r, path: path, file: f, start: time.Now(), failed: o.Failed}
	rec.customer.rec, rec.agent.rec = rec, rec
	if o.Codec != "" {
		rec.decideLaw(codec.LawOf(o.Codec))
	}
	if err := rec.writeHeader(); err != nil {
		return nil, errors.Join(fmt.Errorf("record: %w", err), f.Close(), os.Remove(path))
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, errors.Join(ErrRecorderClosed, f.Close(), os.Remove(path))
	}
	rec.slot = r.next % flushSlots
	r.next++
	r.slots[rec.slot][rec] = struct{}{}
	r.mu.Unlock()
	return rec, nil
}

// Close stops every recording and the writers.
func (r *Recorder) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		r.wg.Wait()
		return nil
	}
	r.closed = true
	var open []*Recording
	for _, slot := range r.slots {
		for rec := range slot {
			open = append(open, rec)
		}
	}
	r.mu.Unlock()
	close(r.quit)
	r.wg.Wait()
	var errs []error
	for _, rec := range open {
		if _, err := rec.Stop(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// pace hands each recording to the writers once in flushEvery.
func (r *Recorder) pace() {
	tick := time.NewTicker(flushEvery / flushSlots)
	defer tick.Stop()
	for i := 0; ; i = (i + 1) % flushSlots {
		select {
		case <-r.quit:
			return
		case <-tick.C:
		}
		r.mu.Lock()
		for rec := range r.slots[i] {
			if rec.queued.CompareAndSwap(false, true) {
				select {
				case r.work <- rec:
				default: // the writers are behind; the rings hold until the next turn
					rec.queued.Store(false)
				}
			}
		}
		r.mu.Unlock()
	}
}

func (r *Recorder) write() {
	for {
		select {
		case <-r.quit:
			return
		case rec := <-r.work:
			rec.queued.Store(false)
			if err := rec.flush(rec.samples(time.Now().Add(-flushLag))); err != nil {
				r.log.Error("recording failed", "path", rec.path, "err", err)
			}
		}
	}
}

func (r *Recorder) forget(rec *Recording) {
	r.mu.Lock()
	delete(r.slots[rec.slot], rec)
	r.mu.Unlock()
}
