package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/cordboard/cordboard/gateway/api"
)

// Gateway is a running gateway; *apply.Client.
type Gateway interface {
	Server() string
	TLS() *tls.Config
	Examine(ctx context.Context) (api.Examination, error)
	EndExamination(ctx context.Context, id string) error
}

// Options of Run. Gateway, Log and Report are needed.
type Options struct {
	Gateway Gateway
	Log     *slog.Logger
	// Report is told of each finding as soon as it is known.
	Report func(api.Finding)
	// NoTrunkCalls leaves the calls to test numbers out.
	NoTrunkCalls bool
}

const (
	// clockApart is how far the clocks of doctor and gateway may be apart.
	clockApart = 2 * time.Second
	// endWithin is how long the clean-up may take.
	endWithin = 5 * time.Second
)

// Run examines a gateway and reports what it finds. The error says that the
// gateway could not be examined at all.
func Run(ctx context.Context, o Options) (err error) {
	asked := time.Now()
	e, err := o.Gateway.Examine(ctx)
	if err != nil {
		return err
	}
	took := time.Since(asked)
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
		defer cancel()
		if e := o.Gateway.EndExamination(end, e.ID); e != nil && err == nil {
			err = fmt.Errorf("end the test phone (it ends by itself in minutes): %w", e)
		}
	}()
	r := &run{o: o, e: e}
	r.ok("gateway", "version %s answers at %s in %v", e.Version, o.Gateway.Server(), took.Round(time.Millisecond))
	if apart := e.Now.Sub(asked.Add(took / 2)).Abs(); apart > clockApart+took {
		r.warn("clocks", "let a time server keep both", "the gateway's clock and the one here are %v apart", apart.Round(time.Second))
	}
	for _, f := range e.Findings {
		o.Report(f)
	}
	for _, l := range e.Listeners {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.listener(ctx, l)
	}
	r.legs(ctx)
	if !o.NoTrunkCalls {
		for _, t := range e.TestTrunks {
			if ctx.Err() != nil {
				break
			}
			r.trunk(ctx, t)
		}
	}
	return context.Cause(ctx)
}

// run is one examination.
type run struct {
	o Options
	e api.Examination
}

func (r *run) ok(check, format string, a ...any) {
	r.report(api.FindingOK, check, "", format, a...)
}

func (r *run) warn(check, cure, format string, a ...any) {
	r.report(api.FindingWarn, check, cure, format, a...)
}

func (r *run) fail(check, cure, format string, a ...any) {
	r.report(api.FindingFail, check, cure, format, a...)
}

// report tells a finding in one line: joined errors come in several.
func (r *run) report(status, check, cure, format string, a ...any) {
	detail := strings.ReplaceAll(fmt.Sprintf(format, a...), "\n", "; ")
	r.o.Report(api.Finding{Check: check, Status: status, Detail: detail, Cure: cure})
}

// legs tries a call over every path.
func (r *run) legs(ctx context.Context) {
	if len(r.e.SIP.URLs) == 0 {
		r.fail("phones", "turn sip.wss or a TLS http.listen on", "no phone can connect: there is no secure WebSocket")
		return
	}
	worked := false
	for i, u := range r.e.SIP.URLs {
		if ctx.Err() != nil {
			return
		}
		p, err := r.connect(ctx, u, paths{direct: true})
		if err != nil {
			r.fail("registration at "+u, cureOf(err), "%v", err)
			continue
		}
		r.ok("registration at "+u, "in %v", p.registeredIn.Round(time.Millisecond))
		if i == 0 {
			worked = true
			r.echo(ctx, "call, direct media", "open udp of media.webrtc_udp in the firewall; behind a router set media.public_ip and pass the port on", p)
		}
		p.close()
	}
	if !worked {
		r.warn("calls", "mend the registration first", "no call was tried, because no phone could register")
		return
	}
	if len(r.e.ICEServers) == 0 {
		r.warn("relay", "turn turn.udp, turn.tcp and turn.tls on", "there is no TURN: phones behind strict firewalls have no sound")
	}
	for _, s := range r.e.ICEServers {
		if ctx.Err() != nil {
			return
		}
		r.relay(ctx, s)
	}
}

// relay tries a call through one relay only.
func (r *run) relay(ctx context.Context, s api.ICE) {
	check := "call, relayed by " + strings.Join(s.URLs, " ")
	p, err := r.connect(ctx, r.e.SIP.URLs[0], paths{relay: &s})
	if err != nil {
		r.fail(check, cureOf(err), "%v", err)
		return
	}
	defer p.close()
	r.echo(ctx, check, "open the port in the firewall; behind a router set turn.public_ip and media.public_ip; the log shows what TURN refused (cordboard_turn_refused_total)", p)
}

// echo calls the echo and listens for what was said.
func (r *run) echo(ctx context.Context, check, cure string, p *phone) {
	h, err := p.echo(ctx)
	if err != nil {
		if c := cureOf(err); c != "" {
			cure = c
		}
		r.fail(check, cure, "%v", err)
		return
	}
	if h.loss > 0.02 {
		r.warn(check, "look at the network between here and there: packets are lost", "the tone came back after %v, but %.0f %% of the packets were lost", h.after.Round(time.Millisecond), h.loss*100)
		return
	}
	r.ok(check, "the tone came back after %v, %s, answered in %v", h.after.Round(time.Millisecond), h.codec, h.setup.Round(time.Millisecond))
}

// trunk places a real call to a trunk's test number.
func (r *run) trunk(ctx context.Context, t api.TestTrunk) {
	check := "call to the test number of " + t.Name
	p, err := r.connect(ctx, r.e.SIP.URLs[0], paths{direct: true})
	if err != nil {
		r.fail(check, cureOf(err), "%v", err)
		return
	}
	defer p.close()
	h, err := p.dialTrunk(ctx, t.Name)
	switch {
	case errors.Is(err, errSilent):
		r.warn(check, "an announcement or an echo at that number would prove both ways; if there is one, the carrier's media does not reach us: open udp of media.rtp_ports, set media.public_ip", "answered, and nothing was heard for %v", listenFor)
	case err != nil:
		r.fail(check, "see the line of the trunk above and the log of the gateway; ask the carrier what it says to the number", "%v", err)
	default:
		r.ok(check, "answered, and the other side is heard (%s, answered in %v)", h.codec, h.setup.Round(time.Millisecond))
	}
}

// Print writes findings one per line, and under what is not well how to mend it.
func Print(w io.Writer) func(api.Finding) {
	return func(f api.Finding) {
		word := map[string]string{api.FindingOK: "ok  ", api.FindingWarn: "warn", api.FindingFail: "FAIL"}[f.Status]
		text := fmt.Sprintf("%s  %s: %s\n", word, f.Check, f.Detail)
		if f.Cure != "" && f.Status != api.FindingOK {
			text += fmt.Sprintf("      → %s\n", f.Cure)
		}
		_, _ = io.WriteString(w, text) // a closed terminal is no reason to stop
	}
}
