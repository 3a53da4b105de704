package rest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/apply"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/report"
	"github.com/cordboard/cordboard/gateway/trunk"
)

// State changes and reads what an installation is made of; *apply.Engine.
type State interface {
	Apply(ctx context.Context, r apply.Request) (api.Diff, error)
	Export(ctx context.Context) (api.State, error)
	Trunks(ctx context.Context) ([]trunk.Trunk, error)
	Campaigns(ctx context.Context) ([]campaign.Campaign, error)
	Dispositions(ctx context.Context) ([]campaign.Disposition, error)
}

// Agents is the floor; *agent.Registry.
type Agents interface {
	SignIn(ctx context.Context, in agent.SignIn) error
	SignOut(ctx context.Context, agentName, message string) error
	Break(ctx context.Context, agentName, motive, comment string) error
	Unbreak(ctx context.Context, agentName string) error
	FinishWrapUp(ctx context.Context, agentName string) error
	Snapshot(agentName string) (agent.View, bool)
	All() []agent.View
}

// Calls are the live calls. Its errors may be *Refusal.
type Calls interface {
	Live(ctx context.Context) ([]api.Call, error)
	// Dial rings the agent's phone and then the number.
	Dial(ctx context.Context, agentName, number, campaignName string) (callID string, err error)
	Hangup(ctx context.Context, callID string, by event.By) error
	// Dispose gives a call its outcome. agentName is who says so, empty for a
	// token; anyCall allows it for calls of others.
	Dispose(ctx context.Context, callID, agentName string, anyCall bool, d api.CallDisposition) error
}

// Queues are the live queues.
type Queues interface {
	Live(ctx context.Context) ([]api.Queue, error)
}

// Reports answers questions about the past; the store.
type Reports interface {
	QueueLog(ctx context.Context, f report.Filter) (report.Page[report.QueueLogRow], error)
	CDR(ctx context.Context, f report.Filter) (report.Page[report.CDRRow], error)
	Quality(ctx context.Context, f report.Filter) (report.Page[report.QualityRow], error)
	Recordings(ctx context.Context, f report.Filter) (report.Page[report.RecordingRow], error)
	Dispositions(ctx context.Context, f report.Filter) (report.Page[report.DispositionRow], error)
	Audit(ctx context.Context, f report.Filter) (report.Page[report.AuditRow], error)
}

// Audio opens recordings.
type Audio interface {
	// Open returns a recording as "wav" or "mp3". An error that is
	// fs.ErrNotExist says that the file is gone.
	Open(ctx context.Context, path, format string) (io.ReadSeekCloser, error)
}

// Facts is the stream; *event.Stream.
type Facts interface {
	Read(ctx context.Context, after uint64, fn func(event.Fact) error) error
	Last() uint64
	First(ctx context.Context) (uint64, error)
}

// Directory knows the campaigns of an agent; *campaign.Directory.
type Directory interface {
	ForAgent(user string) []campaign.Campaign
	Breaks(user string) []string
	Outbound(user string) []campaign.Campaign
}

// Connect tells a client how its phone reaches the gateway.
type Connect struct {
	SIPURLs  []string // wss://HOST:PORT/ws; %HOST% stands for the request's host
	SIPRealm string
	STUNURLs []string
	TURNURLs []string
}

// Parts are what the API is a window to.
type Parts struct {
	Auth      *auth.Service
	State     State
	Agents    Agents
	Calls     Calls
	Queues    Queues
	Reports   Reports
	Audio     Audio
	Facts     Facts
	Directory Directory
	Journal   event.Journal
	Care      Care
}

// Options of New. All Parts are needed.
type Options struct {
	Parts

	Log     *slog.Logger
	Version string
	// Secure says that the listener speaks TLS: then HSTS is sent.
	Secure  bool
	Connect Connect
	// Location is the time zone of days in filters.
	Location *time.Location
	// Ready says why the gateway cannot take calls; nil when it can.
	Ready   func(ctx context.Context) error
	Metrics http.Handler
}

// Handler serves the API. Run must run for the events.
type Handler struct {
	o       Options
	api     huma.API
	mux     *http.ServeMux
	openAPI []byte
	hub     *hub
	conns   sync.WaitGroup // event connections
	buffers sync.Pool      // of their writers
	gate    gate
	saving  sync.Mutex // held by the one backup at a time
}

// New builds the API.
func New(o Options) (*Handler, error) {
	p := o.Parts
	if p.Auth == nil || p.State == nil || p.Agents == nil || p.Calls == nil || p.Queues == nil || p.Reports == nil ||
		p.Audio == nil || p.Facts == nil || p.Directory == nil || p.Journal == nil || p.Care == nil || o.Log == nil {
		return nil, errors.New("rest: options need Log and all Parts")
	}
	if o.Location == nil {
		o.Location = time.UTC
	}
	if o.Ready == nil {
		o.Ready = func(context.Context) error { return nil }
	}
	h := &Handler{o: o, mux: http.NewServeMux(), hub: newHub(o.Facts, o.Log)}
	h.gate.init()
	h.api = huma.NewAPI(h.config(), humago.NewAdapter(h.mux, prefix))
	h.api.UseMiddleware(h.authorize)
	h.sessionRoutes()
	h.settingRoutes()
	h.campaignRoutes()
	h.agentRoutes()
	h.callRoutes()
	h.reportRoutes()
	h.adminRoutes()
	h.careRoutes()
	if err := h.document(); err != nil {
		return nil, err
	}
	h.mux.HandleFunc("GET /healthz", h.healthz)
	h.mux.HandleFunc("GET /readyz", h.readyz)
	h.mux.HandleFunc("GET /openapi.json", h.serveOpenAPI)
	h.mux.HandleFunc("GET "+prefix+"/events", h.events)
	if o.Metrics != nil {
		h.mux.Handle("GET /metrics", o.Metrics)
	}
	return h, nil
}

// Paths lists the patterns that the handler is to be mounted at.
func Paths() []string {
	return []string{"/api/", "/healthz", "/readyz", "/metrics", "/openapi.json"}
}

// Run follows the stream for the event connections. It returns when ctx ends
// and every event connection is closed.
func (h *Handler) Run(ctx context.Context) error {
	defer h.conns.Wait()
	defer h.gate.close()
	return h.hub.run(ctx)
}

// EndSession closes the event connections of a session that ended.
func (h *Handler) EndSession(id string) { h.gate.end(id) }

// NewServer returns an HTTP server with the limits that belong to the API; tls
// and listener are the caller's.
func NewServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       90 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
