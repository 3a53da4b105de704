package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/apply"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/report"
	"github.com/cordboard/cordboard/gateway/rest"
	"github.com/cordboard/cordboard/gateway/store"
)

const pw = "Rio-Negro-58"

// stream is a journal in memory.
type stream struct {
	mu      sync.Mutex
	facts   []event.Fact
	changed chan struct{}
	first   uint64
}

func newStream() *stream { return &stream{changed: make(chan struct{}), first: 1} }

func (s *stream) Append(_ context.Context, at time.Time, ps ...event.Payload) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range ps {
		b, err := json.Marshal(p)
		if err != nil {
			return err
		}
		s.facts = append(s.facts, event.Fact{Seq: uint64(len(s.facts) + 1), Time: at.UTC(), Type: p.Kind(), Data: b})
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

func (s *stream) Read(ctx context.Context, after uint64, fn func(event.Fact) error) error {
	for {
		s.mu.Lock()
		facts, changed := s.facts[min(after, uint64(len(s.facts))):], s.changed
		s.mu.Unlock()
		for _, f := range facts {
			if err := fn(f); err != nil {
				return err
			}
			after = f.Seq
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *stream) Last() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.facts))
}

func (s *stream) First(context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first, nil
}

func (s *stream) audits(action string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, f := range s.facts {
		if f.Type == event.KindAudit && strings.Contains(string(f.Data), action) {
			n++
		}
	}
	return n
}

type calls struct {
	mu     sync.Mutex
	live   []api.Call
	hung   []string
	dialed []string
	panics bool
}

func (c *calls) Live(context.Context) ([]api.Call, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.panics {
		panic("a bug")
	}
	return append([]api.Call{}, c.live...), nil
}

func (c *calls) Dial(_ context.Context, agentName, number, campaignName string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialed = append(c.dialed, agentName+" "+number+" "+campaignName)
	return "call-1", nil
}

func (c *calls) Hangup(_ context.Context, id string, by event.By) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hung = append(c.hung, id+" "+string(by))
	return nil
}

func (c *calls) Dispose(_ context.Context, id, _ string, _ bool, _ api.CallDisposition) error {
	if id != "call-1" {
		return rest.Refuse(http.StatusNotFound, "call_not_found", "there is no such call")
	}
	return nil
}

type queues struct{}

func (queues) Live(context.Context) ([]api.Queue, error) {
	return []api.Queue{{Name: "Support<-", Entries: []api.Entry{}}, {Name: "Other<-", Entries: []api.Entry{}}}, nil
}

// reports are the store's, with one recording.
type reports struct {
	*store.DB
	recordings []report.RecordingRow
}

func (r *reports) Recordings(_ context.Context, f report.Filter) (report.Page[report.RecordingRow], error) {
	var p report.Page[report.RecordingRow]
	for _, x := range r.recordings {
		if f.GUID == "" || f.GUID == x.GUID {
			p.Rows = append(p.Rows, x)
		}
	}
	return p, nil
}

type audio map[string]string

type audioFile struct{ *bytes.Reader }

func (audioFile) Close() error { return nil }

func (a audio) Open(_ context.Context, path, format string) (io.ReadSeekCloser, error) {
	text, ok := a[path+"."+format]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return audioFile{bytes.NewReader([]byte(text))}, nil
}

type rig struct {
	t       *testing.T
	h       *rest.Handler
	srv     *httptest.Server
	auth    *auth.Service
	engine  *apply.Engine
	agents  *agent.Registry
	calls   *calls
	reports *reports
	stream  *stream
	log     *lockedBuffer
	ready   error
	admin   string // session of an administrator who is an agent too
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, calls: &calls{}, stream: newStream(), log: &lockedBuffer{}}
	log := slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	dir := t.TempDir()
	db, err := store.Open(t.Context(), store.Options{Dir: dir, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	r.auth, err = auth.New(t.Context(), auth.Options{
		Store: db, Journal: r.stream, Log: log, Dir: dir, Realm: "cordboard", TURNRealm: "cordboard", Rules: auth.PasswordRules{MinLength: 10},
		SessionEnded: func(s auth.Session, _ string) { r.h.EndSession(s.ID) },
	})
	if err != nil {
		t.Fatal(err)
	}
	directory := campaign.NewDirectory()
	r.engine = apply.New(apply.Options{Store: db, Auth: r.auth, Journal: r.stream, Log: log, Changed: func(ctx context.Context) error {
		cs, err := db.Campaigns(ctx)
		ds, err2 := db.AllDispositions(ctx)
		return errors.Join(err, err2, directory.Set(cs, ds))
	}})
	r.agents = agent.NewRegistry(agent.Options{Log: log, Journal: r.stream})
	r.reports = &reports{DB: db}
	r.h, err = rest.New(rest.Options{
		Parts: rest.Parts{
			Auth: r.auth, State: r.engine, Agents: r.agents, Calls: r.calls, Queues: queues{}, Reports: r.reports,
			Audio: audio{"a.wav.wav": "RIFF0123456789"}, Facts: r.stream, Directory: directory, Journal: r.stream, Care: care{},
		},
		Log: log, Version: "test", Connect: rest.Connect{
			SIPURLs: []string{"wss://%HOST%:8089/ws"}, SIPRealm: "cordboard", STUNURLs: []string{"stun:%HOST%:3478"}, TURNURLs: []string{"turn:%HOST%:3478?transport=udp"},
		},
		Ready: func(context.Context) error { return r.ready },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.h.Run(ctx) }()
	go func() { _ = r.agents.Run(ctx) }()
	r.srv = httptest.NewUnstartedServer(r.h)
	r.srv.Config = rest.NewServer(r.h, log)
	r.srv.Start()
	t.Cleanup(func() { stop(); <-done; r.srv.Close() })
	f, err := apply.Parse("state", []byte(`
trunks: [{name: carrier, address: "127.0.0.1:5080"}]
users:
  - {username: root, extension: "2100", roles: [admin, agent], password: `+pw+`}
  - {username: ana, extension: "2101", roles: [agent], password: `+pw+`, devices: [{name: desk, secret: "only-for-a-phone"}]}
  - {username: ben, extension: "2102", roles: [agent], password: `+pw+`}
  - {username: sup, roles: [supervisor], password: `+pw+`}
campaigns:
  - {name: "Support<-", direction: inbound, members: [{user: ana}]}
  - {name: "Other<-", direction: inbound, members: [{user: ben}]}
  - {name: "Sales->", direction: outbound, members: [{user: ana}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.engine.Apply(t.Context(), apply.Request{State: f.State}); err != nil {
		t.Fatal(err)
	}
	r.admin = r.session("root")
	return r
}

func (r *rig) session(user string) string {
	r.t.Helper()
	s, err := r.auth.SignIn(r.t.Context(), auth.SignIn{Username: user, Password: pw, Remote: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		r.t.Fatal(err)
	}
	return s.Token
}

func (r *rig) token(scopes ...auth.Scope) string {
	r.t.Helper()
	_, text, err := r.auth.NewAPIToken(r.t.Context(), "t", scopes, time.Time{}, auth.Principal{Username: "root"}, netip.Addr{})
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

type answer struct {
	status int
	head   http.Header
	body   []byte
}

func (a answer) problem(t *testing.T) api.Problem {
	t.Helper()
	var p api.Problem
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Fatalf("%d is no problem: %v\n%.300s", a.status, err, a.body)
	}
	return p
}

func (r *rig) do(method, path, token string, body any, head ...string) answer {
	r.t.Helper()
	var b []byte
	switch v := body.(type) {
	case nil:
	case string:
		b = []byte(v)
	case []byte:
		b = v
	default:
		var err error
		if b, err = json.Marshal(v); err != nil {
			r.t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.srv.URL+path, bytes.NewReader(b))
	if err != nil {
		r.t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(head); i += 2 {
		req.Header.Set(head[i], head[i+1])
	}
	resp, err := r.srv.Client().Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, out}
}

func (r *rig) want(a answer, status int) answer {
	r.t.Helper()
	if a.status != status {
		r.t.Fatalf("status %d, want %d: %.500s", a.status, status, a.body)
	}
	return a
}

// care is a small installation: one finding, and a backup of a few bytes.
type care struct{}

func (care) Examine(context.Context) ([]api.Finding, []api.Listener, []api.TestTrunk) {
	return []api.Finding{{Check: "database", Status: api.FindingOK, Detail: "answers"}},
		[]api.Listener{{Key: "sip.udp", Protocol: "sip-udp", Address: "%HOST%:5060"}}, []api.TestTrunk{{Name: "carrier"}}
}

func (care) Backup(_ context.Context, w io.Writer, recordings bool) error {
	if recordings {
		_, _ = io.WriteString(w, "half of")
		return errors.New("disk broke")
	}
	_, err := io.WriteString(w, "PK backup")
	return err
}
