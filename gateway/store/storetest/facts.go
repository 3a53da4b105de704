package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/report"
	"github.com/cordboard/cordboard/gateway/store"
)

func apply(t *testing.T, db *store.DB, changes ...report.Change) {
	t.Helper()
	from, _, err := db.Checkpoint(t.Context())
	must(t, err)
	for i := range changes {
		changes[i].Seq = from + uint64(i) + 1
	}
	must(t, db.Apply(t.Context(), report.Batch{From: from, To: from + uint64(len(changes)), Changes: changes}))
}

func logRow(i int) report.QueueLogRow {
	at := noon.Add(time.Duration(i) * time.Minute)
	return report.QueueLogRow{
		Seq: uint64(i), Time: at, Datetime: at.Format(report.DatetimeLayout), OrigID: "o", CallID: fmt.Sprintf("c%d", i),
		QueueName: "Support<-", Agent: "ana", Event: "CONNECT", Data: [5]string{"1", "leg", "3", "4", "5"}, Number: "59899",
		Times: report.Times{WaitSeconds: int64(i), TalkSeconds: 2, RingMs: 3},
	}
}

func cdrRow(i int) report.CDRRow {
	at := noon.Add(time.Duration(i) * time.Minute)
	return report.CDRRow{
		Seq: uint64(i), LegID: "leg", Direction: "inbound", EndedBy: "agent", Agent: "ana", Trunk: "carrier",
		StartedAt: at, AnsweredAt: at.Add(time.Second), EndedAt: at.Add(time.Minute),
		CDR: report.CDR{
			CallDate: at.Format(report.DatetimeLayout), CLID: `"José" <59899>`, Src: "59899", Dst: "59825550111",
			DContext: "inbound", Channel: "SIP/carrier", DstChannel: "SIP/2101", LastApp: "Queue", Duration: 60, BillSec: 59,
			Disposition: "ANSWERED", AccountCode: "ana", Type: report.TypeRecorded, GUID: fmt.Sprintf("c%d", i),
			CauseCode: "200", Campaign: "Support<-",
		},
	}
}

func factRows(t *testing.T, db *store.DB) {
	t.Helper()
	log, cdr := logRow(1), cdrRow(1)
	noAnswer := cdrRow(2)
	noAnswer.AnsweredAt = time.Time{}
	q := report.QualityRow{
		Seq: 1, Time: noon, Datetime: "2026-11-21 09:00:00", GUID: "c1", LegID: "leg", Side: "agent", Codec: "opus",
		PacketsIn: math.MaxInt64, PacketsOut: 2, LostIn: 3,
		QualityFigs: report.QualityFigs{LossInPct: 0.5, LossOutPct: 1, JitterInMs: 2, JitterOutMs: 3, RTTMs: 4, MOS: 4.25},
	}
	d := report.DispositionRow{
		Seq: 1, Time: noon, Datetime: "2026-11-21 09:00:00", GUID: "c1", Campaign: "Support<-", Agent: "ana", CallerID: "59899",
		L1: "a", L2: "b", L3: "c", Comment: "señal", Tag: "vip", Schedule: "2026-12-01 10:00:00",
	}
	tag := report.TagRow{Seq: 1, Time: noon, Datetime: "2026-11-21 09:00:00", User: "eva", GUID: "c1", Second: 17, Comment: "here"}
	a := report.AuditRow{Seq: 1, Time: noon, Datetime: "2026-11-21 09:00:00", User: "eva", Host: "127.0.0.1", Action: "user.put", Object: "ana"}
	bad := report.PoisonRow{Seq: 1, Time: noon, FactID: "f", Kind: "k", Data: "\x00{", Error: "broken"}
	apply(t, db, report.Change{
		QueueLog: []report.QueueLogRow{log}, CDR: []report.CDRRow{cdr, noAnswer}, Quality: []report.QualityRow{q},
		Dispositions: []report.DispositionRow{d}, Tags: []report.TagRow{tag}, Audit: []report.AuditRow{a},
		Poison: []report.PoisonRow{bad},
	})
	log.ID, cdr.ID, noAnswer.ID, q.ID, d.ID, tag.ID, a.ID, bad.ID = 1, 1, 2, 1, 1, 1, 1, 1
	bad.Data = "{"
	check(t, []report.QueueLogRow{log}, db.QueueLog, report.Filter{})
	check(t, []report.CDRRow{noAnswer, cdr}, db.CDR, report.Filter{})
	check(t, []report.QualityRow{q}, db.Quality, report.Filter{})
	check(t, []report.DispositionRow{d}, db.Dispositions, report.Filter{})
	check(t, []report.TagRow{tag}, db.Tags, report.Filter{})
	check(t, []report.AuditRow{a}, db.Audit, report.Filter{})
	check(t, []report.PoisonRow{bad}, db.Poisoned, report.Filter{})

	// The disposition's time and tag are in the call's record (LOG-057, LOG-047).
	got := queryRow(t, db, 2, "SELECT CAST(finishtime AS VARCHAR), userfield FROM CDR_REPO WHERE guid = 'c1'")
	same(t, []string{"2026-11-21 09:00:00", "vip"}, got)
}

func dispositionOrder(t *testing.T, db *store.DB) { // the record comes after its disposition
	t.Helper()
	apply(t, db, report.Change{Dispositions: []report.DispositionRow{{
		Seq: 1, Time: noon, Datetime: "2026-11-21 09:00:00", GUID: "c1", Tag: "early",
	}}})
	apply(t, db, report.Change{CDR: []report.CDRRow{cdrRow(1)}})
	got := queryRow(t, db, 2, "SELECT CAST(finishtime AS VARCHAR), userfield FROM cdr_repo")
	same(t, []string{"2026-11-21 09:00:00", "early"}, got)
}

func recordings(t *testing.T, db *store.DB) {
	t.Helper()
	ctx := t.Context()
	_, err := db.Recording(ctx, "c1")
	wants(t, err, store.ErrNotFound)
	begun := report.RecordingRow{Seq: 1, Time: noon, Datetime: "2026-11-21 09:00:00", GUID: "c1", Campaign: "Support<-", Path: "2026/11/21/c1.wav"}
	apply(t, db, report.Change{Recordings: []report.RecordingRow{begun}})
	got, err := db.Recording(ctx, "c1")
	must(t, err)
	if !got.FinishedAt.IsZero() {
		t.Errorf("got %+v", got)
	}
	done := begun
	done.FinishedAt, done.DurationMs, done.Bytes, done.SHA256, done.LostMs = noon.Add(time.Minute), 60000, 960044, "ab", 20
	apply(t, db, report.Change{Recordings: []report.RecordingRow{done}}, report.Change{CDR: []report.CDRRow{cdrRow(1)}})
	got, err = db.Recording(ctx, "c1")
	must(t, err)
	done.ID, done.Agent, done.Number = got.ID, "ana", "59899"
	same(t, done, got)
	check(t, []report.RecordingRow{done}, db.Recordings, report.Filter{Agent: "ana", Number: "59899", Campaign: "Support<-"})
}

func checkpoint(t *testing.T, db *store.DB) {
	t.Helper()
	ctx := t.Context()
	seq, open, err := db.Checkpoint(ctx)
	must(t, err)
	if seq != 0 || len(open) != 0 {
		t.Errorf("checkpoint %d, open %v", seq, open)
	}
	b := report.Batch{From: 0, To: 10, Changes: []report.Change{
		{Seq: 5, QueueLog: []report.QueueLogRow{logRow(1)}, Open: []report.OpenItem{
			{Kind: "call", Key: "a", Doc: []byte(`{"x":1}`)}, {Kind: "call", Key: "b", Doc: []byte(`{}`)},
		}},
		{Seq: 10, Open: []report.OpenItem{{Kind: "call", Key: "a", Doc: []byte(`{"x":2}`)}, {Kind: "call", Key: "b"}}},
	}}
	must(t, db.Apply(ctx, b))
	must(t, db.Apply(ctx, b)) // the answer to the commit was lost
	count(t, 1, db.QueueLog, report.Filter{})
	b.From, b.To = 3, 12
	wants(t, db.Apply(ctx, b), report.ErrMoved)
	seq, open, err = db.Checkpoint(ctx)
	must(t, err)
	if seq != 10 || len(open) != 1 || open[0].Key != "a" || string(open[0].Doc) != `{"x":2}` {
		t.Errorf("checkpoint %d, open %v", seq, open)
	}
}

func refusedRows(t *testing.T, db *store.DB) {
	t.Helper()
	bad := logRow(1)
	bad.Datetime = "no date" // PostgreSQL refuses it, SQLite keeps any text
	err := db.Apply(t.Context(), report.Batch{To: 1, Changes: []report.Change{{Seq: 1, QueueLog: []report.QueueLogRow{bad}}}})
	if db.Engine() == store.PostgreSQL {
		wants(t, err, report.ErrRefused)
	}
	dup := report.RecordingRow{Path: "p", GUID: "c", Datetime: "2026-11-21 09:00:00"}
	from, _, err := db.Checkpoint(t.Context())
	must(t, err)
	must(t, db.Apply(t.Context(), report.Batch{From: from, To: from + 1, Changes: []report.Change{{Recordings: []report.RecordingRow{dup, dup}}}}))
}

func paging(t *testing.T, db *store.DB) {
	t.Helper()
	changes := make([]report.Change, 0, 1250)
	for i := range 1250 {
		changes = append(changes, report.Change{QueueLog: []report.QueueLogRow{logRow(i)}})
	}
	apply(t, db, changes...)
	var after int64
	var pages, rows int
	seen := map[int64]bool{}
	for {
		p, err := db.QueueLog(t.Context(), report.Filter{After: after, Limit: 500})
		must(t, err)
		pages++
		for _, r := range p.Rows {
			if seen[r.ID] {
				t.Fatalf("row %d comes twice", r.ID)
			}
			seen[r.ID] = true
			rows++
		}
		if p.Next == 0 {
			break
		}
		after = p.Next
	}
	if pages != 3 || rows != 1250 {
		t.Errorf("%d rows on %d pages", rows, pages)
	}
	p, err := db.QueueLog(t.Context(), report.Filter{})
	must(t, err)
	if len(p.Rows) != report.DefaultLimit {
		t.Errorf("%d rows by default", len(p.Rows))
	}
	_, err = db.QueueLog(t.Context(), report.Filter{Limit: report.MaxLimit + 1})
	wants(t, err, report.ErrFilter)
}

func filters(t *testing.T, db *store.DB) {
	t.Helper()
	other := logRow(2)
	other.Agent, other.QueueName, other.Number, other.Event = "bob", "Sales->", "1888", "OUTCALL"
	out := cdrRow(2)
	out.Agent, out.Campaign, out.Src, out.Dst = "bob", "Sales->", "18885550100", "1888"
	apply(
		t, db, report.Change{
			QueueLog: []report.QueueLogRow{logRow(1), other}, CDR: []report.CDRRow{cdrRow(1), out},
			Quality: []report.QualityRow{
				{Time: noon, Datetime: "2026-11-21 09:00:00", GUID: "c1"}, {Time: noon, Datetime: "2026-11-21 09:00:00", GUID: "c2"},
			},
		})
	for _, f := range []report.Filter{
		{Agent: "bob"}, {Campaign: "Sales->"}, {Number: "1888"}, {GUID: "c2"}, {From: noon.Add(90 * time.Second)},
	} {
		count(t, 1, db.QueueLog, f)
		count(t, 1, db.CDR, f)
	}
	count(t, 1, db.Quality, report.Filter{Agent: "bob"})
	count(t, 1, db.Quality, report.Filter{GUID: "c2"})
	count(t, 1, db.QueueLog, report.Filter{Event: "OUTCALL"})
	count(t, 1, db.QueueLog, report.Filter{To: noon.Add(2 * time.Minute)})
	count(t, 1, db.CDR, report.Filter{From: noon.Add(time.Minute), To: noon.Add(2 * time.Minute)})
	count(t, 0, db.QueueLog, report.Filter{Agent: "' OR 1=1 --"})
	count(t, 0, db.CDR, report.Filter{Agent: "ana", Number: "1888"})
	count(t, 2, db.CDR, report.Filter{})
}

func figures(t *testing.T, db *store.DB) {
	t.Helper()
	row := func(ev, agent string, wait, talk int64) report.Change {
		r := logRow(1)
		r.Event, r.Agent, r.Times = ev, agent, report.Times{WaitSeconds: wait, TalkSeconds: talk}
		return report.Change{QueueLog: []report.QueueLogRow{r}}
	}
	apply(t, db,
		row("ENTERQUEUE", "", 0, 0), row("ENTERQUEUE", "", 0, 0), row("ENTERQUEUE", "", 0, 0), row("ENTERQUEUE", "", 0, 0),
		row("CONNECT", "ana", 5, 0), row("COMPLETEAGENT", "ana", 5, 60),
		row("CONNECT", "bob", 30, 0), row("COMPLETECALLER", "bob", 30, 20),
		row("ABANDON", "", 12, 0), row("EXITWITHTIMEOUT", "", 90, 0), row("RINGNOANSWER", "ana", 0, 0),
		row("UNBREAK", "ana", 0, 300), row("AGENTLOGOFF", "ana", 0, 3600), row("OUTCALL", "ana", 0, 11))
	f := report.Filter{From: noon, To: noon.Add(time.Hour)}
	got, err := db.CampaignDays(t.Context(), f, func(string) time.Duration { return 20 * time.Second })
	must(t, err)
	same(t, []report.CampaignDay{{
		Campaign: "Support<-", Entered: 4, Answered: 2, AnsweredInTime: 1, Abandoned: 1, Left: 1, WaitSeconds: 35,
		MaxWaitSeconds: 30, TalkSeconds: 80, ServiceLevelPct: 25,
	}}, got)
	agents, err := db.AgentDays(t.Context(), f)
	must(t, err)
	same(t, []report.AgentDay{
		{Agent: "ana", Answered: 1, NotAnswered: 1, OutCalls: 1, TalkSeconds: 71, BreakSeconds: 300, LoginSeconds: 3600},
		{Agent: "bob", Answered: 1, TalkSeconds: 20},
	}, agents)
	_, err = db.AgentDays(t.Context(), report.Filter{})
	wants(t, err, report.ErrFilter)
}

// Reports written for the old product find their tables and columns
// (LOG-001 to LOG-006, LOG-034 to LOG-059, LOG-138 to LOG-143, LOG-152 to LOG-156).
func oldNames(t *testing.T, db *store.DB) {
	t.Helper()
	apply(t, db, report.Change{
		QueueLog: []report.QueueLogRow{logRow(1)}, CDR: []report.CDRRow{cdrRow(1)},
		Tags:  []report.TagRow{{Time: noon, Datetime: "2026-11-21 09:00:00", User: "eva", GUID: "c1", Second: 17, Comment: "here"}},
		Audit: []report.AuditRow{{Time: noon, Datetime: "2026-11-21 09:00:00", User: "eva", Host: "127.0.0.1", Action: "x"}},
	})
	for table, cols := range map[string]string{
		"QUEUE_LOG_REPO": "origid,datetime,callid,queuename,event,data1,data2,data3,data4,data5,agent",
		"CDR_REPO": "calldate,clid,src,dst,dcontext,channel,dstchannel,lastapp,duration,billsec,disposition,amaflags," +
			"accountcode,userfield,uniqueid,type,guid,causecode,campaign,charged_balance,real_balance,note,contact," +
			"finishtime,rating,dialerbase",
		"TAGS":     "id,datetime,user,guid,time,comment",
		"AUDITORY": "id,datetime,userid,host,action",
	} {
		for _, name := range []string{table, strings.ToLower(table)} {
			err := db.Query(t.Context(), "SELECT * FROM "+name, func(rows *sql.Rows) error {
				got, err := rows.Columns()
				if err != nil {
					return err
				}
				same(t, cols, strings.Join(got, ","))
				n := 0
				for rows.Next() {
					n++
				}
				same(t, 1, n)
				return nil
			})
			must(t, err)
		}
	}
	same(t, []string{"c1"}, queryRow(t, db, 1, "SELECT CALLID FROM QUEUE_LOG_REPO WHERE DATETIME > '2026-11-21 12:00:00' AND DATA2 = 'leg'"))
}

// queryRow returns the n texts of a question's one row.
func queryRow(t *testing.T, db *store.DB, n int, query string) []string {
	t.Helper()
	var got []string
	err := db.Query(t.Context(), query, func(rows *sql.Rows) error {
		if !rows.Next() {
			return errors.New("no row")
		}
		got = make([]string, n)
		into := make([]any, n)
		for i := range got {
			into[i] = &got[i]
		}
		return rows.Scan(into...)
	})
	must(t, err)
	return got
}

type question[R any] func(context.Context, report.Filter) (report.Page[R], error)

// check asks and compares the rows.
func check[R any](t *testing.T, want []R, ask question[R], f report.Filter) {
	t.Helper()
	got, err := ask(t.Context(), f)
	must(t, err)
	same(t, want, got.Rows)
}

// count asks and compares how many rows there are.
func count[R any](t *testing.T, want int, ask question[R], f report.Filter) {
	t.Helper()
	got, err := ask(t.Context(), f)
	must(t, err)
	if len(got.Rows) != want {
		t.Errorf("%+v chooses %d rows, want %d", f, len(got.Rows), want)
	}
}
