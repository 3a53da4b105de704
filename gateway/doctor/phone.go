package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/softphone"
)

const (
	echoNumber = "*43"
	// trunkHeader names the trunk whose test number is called.
	trunkHeader = "X-Cordboard-Trunk"

	registerWithin = 10 * time.Second
	answerWithin   = 15 * time.Second
	// trunkWithin is longer: the test number may ring for a while.
	trunkWithin = 45 * time.Second
	listenFor   = 6 * time.Second
	maxEvents   = 64
)

// Errors of a test call.
var (
	errSilent       = errors.New("nothing was heard")
	errNoTone       = errors.New("the call was answered, but the tone did not come back: media does not flow")
	errNotAnswered  = errors.New("the call was not answered in time")
	errUnregistered = errors.New("the phone did not register in time")
)

// cureOf is what helps against an error whose cause is known.
func cureOf(err error) string {
	var text string
	if err != nil {
		text = err.Error()
	}
	switch {
	case errors.Is(err, softphone.ErrCredentials):
		return "the gateway refused its own credentials: are several gateways behind this address?"
	case strings.Contains(text, "x509"), strings.Contains(text, "certificate"):
		return "the certificate does not fit the address: name a fitting --ca, or get a certificate for that name"
	case strings.Contains(text, "connection refused"):
		return "nothing listens there: see sip.wss and http.listen, and whether another program has the port"
	case errors.Is(err, errUnregistered), strings.Contains(text, "timeout"), strings.Contains(text, "i/o timeout"):
		return "the port is not reached: open it in the firewall"
	}
	return ""
}

// paths say how media may go.
type paths struct {
	direct bool
	relay  *api.ICE // only through this one
}

// phone is a registered test phone for one call.
type phone struct {
	p            *softphone.Phone
	ear          *ear
	events       chan softphone.Event
	registeredIn time.Duration
}

// heard is what a call was like.
type heard struct {
	after time.Duration // from the first sound sent to the first heard
	setup time.Duration
	codec string
	loss  float64
}

// connect registers a phone.
func (r *run) connect(ctx context.Context, url string, via paths) (*phone, error) {
	aor, domain, _ := strings.Cut(strings.TrimPrefix(r.e.SIP.AOR, "sip:"), "@")
	out := &phone{ear: newEar(), events: make(chan softphone.Event, maxEvents)}
	c := softphone.Config{
		Log: r.o.Log, Server: url, User: r.e.SIP.Username, AoR: aor, Domain: domain, Password: r.e.SIP.Password,
		TLS: r.o.Gateway.TLS(), Device: out.ear, UserAgent: "Cordboard doctor", StatsEvery: time.Minute,
		OnEvent: func(e softphone.Event) {
			select {
			case out.events <- e:
			default: // nobody waits for so many
			}
		},
	}
	if via.relay != nil {
		c.RelayOnly = true
		c.Servers = []softphone.Server{{URLs: via.relay.URLs, Username: via.relay.Username, Password: via.relay.Credential}}
	}
	begun := time.Now()
	var err error
	if out.p, err = softphone.New(c); err != nil {
		return nil, err
	}
	if err := out.p.Start(ctx); err != nil {
		return nil, errors.Join(err, out.p.Close())
	}
	t := time.NewTimer(registerWithin)
	defer t.Stop()
	var last error
	for {
		select {
		case e := <-out.events:
			switch e := e.(type) {
			case softphone.Registered:
				out.registeredIn = time.Since(begun)
				return out, nil
			case softphone.Unregistered:
				if last = e.Err; e.RetryIn == 0 || softly(last) {
					out.close()
					return nil, last
				}
			case softphone.Problem:
				last = e.Err
			default:
			}
		case <-t.C:
			out.close()
			return nil, errors.Join(errUnregistered, last)
		case <-ctx.Done():
			out.close()
			return nil, context.Cause(ctx)
		}
	}
}

// softly reports whether trying again within seconds would change nothing.
func softly(err error) bool { return cureOf(err) != "" && !strings.Contains(err.Error(), "timeout") }

// close is deaf to errors: the phone of a test leaves nothing behind that counts.
func (p *phone) close() { _ = p.p.Close() }

// echo calls the echo: the tone that is sent must come back.
func (p *phone) echo(ctx context.Context) (heard, error) {
	h, err := p.call(ctx, echoNumber, nil, answerWithin)
	if err != nil {
		return h, err
	}
	after, ok := p.ear.tone(ctx, listenFor)
	if !ok {
		return h, errNoTone
	}
	h.after = after
	return p.hangUp(h)
}

// dialTrunk calls the test number of a trunk and listens for anything.
func (p *phone) dialTrunk(ctx context.Context, name string) (heard, error) {
	h, err := p.call(ctx, "test", map[string]string{trunkHeader: name}, trunkWithin)
	if err != nil {
		return h, err
	}
	if !p.ear.anything(ctx, listenFor) {
		if _, err := p.hangUp(h); err != nil {
			return h, err
		}
		return h, errSilent
	}
	return p.hangUp(h)
}

// call dials and waits for the answer.
func (p *phone) call(ctx context.Context, to string, headers map[string]string, within time.Duration) (heard, error) {
	begun := time.Now()
	if _, err := p.p.Dial(to, softphone.DialOptions{Headers: headers}); err != nil {
		return heard{}, err
	}
	t := time.NewTimer(within)
	defer t.Stop()
	for {
		select {
		case e := <-p.events:
			switch e := e.(type) {
			case softphone.Answered:
				p.ear.answered()
				return heard{codec: e.Codec, setup: time.Since(begun)}, nil
			case softphone.Ended:
				return heard{}, endedError(e)
			default:
			}
		case <-t.C:
			return heard{}, errNotAnswered
		case <-ctx.Done():
			return heard{}, context.Cause(ctx)
		}
	}
}

func endedError(e softphone.Ended) error {
	text := e.Text
	if text == "" {
		text = e.Cause
	}
	if e.Code != 0 {
		return fmt.Errorf("the call failed: %d %s", e.Code, text)
	}
	return fmt.Errorf("the call failed: %s", text)
}

// hangUp ends the call and reads its figures.
func (p *phone) hangUp(h heard) (heard, error) {
	p.close()
	for {
		select {
		case e := <-p.events:
			if end, ok := e.(softphone.Ended); ok {
				h.loss = end.Quality.Loss
				return h, nil
			}
		default:
			return h, nil
		}
	}
}
