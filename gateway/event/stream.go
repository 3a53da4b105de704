package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	streamName    = "FACTS"
	subjectPrefix = "facts."
	// maxFact is the largest payload, in bytes.
	maxFact = 512 << 10
	// maxSkip is how many sequences Skip fills one by one.
	maxSkip = 1_000_000
	// duplicates is how long the server remembers message ids. It is only the
	// second guard against doubles; see publisher.reconcile.
	duplicates = 20 * time.Second
)

// Stream is the durable stream of facts. It implements Journal and is safe for
// concurrent use.
type Stream struct {
	o     Options
	emb   *embedded // nil with an external server
	nc    *nats.Conn
	js    jetstream.JetStream
	inbox string // where acknowledgements come; ends with a dot
	pub   *publisher
	last  atomic.Uint64

	end     context.CancelFunc
	ended   chan struct{} // closed at Close
	owned   sync.WaitGroup
	readers sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	closing  sync.Once
	closeErr error
}

var _ Journal = (*Stream)(nil)

// Open opens the stream FACTS, making it when it is new.
func Open(ctx context.Context, o Options) (*Stream, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	s := &Stream{o: o, inbox: nats.NewInbox() + "."}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	s.end, s.ended = end, make(chan struct{})
	s.pub = newPublisher(s)
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.owned.Go(func() { s.pub.run(life) })
	return s, nil
}

func (s *Stream) open(ctx context.Context) error {
	url := s.o.URL
	opts := []nats.Option{
		nats.Name("cordboard"),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1), // the publisher keeps facts itself, in order
		nats.ReconnectWait(retryMin),
		nats.ReconnectJitter(retryMin, retryMin),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			s.o.Log.Warn("stream connection", "err", err) //nolint:sloglint // the handler has no context
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			s.o.Log.Info("stream connection is back") //nolint:sloglint // the handler has no context
		}),
	}
	if url == "" {
		var err error
		if s.emb, err = startEmbedded(&s.o); err != nil {
			return err
		}
		opts = append(opts, nats.InProcessServer(s.emb))
	}
	var err error
	if s.nc, err = nats.Connect(url, opts...); err != nil {
		return fmt.Errorf("connect to stream: %w", err)
	}
	sub, err := s.nc.Subscribe(s.inbox+"*", s.pub.ack)
	if err != nil {
		return fmt.Errorf("listen for acknowledgements: %w", err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return fmt.Errorf("listen for acknowledgements: %w", err)
	}
	if s.js, err = jetstream.New(s.nc); err != nil {
		return fmt.Errorf("use stream: %w", err)
	}
	last, err := s.ensure(ctx)
	if err != nil {
		return err
	}
	s.pub.acked = last
	return nil
}

// ensure makes the stream or brings its settings up to date, and returns its
// newest sequence.
func (s *Stream) ensure(ctx context.Context) (last uint64, err error) {
	st, err := s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        streamName,
		Description: "facts of cordboard",
		Subjects:    []string{subjectPrefix + ">"},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		MaxAge:      s.o.MaxAge,
		MaxBytes:    s.o.MaxBytes,
		Replicas:    s.o.Replicas,
		Duplicates:  min(duplicates, s.o.MaxAge),
		AllowDirect: true,
		DenyDelete:  true,
	})
	if err != nil {
		return 0, fmt.Errorf("make stream %s: %w", streamName, err)
	}
	last = st.CachedInfo().State.LastSeq
	s.sawLast(last)
	return last, nil
}

// Append implements Journal.
func (s *Stream) Append(ctx context.Context, at time.Time, payloads ...Payload) error {
	if len(payloads) == 0 {
		return nil
	}
	list := make([]*waiting, 0, len(payloads))
	now := time.Now()
	for _, p := range payloads {
		w, err := encode(p, at, now)
		if err != nil {
			return err
		}
		list = append(list, w)
	}
	return s.append(ctx, list)
}

func (s *Stream) append(ctx context.Context, list []*waiting) error {
	g, err := s.pub.add(list)
	if err != nil {
		return fmt.Errorf("append %s: %w", list[0].subject, err)
	}
	t := time.NewTimer(s.o.Deadline)
	defer t.Stop()
	select {
	case <-g.done:
	case <-t.C: // they are kept, and come in later
	case <-ctx.Done(): // the facts happened all the same
	}
	return nil
}

func encode(p Payload, at, now time.Time) (*waiting, error) {
	kind := p.Kind()
	data, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", kind, ErrBadPayload, err)
	}
	if len(data) > maxFact {
		return nil, fmt.Errorf("%s: %w: %d bytes are more than %d", kind, ErrBadPayload, len(data), maxFact)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make fact id: %w", err)
	}
	return encodeFact(Fact{ID: id.String(), Time: at.UTC(), Type: kind, Data: data}, now)
}

func encodeFact(f Fact, now time.Time) (*waiting, error) {
	body, err := json.Marshal(wire{ID: f.ID, Time: f.Time, Type: f.Type, Data: f.Data})
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", f.Type, ErrBadPayload, err)
	}
	return &waiting{id: f.ID, subject: subjectPrefix + string(f.Type), body: body, at: now}, nil
}

// Restore appends a fact of a backup under the sequence that it had. It is for
// a stream that nobody else uses yet.
func (s *Stream) Restore(ctx context.Context, facts ...Fact) error {
	list := make([]*waiting, 0, len(facts))
	now := time.Now()
	s.pub.mu.Lock()
	next := s.last.Load() + uint64(len(s.pub.queue)) + 1
	s.pub.mu.Unlock()
	for _, f := range facts {
		if f.Seq != next {
			return fmt.Errorf("restore fact %d: next is %d", f.Seq, next)
		}
		next++
		w, err := encodeFact(f, now)
		if err != nil {
			return fmt.Errorf("restore fact %d: %w", f.Seq, err)
		}
		list = append(list, w)
	}
	if len(list) == 0 {
		return nil
	}
	g, err := s.pub.add(list)
	if err != nil {
		return fmt.Errorf("restore facts: %w", err)
	}
	select {
	case <-g.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("restore facts: %w", context.Cause(ctx))
	}
}

// request sends one fact and waits for the stream's answer.
func (s *Stream) request(ctx context.Context, w *waiting) (seq uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.AckTimeout)
	defer cancel()
	m := &nats.Msg{Subject: w.subject, Data: w.body, Header: nats.Header{nats.MsgIdHdr: {w.id}}}
	a, err := s.js.PublishMsg(ctx, m, jetstream.WithExpectStream(streamName), jetstream.WithRetryAttempts(0))
	if err != nil {
		return 0, fmt.Errorf("publish fact: %w", err)
	}
	return a.Sequence, nil
}

// message returns the message of a sequence, nil when there is none.
func (s *Stream) message(ctx context.Context, seq uint64) (*jetstream.RawStreamMsg, error) {
	st, err := s.js.Stream(ctx, streamName)
	if err != nil {
		return nil, fmt.Errorf("use stream: %w", err)
	}
	m, err := st.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil //nolint:nilnil // no message and no error
	}
	if err != nil {
		return nil, fmt.Errorf("read fact %d: %w", seq, err)
	}
	return m, nil
}

func (s *Stream) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	st, err := s.js.Stream(ctx, streamName)
	if err != nil {
		return nil, fmt.Errorf("use stream: %w", err)
	}
	return st.CachedInfo(), nil
}

// sawLast notes that the stream holds seq.
func (s *Stream) sawLast(seq uint64) {
	for {
		old := s.last.Load()
		if seq <= old || s.last.CompareAndSwap(old, seq) {
			return
		}
	}
}

// Last returns the sequence of the newest fact known to be in the stream.
func (s *Stream) Last() uint64 { return s.last.Load() }

// First returns the sequence of the oldest fact that is still kept; when none
// is kept, the sequence that the next will have.
func (s *Stream) First(ctx context.Context) (uint64, error) {
	info, err := s.info(ctx)
	if err != nil {
		return 0, err
	}
	if info.State.Msgs == 0 {
		return info.State.LastSeq + 1, nil
	}
	return info.State.FirstSeq, nil
}

// gap is the payload of KindGap.
type gap struct{}

func (gap) Kind() Kind                   { return KindGap }
func (gap) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// Skip makes sure that no later fact gets a sequence up to seq: a power failure
// may have taken facts that readers have already seen.
func (s *Stream) Skip(ctx context.Context, seq uint64) error {
	info, err := s.info(ctx)
	if err != nil {
		return err
	}
	last := info.State.LastSeq
	switch {
	case last >= seq:
		return nil
	case seq == math.MaxUint64:
		return fmt.Errorf("skip to %d: %w", seq, ErrRewound)
	case info.State.Msgs == 0:
		st, err := s.js.Stream(ctx, streamName)
		if err != nil {
			return fmt.Errorf("use stream: %w", err)
		}
		if err := st.Purge(ctx, jetstream.WithPurgeSequence(seq+1)); err != nil {
			return fmt.Errorf("skip to %d: %w", seq, err)
		}
		s.sawLast(seq)
		return nil
	case seq-last > maxSkip:
		return fmt.Errorf("skip from %d to %d: %w", last, seq, ErrRewound)
	}
	s.o.Log.WarnContext(ctx, "stream lost facts that were read; filling the gap", "from", last+1, "to", seq)
	for n := seq - last; n > 0; {
		part := min(n, window)
		list := make([]*waiting, part)
		for i := range list {
			if list[i], err = encode(gap{}, time.Now(), time.Now()); err != nil {
				return err
			}
		}
		g, err := s.pub.add(list)
		if err != nil {
			return fmt.Errorf("skip to %d: %w", seq, err)
		}
		select {
		case <-g.done:
		case <-ctx.Done():
			return fmt.Errorf("skip to %d: %w", seq, context.Cause(ctx))
		}
		n -= part
	}
	return nil
}

// Stats returns the stream's counters.
func (s *Stream) Stats() Stats {
	s.pub.mu.Lock()
	defer s.pub.mu.Unlock()
	st := s.pub.stats
	st.Waiting, st.Last = len(s.pub.queue), s.last.Load()
	return st
}

// Ping reports whether the stream answers and takes facts.
func (s *Stream) Ping(ctx context.Context) error {
	if s.Stats().Failing {
		return errors.New("journal does not take facts")
	}
	_, err := s.info(ctx)
	return err
}

// enter notes a reader, which Close waits for.
func (s *Stream) enter() (done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	s.readers.Add(1)
	return s.readers.Done, nil
}

// Close takes no more facts, waits for those that are under way, and stops.
// The error says how many facts the stream did not take.
func (s *Stream) Close() error {
	s.closing.Do(func() {
		left := 0
		if s.js != nil {
			left = s.pub.drain(s.o.CloseTimeout)
		}
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		close(s.ended)
		s.end()
		s.owned.Wait()
		s.readers.Wait()
		if s.nc != nil {
			s.nc.Close()
		}
		if s.emb != nil {
			s.closeErr = s.emb.stop()
		}
		if left > 0 {
			s.closeErr = errors.Join(s.closeErr, fmt.Errorf("%d facts were not taken by the journal", left))
		}
	})
	return s.closeErr
}
