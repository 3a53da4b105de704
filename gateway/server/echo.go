package server

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/call"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/gateway/trunk"
)

// echoNumber is what a registered phone dials to hear itself.
const echoNumber = "*43"

// trunkHeader names the trunk of a test call.
const trunkHeader = "X-Cordboard-Trunk"

// probeName stands for the user of a test's phone, who is nobody, in the facts.
const probeName = "doctor"

// echo lets a phone hear itself. An agent is offered nothing meanwhile.
func (s *Server) echo(ctx context.Context, d *sip.Dialog, id auth.SIPIdentity, sipUser string) {
	guid, err := uuid.NewV7()
	if err != nil {
		s.refuse(ctx, d, fmt.Errorf("make a call id: %w", err))
		return
	}
	o := call.Outbound{
		Info:   call.Info{ID: guid.String(), Direction: event.Internal, From: id.AoR, To: echoNumber, Agent: id.Username},
		Caller: call.Target{Agent: id.Username, Extension: id.AoR, SIPUser: sipUser},
	}
	owner := &dialOwner{s: s}
	if err := s.dialled(o, owner, func() error { return s.calls.Echo(d, o.Info, o.Caller, owner) }); err != nil {
		s.refuse(ctx, d, err)
	}
}

// testCall is a call of a test's phone to the test number of one trunk, and to
// nothing else. It is a real call, and its records say so.
func (s *Server) testCall(id auth.SIPIdentity, name string) (call.Outbound, error) {
	line, ok := s.trunks.Line(name)
	if !ok {
		return call.Outbound{}, errNoNumber
	}
	c := line.Config()
	if c.TestNumber == "" {
		return call.Outbound{}, errNoNumber
	}
	if line.Status().State == trunk.StateDown {
		return call.Outbound{}, call.ErrNoTrunk
	}
	guid, err := uuid.NewV7()
	if err != nil {
		return call.Outbound{}, fmt.Errorf("make a call id: %w", err)
	}
	return call.Outbound{
		Info:   call.Info{ID: guid.String(), Direction: event.Outbound, From: probeName, Agent: probeName, To: c.TestNumber},
		Caller: call.Target{Extension: id.AoR}, PreferredTrunk: name, OnlyTrunk: true,
	}, nil
}
