package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/cordboard/cordboard/gateway/report"
)

// columns says which columns a Filter's fields mean in a table. An empty one
// means that the table has no such column.
type columns struct {
	at, campaign, agent, guid string
	number                    []string
	event                     string
	// calls finds campaign, agent and number in the call records.
	calls bool
}

// page reads one page of a table.
func page[M, R any](ctx context.Context, db *bun.DB, f report.Filter, c columns, row func(M) R, id func(R) int64) (report.Page[R], error) {
	if err := f.Check(); err != nil {
		return report.Page[R]{}, fmt.Errorf("read rows: %w", err)
	}
	limit := f.Limit
	if limit == 0 {
		limit = report.DefaultLimit
	}
	var models []M
	q := c.where(db, db.NewSelect().Model(&models), f).OrderExpr("t.id DESC").Limit(int64(limit + 1))
	if f.After > 0 {
		q = q.Where("t.id < ?", f.After)
	}
	if err := q.Scan(ctx); err != nil {
		return report.Page[R]{}, wrap(err, "read rows")
	}
	p := report.Page[R]{Rows: make([]R, 0, len(models))}
	for i, m := range models {
		if i == limit {
			p.Next = id(p.Rows[limit-1])
			break
		}
		p.Rows = append(p.Rows, row(m))
	}
	return p, nil
}

func (c columns) where(db *bun.DB, q *bun.SelectQuery, f report.Filter) *bun.SelectQuery {
	if !f.From.IsZero() {
		q = q.Where("t.? >= ?", bun.Ident(c.at), stamp(f.From))
	}
	if !f.To.IsZero() {
		q = q.Where("t.? < ?", bun.Ident(c.at), stamp(f.To))
	}
	for _, x := range []struct{ column, val string }{
		{c.guid, f.GUID},
		{c.event, f.Event},
		{c.campaign, f.Campaign},
		{c.agent, f.Agent},
	} {
		if x.column != "" && x.val != "" {
			q = q.Where("t.? = ?", bun.Ident(x.column), clean(x.val))
		}
	}
	if f.Number != "" && len(c.number) > 0 {
		q = q.WhereGroup(" AND ", func(q *bun.SelectQuery) *bun.SelectQuery {
			for _, n := range c.number {
				q = q.WhereOr("t.? = ?", bun.Ident(n), clean(f.Number))
			}
			return q
		})
	}
	if c.calls && (f.Campaign != "" || f.Agent != "" || f.Number != "") {
		calls := columns{campaign: "campaign", agent: "agent", number: []string{"src", "dst"}}.where(
			db, db.NewSelect().TableExpr("cdr AS t").Column("t.guid"),
			report.Filter{Campaign: f.Campaign, Agent: f.Agent, Number: f.Number})
		q = q.Where("t.guid IN (?)", calls)
	}
	return q
}

// QueueLog implements report.Queries.
func (d *DB) QueueLog(ctx context.Context, f report.Filter) (report.Page[report.QueueLogRow], error) {
	return page(ctx, d.read, f,
		columns{at: "at", campaign: "queuename", agent: "agent", guid: "callid", number: []string{"number"}, event: "event"},
		queueLogRow.row, func(r report.QueueLogRow) int64 { return r.ID })
}

// CDR implements report.Queries.
func (d *DB) CDR(ctx context.Context, f report.Filter) (report.Page[report.CDRRow], error) {
	return page(ctx, d.read, f,
		columns{at: "started_at", campaign: "campaign", agent: "agent", guid: "guid", number: []string{"src", "dst"}},
		cdrRow.row, func(r report.CDRRow) int64 { return r.ID })
}

// Quality implements report.Queries.
func (d *DB) Quality(ctx context.Context, f report.Filter) (report.Page[report.QualityRow], error) {
	return page(ctx, d.read, f, columns{at: "at", guid: "guid", calls: true},
		qualityRow.row, func(r report.QualityRow) int64 { return r.ID })
}

// Recordings implements report.Queries.
func (d *DB) Recordings(ctx context.Context, f report.Filter) (report.Page[report.RecordingRow], error) {
	return page(ctx, d.read, f,
		columns{at: "at", campaign: "campaign", agent: "agent", guid: "guid", number: []string{"number"}},
		recordingRow.row, func(r report.RecordingRow) int64 { return r.ID })
}

// Dispositions implements report.Queries.
func (d *DB) Dispositions(ctx context.Context, f report.Filter) (report.Page[report.DispositionRow], error) {
	return page(ctx, d.read, f,
		columns{at: "at", campaign: "campaign", agent: "agent", guid: "guid", number: []string{"callerid"}},
		outcomeRow.row, func(r report.DispositionRow) int64 { return r.ID })
}

// Tags implements report.Queries.
func (d *DB) Tags(ctx context.Context, f report.Filter) (report.Page[report.TagRow], error) {
	return page(ctx, d.read, f, columns{at: "at", guid: "guid", calls: true},
		tagRow.row, func(r report.TagRow) int64 { return r.ID })
}

// Audit implements report.Queries. Agent is the user who acted.
func (d *DB) Audit(ctx context.Context, f report.Filter) (report.Page[report.AuditRow], error) {
	return page(ctx, d.read, f, columns{at: "at", agent: "username", event: "action"},
		auditRow.row, func(r report.AuditRow) int64 { return r.ID })
}

// Poisoned returns the facts that were put aside, newest first.
func (d *DB) Poisoned(ctx context.Context, f report.Filter) (report.Page[report.PoisonRow], error) {
	return page(ctx, d.read, f, columns{at: "at", event: "kind"},
		poisonRow.row, func(r report.PoisonRow) int64 { return r.ID })
}

// Query runs a question of its own in a transaction that can change nothing.
func (d *DB) Query(ctx context.Context, query string, fn func(*sql.Rows) error) (err error) {
	tx, err := d.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: d.engine == PostgreSQL})
	if err != nil {
		return wrap(err, "query")
	}
	defer func() {
		if e := tx.Rollback(); err == nil {
			err = wrap(e, "query")
		}
	}()
	rows, err := tx.Tx.QueryContext(ctx, query)
	if err != nil {
		return wrap(err, "query")
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if err := fn(rows); err != nil {
		return err
	}
	return wrap(rows.Err(), "query")
}

// Recording returns the newest recording of a call.
func (d *DB) Recording(ctx context.Context, guid string) (report.RecordingRow, error) {
	p, err := d.Recordings(ctx, report.Filter{GUID: guid, Limit: 1})
	if err != nil {
		return report.RecordingRow{}, err
	}
	if len(p.Rows) == 0 {
		return report.RecordingRow{}, fmt.Errorf("recording of call %q: %w", guid, ErrNotFound)
	}
	return p.Rows[0], nil
}

// AgentDays implements report.Queries.
func (d *DB) AgentDays(ctx context.Context, f report.Filter) ([]report.AgentDay, error) {
	if f.From.IsZero() || f.To.IsZero() {
		return nil, fmt.Errorf("agents' figures: %w: from and to are needed", report.ErrFilter)
	}
	var rows []struct {
		Agent, Event string
		N, Talk      int64
	}
	c := columns{at: "at", campaign: "queuename", agent: "agent"}
	err := c.where(d.read, d.read.NewSelect().TableExpr("queue_log AS t").
		ColumnExpr("t.agent, t.event, count(*) AS n, CAST(sum(t.talk_s) AS BIGINT) AS talk"), f).
		Where("t.agent <> ''").
		Where("t.event IN ('CONNECT', 'COMPLETEAGENT', 'COMPLETECALLER', 'RINGNOANSWER', 'OUTCALL', 'UNBREAK', 'AGENTLOGOFF')").
		GroupExpr("t.agent, t.event").OrderExpr("t.agent").Scan(ctx, &rows)
	if err != nil {
		return nil, wrap(err, "agents' figures")
	}
	var days []report.AgentDay
	for _, r := range rows {
		if len(days) == 0 || days[len(days)-1].Agent != r.Agent {
			days = append(days, report.AgentDay{Agent: r.Agent})
		}
		a := &days[len(days)-1]
		switch r.Event {
		case "CONNECT":
			a.Answered = r.N
		case "RINGNOANSWER":
			a.NotAnswered = r.N
		case "OUTCALL":
			a.OutCalls = r.N
			a.TalkSeconds += r.Talk
		case "UNBREAK":
			a.BreakSeconds = r.Talk
		case "AGENTLOGOFF":
			a.LoginSeconds = r.Talk
		default:
			a.TalkSeconds += r.Talk
		}
	}
	return days, nil
}

// CampaignDays implements report.Queries.
func (d *DB) CampaignDays(ctx context.Context, f report.Filter, inTime func(campaign string) time.Duration) ([]report.CampaignDay, error) {
	if f.From.IsZero() || f.To.IsZero() {
		return nil, fmt.Errorf("campaigns' figures: %w: from and to are needed", report.ErrFilter)
	}
	// Whole seconds of waiting are few: counting by them allows every campaign
	// its own threshold in one question.
	var rows []struct {
		Queuename, Event string
		Wait, N, Talk    int64
	}
	c := columns{at: "at", campaign: "queuename", agent: "agent"}
	err := c.where(d.read, d.read.NewSelect().TableExpr("queue_log AS t").
		ColumnExpr("t.queuename, t.event, t.wait_s AS wait, count(*) AS n, CAST(sum(t.talk_s) AS BIGINT) AS talk"), f).
		Where("t.event IN ('ENTERQUEUE', 'CONNECT', 'COMPLETEAGENT', 'COMPLETECALLER', 'ABANDON', 'EXITWITHTIMEOUT', 'EXITEMPTY', 'EXITWITHKEY')").
		GroupExpr("t.queuename, t.event, t.wait_s").OrderExpr("t.queuename").Scan(ctx, &rows)
	if err != nil {
		return nil, wrap(err, "campaigns' figures")
	}
	var days []report.CampaignDay
	for _, r := range rows {
		if len(days) == 0 || days[len(days)-1].Campaign != r.Queuename {
			days = append(days, report.CampaignDay{Campaign: r.Queuename})
		}
		a := &days[len(days)-1]
		switch r.Event {
		case "ENTERQUEUE":
			a.Entered += r.N
		case "CONNECT":
			a.Answered += r.N
			a.WaitSeconds += r.Wait * r.N
			a.MaxWaitSeconds = max(a.MaxWaitSeconds, r.Wait)
			if time.Duration(r.Wait)*time.Second <= inTime(r.Queuename) {
				a.AnsweredInTime += r.N
			}
		case "ABANDON":
			a.Abandoned += r.N
		case "COMPLETEAGENT", "COMPLETECALLER":
			a.TalkSeconds += r.Talk
		default:
			a.Left += r.N
		}
	}
	for i := range days {
		a := &days[i]
		if ended := a.Answered + a.Abandoned + a.Left; ended > 0 {
			a.ServiceLevelPct = 100 * float64(a.AnsweredInTime) / float64(ended)
		}
	}
	return days, nil
}
