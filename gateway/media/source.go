package media

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

// Source is something a port can hear: a prompt, a tone, music. It is coded
// once per codec, and all who listen share the coded frames.
type Source interface {
	// Name tells the source in logs.
	Name() string
	// Frames are the payloads for a codec. The first call for a codec codes the
	// whole source and may take a while; it is not for the packet path.
	Frames(codecName string) (*Frames, error)
}

// Frames are the payloads of a source for one codec, 20 ms each. They are
// never changed once made.
type Frames struct {
	codec string
	data  []byte
	ends  []uint32 // of each frame in data; nil when all are 160 bytes
}

// Codec is the codec's name.
func (f *Frames) Codec() string { return f.codec }

// Len is the number of frames.
func (f *Frames) Len() int {
	if f.ends == nil {
		return len(f.data) / g711Frame
	}
	return len(f.ends)
}

// At is the payload of frame i, which the caller must not change.
func (f *Frames) At(i int) []byte {
	if f.ends == nil {
		return f.data[i*g711Frame : (i+1)*g711Frame : (i+1)*g711Frame]
	}
	from := uint32(0)
	if i > 0 {
		from = f.ends[i-1]
	}
	return f.data[from:f.ends[i]:f.ends[i]]
}

// Duration is how long the source plays.
func (f *Frames) Duration() time.Duration { return time.Duration(f.Len()) * codec.FrameDuration }

// Size is the memory the frames take in bytes.
func (f *Frames) Size() int { return len(f.data) + 4*len(f.ends) }

const (
	g711Frame = 160
	// opusRate is the API rate at which prompts and music are coded.
	opusRate = 16000
)

// clip is a Source over PCM that is made when a codec is first asked for.
type clip struct {
	name  string
	music bool
	pcm   func() (pcm []int16, rate int, err error)

	pcmu, pcma, opus onceFrames
}

type onceFrames struct {
	once sync.Once
	f    *Frames
	err  error
}

// Name implements Source.
func (c *clip) Name() string { return c.name }

// Frames implements Source.
func (c *clip) Frames(codecName string) (*Frames, error) {
	var slot *onceFrames
	switch strings.ToLower(codecName) {
	case "pcmu":
		slot = &c.pcmu
	case "pcma":
		slot = &c.pcma
	case "opus":
		slot = &c.opus
	default:
		return nil, fmt.Errorf("source %s in %q: %w", c.name, codecName, codec.ErrUnknown)
	}
	slot.once.Do(func() {
		pcm, rate, err := c.pcm()
		if err == nil {
			slot.f, err = encodeFrames(pcm, rate, codecName, c.music)
		}
		if err != nil {
			slot.err = fmt.Errorf("source %s: %w", c.name, err)
		}
	})
	return slot.f, slot.err
}

// PCMSource is a source over PCM of the given rate, which must not change afterwards.
func PCMSource(name string, pcm []int16, rate int) Source {
	return &clip{name: name, pcm: func() ([]int16, int, error) { return pcm, rate, nil }}
}

func encodeFrames(pcm []int16, rate int, codecName string, music bool) (*Frames, error) {
	c, ok := codec.Lookup(codecName)
	if !ok || !codec.CanDecode(c.Name) {
		return nil, fmt.Errorf("code %q: %w", codecName, codec.ErrUnknown)
	}
	want := 8000
	if c.Name == codec.Opus {
		want = opusRate
	}
	pcm, err := codec.Resample(pcm, rate, want)
	if err != nil {
		return nil, fmt.Errorf("code %s: %w", c.Name, err)
	}
	frame := want / 50
	if rest := len(pcm) % frame; rest != 0 {
		pcm = append(slices.Clip(pcm), make([]int16, frame-rest)...)
	}
	f := &Frames{codec: c.Name}
	if c.Name != codec.Opus {
		f.data = make([]byte, len(pcm))
		codec.LawOf(c.Name).Encode(f.data, pcm)
		return f, nil
	}
	enc, err := codec.NewOpusEncoder(codec.OpusOptions{Rate: want, Music: music})
	if err != nil {
		return nil, fmt.Errorf("code opus: %w", err)
	}
	var buf [codec.MaxOpusPacket]byte
	f.ends = make([]uint32, 0, len(pcm)/frame)
	f.data = make([]byte, 0, len(pcm)/frame*70)
	for at := 0; at < len(pcm); at += frame {
		n, err := enc.Encode(buf[:], pcm[at:at+frame])
		if err != nil {
			return nil, fmt.Errorf("code opus: %w", err)
		}
		f.data = append(f.data, buf[:n]...)
		f.ends = append(f.ends, uint32(len(f.data)))
	}
	return f, nil
}
