//go:build e2e && linux

package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cordboard/cordboard/gateway/api"
)

// Client speaks to the API with one token.
type Client struct {
	g       *Gateway
	token   string
	Session api.Session // of a sign-in
}

// Admin returns a client with the admin token of the data folder.
func (g *Gateway) Admin(t testing.TB) *Client {
	t.Helper()
	token, err := g.admin()
	if err != nil {
		t.Fatal(err)
	}
	return &Client{g: g, token: token}
}

// SignIn signs a user in; with in.Phone or in.Device as an agent.
func (g *Gateway) SignIn(t testing.TB, in api.SignIn) *Client {
	t.Helper()
	c := &Client{g: g}
	c.Do(t, http.MethodPost, "/sessions", in, &c.Session)
	c.token = c.Session.Token
	return c
}

// Do makes a request and fails the test when the answer is not 2xx. path is
// below /api/v1; in and out may be nil.
func (c *Client) Do(t testing.TB, method, path string, in, out any) {
	t.Helper()
	if status, p := c.Try(t, method, path, in, out); p != nil {
		t.Fatalf("%s %s: %d %s (%s)", method, path, status, p.Error(), p.Code)
	}
}

// Try makes a request and returns its status, and the problem when the answer
// is not 2xx.
func (c *Client) Try(t testing.TB, method, path string, in, out any) (int, *api.Problem) {
	t.Helper()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, c.g.URL()+"/api/v1"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.g.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		p := &api.Problem{}
		if err := json.Unmarshal(b, p); err != nil {
			p.Title = string(b)
		}
		return res.StatusCode, p
	}
	switch out := out.(type) {
	case nil:
	case *[]byte:
		*out = b
	default:
		if err := json.Unmarshal(b, out); err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	return res.StatusCode, nil
}

// Agent returns an agent as the API shows it.
func (c *Client) Agent(t testing.TB, name string) api.Agent {
	t.Helper()
	var a api.Agent
	c.Do(t, http.MethodGet, "/agents/"+name, nil, &a)
	return a
}

// AgentIs waits until an agent is in a state, and returns the agent.
func (c *Client) AgentIs(t testing.TB, name, state string) api.Agent {
	t.Helper()
	var a api.Agent
	Until(t, Patience, name+" is "+state, func() bool {
		a = c.Agent(t, name)
		return a.State == state
	})
	return a
}

// Calls returns the live calls.
func (c *Client) Calls(t testing.TB) []api.Call {
	t.Helper()
	var out []api.Call
	c.Do(t, http.MethodGet, "/calls", nil, &out)
	return out
}

// Queue returns a queue as it stands.
func (c *Client) Queue(t testing.TB, name string) api.Queue {
	t.Helper()
	var q api.Queue
	c.Do(t, http.MethodGet, "/queues/"+url.PathEscape(name), nil, &q)
	return q
}

// QueueLog returns the rows of QUEUE_LOG_REPO that match, oldest first, once
// enough holds.
func (g *Gateway) QueueLog(t testing.TB, filter url.Values, enough func([]api.QueueLogRow) bool) []api.QueueLogRow {
	t.Helper()
	return rows(t, g, "/queue-log", filter, enough)
}

// CDR returns the rows of CDR_REPO that match, oldest first, once enough holds.
func (g *Gateway) CDR(t testing.TB, filter url.Values, enough func([]api.CDRRow) bool) []api.CDRRow {
	t.Helper()
	return rows(t, g, "/cdr", filter, enough)
}

// Quality returns the rows of call_quality of a call, once there are n.
func (g *Gateway) Quality(t testing.TB, guid string, n int) []api.QualityRow {
	t.Helper()
	return rows(t, g, "/call-quality", GUID(guid), func(r []api.QualityRow) bool { return len(r) >= n })
}

// GUID is the filter for one call.
func GUID(guid string) url.Values { return url.Values{"guid": {guid}} }

// Events returns whether all events are among the rows, for QueueLog.
func Events(names ...string) func([]api.QueueLogRow) bool {
	return func(rows []api.QueueLogRow) bool {
		for _, n := range names {
			if !slices.ContainsFunc(rows, func(r api.QueueLogRow) bool { return r.Event == n }) {
				return false
			}
		}
		return true
	}
}

func rows[T any](t testing.TB, g *Gateway, path string, filter url.Values, enough func([]T) bool) []T {
	t.Helper()
	v := url.Values{"limit": {"1000"}}
	for k, vs := range filter {
		v[k] = vs
	}
	var page api.Page[T]
	admin := g.Admin(t)
	Until(t, Patience, path+"?"+v.Encode()+" has its rows", func() bool {
		page = api.Page[T]{}
		admin.Do(t, http.MethodGet, path+"?"+v.Encode(), nil, &page)
		slices.Reverse(page.Rows)
		return enough(page.Rows)
	})
	return page.Rows
}

// Recording waits for a call's recording and downloads it as "wav" or "mp3".
func (g *Gateway) Recording(t testing.TB, guid, format string) (api.RecordingRow, *Audio) {
	t.Helper()
	found := rows(t, g, "/recordings", GUID(guid), func(r []api.RecordingRow) bool { return len(r) == 1 && r[0].FinishedAt != nil })
	var b []byte
	g.Admin(t).Do(t, http.MethodGet, "/recordings/"+guid+"/audio?format="+format, nil, &b)
	file := filepath.Join(t.TempDir(), guid+"."+format)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return found[0], Hear(t, file)
}

// Show writes rows of the queue log for messages: EVENT|queue|agent|data….
func Show(rows []api.QueueLogRow) []string {
	out := make([]string, 0, len(rows))
	for _, r := range rows {
		s := fmt.Sprintf("%s|%s|%s", r.Event, r.QueueName, r.Agent)
		for _, d := range r.Data {
			s += "|" + d
		}
		out = append(out, s)
	}
	return out
}
