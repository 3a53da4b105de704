package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/apply"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/call"
	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/config"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/queue"
	"github.com/cordboard/cordboard/gateway/registrar"
	"github.com/cordboard/cordboard/gateway/report"
	"github.com/cordboard/cordboard/gateway/rest"
	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/gateway/store"
	"github.com/cordboard/cordboard/gateway/trunk"
)

// Options make a Server.
type Options struct {
	Config  *config.Config
	Log     *slog.Logger
	Version string
	// Out is where the set-up link of a blank system is printed: it is a secret
	// and has no place in the log.
	Out io.Writer
	// Demo is where the demonstration tells people what happens; nil = no
	// demonstration.
	Demo io.Writer
}

// Server is a whole gateway.
type Server struct {
	o   Options
	c   *config.Config
	log *slog.Logger

	tls      *tls.Config
	certPath string

	db        *store.DB
	stream    *event.Stream
	projector *report.Projector
	auth      *auth.Service
	endpoint  *sip.Endpoint
	digest    *sip.Authenticator
	registrar *registrar.Registrar
	trunks    *trunk.Trunks
	campaigns *campaign.Directory
	engine    *media.Engine
	sounds    *media.Library
	recorder  *media.Recorder
	calls     *call.Switch
	agents    *agent.Registry
	queues    *queue.Runner

	sockets  sockets
	admitted admission
	alarms   alarms
	api      http.Handler
	rest     *rest.Handler
	state    *apply.Engine
	failed   chan error
	closers  []func() error
	closing  sync.Once
	closeErr error
	started  time.Time
}

// Run runs a gateway until a signal comes or a part fails. The first signal
// drains: no new calls, live ones go on for the configured time; the second
// ends now.
func Run(ctx context.Context, o Options, signals <-chan os.Signal) error {
	s, err := New(ctx, o)
	if err != nil {
		return err
	}
	runErr := s.run(ctx, signals)
	return errors.Join(runErr, s.Close())
}

func (s *Server) run(ctx context.Context, signals <-chan os.Signal) error {
	if s.o.Demo != nil {
		stop, err := s.startDemo(ctx)
		if err != nil {
			return err
		}
		defer stop()
	}
	s.log.InfoContext(ctx, "gateway ready", "version", s.o.Version)
	select {
	case <-signals:
	case err := <-s.failed:
		return err
	case <-ctx.Done():
		return nil
	}
	s.log.InfoContext(ctx, "draining", "calls", s.calls.Count(), "limit", s.c.Drain.String())
	s.drain(ctx, signals)
	return nil
}

// drain lets live calls end by themselves for the configured time, then with a
// prompt; a second signal ends the waiting.
func (s *Server) drain(ctx context.Context, signals <-chan os.Signal) {
	ctx, now := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-signals:
			now()
		case <-ctx.Done():
		}
	})
	defer watch.Wait()
	defer now()
	drain, cancel := context.WithTimeoutCause(ctx, s.c.Drain, errDrained)
	defer cancel()
	err := s.calls.Drain(drain)
	if errors.Is(err, errDrained) {
		s.log.WarnContext(ctx, "calls are ended", "calls", s.calls.Count(), "err", err)
		s.calls.DropAll("closing", "gateway stopped")
		last, cancel := context.WithTimeout(ctx, closingPrompt)
		defer cancel()
		err = s.calls.Drain(last)
	}
	if err != nil {
		s.log.WarnContext(ctx, "calls are cut off", "calls", s.calls.Count(), "err", err)
	}
}

// closingPrompt is how long the last prompt may take.
const closingPrompt = 10 * time.Second

var errDrained = errors.New("the time for draining is over")

// New opens everything and starts to listen. The server runs until Close.
func New(ctx context.Context, o Options) (*Server, error) {
	s := &Server{o: o, c: o.Config, log: o.Log, failed: make(chan error, 1), started: time.Now()}
	steps := []struct {
		name string
		fn   func(context.Context) error
	}{
		{"data folder", s.openData},
		{"database", s.openStore},
		{"journal", s.openStream},
		{"accounts", s.openAuth},
		{"media", s.openMedia},
		{"signalling", s.openSignalling},
		{"calls and queues", s.openCalls},
		{"state", s.loadState},
		{"api", s.openAPI},
		{"listeners", s.listen},
	}
	for _, step := range steps {
		if err := step.fn(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", step.name, err), s.Close())
		}
	}
	return s, nil
}

// onClose remembers what to stop, the last first.
func (s *Server) onClose(fn func() error) { s.closers = append(s.closers, fn) }

// background runs a part until Close reaches it; its error ends the server.
func (s *Server) background(ctx context.Context, name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil && ctx.Err() == nil {
			s.fail(fmt.Errorf("%s: %w", name, err))
		}
	}()
	s.onClose(func() error {
		cancel()
		<-done
		return nil
	})
}

// fail ends the server because a part of it cannot go on.
func (s *Server) fail(err error) {
	s.log.Error("a part failed", "err", err)
	select {
	case s.failed <- err:
	default:
	}
}

// Close stops all parts in the reverse order of their start. It is idempotent
// and works half-built.
func (s *Server) Close() error {
	s.closing.Do(func() {
		var errs []error
		for _, stop := range slices.Backward(s.closers) {
			errs = append(errs, stop())
		}
		s.closeErr = errors.Join(errs...)
	})
	return s.closeErr
}
