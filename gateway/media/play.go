package media

import (
	"sync/atomic"
)

// player gives a source to one port, a frame each tick.
type player struct {
	id     uint64
	source Source
	o      PlayOptions

	frames atomic.Pointer[Frames] // of the port's codec; nil until coded
	over   atomic.Bool

	pos int // of the tick
}

// tick sends the next frame.
func (pl *player) tick(p *Port, now int64) {
	f := pl.frames.Load()
	if f == nil || pl.over.Load() {
		return
	}
	if pl.pos >= f.Len() {
		pl.pos = 0
		if !pl.o.Loop || f.Len() == 0 {
			p.playEnded(pl, nil)
			return
		}
	}
	p.out.frame(f.At(pl.pos), pl.id, now)
	pl.pos++
}

// Play makes the port hear a source in place of its partner. Another Play or a
// Join replaces it; nil stops it and lets the partner be heard again.
func (p *Port) Play(s Source, o PlayOptions) {
	if s == nil {
		p.setPlayer(nil)
		return
	}
	pl := &player{id: p.e.source.Add(1), source: s, o: o}
	if !p.setPlayer(pl) && o.Done != nil {
		o.Done(ErrClosed)
	}
}

// Stop ends what Play began.
func (p *Port) Stop() { p.setPlayer(nil) }

// Playing reports whether a source is being heard.
func (p *Port) Playing() bool { return p.player.Load() != nil }

// setPlayer replaces the player; false when the port is closed.
func (p *Port) setPlayer(pl *player) bool {
	p.e.routing.Lock()
	defer p.e.routing.Unlock()
	if p.closed.Load() {
		return false
	}
	p.replacePlayerLocked(pl)
	p.rerouteLocked()
	return true
}

// replacePlayerLocked ends the present player and starts pl, which may be nil.
func (p *Port) replacePlayerLocked(pl *player) {
	if old := p.player.Swap(pl); old != nil && old.over.CompareAndSwap(false, true) && old.o.Done != nil {
		p.box.must(func() { old.o.Done(ErrInterrupted) })
	}
	if pl != nil {
		p.codeLocked(pl)
	}
}

// codeLocked gets the frames of the port's codec. Coding a source for the
// first time takes a while, so it is done beside.
func (p *Port) codeLocked(pl *player) {
	name := p.Codec()
	if name == "" {
		return // done when a codec is negotiated
	}
	if f := pl.frames.Load(); f != nil && f.Codec() == name {
		return
	}
	p.box.wg.Go(func() {
		f, err := pl.source.Frames(name)
		if err != nil {
			p.e.log.Warn("source not playable", "label", p.label, "source", pl.source.Name(), "err", err)
			p.playEnded(pl, err)
			return
		}
		pl.frames.Store(f)
	})
}

// playEnded ends a player that came to its end by itself.
func (p *Port) playEnded(pl *player, err error) {
	if !pl.over.CompareAndSwap(false, true) {
		return
	}
	p.box.must(func() {
		p.e.routing.Lock()
		if p.player.CompareAndSwap(pl, nil) {
			p.rerouteLocked()
		}
		p.e.routing.Unlock()
		if pl.o.Done != nil {
			pl.o.Done(err)
		}
	})
}
