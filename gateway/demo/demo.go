package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/demo/carrier"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/speech"
)

// maxSpeech bounds one spoken line, in samples.
const maxSpeech = 60 * 48000

// carrierAddr is where the simulated carrier listens when it can.
const carrierAddr = "127.0.0.1:5080"

// The simulated carrier's own RTP ports.
const (
	portFirst = 21000
	portLast  = 22000
)

// Gateway is the running gateway as the demonstration needs it.
type Gateway interface {
	// Apply makes the gateway's state be as the document says.
	Apply(ctx context.Context, state api.State) error
	// Read hands facts to fn, from after on and then as they happen, until ctx ends.
	Read(ctx context.Context, after uint64, fn func(event.Fact) error) error
	// Last is the last fact's place in the stream.
	Last() uint64
}

// Options make a demonstration.
type Options struct {
	Log     *slog.Logger
	Gateway Gateway
	// Out is where people are told what happens.
	Out interface{ Write(b []byte) (int, error) }
	// Data is the gateway's data folder.
	Data string
	// Config is the file by which other commands find the gateway.
	Config string
	// Addresses are those of the gateway; accounts and carrier are filled in.
	Addresses File
}

func (o Options) path(elem ...string) string {
	return filepath.Join(append([]string{o.Data}, elem...)...)
}

// Start brings the demonstration up: its voices, its carrier, its state, and
// customers who call until the returned stop.
func Start(ctx context.Context, o Options) (stop func(), err error) {
	d := &show{o: o, out: &lines{w: o.Out}, waiting: map[string][]chan struct{}{}}
	if err := d.speak(ctx); err != nil {
		return nil, err
	}
	gateway, err := netip.ParseAddrPort(o.Addresses.SIP.UDP)
	if err != nil {
		return nil, fmt.Errorf("the demo needs sip.udp as address:port: %w", err)
	}
	conn, err := listenPacketOr(ctx, carrierAddr)
	if err != nil {
		return nil, fmt.Errorf("simulated carrier: %w", err)
	}
	d.carrier, err = carrier.New(ctx, carrier.Options{
		Log: o.Log.With("component", "carrier"), Conn: conn, RTPPorts: [2]uint16{portFirst, portLast},
		Gateway: gateway, Answer: d.answer,
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := d.setUp(ctx); err != nil {
		return nil, errors.Join(err, d.carrier.Close())
	}
	d.print()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { d.follow(ctx) })
	wg.Go(func() { d.call(ctx) })
	return func() {
		cancel()
		wg.Wait()
		if err := d.carrier.Close(); err != nil {
			o.Log.WarnContext(ctx, "stop the carrier", "err", err)
		}
	}, nil
}

// listenPacketOr listens where asked, or anywhere when that port is taken.
func listenPacketOr(ctx context.Context, addr string) (net.PacketConn, error) {
	var l net.ListenConfig
	if c, err := l.ListenPacket(ctx, "udp", addr); err == nil {
		return c, nil
	}
	return l.ListenPacket(ctx, "udp", "127.0.0.1:0")
}

// show is what runs beside the gateway in a demonstration.
type show struct {
	o        Options
	out      *lines
	carrier  *carrier.Carrier
	said     [][]media.Source // by customer
	answers  [][]media.Source
	accounts File
	ended    []string // the last few calls; of follow

	mu      sync.Mutex
	waiting map[string][]chan struct{} // by caller's number: closed when an agent is there
	turn    int
}

// lines writes whole lines from several goroutines.
type lines struct {
	mu sync.Mutex
	w  interface{ Write([]byte) (int, error) }
}

func (l *lines) printf(format string, a ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, format+"\n", a...) //nolint:errcheck // a closed terminal is no reason to stop
}

// speak makes what is heard: the prompts of the gateway, the lines of the
// customers and of the agent.
func (d *show) speak(ctx context.Context) error {
	dir := d.o.path("demo")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the demo's folder: %w", err)
	}
	spoken := func(v speech.Voice, text string) (media.Source, error) {
		wav, err := speech.Synthesize(ctx, v, text)
		if err != nil {
			return nil, err
		}
		pcm, rate, err := media.ReadWAV(bytes.NewReader(wav), maxSpeech)
		if err != nil {
			return nil, fmt.Errorf("speech: %w", err)
		}
		return media.PCMSource("speech", pcm, rate), nil
	}
	all := func(people []Customer) ([][]media.Source, error) {
		out := make([][]media.Source, 0, len(people))
		for _, c := range people {
			var own []media.Source
			for _, line := range c.Lines {
				src, err := spoken(speech.Voice{Language: c.Language, Pitch: c.Pitch}, line)
				if err != nil {
					return nil, fmt.Errorf("voice of a customer: %w", err)
				}
				own = append(own, src)
			}
			out = append(out, own)
		}
		return out, nil
	}
	var err error
	if d.said, err = all(Customers()); err != nil {
		return err
	}
	if d.answers, err = all(Answers()); err != nil {
		return err
	}
	wav, err := speech.Synthesize(ctx, speech.Voice{Language: "es", Speed: 150}, AgentLine)
	if err != nil {
		return fmt.Errorf("voice of the agent: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "agent.wav"), wav, 0o600); err != nil {
		return fmt.Errorf("keep the agent's voice: %w", err)
	}
	return nil
}
