package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// mediaCalls is how many calls are bridged at once.
const mediaCalls = 100

// kinds of bridged calls that are measured; peer says whether rtpengine does
// the same.
type mediaKind struct {
	name   string
	did    string
	host   string
	sdes   bool
	peer   bool
	budget string
}

// media measures goal b: the CPU of bridged calls, and what they add in delay.
func (b *bench) media(ctx context.Context) error {
	d, err := b.desk(ctx, "media", mediaCalls)
	if err != nil {
		return err
	}
	defer d.close()
	e, err := startRTPEngine(ctx, b.dir)
	if err != nil {
		return err
	}
	defer e.close()
	long := time.Duration(b.short(4, 10)) * time.Second
	var direct []float64
	plain := map[bool]float64{}
	for _, k := range []mediaKind{
		{"rtp-rtp", didPlain, hostTrunk, false, true, "1.0 x rtpengine"},
		{"sdes-rtp", didPlain, hostSDES, true, true, "1.2 x rtpengine"},
		{"rtp-rtp recorded", didRecorded, hostTrunk, false, false, "1.25 x not recorded"},
		{"sdes-rtp recorded", didRecorded, hostSDES, true, false, "1.25 x not recorded"},
	} {
		var ours, theirs, ratio, delay, delayTheirs []float64
		var sent, lost, lostTheirs int64
		for range b.rounds {
			if err := b.calm(ctx); err != nil {
				return err
			}
			t, err := b.bridged(ctx, d, k, long)
			if err != nil {
				return err
			}
			ours = append(ours, t.perMinute(mediaCalls))
			delay = append(delay, ms(median(t.delay)))
			sent += t.sent
			lost += t.lost()
			if k.peer {
				list, err := e.bridge(ctx, mediaCalls, k.sdes)
				if err != nil {
					return err
				}
				if err := b.calm(ctx); err != nil {
					return err
				}
				if t, err = talk(ctx, list, e.cmd.Process.Pid, 0, long); err != nil {
					return err
				}
				theirs = append(theirs, t.perMinute(mediaCalls))
				delayTheirs = append(delayTheirs, ms(median(t.delay)))
				ratio = append(ratio, ours[len(ours)-1]/theirs[len(theirs)-1])
				lostTheirs += t.lost()
			}
			if k.name == "rtp-rtp" {
				if err := b.calm(ctx); err != nil {
					return err
				}
				if t, err = b.direct(ctx, d, long/2); err != nil {
					return err
				}
				direct = append(direct, ms(median(t.delay)))
			}
			b.say("   %s: %.0f ms, rtpengine %.0f ms a call-minute; delay p50 %.3f ms, rtpengine %.3f, direct %.3f", k.name, ours[len(ours)-1],
				median(theirs), delay[len(delay)-1], median(delayTheirs), median(direct))
		}
		name := "media " + k.name
		b.add(name+" cpu", median(ours), "ms", int(sent), "a call-minute at %d calls, median of %d rounds; goal %s", mediaCalls, len(ours), k.budget)
		if k.peer {
			b.add(name+" rtpengine cpu", median(theirs), "ms", int(sent), "the same packets through rtpengine (userspace), in alternation")
			b.add(name+" ratio", median(ratio), "x", len(ratio), "of the CPU to rtpengine's, median of the rounds; goal %s; rtpengine lost %d", k.budget, lostTheirs)
			b.add(name+" rtpengine delay", median(delayTheirs)-median(direct), "ms", len(delayTheirs), "added by rtpengine, p50")
			plain[k.sdes] = median(ours)
		} else if plain[k.sdes] > 0 {
			b.add(name+" ratio", median(ours)/plain[k.sdes], "x", len(ours), "of the CPU to that without recording; goal 1.25")
		}
		b.add(name+" added delay", median(delay)-median(direct), "ms", int(sent), "p50 against the same packets sent directly (%.3f); goal 0.5", median(direct))
		b.add(name+" lost", float64(lost), "packets", int(sent), "goal 0")
	}
	return nil
}

// bridged makes calls through the gateway's queue and lets them talk.
func (b *bench) bridged(ctx context.Context, d *desk, k mediaKind, long time.Duration) (traffic, error) {
	list, hangup, err := d.bridge(ctx, k, mediaCalls)
	if err != nil {
		return traffic{}, errors.Join(err, hangup())
	}
	t, err := talk(ctx, list, d.g.pid, d.idle, long)
	if err := hangup(); err != nil {
		return t, err
	}
	return t, errors.Join(err, wait(ctx, 2*time.Second))
}

// bridge connects n customers with agents.
func (d *desk) bridge(ctx context.Context, k mediaKind, n int) (list []*stream, hangup func() error, err error) {
	var calls []*customer
	hangup = func() error { return nil }
	c, err := newCallers(ctx, k.host, d.g.sip)
	if err != nil {
		return nil, hangup, err
	}
	hangup = func() error {
		var errs []error
		for _, k := range calls {
			errs = append(errs, k.hangup(ctx))
		}
		c.close()
		return errors.Join(errs...)
	}
	var mu sync.Mutex
	far := map[string]*stream{}
	d.phones.answer = func(number, offer string) (string, error) {
		s, err := newStream(ctx, hostPhones, false)
		if err != nil {
			return "", err
		}
		if err := s.connect(offer); err != nil {
			return "", err
		}
		mu.Lock()
		defer mu.Unlock()
		far[number] = s
		return s.describe(), nil
	}
	defer func() { d.phones.answer = nil }()
	before := d.phones.connected.Load()
	for range n {
		s, err := newStream(ctx, k.host, k.sdes)
		if err != nil {
			return nil, hangup, err
		}
		call := c.place(k.did, s.describe())
		if err := call.wait(ctx); err != nil {
			return nil, hangup, err
		}
		calls = append(calls, call)
		if err := s.connect(call.sdp); err != nil {
			return nil, hangup, err
		}
		list = append(list, s)
	}
	if err := until(ctx, 20*time.Second, fmt.Sprintf("%d agents answered", n), func() bool { return d.phones.connected.Load()-before >= int64(n) }); err != nil {
		return nil, hangup, err
	}
	mu.Lock()
	defer mu.Unlock()
	for _, s := range far {
		list = append(list, s)
	}
	return list, hangup, nil
}

// direct sends the packets from socket to socket: the delay of the generator.
func (b *bench) direct(ctx context.Context, d *desk, long time.Duration) (traffic, error) {
	list := make([]*stream, 0, 2*mediaCalls)
	for range mediaCalls {
		x, err := newStream(ctx, hostTrunk, false)
		if err != nil {
			return traffic{}, err
		}
		y, err := newStream(ctx, hostPhones, false)
		if err != nil {
			return traffic{}, err
		}
		x.to, y.to = y.at, x.at
		list = append(list, x, y)
	}
	return talk(ctx, list, d.g.pid, 0, long)
}
