package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// window is how many facts may be on their way to the stream.
	window = 4096
	// retryMin and retryMax bound the pause between attempts to recover.
	retryMin = 50 * time.Millisecond
	retryMax = 2 * time.Second
	// restartAfter is how many attempts fail before the embedded server is
	// started anew.
	restartAfter = 3
)

// waiting is a fact that the stream has not acknowledged.
type waiting struct {
	id      string
	subject string
	body    []byte
	at      time.Time // when Append was called
	group   *group
	token   uint64 // of the attempt that is under way; 0 = not sent
	sent    time.Time
	tried   bool // sent at least once: the stream may hold it
	done    bool
}

// group is the facts of one Append.
type group struct {
	left int // under publisher.mu
	done chan struct{}
}

// publisher sends facts in their order. Append fills the queue; run, its one
// goroutine, sends and recovers; acknowledgements come from the connection.
type publisher struct {
	s *Stream

	wake chan struct{} // something to send, or an acknowledgement
	fail chan error    // the stream refused a fact

	mu     sync.Mutex
	closed bool
	queue  []*waiting // not acknowledged, in order
	next   int        // place in queue of the first that is not sent
	flight map[uint64]*waiting
	token  uint64
	bytes  int64
	// acked is the highest sequence that was acknowledged.
	acked uint64
	stats Stats
}

func newPublisher(s *Stream) *publisher {
	return &publisher{s: s, wake: make(chan struct{}, 1), fail: make(chan error, 1), flight: map[uint64]*waiting{}}
}

// add queues facts.
func (p *publisher) add(list []*waiting) (*group, error) {
	g := &group{left: len(list), done: make(chan struct{})}
	var size int64
	for _, w := range list {
		w.group = g
		size += int64(len(w.body))
	}
	p.mu.Lock()
	switch {
	case p.closed:
		p.mu.Unlock()
		return nil, ErrClosed
	case len(p.queue)+len(list) > p.s.o.Buffer || p.bytes+size > p.s.o.BufferBytes:
		p.stats.Lost += uint64(len(list))
		p.mu.Unlock()
		return nil, ErrFull
	}
	p.queue = append(p.queue, list...)
	p.bytes += size
	p.mu.Unlock()
	p.poke()
	return g, nil
}

func (p *publisher) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run sends facts until ctx ends.
func (p *publisher) run(ctx context.Context) {
	check := time.NewTimer(p.s.o.AckTimeout)
	defer check.Stop()
	for {
		var err error
		select {
		case <-p.wake:
			err = p.send()
		case err = <-p.fail:
		case <-check.C:
			check.Reset(p.s.o.AckTimeout / 4)
			err = p.overdue()
		case <-ctx.Done():
			return
		}
		if err != nil && !p.recover(ctx, err) {
			return
		}
	}
}

// send publishes what is queued, as far as the window allows.
func (p *publisher) send() error {
	now := time.Now()
	for {
		p.mu.Lock()
		n := min(len(p.queue)-p.next, window-len(p.flight), 256)
		part := append([]*waiting(nil), p.queue[p.next:p.next+max(n, 0)]...)
		tokens := p.token
		for _, w := range part {
			p.token++
			w.token, w.sent, w.tried = p.token, now, true
			p.flight[w.token] = w
		}
		p.next += len(part)
		p.mu.Unlock()
		if len(part) == 0 {
			return nil
		}
		for i, w := range part {
			if err := p.publish(w, tokens+uint64(i)+1); err != nil {
				return err
			}
		}
	}
}

// publish hands one message to the connection. w may be acknowledged already
// when this returns, so its token comes apart.
func (p *publisher) publish(w *waiting, token uint64) error {
	m := &nats.Msg{
		Subject: w.subject, Reply: p.s.inbox + strconv.FormatUint(token, 36), Data: w.body,
		Header: nats.Header{nats.MsgIdHdr: {w.id}, nats.ExpectedStreamHdr: {streamName}},
	}
	if err := p.s.nc.PublishMsg(m); err != nil {
		return fmt.Errorf("publish fact: %w", err)
	}
	return nil
}

// overdue reports whether the oldest fact under way got no answer in time.
func (p *publisher) overdue() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 || p.queue[0].token == 0 {
		return nil
	}
	if age := time.Since(p.queue[0].sent); age > p.s.o.AckTimeout {
		return fmt.Errorf("no acknowledgement for %v", age.Round(time.Millisecond))
	}
	return nil
}

// ack is called by the connection with each answer of the stream.
func (p *publisher) ack(m *nats.Msg) {
	token, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, p.s.inbox), 36, 64)
	if err != nil {
		return
	}
	var a struct {
		Seq   uint64 `json:"seq"`
		Error *struct {
			Code        int    `json:"code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	switch {
	case m.Header.Get("Status") == "503": // nobody serves the subject: no stream
		err = nats.ErrNoResponders
	default:
		err = json.Unmarshal(m.Data, &a)
		if err == nil && a.Error != nil {
			err = fmt.Errorf("stream answered %d: %s", a.Error.Code, a.Error.Description)
		}
		if err == nil && a.Seq == 0 {
			err = errors.New("stream answered without a sequence")
		}
	}
	p.settle(token, a.Seq, err)
}

// settle ends the attempt with this token.
func (p *publisher) settle(token, seq uint64, err error) {
	p.mu.Lock()
	w := p.flight[token]
	delete(p.flight, token)
	if w == nil { // of an earlier attempt
		p.mu.Unlock()
		return
	}
	full := len(p.queue) > p.next
	if err == nil {
		p.doneLocked(w, seq)
	}
	p.mu.Unlock()
	if err != nil {
		select {
		case p.fail <- err:
		default:
		}
		return
	}
	if full {
		p.poke()
	}
}

// doneLocked takes a fact that the stream holds out of the queue.
func (p *publisher) doneLocked(w *waiting, seq uint64) {
	if w.done {
		return
	}
	w.done = true
	p.s.sawLast(seq) // before anybody who waits is told: Last then includes it
	p.acked = max(p.acked, seq)
	p.stats.Appended++
	if time.Since(w.at) > p.s.o.Deadline {
		p.stats.Late++
	}
	if w.group.left--; w.group.left == 0 {
		close(w.group.done)
	}
	n := 0
	for n < len(p.queue) && p.queue[n].done {
		p.bytes -= int64(len(p.queue[n].body))
		p.queue[n] = nil
		n++
	}
	p.queue = p.queue[n:]
	p.next = max(p.next-n, 0)
	if len(p.queue) == 0 {
		p.queue = nil // let a long queue's memory go
	}
}

// recover brings the stream back after a failure and goes on with the oldest
// fact that it does not hold. It reports false when ctx ended.
func (p *publisher) recover(ctx context.Context, cause error) bool {
	p.mu.Lock()
	p.stats.Failures++
	p.stats.Failing = true
	p.mu.Unlock()
	p.s.o.Log.ErrorContext(ctx, "journal does not take facts", "err", cause)
	p.s.o.Alarm(true, "the journal does not take facts; they are kept in memory: "+cause.Error())
	for attempt := 1; ; attempt++ {
		t := time.NewTimer(min(retryMin<<min(attempt-1, 8), retryMax))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false
		}
		err := p.attempt(ctx, attempt)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return false
		}
		p.s.o.Log.WarnContext(ctx, "journal still does not take facts", "attempt", attempt, "err", err)
	}
	p.mu.Lock()
	p.stats.Failing = false
	n := len(p.queue)
	p.mu.Unlock()
	p.s.o.Log.InfoContext(ctx, "journal takes facts again", "waiting", n)
	p.s.o.Alarm(false, "the journal takes facts again")
	p.poke()
	return true
}

func (p *publisher) attempt(ctx context.Context, n int) error {
	if e := p.s.emb; e != nil && n%restartAfter == 0 {
		if err := e.restart(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*p.s.o.AckTimeout+retryMax)
	defer cancel()
	last, err := p.s.ensure(ctx)
	if err != nil {
		return err
	}
	if err := p.reconcile(ctx, last); err != nil {
		return err
	}
	return p.probe(ctx)
}

// reconcile finds out which of the facts that were sent the stream holds: the
// acknowledgement may be what was lost. The server's own memory of message ids
// is not enough, because it forgets after some minutes.
func (p *publisher) reconcile(ctx context.Context, last uint64) error {
	p.mu.Lock()
	doubt := map[string]*waiting{}
	for _, w := range p.queue {
		if w.tried && !w.done {
			doubt[w.id] = w
		}
	}
	from := p.acked + 1
	clear(p.flight)
	p.mu.Unlock()

	held := map[*waiting]uint64{}
	for seq := from; seq <= last && len(doubt) > len(held); seq++ {
		m, err := p.s.message(ctx, seq)
		if err != nil {
			return err
		}
		if m == nil {
			continue
		}
		if w := doubt[m.Header.Get(nats.MsgIdHdr)]; w != nil {
			held[w] = seq
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for w, seq := range held {
		p.doneLocked(w, seq)
	}
	p.next = 0
	rest := p.queue[:0:0]
	for _, w := range p.queue {
		if w.done {
			p.bytes -= int64(len(w.body))
			continue
		}
		w.token = 0
		rest = append(rest, w)
	}
	p.queue = rest
	p.acked = max(p.acked, last)
	return nil
}

// probe sends the oldest fact and waits until the stream holds it.
func (p *publisher) probe(ctx context.Context) error {
	p.mu.Lock()
	if len(p.queue) == 0 {
		p.mu.Unlock()
		return nil
	}
	w := p.queue[0]
	w.tried = true
	p.mu.Unlock()
	seq, err := p.s.request(ctx, w)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.doneLocked(w, seq)
	p.mu.Unlock()
	p.s.sawLast(seq)
	return nil
}

// drain waits until the stream holds everything or d is over, takes no more
// facts, and returns how many are left.
func (p *publisher) drain(d time.Duration) int {
	p.mu.Lock()
	p.closed = true
	var tail *group
	if n := len(p.queue); n > 0 {
		tail = p.queue[n-1].group
	}
	p.mu.Unlock()
	if tail != nil {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-tail.done:
		case <-t.C:
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue)
}
