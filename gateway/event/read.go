package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Read calls fn with each fact after the sequence after, in order, then follows
// the stream until ctx ends (which is no error) or fn returns an error, which
// it returns. It survives the loss of the connection. With an after that the
// stream has not reached it returns ErrRewound.
//
// The Data of each fact is valid JSON. A message that is no fact comes as
// KindMalformed.
func (s *Stream) Read(ctx context.Context, after uint64, fn func(Fact) error) error {
	done, err := s.enter()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() {
		select {
		case <-s.ended:
			cancel(ErrClosed)
		case <-ctx.Done():
		}
	})

	first := true
	for attempt := 0; ; attempt++ {
		at := after
		err := s.follow(ctx, &after, first, fn)
		var f *fnError
		switch {
		case errors.As(err, &f):
			return f.err
		case errors.Is(context.Cause(ctx), ErrClosed):
			return ErrClosed
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrRewound):
			return err
		}
		if after > at {
			attempt, first = 0, false
		}
		s.o.Log.WarnContext(ctx, "reading of the stream is interrupted", "after", after, "err", err)
		t := time.NewTimer(min(retryMin<<min(attempt, 8), retryMax))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// fnError is an error of a reader's function.
type fnError struct{ err error }

func (e *fnError) Error() string { return e.err.Error() }

// follow reads until something goes wrong.
func (s *Stream) follow(ctx context.Context, after *uint64, check bool, fn func(Fact) error) error {
	info, err := s.info(ctx)
	if err != nil {
		return err
	}
	if check && *after > info.State.LastSeq {
		return fmt.Errorf("after %d, newest is %d: %w", *after, info.State.LastSeq, ErrRewound)
	}
	if first := info.State.FirstSeq; *after+1 < first {
		s.o.Log.WarnContext(ctx, "facts are gone before they were read", "from", *after+1, "to", first-1)
	}
	cons, err := s.js.OrderedConsumer(ctx, streamName, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: *after + 1, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return fmt.Errorf("make reader: %w", err)
	}
	it, err := cons.Messages(jetstream.PullMaxMessages(1000))
	if err != nil {
		return fmt.Errorf("read stream: %w", err)
	}
	defer it.Stop()
	for {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read stream: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read stream: %w", err)
		}
		seq := meta.Sequence.Stream
		if seq <= *after { // a reader that was made anew may begin early
			continue
		}
		s.sawLast(seq)
		if err := fn(decode(seq, meta.Timestamp, m.Subject(), m.Headers(), m.Data())); err != nil {
			return &fnError{err}
		}
		*after = seq
	}
}

// wire is a fact as it stands in the stream.
type wire struct {
	ID   string          `json:"id"`
	Time time.Time       `json:"time"`
	Type Kind            `json:"type"`
	Data json.RawMessage `json:"data"`
}

// decode reads a message. What is no fact becomes one of KindMalformed.
func decode(seq uint64, stored time.Time, subject string, h nats.Header, body []byte) Fact {
	var w wire
	err := json.Unmarshal(body, &w)
	kind := Kind(strings.TrimPrefix(subject, subjectPrefix))
	if err == nil && w.Type == kind && w.ID != "" && len(w.Data) > 0 {
		return Fact{Seq: seq, ID: w.ID, Time: w.Time.UTC(), Type: w.Type, Data: w.Data}
	}
	text, err := json.Marshal(string(body))
	if err != nil { // no string makes this fail
		text = []byte(`""`)
	}
	return Fact{Seq: seq, ID: h.Get(nats.MsgIdHdr), Time: stored.UTC(), Type: KindMalformed, Data: text}
}
