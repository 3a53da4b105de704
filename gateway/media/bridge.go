package media

// route is where the speech of a port goes. It is never changed once
// published; another one replaces it.
type route struct {
	id   uint64 // names the source for the listener's stream
	to   *Port
	kind kind // what the listener hears
}

// Join bridges two ports. Whatever they heard before, a source or another
// port, ends.
func Join(a, b *Port) error {
	if a == b || a.e != b.e {
		return ErrState
	}
	e := a.e
	e.routing.Lock()
	defer e.routing.Unlock()
	if a.closed.Load() || b.closed.Load() {
		return ErrClosed
	}
	if a.partner != b {
		a.leaveLocked()
		b.leaveLocked()
		a.partner, b.partner = b, a
	}
	a.replacePlayerLocked(nil)
	b.replacePlayerLocked(nil)
	a.rerouteLocked()
	return nil
}

// Leave ends the bridge of this port, for both sides.
func (p *Port) Leave() {
	p.e.routing.Lock()
	defer p.e.routing.Unlock()
	p.leaveLocked()
}

func (p *Port) leaveLocked() {
	q := p.partner
	if q == nil {
		return
	}
	p.partner, q.partner = nil, nil
	p.rerouteLocked()
	q.rerouteLocked()
}

// Mute drops what this port says: it is neither sent nor recorded.
func (p *Port) Mute(on bool) {
	p.e.routing.Lock()
	defer p.e.routing.Unlock()
	p.in.muted.Store(on)
	p.rerouteLocked()
}

// Tap makes the port write what its far side says into a recording, in place
// of the track before; nil ends it. While the port is muted nothing is written.
func (p *Port) Tap(t *Track) {
	p.e.routing.Lock()
	defer p.e.routing.Unlock()
	if p.closed.Load() {
		t = nil
	}
	p.in.tap.Store(t)
	p.rerouteLocked()
}

// negotiated is told after each agreement.
func (p *Port) negotiated(k kind) {
	p.e.routing.Lock()
	defer p.e.routing.Unlock()
	p.spoken = k
	if pl := p.player.Load(); pl != nil {
		p.codeLocked(pl)
	}
	p.rerouteLocked()
}

// wantUnit asks for a decoder: the far side speaks another codec than agreed first.
func (p *Port) wantUnit(k kind) {
	if !p.asked.CompareAndSwap(false, true) {
		return
	}
	ok := p.box.post(func() {
		p.e.routing.Lock()
		defer p.e.routing.Unlock()
		defer p.asked.Store(false)
		p.spoken = k
		p.rerouteLocked()
	})
	if !ok {
		p.asked.Store(false)
	}
}

// rerouteLocked works out anew where the speech of the port and of its partner goes.
func (p *Port) rerouteLocked() {
	p.routeLocked()
	if p.partner != nil {
		p.partner.routeLocked()
	}
}

// routeLocked points the speech of p at its partner, unless that hears something else.
func (p *Port) routeLocked() {
	q := p.partner
	var next *route
	if q != nil && q.player.Load() == nil && !p.closed.Load() && !q.closed.Load() {
		q.out.mu.Lock()
		k := q.out.kind
		q.out.mu.Unlock()
		if k != kindNone {
			next = &route{to: q, kind: k}
		}
	}
	old := p.in.route.Load()
	switch {
	case next != nil && old != nil && old.to == next.to && old.kind == next.kind:
		next = old // nothing changes for the listener
	case next != nil:
		next.id = p.e.source.Add(1)
	}
	p.in.route.Store(next)
	p.heard.Store(p.partner != nil && p.player.Load() == nil && !p.partner.in.muted.Load())
	p.unitLocked(next)
}

// unitLocked makes, changes or ends the decoding of what p says.
func (p *Port) unitLocked(r *route) {
	k := p.spoken
	transcoded := r != nil && k != kindNone && k != r.kind && (!k.g711() || !r.kind.g711())
	recorded := p.in.tap.Load() != nil && k == kindOpus
	if !transcoded && !recorded || p.closed.Load() {
		p.in.unit.Store(nil)
		return
	}
	u := p.in.unit.Load()
	fresh := u == nil || u.kind != k
	if fresh {
		clock := uint32(8000)
		if k == kindOpus {
			clock = 48000
		}
		var err error
		if u, err = newDecodeUnit(k, clock); err != nil {
			p.e.log.Error("speech cannot be decoded", "label", p.label, "err", err)
			p.in.unit.Store(nil)
			return
		}
	}
	if !transcoded {
		r = nil
	}
	if fresh || u.to != r {
		if err := u.encodeFor(r); err != nil {
			p.e.log.Error("speech cannot be encoded", "label", p.label, "err", err)
			return
		}
	}
	p.in.unit.Store(u)
}

// detach takes a closing port out of its bridge, player and recording, and
// returns what must still be called.
func (p *Port) detach() []func() {
	p.e.routing.Lock()
	defer p.e.routing.Unlock()
	p.leaveLocked()
	p.in.tap.Store(nil)
	p.rerouteLocked()
	if pl := p.player.Swap(nil); pl != nil && pl.over.CompareAndSwap(false, true) && pl.o.Done != nil {
		return []func(){func() { pl.o.Done(ErrInterrupted) }}
	}
	return nil
}
