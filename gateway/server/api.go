package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/apply"
	"github.com/cordboard/cordboard/gateway/call"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/queue"
	"github.com/cordboard/cordboard/gateway/report"
	"github.com/cordboard/cordboard/gateway/rest"
)

// openAPI makes the HTTP API and the engine behind the state.
func (s *Server) openAPI(ctx context.Context) error {
	s.state = apply.New(apply.Options{
		Store: s.db, Auth: s.auth, Journal: s.stream, Log: s.log, Country: s.c.Country, Changed: s.loadState,
	})
	_, secure := s.c.HTTP.Addr()
	h, err := rest.New(rest.Options{
		Parts: rest.Parts{
			Auth: s.auth, State: s.state, Agents: apiAgents{s.agents, s}, Calls: apiCalls{s}, Queues: apiQueues{s},
			Reports: s.db, Audio: recordings{s.recordingsDir()}, Facts: s.stream, Directory: s.campaigns, Journal: s.stream, Care: care{s},
		},
		Log: s.log, Version: s.o.Version, Secure: secure, Connect: s.connect(), Location: s.c.Location(),
		Ready: s.ready, Metrics: s.metrics(),
	})
	if err != nil {
		return err
	}
	s.rest = h
	s.api = h
	s.background(ctx, "events", h.Run)
	s.background(ctx, "disk watch", s.watchDisk)
	// Sessions that ended meanwhile reach all parts from here on.
	s.background(ctx, "accounts", func(ctx context.Context) error { s.auth.Run(ctx); return nil })
	if err := s.auth.RotateAdminToken(); err != nil {
		return err
	}
	s.onClose(s.auth.DropAdminToken)
	return s.firstAdministrator()
}

// firstAdministrator prints the one-time link by which the first administrator
// of a blank system is made; auth keeps it in the data folder as well.
func (s *Server) firstAdministrator() error {
	if s.o.Demo != nil || s.o.Out == nil {
		return nil
	}
	link, err := s.auth.SetUpLink(s.c.HTTP.URL())
	if err != nil || link == "" {
		return err
	}
	_, err = fmt.Fprintf(s.o.Out, "No administrator yet. Open this link once to make the first one:\n  %s\n", link)
	return err
}

// hostOfRequest stands for the host by which a client reached the API.
const hostOfRequest = "%HOST%"

// connect tells clients where phone and TURN are.
func (s *Server) connect() rest.Connect {
	c := rest.Connect{SIPRealm: s.c.SIP.Realm}
	at := reachable
	c.SIPURLs = at("wss://%s/ws", s.c.SIP.WSS)
	if addr, secure := s.c.HTTP.Addr(); secure {
		c.SIPURLs = append(c.SIPURLs, at("wss://%s/ws", addr)...)
	}
	c.STUNURLs = at("stun:%s", s.c.TURN.UDP)
	c.TURNURLs = append(c.TURNURLs, at("turn:%s?transport=udp", s.c.TURN.UDP)...)
	c.TURNURLs = append(c.TURNURLs, at("turn:%s?transport=tcp", s.c.TURN.TCP)...)
	c.TURNURLs = append(c.TURNURLs, at("turns:%s?transport=tcp", s.c.TURN.TLS)...)
	return c
}

// reachable is where clients find a listener: at the host by which they reached
// the API unless it listens at one address only. None if it is turned off.
func reachable(format, addr string) []string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		return []string{fmt.Sprintf(format, hostOfRequest+":"+port)}
	}
	return []string{fmt.Sprintf(format, net.JoinHostPort(host, port))}
}

// ready says why the gateway cannot take calls.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := s.db.Ping(ctx); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	if err := s.stream.Ping(ctx); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if s.calls.Draining() {
		return call.ErrDraining
	}
	return nil
}

// apiAgents is the floor as the API sees it: a sign-in looks at once whether
// the chosen phone is registered already.
type apiAgents struct {
	*agent.Registry

	s *Server
}

// SignIn implements rest.Agents.
func (a apiAgents) SignIn(ctx context.Context, in agent.SignIn) error {
	if err := a.Registry.SignIn(ctx, in); err != nil {
		return err
	}
	if v, ok := a.Current(in.Agent); ok {
		a.s.phoneOfAgent(v, "")
		a.s.callsFollow(v)
	}
	return nil
}

// apiCalls are the live calls as the API sees them.
type apiCalls struct{ s *Server }

// Live implements rest.Calls.
func (a apiCalls) Live(ctx context.Context) ([]api.Call, error) {
	snaps := a.s.calls.Live(ctx)
	out := make([]api.Call, 0, len(snaps))
	for _, c := range snaps {
		v := api.Call{
			ID: c.ID, Direction: string(c.Direction), From: c.From, FromName: c.FromName, To: c.To, Trunk: c.Trunk,
			Campaign: c.Campaign, StartedAt: c.StartedAt.UTC(), Phase: c.Phase, Agent: c.Agent, Ringing: c.Ringing,
		}
		if !c.ConnectedAt.IsZero() {
			at := c.ConnectedAt.UTC()
			v.ConnectedAt = &at
		}
		for _, l := range c.Legs {
			v.Legs = append(v.Legs, legOf(l))
		}
		out = append(out, v)
	}
	return out, nil
}

func legOf(l call.LegSnapshot) api.Leg {
	const perMs = float64(time.Millisecond)
	v := api.Leg{
		ID: l.ID, Side: l.Side, State: l.State, Agent: l.Agent, Trunk: l.Trunk, Codec: l.Codec,
		LossPct: l.Quality.Received.LossPercent(), JitterMs: float64(l.Quality.Received.Jitter) / perMs, RTTMs: float64(l.Quality.RTT) / perMs,
	}
	if m := l.Quality.Received.MOS; m > 0 {
		v.MOS = &m
	}
	return v
}

// Dial implements rest.Calls.
func (a apiCalls) Dial(ctx context.Context, agentName, number, campaignName string) (string, error) {
	s := a.s
	t, err := s.target(agentName)
	if err != nil {
		return "", rest.Refuse(http.StatusConflict, "agent_signed_out", "the agent is not signed in with a phone")
	}
	id, ok := s.auth.SIP(t.SIPUser)
	if !ok {
		return "", rest.Refuse(http.StatusConflict, "agent_signed_out", "the agent is not signed in with a phone")
	}
	o, err := s.outbound(id, number, campaignName)
	switch {
	case errors.Is(err, errNotAllowed):
		return "", rest.Refuse(http.StatusForbidden, "no_outbound_campaign", "the agent may not call out for that campaign")
	case errors.Is(err, errNoNumber), errors.Is(err, errIncomplete):
		return "", rest.Refuse(http.StatusUnprocessableEntity, "bad_number", "that is no telephone number")
	case errors.Is(err, call.ErrBusy):
		return "", rest.Refuse(http.StatusConflict, "agent_busy", "that is the agent's own extension")
	case err != nil:
		return "", err
	}
	o.Caller = t
	owner := &dialOwner{s: s}
	err = s.dialled(o, owner, func() error {
		_, err := s.calls.Originate(ctx, o, owner)
		return err
	})
	switch {
	case errors.Is(err, agent.ErrBusy), errors.Is(err, call.ErrBusy):
		return "", rest.Refuse(http.StatusConflict, "agent_busy", "the agent is in a call")
	case errors.Is(err, call.ErrUnreachable):
		return "", rest.Refuse(http.StatusConflict, "phone_unreachable", "the agent's phone is not registered")
	case errors.Is(err, call.ErrDraining), errors.Is(err, call.ErrOverload):
		return "", rest.Refuse(http.StatusServiceUnavailable, "overloaded", "no new calls at the moment")
	case err != nil:
		return "", err
	}
	return o.ID, nil
}

// Hangup implements rest.Calls.
func (a apiCalls) Hangup(ctx context.Context, callID string, by event.By) error {
	err := a.s.calls.Hangup(ctx, callID, by)
	if errors.Is(err, call.ErrUnknown) || errors.Is(err, call.ErrEnded) {
		return rest.Refuse(http.StatusNotFound, "call_not_found", "there is no such live call")
	}
	return err
}

// Dispose implements rest.Calls: a disposition is given while the call lives
// or after it, by the agent who had it.
func (a apiCalls) Dispose(ctx context.Context, callID, agentName string, anyCall bool, d api.CallDisposition) error {
	s := a.s
	k, err := s.callOf(ctx, callID)
	if err != nil {
		return err
	}
	if !anyCall && k.Agent != agentName {
		return rest.Refuse(http.StatusNotFound, "call_not_found", "there is no such call of this agent")
	}
	if _, err := s.campaigns.Disposition(k.Campaign, d.L1, d.L2, d.L3); err != nil {
		return rest.Refuse(http.StatusUnprocessableEntity, "bad_disposition", "the campaign has no such disposition")
	}
	f := event.Disposition{
		CallID: callID, Campaign: k.Campaign, Agent: agentName, CallerID: k.Number,
		L1: d.L1, L2: d.L2, L3: d.L3, Comment: d.Comment, Tag: d.Tag,
	}
	if f.Agent == "" {
		f.Agent = k.Agent
	}
	if d.Schedule != nil {
		f.Schedule = d.Schedule.UTC().Format(time.RFC3339)
	}
	return s.stream.Append(ctx, time.Now(), f)
}

// knownCall is what a disposition needs to know of a call.
type knownCall struct{ Campaign, Agent, Number string }

// callOf finds a call among the live ones, else in the records.
func (s *Server) callOf(ctx context.Context, callID string) (knownCall, error) {
	if snap, err := s.calls.Snapshot(ctx, callID); err == nil {
		k := knownCall{Campaign: snap.Campaign, Agent: snap.Agent, Number: snap.From}
		if snap.Direction == event.Outbound {
			k.Number = snap.To
		}
		return k, nil
	}
	// A call that has just ended may not be in the table yet.
	wait, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := s.projector.Wait(wait, s.stream.Last()); err != nil && ctx.Err() != nil {
		return knownCall{}, fmt.Errorf("wait for the records: %w", err)
	}
	page, err := s.db.CDR(ctx, report.Filter{GUID: callID, Limit: 50})
	if err != nil {
		return knownCall{}, fmt.Errorf("look the call up: %w", err)
	}
	for _, r := range page.Rows {
		if r.Disposition == "ANSWERED" {
			k := knownCall{Campaign: r.Campaign, Agent: r.AccountCode, Number: r.Src}
			if r.Direction == string(event.Outbound) {
				k.Number = r.Dst
			}
			return k, nil
		}
	}
	return knownCall{}, rest.Refuse(http.StatusNotFound, "call_not_found", "there is no such call")
}

// apiQueues are the live queues as the API sees them.
type apiQueues struct{ s *Server }

// Live implements rest.Queues.
func (a apiQueues) Live(ctx context.Context) ([]api.Queue, error) {
	views, err := a.s.queues.Snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the queues: %w", err)
	}
	now := time.Now()
	out := make([]api.Queue, 0, len(views))
	for _, v := range views {
		q := api.Queue{
			Name: v.Queue, Open: v.Open, Entries: []api.Entry{}, AgentsAvailable: v.Ready, AgentsSignedIn: v.Staffed,
			AnsweredToday: int64(v.Connected), AbandonedToday: int64(v.Abandoned), ConnectedNow: v.Talking,
		}
		if v.Connected > 0 {
			q.ServiceLevelPct = 100 * float64(v.WithinLevel) / float64(v.Connected)
		}
		for _, e := range v.Entries {
			if e.State == queue.StateTalking {
				continue
			}
			entry := api.Entry{CallID: e.CallID, From: e.From, Position: e.Position, EnteredAt: e.EnteredAt.UTC()}
			if e.State == queue.StateRinging {
				entry.Ringing = e.Agents
			}
			if waited := now.Sub(e.EnteredAt).Milliseconds(); waited > q.LongestWaitMs {
				q.LongestWaitMs, q.LongestWaitingID = waited, e.CallID
			}
			q.Entries = append(q.Entries, entry)
		}
		out = append(out, q)
	}
	return out, nil
}
