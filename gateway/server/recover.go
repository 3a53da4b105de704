package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/report"
)

// recover closes the calls that were live when the gateway died, makes their
// recordings playable, and brings back the agents who were signed in (design:
// gateway killed).
func (s *Server) recover(ctx context.Context) error {
	left, err := s.projector.Dangling(ctx)
	if err != nil {
		return fmt.Errorf("read what was open: %w", err)
	}
	if len(left.Calls) > 0 {
		s.log.WarnContext(ctx, "closing what the last run left open", "facts", len(left.Calls))
		s.salvage(ctx, left.Calls)
		if err := s.stream.Append(ctx, left.At, left.Calls...); err != nil {
			return fmt.Errorf("close what was open: %w", err)
		}
	}
	if err := s.agents.Restore(restored(left.SignedIn)); err != nil {
		return fmt.Errorf("restore agents: %w", err)
	}
	if err := s.stream.Append(ctx, time.Now(), event.GatewayStarted{Version: s.o.Version, Node: hostname()}); err != nil {
		return fmt.Errorf("note the start: %w", err)
	}
	return nil
}

// salvage completes the recordings among the facts that close a crash.
func (s *Server) salvage(ctx context.Context, facts []event.Payload) {
	for i, p := range facts {
		f, ok := p.(event.RecordingFinished)
		if !ok {
			continue
		}
		info, err := media.SalvageRecording(filepath.Join(s.recordingsDir(), filepath.FromSlash(f.Path)))
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				s.log.WarnContext(ctx, "recording not salvaged", "call_id", f.CallID, "err", err)
			}
			continue
		}
		f.DurationMs, f.Bytes, f.SHA256 = info.Duration.Milliseconds(), info.Bytes, info.SHA256
		facts[i] = f
	}
}

func restored(signedIn []report.SignedIn) []agent.Restored {
	back := make([]agent.Restored, 0, len(signedIn))
	for _, a := range signedIn {
		r := agent.Restored{
			SignIn:     agent.SignIn{Agent: a.Agent, Extension: a.Extension, Session: a.Session, Endpoint: a.Endpoint},
			SignedInAt: a.Since, Break: a.Break, Comment: a.BreakComment, BreakSince: a.BreakSince, PausedSince: a.PausedSince,
		}
		if r.Break == "" && a.Paused {
			r.Break = a.PauseReason
		}
		back = append(back, r)
	}
	return back
}
