package event

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Errors of a Stream.
var (
	// ErrClosed is returned by a closed stream.
	ErrClosed = errors.New("stream is closed")
	// ErrFull says that the memory for facts that the stream did not take is
	// full; these facts are lost.
	ErrFull = errors.New("memory for waiting facts is full")
	// ErrBadPayload says that a payload is not JSON or too large.
	ErrBadPayload = errors.New("bad payload")
	// ErrRewound says that the stream has fewer facts than a reader has read.
	ErrRewound = errors.New("stream is behind its reader")
	// ErrLocked says that another process uses the stream's folder.
	ErrLocked = errors.New("journal is in use by another process")
)

// SyncAlways is the Sync that loses nothing when the power fails.
const SyncAlways = "always"

// Options of Open. Log is needed, and Dir or URL.
type Options struct {
	// Dir is the folder of the embedded server's files.
	Dir string
	// URL is an external NATS server with JetStream; empty = embedded. User
	// and password or a token may be in it.
	URL string
	// Sync is how often the embedded server's files are synced to the disk: a
	// duration, or SyncAlways (default 1s).
	Sync string
	Log  *slog.Logger
	// Alarm is told when the stream does not take facts, and when it does again.
	Alarm func(active bool, message string)
	// MaxAge and MaxBytes bound the stream; the oldest facts go first (default
	// 30 days and no bound in size).
	MaxAge   time.Duration
	MaxBytes int64
	// Replicas of the stream in an external cluster (default 1).
	Replicas int
	// Buffer and BufferBytes bound the memory for facts that the stream has
	// not taken yet (default 200,000 and 256 MiB).
	Buffer      int
	BufferBytes int64
	// Deadline is how long Append waits at most (default 100 ms).
	Deadline time.Duration
	// AckTimeout is how long the stream may take before it counts as failed
	// (default 1 s).
	AckTimeout time.Duration
	// CloseTimeout is how long Close waits for waiting facts (default 5 s).
	CloseTimeout time.Duration
}

// Stats of a stream.
type Stats struct {
	Last     uint64 // sequence of the newest fact known to be in the stream
	Appended uint64 // facts acknowledged since Open
	Waiting  int    // facts not acknowledged yet
	Late     uint64 // facts whose acknowledgement came after the deadline
	Lost     uint64 // facts refused because the memory was full
	Failures uint64 // times the stream stopped taking facts
	Failing  bool   // it does not take facts now
}

func (o *Options) defaults() error {
	if o.Log == nil || (o.Dir == "" && o.URL == "") {
		return errors.New("event: options need Log, and Dir or URL")
	}
	if o.Sync == "" {
		o.Sync = "1s"
	}
	if o.Sync != SyncAlways {
		if d, err := time.ParseDuration(o.Sync); err != nil || d < time.Millisecond {
			return fmt.Errorf("sync %q is neither %q nor a duration of 1ms or more", o.Sync, SyncAlways)
		}
	}
	if o.Alarm == nil {
		o.Alarm = func(bool, string) {}
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = -1
	}
	setDefault(&o.MaxAge, 30*24*time.Hour)
	setDefault(&o.Replicas, 1)
	setDefault(&o.Buffer, 200_000)
	setDefault(&o.BufferBytes, 256<<20)
	setDefault(&o.Deadline, 100*time.Millisecond)
	setDefault(&o.AckTimeout, time.Second)
	setDefault(&o.CloseTimeout, 5*time.Second)
	return nil
}

func setDefault[T time.Duration | int | int64](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}
