package audio

import "time"

// FrameTime is the length of one frame of sound.
const FrameTime = 20 * time.Millisecond

// Rates of sound that a stream must accept: narrowband (G.711) and full band (Opus).
const (
	RateNarrow = 8000
	RateFull   = 48000
)

// FrameSize is the number of samples of one frame at rate.
func FrameSize(rate int) int { return rate / 50 }

// Device is where a call's sound comes from and goes to.
type Device interface {
	// Open starts one call's worth of sound, mono, signed 16 bit, at rate samples a second
	// (RateNarrow or RateFull).
	Open(rate int) (Stream, error)
}

// Stream is a microphone and a loudspeaker. Both methods are called once in 20 ms from one goroutine
// and must not block: a real device keeps a small ring of its own and gives silence when that is empty.
type Stream interface {
	// ReadFrame fills pcm, one frame, with what the microphone hears.
	ReadFrame(pcm []int16) error
	// WriteFrame plays pcm, one frame.
	WriteFrame(pcm []int16) error
	// Close ends the stream; it is idempotent.
	Close() error
}

// Null is a device that is silent and deaf.
type Null struct{}

// Open implements Device.
func (Null) Open(int) (Stream, error) { return nullStream{}, nil }

type nullStream struct{}

func (nullStream) ReadFrame(pcm []int16) error {
	clear(pcm)
	return nil
}

func (nullStream) WriteFrame([]int16) error { return nil }

func (nullStream) Close() error { return nil }
