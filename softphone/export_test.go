package softphone

// ChangeNetwork acts as if the addresses of this machine had changed.
func (p *Phone) ChangeNetwork() { p.networkChanged() }
