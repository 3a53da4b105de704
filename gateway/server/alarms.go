package server

import (
	"maps"
	"slices"
	"sync"

	"github.com/cordboard/cordboard/gateway/trunk"
)

// alarms are what needs a person now; /readyz and the metrics show them.
type alarms struct {
	mu     sync.Mutex
	active map[string]string
}

func (a *alarms) set(name string, active bool, message string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !active {
		delete(a.active, name)
		return
	}
	if a.active == nil {
		a.active = map[string]string{}
	}
	a.active[name] = message
}

// names are the active alarms.
func (a *alarms) names() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.active))
}

// all are the active alarms with their messages.
func (a *alarms) all() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.active)
}

// trunkState follows the keep-alive of a trunk.
func (s *Server) trunkState(st trunk.Status) {
	s.log.Info("trunk", "trunk", st.Name, "state", string(st.State))
}

// unsealTrunk opens a trunk's password.
func (s *Server) unsealTrunk(sealed []byte) ([]byte, error) {
	return s.auth.Sealer().Unseal("trunk", sealed)
}
