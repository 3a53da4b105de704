package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/call"
	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/queue"
	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/gateway/trunk"
)

// routeTimeout bounds how long routing one INVITE may take.
const routeTimeout = 10 * time.Second

// retryAfter is what a refused caller is told to wait, in seconds.
const retryAfter = "5"

// handler takes what arrives outside of dialogs.
type handler struct{ s *Server }

// Invite implements sip.Handler: a trunk's call goes to the campaign of its
// DID, a phone's call to a trunk or another extension, and anything else is
// refused.
func (h handler) Invite(d *sip.Dialog) {
	s := h.s
	ctx, cancel := context.WithTimeout(context.Background(), routeTimeout) //nolint:forbidigo // the call outlives its INVITE, and so the handler's caller gives none
	defer cancel()
	r := d.Request()
	arrived := time.Now()
	if s.fromPhone(r) {
		s.phoneCall(ctx, d)
		return
	}
	line, err := s.trunks.Identify(ctx, r)
	if err != nil {
		s.refuse(ctx, d, err)
		return
	}
	done, ok := s.admitted.enter(arrived)
	if !ok {
		s.shed(ctx, d)
		return
	}
	s.trunkCall(ctx, d, line)
	done(time.Now())
}

// shed refuses a call that the gateway has no time for. It says so in the
// metrics, not in the log: thousands of lines would not help.
func (s *Server) shed(ctx context.Context, d *sip.Dialog) {
	if err := d.Reject(503, "Service Unavailable", sip.Header{Name: "Retry-After", Value: retryAfter}); err != nil {
		s.log.DebugContext(ctx, "shed a call", "err", err)
	}
}

// fromPhone reports whether a request came from a phone of ours: over a
// WebSocket, which no trunk uses, or from where a device is registered.
func (s *Server) fromPhone(r *sip.Request) bool {
	f := r.Flow()
	if f.Transport == "ws" || f.Transport == "wss" {
		return true
	}
	id, ok := s.auth.SIP(r.From().URI.User)
	if !ok {
		id.AoR = r.From().URI.User
	}
	for _, b := range s.registrar.Bindings(id.AoR) {
		if b.Flow.Transport == f.Transport && b.Flow.Remote == f.Remote {
			return true
		}
	}
	return false
}

// silenced reports whether a source is a stranger who was refused often enough:
// nothing of theirs is answered or read any more. An address with a registered
// phone of ours is never silenced.
func (s *Server) silenced(source netip.Addr) bool {
	return s.trunks.Silenced(source) && !s.registrar.HasHost(source)
}

// refuse answers an INVITE that cannot be routed: the one place where errors
// become SIP for callers.
func (s *Server) refuse(ctx context.Context, d *sip.Dialog, err error) {
	var challenge *sip.ChallengeError
	var headers []sip.Header
	code, reason := call.SIPStatus(err)
	switch {
	case errors.As(err, &challenge):
		code, reason, headers = challenge.Code, "", challenge.Headers
	case errors.Is(err, trunk.ErrSilence):
		code, reason = 403, "Forbidden"
	case errors.Is(err, trunk.ErrUnknown):
		code, reason = 403, "Forbidden"
	case errors.Is(err, sip.ErrThrottled):
		code, reason = 503, "Service Unavailable"
	case errors.Is(err, trunk.ErrFull), errors.Is(err, queue.ErrOverload), errors.Is(err, queue.ErrStopping):
		code, reason = 503, "Service Unavailable"
	case errors.Is(err, errNoNumber):
		code, reason = 404, "Not Found"
	case errors.Is(err, errIncomplete):
		code, reason = 484, "Address Incomplete"
	case errors.Is(err, errNotAllowed):
		code, reason = 403, "Forbidden"
	case errors.Is(err, agent.ErrBusy):
		code, reason = 486, "Busy Here"
	}
	if code == 503 {
		headers = append(headers, sip.Header{Name: "Retry-After", Value: retryAfter})
	}
	if err := d.Reject(code, reason, headers...); err != nil {
		s.log.DebugContext(ctx, "refuse a call", "err", err)
	}
	if code != 401 && code != 407 {
		s.log.InfoContext(ctx, "call refused", "status", code, "source", d.Flow().Remote.String(), "err", err)
	}
}

// Errors of routing.
var (
	errNoNumber   = errors.New("the number belongs to no campaign and no extension")
	errIncomplete = errors.New("the number is too short")
	errNotAllowed = errors.New("the user has no outbound campaign")
)

// trunkCall routes a customer's call: DID, campaign, queue.
func (s *Server) trunkCall(ctx context.Context, d *sip.Dialog, line *trunk.Line) {
	did := line.DID(d.Request())
	c, ok := s.campaigns.ByDID(did)
	if !ok || c.Direction != campaign.Inbound {
		s.refuse(ctx, d, errNoNumber)
		return
	}
	release, err := line.Acquire()
	if err != nil {
		s.refuse(ctx, d, err)
		return
	}
	caller := line.Caller(d.Request())
	in := call.Inbound{
		Info: call.Info{
			Direction: event.Inbound, From: caller.Number, FromName: caller.Name, To: did, Trunk: line.Name(),
			Campaign: c.Name, Record: c.Record, MusicOnHold: c.MusicOnHold,
		},
		Codecs: line.Codecs(), SDES: line.SRTP() == trunk.SRTPSDES, Release: release,
	}
	k, err := s.calls.Inbound(d, in, queueOwner{s})
	if err != nil {
		release()
		s.refuse(ctx, d, err)
		return
	}
	s.enter(ctx, k, c, caller)
}

// enter brings a call into its campaign's queue, or tells the caller why not.
func (s *Server) enter(ctx context.Context, k *call.Call, c campaign.Campaign, caller trunk.Caller) {
	err := s.queues.Enter(ctx, queue.Caller{CallID: k.ID, Queue: c.Name, From: caller.Number})
	switch {
	case err == nil:
		sounds := []string{cmp.Or(c.MusicOnHold, "music/default")}
		if c.Welcome != "" {
			sounds = append([]string{s.prompt(c.Welcome, c.Language)}, sounds...)
		}
		switch err := s.calls.Answer(ctx, k.ID, sounds...); {
		case errors.Is(err, call.ErrEnded), errors.Is(err, call.ErrUnknown):
			s.queues.Hangup(k.ID) // the end may have come before the entry
		case err != nil:
			s.log.WarnContext(ctx, "answer a caller", "call_id", k.ID, "err", err)
		}
	case errors.Is(err, queue.ErrClosed):
		s.calls.Drop(k.ID, cmp.Or(c.OutOfHours, "out-of-hours"), "out of hours")
	case errors.Is(err, queue.ErrOverload), errors.Is(err, queue.ErrStopping):
		s.calls.Reject(k.ID, 503, "Service Unavailable", sip.Header{Name: "Retry-After", Value: retryAfter})
	case errors.Is(err, queue.ErrFull):
		s.calls.Reject(k.ID, 486, "Busy Here")
	case errors.Is(err, queue.ErrEmpty):
		s.calls.Reject(k.ID, 480, "Temporarily Unavailable")
	default:
		s.log.ErrorContext(ctx, "enter a queue", "call_id", k.ID, "queue", c.Name, "err", err)
		s.calls.Reject(k.ID, 500, "Server Internal Error")
	}
}

// prompt finds a prompt in a campaign's language: NAME/LANGUAGE, else NAME.
func (s *Server) prompt(name, language string) string {
	if language != "" {
		if _, err := s.sounds.Source(name + "/" + language); err == nil {
			return name + "/" + language
		}
	}
	if _, err := s.sounds.Source(name); err == nil {
		return name
	}
	return name + "/en"
}

// promptFor finds a prompt for the callers of a campaign.
func (s *Server) promptFor(name, campaignName string) string {
	c, _ := s.campaigns.ByName(campaignName) // none: no language
	return s.prompt(name, c.Language)
}

// phoneCall is a call that an agent's phone makes.
func (s *Server) phoneCall(ctx context.Context, d *sip.Dialog) {
	r := d.Request()
	user, err := s.digest.Check(ctx, r)
	if err != nil {
		s.refuse(ctx, d, err)
		return
	}
	id, ok := s.auth.SIP(user)
	if !ok {
		s.refuse(ctx, d, trunk.ErrUnknown)
		return
	}
	if r.URI().User == echoNumber {
		s.echo(ctx, d, id, user)
		return
	}
	o, err := s.dialOut(id, r)
	if err != nil {
		s.refuse(ctx, d, err)
		return
	}
	o.Caller.SIPUser = user
	owner := &dialOwner{s: s}
	if err := s.dialled(o, owner, func() error {
		_, err := s.calls.Outbound(d, o, owner)
		return err
	}); err != nil {
		s.refuse(ctx, d, err)
	}
}

// dialOut works out where the call of a phone goes to.
func (s *Server) dialOut(id auth.SIPIdentity, r *sip.Request) (call.Outbound, error) {
	if id.Probe {
		return s.testCall(id, r.Header(trunkHeader))
	}
	return s.outbound(id, r.URI().User, r.Header("X-Cordboard-Campaign"))
}

// outbound works out where a number that a user dialled goes to: another
// extension, or out through a campaign of theirs.
func (s *Server) outbound(id auth.SIPIdentity, number, wanted string) (call.Outbound, error) {
	number = strings.TrimSpace(number)
	caller := call.Target{Agent: id.Username, Extension: id.AoR}
	guid, err := uuid.NewV7()
	if err != nil {
		return call.Outbound{}, fmt.Errorf("make a call id: %w", err)
	}
	o := call.Outbound{Caller: caller, Info: call.Info{ID: guid.String(), From: id.AoR, Agent: id.Username, To: number}}
	if s.emergency(number) {
		return s.help(o, id, number), nil
	}
	if u, ok := s.auth.UserByExtension(number); ok {
		if u.Username == id.Username {
			return o, call.ErrBusy
		}
		o.Direction = event.Internal
		if me, ok := s.auth.User(id.Username); ok {
			o.FromName = me.FullName
		}
		o.Extension = s.colleague(u)
		return o, nil
	}
	c, err := s.outboundCampaign(id.Username, wanted)
	if err != nil {
		return o, err
	}
	o.Direction = event.Outbound
	o.Campaign, o.Record, o.PreferredTrunk, o.MusicOnHold = c.Name, c.Record, c.Trunk, c.MusicOnHold
	country := s.c.Country
	if l, ok := s.trunks.Line(c.Trunk); ok && l.Config().Country != "" {
		country = l.Config().Country
	}
	if o.To = campaign.Normalize(country, number); !isNumber(o.To) || strings.ContainsAny(number, "*#") {
		return o, errNoNumber
	}
	if len(o.To) < minDigits {
		return o, errIncomplete
	}
	o.CallerID = s.callerID(c.Name, o.To)
	return o, nil
}

// Bounds of what may be dialled through a trunk: a short code, an E.164 number
// with its prefixes.
const (
	minDigits = 3
	maxDigits = 24
)

func isNumber(digits string) bool {
	return digits != "" && len(digits) <= maxDigits && !strings.ContainsFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
}

// callerID chooses what a called number is shown.
func (s *Server) callerID(campaignName, to string) string {
	return s.campaigns.CallerIDs(campaignName).Choose(to, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))) //nolint:gosec // a caller id is no secret
}

// colleague is where a user's extension rings: the phone that they are signed in
// with if it is registered, else all their phones.
func (s *Server) colleague(u auth.User) call.Target {
	t := call.Target{Agent: u.Username, Extension: u.Extension}
	if in, ok := s.endpointOf(u.Username); ok {
		for _, b := range s.registrar.Bindings(in.Extension) {
			if b.User == in.SIPUser {
				return in
			}
		}
	}
	return t
}

// outboundCampaign is the campaign a user calls out for: the one they asked
// for, else their first (PHONE-11).
func (s *Server) outboundCampaign(user, wanted string) (campaign.Campaign, error) {
	all := s.campaigns.Outbound(user)
	for _, c := range all {
		if wanted == "" || c.Name == wanted {
			return c, nil
		}
	}
	return campaign.Campaign{}, errNotAllowed
}

// Request implements sip.Handler.
func (h handler) Request(r *sip.Request) {
	s := h.s
	ctx, cancel := context.WithTimeout(context.Background(), routeTimeout) //nolint:forbidigo // the handler's caller gives none
	defer cancel()
	var err error
	switch r.Method() {
	case "REGISTER":
		s.registrar.Handle(ctx, r)
	case "OPTIONS":
		err = r.Respond(200, "OK",
			sip.Header{Name: "Accept", Value: "application/sdp"},
			sip.Header{Name: "Allow", Value: "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, REGISTER"})
	default:
		err = r.Respond(405, "Method Not Allowed", sip.Header{Name: "Allow", Value: "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, REGISTER"})
	}
	if err != nil {
		s.log.Debug("respond", "method", r.Method(), "err", err)
	}
}

// FlowClosed implements sip.Handler.
func (h handler) FlowClosed(f sip.Flow) {
	h.s.registrar.FlowClosed(f)
	h.s.calls.FlowGone(f)
}
