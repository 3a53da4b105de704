package server

import (
	"context"
	"errors"
	"time"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/registrar"
)

// appEndpoint is the endpoint of an agent who talks by the desktop's own phone.
const appEndpoint = "app"

// phoneOf is the digest user of the phone that an agent signed in with.
func (s *Server) phoneOf(v agent.View) string {
	if v.Endpoint != "" && v.Endpoint != appEndpoint {
		return auth.DigestUser(v.Extension, v.Endpoint)
	}
	x, ok := s.auth.Session(v.Session)
	if !ok {
		return ""
	}
	return x.SIPUser
}

// phoneChanged follows the registrar: an agent is available only while the
// phone they chose is registered, and dialogs follow a phone that moved.
func (s *Server) phoneChanged(c registrar.Change) {
	if c.Kind == registrar.Resync {
		for _, v := range s.agents.CurrentAll() {
			s.phoneOfAgent(v, "")
		}
		return
	}
	if !c.Kind.Gone() {
		s.calls.Registered(c.Binding)
	}
	id, ok := s.auth.SIP(c.Binding.User)
	if !ok {
		return
	}
	v, ok := s.agents.Current(id.Username)
	if !ok || !v.SignedIn {
		return
	}
	why := ""
	if c.Kind.Gone() {
		why = "phone " + c.Kind.String()
	}
	s.phoneOfAgent(v, why)
}

// phoneOfAgent tells the registry whether an agent's phone can ring.
func (s *Server) phoneOfAgent(v agent.View, why string) {
	if !v.SignedIn {
		return
	}
	user := s.phoneOf(v)
	reachable := false
	for _, b := range s.registrar.Bindings(v.Extension) {
		if user != "" && b.User == user {
			reachable = true
			break
		}
	}
	if err := s.agents.Phone(v.Agent, reachable, why); err != nil && !errors.Is(err, agent.ErrSignedOut) && !errors.Is(err, agent.ErrClosed) {
		s.log.Warn("phone of an agent", "agent_id", v.Agent, "err", err)
	}
}

// callsFollow brings the live calls of an agent who has just signed in to a
// phone that is registered already.
func (s *Server) callsFollow(v agent.View) {
	user := s.phoneOf(v)
	for _, b := range s.registrar.Bindings(v.Extension) {
		if user != "" && b.User == user {
			s.calls.Registered(b)
		}
	}
}

// sessionEnded signs the agent of an ended session out. A live call goes on to
// its end; nothing new is offered.
func (s *Server) sessionEnded(x auth.Session, reason string) {
	if s.rest != nil {
		s.rest.EndSession(x.ID)
	}
	if s.registrar != nil && x.SIPUser != "" {
		s.registrar.Unregister(x.SIPUser)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) //nolint:forbidigo // the end of a session belongs to no request
	defer cancel()
	err := s.agents.SignOutSession(ctx, x.Username, x.ID, reason)
	if err != nil && !errors.Is(err, agent.ErrUnknown) && !errors.Is(err, agent.ErrSignedOut) && !errors.Is(err, agent.ErrClosed) {
		s.log.Warn("sign out", "agent_id", x.Username, "err", err)
	}
}
