package event

import (
	"context"
	"errors"
	"time"
)

var errSkeleton = errors.New("event: stream is being built")

// Stream is the durable stream of facts. It implements Journal and is safe for
// concurrent use.
type Stream struct {
	o Options
}

var _ Journal = (*Stream)(nil)

// Open opens the stream FACTS, making it when it is new.
func Open(_ context.Context, o Options) (*Stream, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	return nil, errSkeleton
}

// Append implements Journal.
func (s *Stream) Append(_ context.Context, _ time.Time, _ ...Payload) error { return errSkeleton }

// Read calls fn with each fact after the sequence after, in order, then follows
// the stream until ctx ends (which is no error) or fn returns an error.
func (s *Stream) Read(_ context.Context, _ uint64, _ func(Fact) error) error { return errSkeleton }

// Last returns the sequence of the newest fact known to be in the stream.
func (s *Stream) Last() uint64 { return 0 }

// First returns the sequence of the oldest fact that is still kept.
func (s *Stream) First(_ context.Context) (uint64, error) { return 0, errSkeleton }

// Skip makes sure that no later fact gets a sequence up to seq.
func (s *Stream) Skip(_ context.Context, _ uint64) error { return errSkeleton }

// Stats returns the stream's counters.
func (s *Stream) Stats() Stats { return Stats{} }

// Ping reports whether the stream takes facts now.
func (s *Stream) Ping(_ context.Context) error { return errSkeleton }

// Close takes no more facts, waits for those that are under way, and stops.
func (s *Stream) Close() error { return nil }
