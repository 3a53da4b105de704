package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/gateway/media/dtmf"
)

const usage = `softphone is a phone without a window, for diagnosis, load and tests.
It prints one JSON object a line and ends with 0 when every call ended normally, 1 when one failed, 2 on wrong usage.

  softphone --server wss://HOST:8089/ws --user 2101-desk --password-file FILE   as a SIP phone, with device credentials
  softphone --api https://HOST:8443 --login ana --password-file FILE            signs in like the desktop

  --password TEXT      visible to every user of this machine while it runs; prefer --password-file
  --password-file FILE its first line is the password; "-" is standard input
  --ca FILE            also trust the certificates of this PEM file
  --insecure           trust any certificate
  --dial NUMBER        call NUMBER
  --answer             answer every incoming call, until a signal or until --calls are over
  --play FILE.wav      what the microphone hears: PCM, A-law or u-law of any rate
  --record FILE.wav    what was heard; the second call's is FILE-2.wav, and so on
  --dtmf DIGITS        press these when a call is answered; a comma waits half a second
  --codec NAME         opus, pcma or pcmu only
  --turn-only          media through TURN only
  --hangup-after TIME  hang up so long after the answer, such as 10s
  --calls N            with --dial: N calls side by side; with --answer: end after N calls
`

// errUsage is wrong usage: exit code 2.
var errUsage = errors.New("usage")

// options are what was asked for.
type options struct {
	server, user   string
	api, login     string
	password, file string
	ca             string
	insecure       bool
	turnOnly       bool
	codec          string
	action
}

// action is what is done with calls.
type action struct {
	dial         string
	answer       bool
	play, record string
	digits       string
	hangupAfter  time.Duration
	calls        int
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("softphone", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.server, "server", "", "")
	fs.StringVar(&o.user, "user", "", "")
	fs.StringVar(&o.api, "api", "", "")
	fs.StringVar(&o.login, "login", "", "")
	fs.StringVar(&o.password, "password", "", "")
	fs.StringVar(&o.file, "password-file", "", "")
	fs.StringVar(&o.ca, "ca", "", "")
	fs.BoolVar(&o.insecure, "insecure", false, "")
	fs.BoolVar(&o.turnOnly, "turn-only", false, "")
	fs.StringVar(&o.codec, "codec", "", "")
	fs.StringVar(&o.dial, "dial", "", "")
	fs.BoolVar(&o.answer, "answer", false, "")
	fs.StringVar(&o.play, "play", "", "")
	fs.StringVar(&o.record, "record", "", "")
	fs.StringVar(&o.digits, "dtmf", "", "")
	fs.DurationVar(&o.hangupAfter, "hangup-after", 0, "")
	fs.IntVar(&o.calls, "calls", 0, "")
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		if _, err := io.WriteString(stderr, usage); err != nil {
			return o, fmt.Errorf("help: %w", err)
		}
		return o, flag.ErrHelp
	}
	if err == nil && fs.NArg() > 0 {
		err = fmt.Errorf("unexpected %q", fs.Arg(0))
	}
	if err == nil {
		err = o.check()
	}
	if err != nil {
		return o, errors.Join(errUsage, err)
	}
	return o, nil
}

func (o *options) check() error {
	switch {
	case (o.server == "") == (o.api == ""):
		return errors.New("give --server or --api")
	case o.server != "" && o.user == "":
		return errors.New("--server needs --user")
	case o.server != "" && o.login != "":
		return errors.New("--login goes with --api")
	case o.api != "" && o.login == "":
		return errors.New("--api needs --login")
	case o.api != "" && o.user != "":
		return errors.New("--user goes with --server")
	case o.password != "" && o.file != "":
		return errors.New("give --password or --password-file, not both")
	case o.password == "" && o.file == "":
		return errors.New("give --password-file")
	case o.dial != "" && o.answer:
		return errors.New("give --dial or --answer, not both")
	case o.calls < 0 || o.calls > 10000:
		return errors.New("--calls is 1 to 10000")
	case o.hangupAfter < 0:
		return errors.New("--hangup-after is negative")
	}
	switch strings.ToLower(o.codec) {
	case "":
	case "opus":
		o.codec = codec.Opus
	case "pcma":
		o.codec = codec.PCMA
	case "pcmu":
		o.codec = codec.PCMU
	default:
		return fmt.Errorf("--codec %q is not opus, pcma or pcmu", o.codec)
	}
	if err := dtmf.Valid(o.digits); err != nil {
		return fmt.Errorf("--dtmf: %w", err)
	}
	if len(o.digits) > dtmf.MaxQueue {
		return fmt.Errorf("--dtmf takes %d digits at most", dtmf.MaxQueue)
	}
	if o.api != "" {
		return checkAPI(o.api)
	}
	return checkURL("--server", o.server, "wss", "ws")
}

// checkAPI: a password never goes over the network in clear text.
func checkAPI(api string) error {
	if err := checkURL("--api", api, "https", "http"); err != nil {
		return err
	}
	u, err := url.Parse(api)
	if err != nil {
		return fmt.Errorf("--api: %w", err)
	}
	a, err := netip.ParseAddr(u.Hostname())
	if u.Scheme == "http" && u.Hostname() != "localhost" && (err != nil || !a.IsLoopback()) {
		return errors.New("--api with http is for this machine only, use https")
	}
	return nil
}

func checkURL(name, s string, schemes ...string) error {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" {
		return fmt.Errorf("%s %q is no address", name, s)
	}
	if slices.Contains(schemes, u.Scheme) {
		return nil
	}
	return fmt.Errorf("%s %q has not the scheme %s", name, s, schemes[0])
}

// secret is the password, from its file if one was given.
func (o *options) secret(stdin io.Reader) (string, error) {
	if o.file == "" {
		return o.password, nil
	}
	r := stdin
	if o.file != "-" {
		f, err := os.Open(o.file)
		if err != nil {
			return "", fmt.Errorf("password file: %w", err)
		}
		defer func() { _ = f.Close() }()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, 4096))
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 {
		return "", fmt.Errorf("password file %s is empty", o.file)
	}
	return string(line), nil
}

func (o *options) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.insecure} //nolint:gosec // G402: only on request
	if o.ca == "" {
		return conf, nil
	}
	pem, err := os.ReadFile(o.ca)
	if err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificates: %s holds none", o.ca)
	}
	conf.RootCAs = roots
	return conf, nil
}
