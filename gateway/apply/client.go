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
	return &Client{base: strings.TrimSuffix(base, "/") + "/api/v1", token: token, http: &http.Client{
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

func (c *Client) do(ctx context.Context, method, path string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("reach the gateway: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		p := new(api.Problem)
		if err := json.Unmarshal(b, p); err != nil || p.Code == "" {
			return fmt.Errorf("the gateway answered %s", resp.Status)
		}
		return p
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	return nil
}
