package rest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/report"
)

// filterInput is the query of every report.
type filterInput struct {
	From     string `query:"from" maxLength:"40" doc:"RFC 3339, or YYYY-MM-DD in the gateway's time zone"`
	To       string `query:"to" maxLength:"40" doc:"not included; a day is included whole"`
	Campaign string `query:"campaign" maxLength:"100"`
	Agent    string `query:"agent" maxLength:"64"`
	Number   string `query:"number" maxLength:"40"`
	GUID     string `query:"guid" maxLength:"64" doc:"the call's ID"`
	Event    string `query:"event" maxLength:"40" doc:"queue log only"`
	After    int64  `query:"after" minimum:"0" doc:"the next of the page before"`
	Limit    int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (in *filterInput) filter(loc *time.Location) (report.Filter, error) {
	v := url.Values{}
	for _, f := range []struct{ key, val string }{
		{"from", in.From},
		{"to", in.To},
		{"campaign", in.Campaign},
		{"agent", in.Agent},
		{"number", in.Number},
		{"guid", in.GUID},
		{"event", in.Event},
	} {
		if f.val != "" {
			v.Set(f.key, f.val)
		}
	}
	if in.After > 0 {
		v.Set("after", strconv.FormatInt(in.After, 10))
	}
	v.Set("limit", strconv.Itoa(in.Limit))
	f, err := report.ParseFilter(v, loc)
	if err != nil {
		return f, Refuse(http.StatusUnprocessableEntity, "invalid", err.Error())
	}
	return f, nil
}

type pageOutput[T any] struct{ Body api.Page[T] }

// addReport registers one report. Who has only the scope self sees their own
// rows.
func addReport[R, T any](h *Handler, path, id, summary string, who rule, read func(context.Context, report.Filter) (report.Page[R], error), row func(*R) T) {
	add(h, route{http.MethodGet, path, id, "reports", summary, who, 0, false}, func(ctx context.Context, in *filterInput) (*pageOutput[T], error) {
		f, err := in.filter(h.o.Location)
		if err != nil {
			return nil, err
		}
		if p := principalOf(ctx); !p.Can(auth.ScopeRead) {
			f.Agent = p.Username
		}
		page, err := read(ctx, f)
		if err != nil {
			return nil, err
		}
		out := &pageOutput[T]{Body: api.Page[T]{Rows: make([]T, len(page.Rows)), Next: page.Next}}
		for i := range page.Rows {
			out.Body.Rows[i] = row(&page.Rows[i])
		}
		return out, nil
	})
}

func (h *Handler) reportRoutes() {
	own, read := need(auth.ScopeSelf, auth.ScopeRead), need(auth.ScopeRead)
	r := h.o.Reports
	addReport(h, "/queue-log", "queueLog", "Rows of QUEUE_LOG_REPO, newest first", own, r.QueueLog, func(x *report.QueueLogRow) api.QueueLogRow {
		return api.QueueLogRow{
			ID: x.ID, Seq: x.Seq, Time: x.Time, Datetime: x.Datetime, OrigID: x.OrigID, CallID: x.CallID,
			QueueName: x.QueueName, Agent: x.Agent, Event: x.Event, Data: x.Data[:],
		}
	})
	addReport(h, "/cdr", "cdr", "Rows of CDR_REPO, newest first", own, r.CDR, cdrRow)
	addReport(h, "/call-quality", "callQuality", "Media quality of each leg, newest first", read, r.Quality, func(x *report.QualityRow) api.QualityRow {
		return api.QualityRow{
			ID: x.ID, Seq: x.Seq, Time: x.Time, GUID: x.GUID, LegID: x.LegID, Side: x.Side, Codec: x.Codec,
			PacketsIn: x.PacketsIn, PacketsOut: x.PacketsOut, LostIn: x.LostIn, LossInPct: x.LossInPct, LossOutPct: x.LossOutPct,
			JitterInMs: x.JitterInMs, JitterOutMs: x.JitterOutMs, RTTMs: x.RTTMs, MOS: x.MOS,
		}
	})
	addReport(h, "/call-dispositions", "callDispositions", "Outcomes that agents gave to calls, newest first", own, r.Dispositions, func(x *report.DispositionRow) api.DispositionRow {
		return api.DispositionRow{
			ID: x.ID, Time: x.Time, GUID: x.GUID, Campaign: x.Campaign, Agent: x.Agent, CallerID: x.CallerID,
			L1: x.L1, L2: x.L2, L3: x.L3, Comment: x.Comment, Tag: x.Tag, Schedule: x.Schedule,
		}
	})
	addReport(h, "/recordings", "recordings", "Recordings, newest first", need(auth.ScopeRecordings), r.Recordings, func(x *report.RecordingRow) api.RecordingRow {
		return api.RecordingRow{
			ID: x.ID, Time: x.Time, GUID: x.GUID, Campaign: x.Campaign, Agent: x.Agent, Number: x.Number,
			FinishedAt: moment(x.FinishedAt), DurationMs: x.DurationMs, Bytes: x.Bytes, SHA256: x.SHA256, LostMs: x.LostMs,
		}
	})
	addReport(h, "/audit", "audit", "Who did what, from where, newest first", need(auth.ScopeAdmin), r.Audit, func(x *report.AuditRow) api.AuditRow {
		return api.AuditRow{ID: x.ID, Time: x.Time, Datetime: x.Datetime, User: x.User, Host: x.Host, Action: x.Action, Object: x.Object}
	})
	add(h, route{http.MethodGet, "/recordings/{guid}/audio", "recordingAudio", "reports", "A recording as WAV or MP3; takes Range", need(auth.ScopeRecordings), 0, false}, h.recordingAudio)
}

func cdrRow(x *report.CDRRow) api.CDRRow {
	return api.CDRRow{
		ID: x.ID, Seq: x.Seq, GUID: x.GUID, LegID: x.LegID, Direction: x.Direction, Agent: x.Agent, Trunk: x.Trunk, Campaign: x.Campaign,
		StartedAt: x.StartedAt, AnsweredAt: moment(x.AnsweredAt), EndedAt: x.EndedAt, EndedBy: x.EndedBy, CallDate: x.CallDate, CLID: x.CLID,
		Src: x.Src, Dst: x.Dst, Channel: x.Channel, DstChannel: x.DstChannel, LastApp: x.LastApp, Duration: x.Duration, BillSec: x.BillSec,
		Disposition: x.Disposition, CauseCode: x.CauseCode, Recorded: x.Type == report.TypeRecorded,
	}
}

// recordingAudio streams a recording. Listening is audited.
func (h *Handler) recordingAudio(ctx context.Context, in *struct {
	GUID   string `path:"guid" minLength:"1" maxLength:"64"`
	Format string `query:"format" enum:"wav,mp3" default:"wav"`
	Range  string `header:"Range" maxLength:"200"`
},
) (*huma.StreamResponse, error) {
	page, err := h.o.Reports.Recordings(ctx, report.Filter{GUID: in.GUID, Limit: 1})
	if err != nil {
		return nil, err
	}
	p := principalOf(ctx)
	if len(page.Rows) == 0 || (!p.Can(auth.ScopeRead) && page.Rows[0].Agent != p.Username) {
		return nil, Refuse(http.StatusNotFound, "recording_not_found", "there is no such recording")
	}
	row := page.Rows[0]
	if row.FinishedAt.IsZero() {
		return nil, Refuse(http.StatusConflict, "recording_running", "the recording is still being written")
	}
	f, err := h.o.Audio.Open(ctx, row.Path, in.Format)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Refuse(http.StatusGone, "recording_gone", "the recording's file is gone")
	} else if err != nil {
		return nil, err
	}
	h.audit(ctx, "recording heard", in.GUID)
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer func() { _ = f.Close() }()
		r, w := humago.Unwrap(hc)
		kind := "audio/wav"
		if in.Format == "mp3" {
			kind = "audio/mpeg"
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Disposition", `attachment; filename="`+path.Base(in.GUID)+"."+in.Format+`"`)
		http.ServeContent(&patient{ResponseWriter: w, rc: http.NewResponseController(w)}, r, "", row.FinishedAt, f)
	}}, nil
}

// patient gives every write of a long answer a deadline of its own, so that a
// slow listener is served and a dead one is not waited for.
type patient struct {
	http.ResponseWriter

	rc *http.ResponseController
}

// Write implements http.ResponseWriter.
func (w *patient) Write(b []byte) (int, error) {
	_ = w.rc.SetWriteDeadline(time.Now().Add(answerWithin))
	return w.ResponseWriter.Write(b)
}

var _ io.Writer = (*patient)(nil)
