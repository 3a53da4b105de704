package rest

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/auth"
)

// Care looks after the installation itself.
type Care interface {
	// Examine says what the gateway finds about itself, where it listens and
	// which trunks have test numbers. In addresses %HOST% stands for the host of
	// the request.
	Examine(ctx context.Context) (findings []api.Finding, listeners []api.Listener, trunks []api.TestTrunk)
	// Backup writes a backup of the running gateway.
	Backup(ctx context.Context, w io.Writer, recordings bool) error
}

func (h *Handler) careRoutes() {
	admin := need(auth.ScopeAdmin)
	add(h, route{http.MethodPost, "/doctor", "examine", "care", "Examine the gateway, and make a phone for a few minutes to try its legs", admin, http.StatusCreated, false}, h.examine)
	add(h, route{http.MethodDelete, "/doctor/{id}", "endExamination", "care", "End the phone of an examination", admin, http.StatusNoContent, false}, h.endExamination)
	add(h, route{http.MethodGet, "/backup", "backup", "care", "Database, journal, key and sounds in one file, as for gateway restore", admin, 0, false}, h.backup)
}

func (h *Handler) examine(ctx context.Context, _ *none) (*struct{ Body api.Examination }, error) {
	q := requestOf(ctx)
	p, err := h.o.Auth.NewProbe(ctx, principalOf(ctx), q.remote)
	if err != nil {
		return nil, err
	}
	out := api.Examination{
		ID: p.ID, ExpiresAt: p.ExpiresAt, Now: time.Now().UTC(), Version: h.o.Version,
		SIP: api.SIP{
			URLs: forHost(h.o.Connect.SIPURLs, q.host), AOR: "sip:" + p.SIPUser + "@" + h.o.Connect.SIPRealm,
			Username: p.SIPUser, Password: p.SIPPassword, Realm: h.o.Connect.SIPRealm,
		},
		ICEServers: []api.ICE{}, Listeners: []api.Listener{}, TestTrunks: []api.TestTrunk{}, Findings: []api.Finding{},
	}
	for _, u := range forHost(h.o.Connect.TURNURLs, q.host) {
		out.ICEServers = append(out.ICEServers, api.ICE{URLs: []string{u}, Username: p.TURNUser, Credential: p.TURNPassword})
	}
	findings, listeners, trunks := h.o.Care.Examine(ctx)
	out.Findings = append(out.Findings, findings...)
	out.TestTrunks = append(out.TestTrunks, trunks...)
	for _, l := range listeners {
		l.Address = forHost([]string{l.Address}, q.host)[0]
		out.Listeners = append(out.Listeners, l)
	}
	return &struct{ Body api.Examination }{out}, nil
}

func (h *Handler) endExamination(_ context.Context, in *struct {
	ID string `path:"id" minLength:"1" maxLength:"64"`
},
) (*none, error) {
	return nil, h.o.Auth.EndProbe(in.ID)
}

// backup streams: nothing of it is kept in memory. An error on the way cuts the
// connection, so that nobody takes half a file for a whole one.
func (h *Handler) backup(ctx context.Context, in *struct {
	Recordings bool `query:"recordings" doc:"with the recordings, which may be large"`
},
) (*huma.StreamResponse, error) {
	if !h.saving.TryLock() {
		return nil, Refuse(http.StatusConflict, "backup_running", "another backup is being made")
	}
	h.audit(ctx, "backup made", "")
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer h.saving.Unlock()
		_, w := humago.Unwrap(hc)
		w.Header().Set("Content-Type", "application/zip")
		w.Header().Set("Content-Disposition", `attachment; filename="cordboard-`+time.Now().UTC().Format("20060102-150405")+`.zip"`)
		rc := http.NewResponseController(w)
		// The answer has begun: a client does not ask again when it is cut.
		if err := rc.Flush(); err != nil {
			h.o.Log.DebugContext(ctx, "begin a backup", "err", err)
		}
		if err := h.o.Care.Backup(ctx, &patient{ResponseWriter: w, rc: rc}, in.Recordings); err != nil {
			h.o.Log.ErrorContext(ctx, "backup not made", "err", err)
			panic(http.ErrAbortHandler)
		}
	}}, nil
}
