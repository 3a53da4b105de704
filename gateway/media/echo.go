package media

// Echo makes the port hear what its own far side says: a bridge with itself.
// It ends like any other bridge: by Leave, Join or Close.
func (p *Port) Echo() error {
	p.e.routing.Lock()
	defer p.e.routing.Unlock()
	if p.closed.Load() {
		return ErrClosed
	}
	p.leaveLocked()
	p.partner = p
	p.replacePlayerLocked(nil)
	p.rerouteLocked()
	return nil
}
