package apply

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/config"
)

// SelfSignedFile is the gateway's own certificate in the data folder: a program
// on this machine trusts it.
const SelfSignedFile = "tls/cert.pem"

const (
	// clientTimeout bounds a whole apply: thousands of passwords are hashed.
	clientTimeout = 10 * time.Minute
	maxAnswer     = 64 << 20
	maxProblem    = 1 << 20
)

// Target says where the gateway is and how to be let in.
type Target struct {
	// Config is the gateway's configuration: its address and data folder are
	// used unless Server is set.
	Config *config.Config
	// Server is the gateway's address, TokenFile a file with an API token, CA a
	// PEM file of its authority.
	Server    string
	TokenFile string
	CA        string
}

// Client talks to a running gateway.
type Client struct {
	base  string
	token string
	tls   *tls.Config
	http  *http.Client
}

// Dial prepares a client; it does not connect yet.
func Dial(t Target) (*Client, error) {
	base, tokenFile, ca := t.Server, t.TokenFile, t.CA
	if base == "" {
		if base = t.Config.HTTP.URL(); base == "" {
			return nil, errors.New("http.listen is empty in the configuration: name the gateway with --server")
		}
		if ca == "" && t.Config.HTTP.TLS == (config.TLS{}) {
			ca = t.Config.Path(SelfSignedFile)
			if _, err := os.Stat(ca); err != nil {
				ca = ""
			}
		}
		if tokenFile == "" {
			tokenFile = t.Config.Path(auth.AdminTokenFile)
		}
	} else if tokenFile == "" {
		return nil, errors.New("--server needs --token-file")
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("server %q is not an address such as https://voice.example.com:8443", base)
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return nil, fmt.Errorf("server %q: a token is never sent over plain http to another machine", base)
	}
	token, err := readToken(tokenFile)
	if err != nil {
		return nil, err
	}
	conf, err := clientTLS(ca, t)
	if err != nil {
		return nil, err
	}
	return &Client{base: strings.TrimSuffix(base, "/") + "/api/v1", token: token, tls: conf, http: &http.Client{
		Timeout:   clientTimeout,
		Transport: &http.Transport{TLSClientConfig: conf, TLSHandshakeTimeout: 10 * time.Second},
		// a token is not carried elsewhere
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}

func readToken(file string) (string, error) {
	b, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("there is no %s: is the gateway running with this data folder? %w", file, err)
	} else if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("%s does not hold one token", file)
	}
	return token, nil
}

// clientTLS trusts the named authority or certificate. A gateway that is found
// by its configuration is reached over loopback, where its certificate need not
// name the address: it is then checked as an authority only.
func clientTLS(ca string, t Target) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	file := ca
	if file == "" && t.Server == "" && t.Config != nil {
		file = t.Config.HTTP.TLS.Cert
		conf.ServerName = t.Config.HTTP.TLS.ACME // the only name that it has a certificate for
	}
	if file == "" {
		return conf, nil
	}
	pem, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", filepath.Base(file))
	}
	conf.RootCAs = pool
	if t.Server != "" {
		return conf, nil
	}
	// not the host's name but the certificate of the configuration itself
	conf.InsecureSkipVerify = true
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		o := x509.VerifyOptions{Roots: pool, Intermediates: x509.NewCertPool()}
		for _, c := range cs.PeerCertificates[1:] {
			o.Intermediates.AddCert(c)
		}
		if _, err := cs.PeerCertificates[0].Verify(o); err != nil {
			return fmt.Errorf("the gateway's certificate is not the one in the configuration: %w", err)
		}
		return nil
	}
	return conf, nil
}

// Apply sends a state; a refusal is an *api.Problem.
func (c *Client) Apply(ctx context.Context, s api.State, dryRun, prune bool) (d api.Diff, err error) {
	body, err := json.Marshal(s)
	if err != nil {
		return api.Diff{}, fmt.Errorf("encode state: %w", err)
	}
	q := url.Values{}
	if dryRun {
		q.Set("dryRun", "true")
	}
	if prune {
		q.Set("prune", "true")
	}
	err = c.do(ctx, http.MethodPut, "/state?"+q.Encode(), body, &d)
	return d, err
}

// Export fetches the state without secrets.
func (c *Client) Export(ctx context.Context) (s api.State, err error) {
	err = c.do(ctx, http.MethodGet, "/state", nil, &s)
	return s, err
}

// Server is the gateway's address, with its scheme.
func (c *Client) Server() string { return strings.TrimSuffix(c.base, "/api/v1") }

// TLS is how the gateway's certificate is checked, for other connections to it.
func (c *Client) TLS() *tls.Config { return c.tls.Clone() }

// Examine asks a gateway what it finds about itself, and for a phone to try its
// legs, which EndExamination ends.
func (c *Client) Examine(ctx context.Context) (e api.Examination, err error) {
	err = c.do(ctx, http.MethodPost, "/doctor", nil, &e)
	return e, err
}

// EndExamination ends the phone of an examination.
func (c *Client) EndExamination(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, "/doctor/"+url.PathEscape(id), nil, nil)
}

// Backup writes a backup of the running gateway to w. An error says that what
// was written is not a whole one.
func (c *Client) Backup(ctx context.Context, w io.Writer, recordings bool) error {
	path := "/backup"
	if recordings {
		path += "?recordings=true"
	}
	patient := *c.http
	patient.Timeout = 0 // recordings may be large; ctx ends it
	resp, err := c.send(ctx, &patient, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("the backup broke off; the gateway's log says why: %w", err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, body []byte, into any) error {
	resp, err := c.send(ctx, c.http, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if into == nil {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	return nil
}

// send makes a request; the body of a good answer is the caller's to close. A
// refusal is an *api.Problem.
func (c *Client) send(ctx context.Context, client *http.Client, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("reach the gateway: %w", err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if err != nil {
		return nil, fmt.Errorf("read the gateway's answer: %w", err)
	}
	p := new(api.Problem)
	if err := json.Unmarshal(b, p); err != nil || p.Code == "" {
		return nil, fmt.Errorf("the gateway answered %s", resp.Status)
	}
	return nil, p
}
