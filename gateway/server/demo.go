package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/apply"
	"github.com/cordboard/cordboard/gateway/demo"
	"github.com/cordboard/cordboard/gateway/event"
)

// startDemo brings the demonstration up beside this gateway.
func (s *Server) startDemo(ctx context.Context) (stop func(), err error) {
	config := s.c.Path(demoConfig)
	if err := s.keepConfiguration(config); err != nil {
		return nil, err
	}
	return demo.Start(ctx, demo.Options{
		Log: s.log, Gateway: demoGateway{s.stream, s}, Out: s.o.Demo, Data: s.c.Data, Config: config,
		Addresses: demo.File{
			URL: s.c.HTTP.URL(), Cert: absolute(s.certPath),
			SIP:  demo.SIP{UDP: s.c.SIP.UDP, TCP: s.c.SIP.TCP, TLS: s.c.SIP.TLS, WSS: "wss://" + s.c.SIP.WSS + "/ws"},
			TURN: demo.TURN{UDP: s.c.TURN.UDP, TCP: s.c.TURN.TCP, TLS: s.c.TURN.TLS},
		},
	})
}

// demoGateway is this gateway as its demonstration sees it.
type demoGateway struct {
	*event.Stream

	s *Server
}

// Apply implements demo.Gateway.
func (g demoGateway) Apply(ctx context.Context, state api.State) error {
	_, err := g.s.state.Apply(ctx, apply.Request{State: state, By: "demo"})
	return err
}

// demoConfig is the demonstration's configuration in the data folder, by which
// the other commands find it.
const demoConfig = "demo.yaml"

// keepConfiguration writes the configuration in force.
func (s *Server) keepConfiguration(path string) error {
	c := *s.c
	c.Data = absolute(c.Data)
	b, err := c.YAML()
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil { // addresses of databases may hold passwords
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
