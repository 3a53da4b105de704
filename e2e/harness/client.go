//go:build e2e && linux

package harness

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
func (g *Gateway) Admin(tb testing.TB) *Client {
	tb.Helper()
	token, err := g.admin()
	if err != nil {
		tb.Fatal(err)
	}
	return &Client{g: g, token: token}
}

// SignIn signs a user in; with in.Phone or in.Device as an agent.
func (g *Gateway) SignIn(tb testing.TB, in api.SignIn) *Client {
	tb.Helper()
	c := &Client{g: g}
	c.Do(tb, http.MethodPost, "/sessions", in, &c.Session)
	c.token = c.Session.Token
	return c
}

// Do makes a request and fails the test when the answer is not 2xx. path is
// below /api/v1; in and out may be nil.
func (c *Client) Do(tb testing.TB, method, path string, in, out any) {
	tb.Helper()
	if status, p := c.Try(tb, method, path, in, out); p != nil {
		tb.Fatalf("%s %s: %d %s (%s)", method, path, status, p.Error(), p.Code)
	}
}

// Try makes a request and returns its status, and the problem when the answer
// is not 2xx.
func (c *Client) Try(tb testing.TB, method, path string, in, out any) (int, *api.Problem) {
	tb.Helper()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			tb.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(tb.Context(), method, c.g.URL()+"/api/v1"+path, body)
	if err != nil {
		tb.Fatal(err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.g.http.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
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
			tb.Fatalf("%s %s: %v", method, path, err)
		}
	}
	return res.StatusCode, nil
}

// Agent returns an agent as the API shows it.
func (c *Client) Agent(tb testing.TB, name string) api.Agent {
	tb.Helper()
	var a api.Agent
	c.Do(tb, http.MethodGet, "/agents/"+name, nil, &a)
	return a
}

// AgentIs waits until an agent is in a state, and returns the agent.
func (c *Client) AgentIs(tb testing.TB, name, state string) api.Agent {
	tb.Helper()
	var a api.Agent
	Until(tb, Patience, name+" is "+state, func() bool {
		a = c.Agent(tb, name)
		return a.State == state
	})
	return a
}

// Calls returns the live calls.
func (c *Client) Calls(tb testing.TB) []api.Call {
	tb.Helper()
	var out []api.Call
	c.Do(tb, http.MethodGet, "/calls", nil, &out)
	return out
}

// Queue returns a queue as it stands.
func (c *Client) Queue(tb testing.TB, name string) api.Queue {
	tb.Helper()
	var q api.Queue
	c.Do(tb, http.MethodGet, "/queues/"+url.PathEscape(name), nil, &q)
	return q
}

// QueueLog returns the rows of QUEUE_LOG_REPO that match, oldest first, once
// enough holds.
func (g *Gateway) QueueLog(tb testing.TB, filter url.Values, enough func([]api.QueueLogRow) bool) []api.QueueLogRow {
	tb.Helper()
	return rows(tb, g, "/queue-log", filter, enough)
}

// CDR returns the rows of CDR_REPO that match, oldest first, once enough holds.
func (g *Gateway) CDR(tb testing.TB, filter url.Values, enough func([]api.CDRRow) bool) []api.CDRRow {
	tb.Helper()
	return rows(tb, g, "/cdr", filter, enough)
}

// Quality returns the rows of call_quality of a call, once there are n.
func (g *Gateway) Quality(tb testing.TB, guid string, n int) []api.QualityRow {
	tb.Helper()
	return rows(tb, g, "/call-quality", GUID(guid), func(r []api.QualityRow) bool { return len(r) >= n })
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

func rows[T any](tb testing.TB, g *Gateway, path string, filter url.Values, enough func([]T) bool) []T {
	tb.Helper()
	v := url.Values{"limit": {"1000"}}
	maps.Copy(v, filter)
	var page api.Page[T]
	admin := g.Admin(tb)
	Until(tb, Patience, path+"?"+v.Encode()+" has its rows", func() bool {
		page = api.Page[T]{}
		admin.Do(tb, http.MethodGet, path+"?"+v.Encode(), nil, &page)
		slices.Reverse(page.Rows)
		return enough(page.Rows)
	})
	return page.Rows
}

// Recording waits for a call's recording and downloads it as "wav" or "mp3".
func (g *Gateway) Recording(tb testing.TB, guid, format string) (api.RecordingRow, *Audio) {
	tb.Helper()
	found := rows(tb, g, "/recordings", GUID(guid), func(r []api.RecordingRow) bool { return len(r) == 1 && r[0].FinishedAt != nil })
	var b []byte
	g.Admin(tb).Do(tb, http.MethodGet, "/recordings/"+guid+"/audio?format="+format, nil, &b)
	file := filepath.Join(tb.TempDir(), guid+"."+format)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return found[0], Hear(tb, file)
}

// Show writes rows of the queue log for messages: EVENT|queue|agent|data….
func Show(rows []api.QueueLogRow) []string {
	out := make([]string, 0, len(rows))
	for _, r := range rows {
		out = append(out, strings.Join(append([]string{r.Event, r.QueueName, r.Agent}, r.Data...), "|"))
	}
	return out
}
