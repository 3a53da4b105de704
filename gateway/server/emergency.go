package server

import (
	"slices"
	"strings"

	"github.com/nyaruka/phonenumbers"

	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/call"
	"github.com/cordboard/cordboard/gateway/event"
)

// emergency reports whether a dialled number calls for help: an emergency
// number of a country that the gateway or one of its trunks is in, or one that
// people try everywhere, unless it is the extension of a colleague here.
func (s *Server) emergency(number string) bool {
	for _, country := range s.countries() {
		if phonenumbers.IsEmergencyNumber(number, country) {
			return true
		}
	}
	_, colleague := s.auth.UserByExtension(number)
	return !colleague && slices.Contains([]string{"112", "911", "999", "000"}, number)
}

// countries are those that the gateway and its trunks are in.
func (s *Server) countries() []string {
	all := []string{strings.ToUpper(s.c.Country)}
	for _, t := range s.trunks.Status() {
		if l, ok := s.trunks.Line(t.Name); ok {
			if c := strings.ToUpper(l.Config().Country); !slices.Contains(all, c) {
				all = append(all, c)
			}
		}
	}
	return slices.DeleteFunc(all, func(c string) bool { return c == "" })
}

// help is a call to an emergency number: always allowed, whatever permissions
// say, over any trunk, with the user's own caller id if they have one.
func (s *Server) help(o call.Outbound, id auth.SIPIdentity, number string) call.Outbound {
	o.Direction, o.To, o.Urgent = event.Outbound, number, true
	if c, err := s.outboundCampaign(id.Username, ""); err == nil {
		o.PreferredTrunk = c.Trunk
		o.CallerID = s.callerID(c.Name, number)
	}
	return o
}
