package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordboard/cordboard/softphone"
	"github.com/cordboard/cordboard/softphone/audio"
)

// voice is the sound device of a measured phone: it says one level all the
// time and notes when it hears the customer's.
type voice struct {
	heard atomic.Int64 // unix nanoseconds of the first frame of the customer's
}

// level is what a phone says: one code of G.711 for all samples.
const level = 6000

// Open implements audio.Device.
func (v *voice) Open(int) (audio.Stream, error) { return v, nil }

// ReadFrame implements audio.Stream.
func (*voice) ReadFrame(pcm []int16) error {
	for i := range pcm {
		pcm[i] = level
	}
	return nil
}

// WriteFrame implements audio.Stream.
func (v *voice) WriteFrame(pcm []int16) error {
	a, b, c := pcm[0], pcm[len(pcm)/2], pcm[len(pcm)-1]
	if loud := a > 300 || a < -300; loud && a == b && b == c {
		v.heard.CompareAndSwap(0, time.Now().UnixNano())
	}
	return nil
}

// Close implements audio.Stream.
func (*voice) Close() error { return nil }

// app is an agent with the phone of the application.
type app struct {
	phone    *softphone.Phone
	voice    *voice
	ready    chan struct{}
	once     sync.Once
	answered atomic.Int64 // unix nanoseconds of the call of Answer
	setup    atomic.Int64 // nanoseconds, as the phone measures it
	call     atomic.Value // softphone.CallID
	delay    time.Duration
}

// newApp signs the i-th agent in and registers the phone of their session.
func newApp(ctx context.Context, g *gateway, i int, codecs []string) (*app, error) {
	s, err := g.signIn(ctx, i, true)
	if err != nil {
		return nil, err
	}
	if s.SIP == nil {
		return nil, fmt.Errorf("sign in: no phone: %w", errRefused)
	}
	return startApp(ctx, g, extension(i), s.SIP.Username, s.SIP.Password, codecs)
}

// startApp registers a phone.
func startApp(ctx context.Context, g *gateway, aor, user, password string, codecs []string) (*app, error) {
	a := &app{voice: &voice{}, ready: make(chan struct{})}
	c := softphone.Config{
		Server: g.wss, User: user, Password: password, AoR: aor, Domain: realm, TLS: g.tls, Codecs: codecs,
		Device: a.voice, OnEvent: a.event, StatsEvery: time.Minute,
	}
	var err error
	if a.phone, err = softphone.New(c); err != nil {
		return nil, fmt.Errorf("phone: %w", err)
	}
	if err := a.phone.Start(ctx); err != nil {
		return nil, fmt.Errorf("phone: %w", err)
	}
	select {
	case <-a.ready:
		return a, nil
	case <-time.After(15 * time.Second):
		return nil, errors.Join(fmt.Errorf("registration: %w", errLate), a.phone.Close())
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), a.phone.Close())
	}
}

func (a *app) event(e softphone.Event) {
	switch e := e.(type) {
	case softphone.Registered:
		a.once.Do(func() { close(a.ready) })
	case softphone.Incoming:
		a.call.Store(e.Call)
		if a.delay > 0 { // a person
			time.AfterFunc(a.delay, func() { a.answer(e.Call) })
			return
		}
		a.answer(e.Call)
	case softphone.Answered:
		a.setup.Store(int64(e.Setup))
	default:
	}
}

func (a *app) answer(id softphone.CallID) {
	a.voice.heard.Store(0)
	a.answered.Store(time.Now().UnixNano())
	_ = a.phone.Answer(id) // a call that is gone meanwhile is seen by its customer
}

// floor is a gateway with agents at softphones.
type floor struct {
	g    *gateway
	apps []*app
	idle float64
}

func (b *bench) floor(ctx context.Context, name string, n int, codecs []string, settings ...string) (*floor, error) {
	g, err := b.start(ctx, name, settings...)
	if err != nil {
		return nil, err
	}
	f := &floor{g: g}
	if _, err := g.apply.Apply(ctx, state(n), false, false); err != nil {
		f.close()
		return nil, fmt.Errorf("apply: %w", err)
	}
	for i := range n {
		a, err := newApp(ctx, g, i, codecs)
		if err != nil {
			f.close()
			return nil, err
		}
		f.apps = append(f.apps, a)
	}
	if err := wait(ctx, 2*time.Second); err != nil {
		f.close()
		return nil, err
	}
	if f.idle, err = g.idle(ctx, 5*time.Second); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *floor) close() {
	var wg sync.WaitGroup
	for _, a := range f.apps {
		wg.Go(func() { _ = a.phone.Close() })
	}
	wg.Wait()
	_ = f.g.stop()
}

// customers calls for all agents and returns the customers' media.
func (f *floor) customers(ctx context.Context, did string, n int) (list []*stream, hangup func() error, err error) {
	c, err := newCallers(ctx, hostTrunk, f.g.sip)
	if err != nil {
		return nil, nil, err
	}
	var calls []*customer
	hangup = func() error {
		var errs []error
		for _, k := range calls {
			errs = append(errs, k.hangup(ctx))
		}
		c.close()
		return errors.Join(errs...)
	}
	for range n {
		s, err := newStream(ctx, hostTrunk, false)
		if err != nil {
			return nil, hangup, err
		}
		k := c.place(did, s.describe())
		if err := k.wait(ctx); err != nil {
			return nil, hangup, err
		}
		calls = append(calls, k)
		if err := s.connect(k.sdp); err != nil {
			return nil, hangup, err
		}
		list = append(list, s)
		if err := wait(ctx, 20*time.Millisecond); err != nil {
			return nil, hangup, err
		}
	}
	return list, hangup, nil
}

// webrtc measures goal b's and c's WebRTC calls and goal d.
func (b *bench) webrtc(ctx context.Context) error {
	if err := b.answerTime(ctx); err != nil {
		return err
	}
	n := b.short(30, 100)
	f, err := b.floor(ctx, "webrtc", n, []string{"PCMU", "PCMA"})
	if err != nil {
		return err
	}
	plain, err := b.webrtcRounds(ctx, f, didPlain, n, "webrtc-rtp g711", "300 ms")
	if err == nil {
		var recorded float64
		if recorded, err = b.webrtcRounds(ctx, f, didRecorded, n, "webrtc-rtp g711 recorded", "1.25 x not recorded"); err == nil {
			b.add("media webrtc-rtp g711 recorded ratio", recorded/plain, "x", b.rounds, "of the CPU to that without recording; goal 1.25")
		}
	}
	f.close()
	if err != nil {
		return err
	}
	if err := b.webrtcMemory(ctx, n); err != nil {
		return err
	}
	n = b.short(10, 20) // the phones code as well, on the same two cores
	if f, err = b.floor(ctx, "opus", n, []string{"opus"}, "media.agent_codec: opus"); err != nil {
		return err
	}
	defer f.close()
	_, err = b.webrtcRounds(ctx, f, didPlain, n, "webrtc-rtp opus-g711", "shown")
	return err
}

// webrtcRounds measures the CPU of n calls of one kind.
func (b *bench) webrtcRounds(ctx context.Context, f *floor, did string, n int, name, budget string) (float64, error) {
	var per []float64
	var sent, lost int64
	far := 0.0
	for range b.rounds {
		if err := b.calm(ctx); err != nil {
			return 0, err
		}
		list, hangup, err := f.customers(ctx, did, n)
		if err == nil {
			err = wait(ctx, 2*time.Second)
		}
		var t traffic
		if err == nil {
			t, err = talk(ctx, list, f.g.pid, f.idle, time.Duration(b.short(5, 15))*time.Second)
		}
		if err == nil {
			for _, a := range f.apps[:n] {
				if id, ok := a.call.Load().(softphone.CallID); ok {
					if q, err := a.phone.Quality(id); err == nil {
						far += q.Loss
					}
				}
			}
			for _, s := range list {
				sent += s.others.Load()
				lost += s.gaps.Load()
			}
			per = append(per, t.perMinute(n))
		}
		if hangup != nil {
			err = errors.Join(err, hangup())
		}
		if err == nil {
			err = wait(ctx, 2*time.Second)
		}
		if err != nil {
			return 0, err
		}
		b.say("   %s: %.0f ms a call-minute", name, per[len(per)-1])
	}
	b.add("media "+name+" cpu", median(per), "ms", int(sent), "a call-minute at %d calls, median of %d rounds; goal %s", n, len(per), budget)
	b.add("media "+name+" lost", float64(lost), "packets", int(sent), "phone to customer; customer to phone %.3f %%; goal 0", 100*far/float64(n*len(per)))
	return median(per), nil
}

// webrtcMemory measures what a recorded WebRTC call holds: a gateway of its
// own, so that memory which earlier calls left behind is not used again.
func (b *bench) webrtcMemory(ctx context.Context, n int) error {
	g, err := b.start(ctx, "webrtc-memory")
	if err != nil {
		return err
	}
	if _, err = g.apply.Apply(ctx, state(n), false, false); err != nil {
		return errors.Join(fmt.Errorf("apply: %w", err), g.stop())
	}
	for i := range n {
		if _, err := g.signIn(ctx, i, false); err != nil {
			return errors.Join(err, g.stop())
		}
	}
	if err := g.stop(); err != nil {
		return err
	}
	// The next start finds the agents signed in with their devices.
	if g, err = b.start(ctx, "webrtc-memory"); err != nil {
		return err
	}
	f := &floor{g: g}
	defer f.close()
	if err := b.settle(ctx); err != nil {
		return err
	}
	for i := range n {
		a, err := startApp(ctx, g, extension(i), extension(i)+"-"+device, secret, []string{"PCMU", "PCMA"})
		if err != nil {
			return err
		}
		f.apps = append(f.apps, a)
	}
	if err := wait(ctx, 10*time.Second); err != nil {
		return err
	}
	before, err := memory(f.g.pid)
	if err != nil {
		return err
	}
	list, hangup, err := f.customers(ctx, didRecorded, n)
	if err == nil {
		err = wait(ctx, 2*time.Second)
	}
	if err == nil {
		_, err = talk(ctx, list, f.g.pid, 0, time.Duration(b.short(5, 20))*time.Second)
	}
	if err != nil {
		return err
	}
	after, err := memory(f.g.pid)
	if err != nil {
		return err
	}
	b.add("memory recorded webrtc call", float64(after-before)/float64(n), "KB", n, "growth of PSS with %d recorded calls; goal 400", n)
	return hangup()
}

// answerTime measures goal d: from the agent's answer until both hear each
// other, one call after another.
func (b *bench) answerTime(ctx context.Context) error {
	f, err := b.floor(ctx, "answer", 1, []string{"PCMU", "PCMA"})
	if err != nil {
		return err
	}
	defer f.close()
	a := f.apps[0]
	for _, v := range []struct {
		name string
		ring time.Duration
	}{{"after 1 s of ringing", time.Second}, {"answered at once", 0}} {
		a.delay = v.ring
		var took, phone []float64
		n := b.short(8, 40)
		for range n {
			ms1, ms2, err := f.oneAnswer(ctx, a)
			if err != nil {
				b.say("   %v", err)
				continue
			}
			took, phone = append(took, ms1), append(phone, ms2)
		}
		b.add("answer to two-way audio p95, "+v.name, percentile(took, 95), "ms", len(took), "p50 %.0f; as the phone sees it p50 %.0f; %d of %d calls failed; goal 350",
			median(took), median(phone), n-len(took), n)
	}
	return nil
}

func (f *floor) oneAnswer(ctx context.Context, a *app) (both, phone float64, err error) {
	a.answered.Store(0)
	list, hangup, err := f.customers(ctx, didPlain, 1)
	if err != nil {
		return 0, 0, err
	}
	s := list[0]
	start := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() { s.read(start) })
	talking, quiet := context.WithCancel(ctx)
	wg.Go(func() {
		for wait(talking, frame) == nil {
			_ = s.send(start)
		}
	})
	err = until(ctx, 10*time.Second, "both hear each other", func() bool {
		return a.answered.Load() > 0 && a.voice.heard.Load() > 0 && s.level.Load() > 0
	})
	quiet()
	_ = s.conn.Close()
	wg.Wait()
	at := max(a.voice.heard.Load(), s.level.Load()) - a.answered.Load()
	if err = errors.Join(err, hangup()); err != nil {
		return 0, 0, err
	}
	return ms(time.Duration(at)), ms(time.Duration(a.setup.Load())), wait(ctx, 300*time.Millisecond)
}
