package rtc

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/pion/webrtc/v4"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/softphone/audio"
)

// Errors of a session.
var (
	ErrClosed  = errors.New("media session is closed")
	ErrNoRelay = errors.New("no relay: the turn servers did not answer or refused")
	ErrState   = errors.New("no offer is pending")
)

// State is what becomes of the path to the far side.
type State int

// The states.
const (
	StateNew       State = iota
	StateConnected       // media can flow
	StateLost            // nothing comes any more; it may come back
	StateFailed          // an ICE restart is needed
	StateClosed
)

// Callbacks of a session. They may come from any goroutine and must not block.
type Callbacks struct {
	// OnState says that State changed; read it.
	OnState func()
	// OnDigit is a key that the far side pressed.
	OnDigit func(digit byte, d time.Duration)
}

// Talk says what is sent in a turn.
type Talk int

// What may be sent.
const (
	Speak  Talk = iota // the frame
	Muted              // silence, so that the far side sees a living stream
	Silent             // nothing, on hold
)

// reportTurns is how many turns of 20 ms lie between two RTCP reports, about one second.
const reportTurns = 50

// Session is the media of one call. All methods are safe for concurrent use; Send and Receive are meant for
// one goroutine with a clock of 20 ms.
type Session struct {
	e     *Engine
	pc    *webrtc.PeerConnection
	out   *outbound
	in    *inbound
	cb    Callbacks
	cname string
	wg    sync.WaitGroup
	done  chan struct{}
	turns int // until the next report; owned by the goroutine of Send
	quiet []int16

	neg sync.Mutex // one negotiation at a time

	mu      sync.Mutex
	closed  bool
	offered Direction // of the offer that is pending
	sends   bool      // by what was negotiated
	farHold bool
	far     farReport
}

// farReport is what the far side says that it receives.
type farReport struct {
	rtt    time.Duration
	loss   float64
	jitter uint32
}

// NewSession makes a session that has not negotiated yet.
func (e *Engine) NewSession(cb Callbacks) (*Session, error) {
	s := &Session{e: e, cb: cb, cname: uuid.NewString(), done: make(chan struct{}), out: newOutbound()}
	s.in = newInbound(cb.OnDigit)
	pc, err := e.api.NewPeerConnection(e.configuration())
	if err != nil {
		return nil, fmt.Errorf("make peer connection: %w", err)
	}
	s.pc = pc
	s.turns = rand.IntN(reportTurns) //nolint:gosec // G404: spreads the reports of many calls
	pc.OnConnectionStateChange(func(webrtc.PeerConnectionState) { cb.OnState() })
	pc.OnTrack(s.track)
	tr, err := pc.AddTransceiverFromTrack(s.out, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendrecv})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("add track: %w", err), pc.Close())
	}
	sender := tr.Sender()
	s.wg.Go(func() {
		s.readControl(func(b []byte) (int, error) {
			n, _, err := sender.Read(b)
			return n, err //nolint:wrapcheck // only looked at
		})
	})
	return s, nil
}

// State returns what has become of the path.
func (s *Session) State() State {
	switch s.pc.ConnectionState() {
	case webrtc.PeerConnectionStateConnected:
		return StateConnected
	case webrtc.PeerConnectionStateDisconnected:
		return StateLost
	case webrtc.PeerConnectionStateFailed:
		return StateFailed
	case webrtc.PeerConnectionStateClosed:
		return StateClosed
	case webrtc.PeerConnectionStateUnknown, webrtc.PeerConnectionStateNew, webrtc.PeerConnectionStateConnecting:
	}
	return StateNew
}

// Codec is the codec that is sent, "" before it is agreed.
func (s *Session) Codec() string { return s.out.codec() }

// Rate is the sample rate that suits the codec best.
func (s *Session) Rate() int {
	if s.Codec() == codec.Opus {
		return audio.RateFull
	}
	return audio.RateNarrow
}

// FarHold reports whether the far side holds us: it does not want to hear.
func (s *Session) FarHold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.farHold
}

// Press sends digits as telephone events, each for the given time (100 ms if 0). It does not wait.
func (s *Session) Press(digits string, each time.Duration) error { return s.out.press(digits, each) }

// Pressing reports whether digits are still on their way.
func (s *Session) Pressing() bool { return s.out.pressing() }

// Send takes one turn of 20 ms: the frame that the microphone heard, at rate, and what may be sent of it.
// skipped turns were missed before it.
func (s *Session) Send(pcm []int16, rate int, t Talk, skipped int) error {
	if s.turns -= 1 + skipped; s.turns <= 0 {
		s.turns = reportTurns
		now := time.Now()
		s.report(now)
		s.in.tick(now)
	}
	s.mu.Lock()
	may := s.sends
	s.mu.Unlock()
	switch {
	case !may || t == Silent:
		pcm = nil
	case t == Muted:
		if len(s.quiet) != len(pcm) {
			s.quiet = make([]int16, len(pcm))
		}
		pcm = s.quiet
	}
	return s.out.send(pcm, rate, skipped)
}

// Receive fills pcm, one frame at rate, with what the far side says now.
func (s *Session) Receive(pcm []int16, rate int) { s.in.receive(pcm, rate) }

// Quality returns the figures so far.
func (s *Session) Quality() Quality {
	var q Quality
	s.mu.Lock()
	far := s.far
	s.mu.Unlock()
	q.RTT, q.FarLoss = far.rtt, far.loss
	if c, ok := codec.Lookup(s.Codec()); ok {
		q.FarJitter = time.Duration(float64(far.jitter) / float64(c.ClockRate) * float64(time.Second))
	}
	_, _, packets, _ := s.out.report(time.Now()) //nolint:dogsled // only the count is needed
	q.Sent = uint64(packets)
	s.in.quality(&q)
	return q
}

// Close ends the session and waits for what it started. It is idempotent and must not be called from a callback.
func (s *Session) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	if !was {
		close(s.done)
	}
	err := s.pc.GracefulClose()
	s.wg.Wait()
	if err != nil {
		return fmt.Errorf("close peer connection: %w", err)
	}
	return nil
}

// enter starts fn as a goroutine of the session, unless that is closed.
func (s *Session) enter(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.wg.Go(fn)
	}
}

// track reads what the far side sends. pion calls it on a goroutine of its own.
func (s *Session) track(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
	s.enter(func() {
		s.readControl(func(b []byte) (int, error) {
			n, _, err := r.Read(b)
			return n, err //nolint:wrapcheck // only looked at
		})
	})
	s.enter(func() {
		b := make([]byte, 1500)
		for {
			// An unknown payload type is an error beside the packet (n > 0): the stream goes on.
			n, _, err := t.Read(b)
			if n > 0 {
				s.in.packet(b[:n], time.Now())
				continue
			}
			if err != nil && !errors.Is(err, io.ErrShortBuffer) {
				return
			}
		}
	})
}

func (s *Session) readControl(read func([]byte) (int, error)) {
	b := make([]byte, 1500)
	for {
		n, err := read(b)
		switch {
		case err == nil:
			s.control(b[:n], time.Now())
		case !errors.Is(err, io.ErrShortBuffer):
			return
		}
	}
}
