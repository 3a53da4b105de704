package media

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

// Recording is one file that grows. Its methods are safe for concurrent use.
type Recording struct {
	owner  *Recorder
	path   string
	start  time.Time
	slot   int
	failed func(error)

	customer, agent side

	law     atomic.Int32 // 0 undecided, else 1 + codec.Law
	stopped atomic.Bool  // no more speech is taken
	queued  atomic.Bool

	mu       sync.Mutex // held while the file is written; never on the packet path
	file     *os.File   // nil once finished
	written  int64      // sample pairs in the file
	flushes  int
	finalErr error
	info     RecordingInfo
}

// Path is the file's path.
func (r *Recording) Path() string { return r.path }

// Customer puts p on the left channel in place of whoever was there; nil for nobody.
func (r *Recording) Customer(p Tapped) { r.customer.attach(p) }

// Agent puts p on the right channel in place of whoever was there; nil for nobody.
func (r *Recording) Agent(p Tapped) { r.agent.attach(p) }

// Stop ends the recording, makes its header final and tells what was written;
// the error is why the file is not whole. A second call tells the same. It
// does file I/O: not for the packet path.
func (r *Recording) Stop() (RecordingInfo, error) {
	end := time.Now()
	r.stopped.Store(true) // whoever is put on a side from now on is not tapped
	r.Customer(nil)
	r.Agent(nil)
	r.owner.forget(r)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file != nil {
		r.finishLocked(r.samples(end))
	}
	return r.info, r.finalErr
}

// samples is how far the recording's clock is at t.
func (r *Recording) samples(t time.Time) int64 {
	return int64(t.Sub(r.start)) * recordRate / int64(time.Second)
}

// decideLaw fixes the coding of the file if nothing has yet.
func (r *Recording) decideLaw(l codec.Law) {
	if r.law.Load() == 0 {
		r.law.CompareAndSwap(0, 1+int32(l))
	}
}

func (r *Recording) fileLaw() codec.Law { return codec.Law(max(0, r.law.Load()-1)) }

// flush writes what lies before the sample to. An error is returned once and
// ends the recording.
func (r *Recording) flush(to int64) error {
	r.mu.Lock()
	var err error
	if r.file != nil && r.finalErr == nil {
		err = r.flushLocked(to)
		r.finalErr = err
	}
	r.mu.Unlock()
	if err != nil {
		r.stopped.Store(true)
		if r.failed != nil {
			r.failed(err)
		}
	}
	return err
}

func (r *Recording) flushLocked(to int64) error {
	if to <= r.written {
		return nil
	}
	r.decideLaw(codec.ULaw) // nobody has said a word yet
	silence := r.fileLaw().Silence()
	buf, ok := r.owner.pool.Get().(*[2 * flushChunk]byte)
	if !ok {
		buf = new([2 * flushChunk]byte)
	}
	defer r.owner.pool.Put(buf)
	for r.written < to {
		n := min(to-r.written, flushChunk)
		out := buf[:2*n]
		r.customer.take(out, 0, r.written+n, silence)
		r.agent.take(out, 1, r.written+n, silence)
		if _, err := r.file.WriteAt(out, wavLawHeader+2*r.written); err != nil {
			return fmt.Errorf("write recording %s: %w", r.path, err)
		}
		r.written += n
	}
	if r.flushes%headerEvery == 0 {
		if err := r.writeHeader(); err != nil {
			return err
		}
	}
	r.flushes++
	return nil
}

// writeHeader makes the file playable up to where it is written.
func (r *Recording) writeHeader() error {
	h := lawHeader(r.fileLaw(), 2, recordRate, r.written)
	if _, err := r.file.WriteAt(h[:], 0); err != nil {
		return fmt.Errorf("write recording %s: %w", r.path, err)
	}
	return nil
}

func (r *Recording) finishLocked(end int64) {
	if r.finalErr == nil {
		r.finalErr = r.flushLocked(end)
	}
	errs := []error{r.finalErr, r.writeHeader(), r.file.Truncate(wavLawHeader + 2*r.written)}
	if r.owner.sync {
		errs = append(errs, r.file.Sync())
	}
	errs = append(errs, r.file.Close())
	r.file = nil
	r.info = RecordingInfo{
		Path:     r.path,
		Duration: time.Duration(r.written) * time.Second / recordRate,
		Lost:     time.Duration(r.customer.lostSamples()+r.agent.lostSamples()) * time.Second / recordRate,
	}
	var err error
	r.info.Bytes, r.info.SHA256, err = hashFile(r.path)
	r.finalErr = errors.Join(append(errs, err)...)
}

func hashFile(path string) (size int64, sum string, err error) {
	f, err := os.Open(path) //nolint:gosec // the recording's own path
	if err != nil {
		return 0, "", fmt.Errorf("hash recording: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	h := sha256.New()
	size, err = io.Copy(h, f)
	if err != nil {
		return 0, "", fmt.Errorf("hash recording %s: %w", path, err)
	}
	return size, hex.EncodeToString(h.Sum(nil)), nil
}
