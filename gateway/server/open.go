package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/call"
	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/config"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/queue"
	"github.com/cordboard/cordboard/gateway/registrar"
	"github.com/cordboard/cordboard/gateway/report"
	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/gateway/store"
	"github.com/cordboard/cordboard/gateway/trunk"
)

// errRecordingsURL refuses what is not built yet instead of recording elsewhere.
var errRecordingsURL = errors.New("recordings.url: only the data folder is supported by this version")

// openData makes the data folder and the certificate.
func (s *Server) openData(context.Context) error {
	if err := os.MkdirAll(s.c.Data, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	if s.c.Recordings.URL != "" {
		return errRecordingsURL
	}
	var err error
	s.tls, s.certPath, err = certificate(s.c, time.Now())
	return err
}

func (s *Server) openStore(ctx context.Context) error {
	var err error
	if s.db, err = store.Open(ctx, store.Options{URL: s.c.Database.URL, Dir: s.c.Data, Log: s.log}); err != nil {
		return err
	}
	s.onClose(s.db.Close)
	return nil
}

// openStream opens the journal, closes what a crash left open, and starts the
// reader that fills the tables.
func (s *Server) openStream(ctx context.Context) error {
	var err error
	s.stream, err = event.Open(ctx, event.Options{
		Dir: s.c.Path("journal"), URL: s.c.NATS.URL, Sync: s.c.Journal.Sync, Log: s.log, Alarm: s.alarm("journal"),
	})
	if errors.Is(err, event.ErrLocked) {
		return fmt.Errorf("another gateway runs with the data folder %s: %w", s.c.Data, err)
	}
	if err != nil {
		return err
	}
	s.onClose(s.stream.Close)
	s.projector, err = report.NewProjector(report.Options{
		Log: s.log, Store: s.db, Source: s.stream, Location: s.c.Location(),
		Alarm: func(a event.Alarm) { s.alarm(a.Name)(a.Active, a.Message) },
	})
	if err != nil {
		return err
	}
	s.agents = agent.NewRegistry(agent.Options{Log: s.log, Journal: s.stream})
	if err := s.recover(ctx); err != nil {
		return err
	}
	s.background(ctx, "log tables", s.projector.Run)
	s.onClose(func() error { // the tables show what has just ended; if not now, then after the next start
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), tablesTimeout)
		defer cancel()
		if err := s.projector.Wait(wait, s.stream.Last()); err != nil {
			s.log.WarnContext(ctx, "the log tables are behind", "err", err)
		}
		return nil
	})
	return nil
}

// tablesTimeout is how long a stop waits for the log tables.
const tablesTimeout = 3 * time.Second

// hostname names this node in the journal.
func hostname() string {
	h, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return h
}

// alarm returns how a part raises and lowers its alarm.
func (s *Server) alarm(name string) func(active bool, message string) {
	return func(active bool, message string) {
		if active {
			s.log.Error("alarm", "alarm", name, "message", message)
		} else {
			s.log.Info("alarm is over", "alarm", name, "message", message)
		}
		s.alarms.set(name, active, message)
	}
}

func (s *Server) openAuth(ctx context.Context) error {
	var err error
	s.auth, err = auth.New(ctx, auth.Options{
		Store: s.db, Journal: s.stream, Log: s.log, Dir: s.c.Data, Realm: s.c.SIP.Realm, TURNRealm: s.c.TURN.Realm,
		SessionIdle: s.c.Auth.SessionIdle, SessionMax: s.c.Auth.SessionMax, LockAfter: s.c.Auth.LockAfter,
		Rules: auth.PasswordRules{
			MinLength: s.c.Auth.PasswordMinLength, Lower: s.c.Auth.PasswordLower, Upper: s.c.Auth.PasswordUpper,
			Digit: s.c.Auth.PasswordDigit, Special: s.c.Auth.PasswordSpecial,
		},
		SessionEnded: s.sessionEnded,
	})
	return err
}

func (s *Server) openMedia(ctx context.Context) error {
	var err error
	s.sounds, err = media.NewLibrary(media.LibraryOptions{Dir: s.c.Path("sounds"), Log: s.log, Country: s.c.Country})
	if err != nil {
		return err
	}
	s.background(ctx, "prompts", func(ctx context.Context) error { s.prepareSounds(ctx); return nil })
	s.recorder = media.NewRecorder(media.RecorderOptions{Log: s.log})
	s.onClose(s.recorder.Close)
	if err := s.openWebRTC(ctx); err != nil {
		return err
	}
	host := s.publicIP()
	bind := netip.Addr{}
	if host.IsLoopback() {
		bind = host
	}
	s.engine, err = media.New(media.Options{
		Log: s.log, Host: host, Bind: bind, RTPPorts: [2]uint16{s.c.Media.RTPPorts.First, s.c.Media.RTPPorts.Last}, WebRTC: s.sockets.webrtc,
	})
	if err != nil {
		return err
	}
	s.onClose(s.engine.Close)
	return nil
}

func (s *Server) openSignalling(ctx context.Context) error {
	var err error
	// A new secret at each start makes older nonces stale, no more.
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return fmt.Errorf("secret of nonces: %w", err)
	}
	s.digest = sip.NewAuthenticator(s.c.SIP.Realm, secret, s.auth.HA1, sip.AuthOptions{})
	s.registrar = registrar.New(registrar.Options{Log: s.log, Auth: s.digest, AoR: s.auth.AoR, OnChange: s.phoneChanged})
	s.onClose(s.registrar.Close)
	s.endpoint, err = sip.New(sip.Options{
		Log: s.log, UserAgent: "Cordboard/" + s.o.Version, Host: s.sipHost(), Handler: handler{s}, ClientTLS: nil,
		SessionExpires: s.c.SIP.SessionExpires, Silenced: s.silenced,
	})
	if err != nil {
		return err
	}
	s.onClose(s.endpoint.Close)
	s.trunks, err = trunk.New(ctx, trunk.Options{
		Log: s.log, Endpoint: s.endpoint, Realm: s.c.SIP.Realm, Secret: secret, Unseal: s.unsealTrunk,
		Contact: s.contact, Normalize: campaign.Normalize, Country: s.c.Country, OnState: s.trunkState,
	})
	if err != nil {
		return err
	}
	s.onClose(s.trunks.Close)
	return nil
}

func (s *Server) openCalls(ctx context.Context) error {
	s.campaigns = campaign.NewDirectory()
	s.background(ctx, "agents", s.agents.Run)
	var err error
	s.calls, err = call.New(ctx, call.Options{
		Log: s.log, Journal: s.stream, Signalling: s.endpoint, Locator: s.registrar, Carriers: s.trunks,
		Media: s.engine, Sounds: s.sounds, Recorder: s.recorder, Recordings: s.c.Path("recordings"),
		AgentCodecs: s.agentCodecs, Endpoint: s.endpointOf, ReattachFor: s.c.Reattach, Prompt: s.promptFor,
		Alarm:          s.alarm("recording"),
		SessionExpires: s.c.SIP.SessionExpires, MaxCalls: s.maxCalls(),
	})
	if err != nil {
		return err
	}
	s.queues = queue.NewRunner(queue.Options{
		Log: s.log, Calls: queueCalls{s}, Agents: s.agents, Journal: s.stream, Location: s.c.Location(), Alive: s.calls.Alive,
	})
	s.background(ctx, "queues", s.queues.Run)
	s.onClose(s.calls.Close)
	return nil
}

// maxCalls is what the RTP ports allow: every call has a leg with two of them.
func (s *Server) maxCalls() int {
	p := s.c.Media.RTPPorts
	return max(1, (int(p.Last)-int(p.First)+1)/2)
}

// loadState reads campaigns and trunks from the database.
func (s *Server) loadState(ctx context.Context) error {
	campaigns, err := s.db.Campaigns(ctx)
	if err != nil {
		return err
	}
	dispositions, err := s.db.AllDispositions(ctx)
	if err != nil {
		return err
	}
	trunks, err := s.db.Trunks(ctx)
	if err != nil {
		return err
	}
	if err := s.campaigns.Set(campaigns, dispositions); err != nil {
		return fmt.Errorf("campaigns: %w", err)
	}
	s.queues.SetCampaigns(campaigns)
	if err := s.trunks.Set(trunks); err != nil {
		return fmt.Errorf("trunks: %w", err)
	}
	return nil
}

// recordingsDir is where recordings lie.
func (s *Server) recordingsDir() string { return filepath.Join(s.c.Data, "recordings") }

// agentCodecs orders what is offered to an agent's phone (media.agent_codec):
// on a private network the customer's own codec, which passes through
// untouched; elsewhere Opus, whose error correction survives a home network.
func (s *Server) agentCodecs(f sip.Flow, customer string) []string {
	const opus, pcma, pcmu = "opus", "PCMA", "PCMU"
	g711 := []string{pcma, pcmu}
	if customer == pcmu {
		g711 = []string{pcmu, pcma}
	}
	if f.Transport != "ws" && f.Transport != "wss" {
		return g711 // a desk phone
	}
	a := f.Remote.Addr().Unmap()
	private := a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast()
	switch mode := s.c.Media.AgentCodec; {
	case mode == config.CodecG711:
		return g711
	case mode == config.CodecOpus, !private:
		return append([]string{opus}, g711...)
	default:
		return append(g711, opus)
	}
}
