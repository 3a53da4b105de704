package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/uptrace/bun"

	"github.com/cordboard/cordboard/gateway/report"
)

var (
	_ report.Store   = (*DB)(nil)
	_ report.Queries = (*DB)(nil)
)

// insertRows is how many rows go into one statement.
const insertRows = 500

type openRow struct {
	bun.BaseModel `bun:"table:open_items,alias:t"`

	Kind string `bun:"kind,pk"`
	Item string `bun:"item,pk"`
	Doc  string `bun:"doc"`
}

// Checkpoint implements report.Store.
func (d *DB) Checkpoint(ctx context.Context) (uint64, []report.OpenItem, error) {
	var seq uint64
	var rows []openRow
	err := d.facts.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		rows = nil
		if err := d.checkpoint(tx).Scan(ctx, &seq); err != nil {
			return wrap(err, "read checkpoint")
		}
		return wrap(tx.NewSelect().Model(&rows).Scan(ctx), "read open items")
	})
	if err != nil {
		return 0, nil, err
	}
	open := make([]report.OpenItem, 0, len(rows))
	for _, r := range rows {
		open = append(open, report.OpenItem{Kind: r.Kind, Key: r.Item, Doc: []byte(r.Doc)})
	}
	return seq, open, nil
}

// checkpoint selects the checkpoint and keeps other readers of facts off until
// the transaction ends.
func (d *DB) checkpoint(tx bun.Tx) *bun.SelectQuery {
	q := tx.NewSelect().Table("checkpoint").Column("seq").Where("id = 1")
	if d.engine == PostgreSQL {
		q = q.For("UPDATE")
	}
	return q
}

// Apply implements report.Store.
func (d *DB) Apply(ctx context.Context, b report.Batch) error {
	err := d.facts.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if d.engine == PostgreSQL {
			// Lost commits are read again from the stream.
			if _, err := tx.ExecContext(ctx, "SET LOCAL synchronous_commit = off"); err != nil {
				return wrap(err, "begin batch")
			}
		}
		var seq uint64
		if err := d.checkpoint(tx).Scan(ctx, &seq); err != nil {
			return wrap(err, "read checkpoint")
		}
		switch seq {
		case b.From:
		case b.To: // the answer to the commit was lost
			return nil
		default:
			return fmt.Errorf("checkpoint is %d, batch begins at %d: %w", seq, b.From, report.ErrMoved)
		}
		if err := applyRows(ctx, tx, b.Changes); err != nil {
			return err
		}
		if err := applyOpen(ctx, tx, b.Changes); err != nil {
			return err
		}
		_, err := tx.NewUpdate().Table("checkpoint").Set("seq = ?", b.To).Where("id = 1").Exec(ctx)
		return wrap(err, "store checkpoint %d", b.To)
	})
	if err != nil && isRefused(err) {
		return fmt.Errorf("facts %d to %d: %w: %w", b.From+1, b.To, report.ErrRefused, err)
	}
	if err != nil {
		return fmt.Errorf("apply facts %d to %d: %w", b.From+1, b.To, err)
	}
	return nil
}

func applyRows(ctx context.Context, tx bun.Tx, changes []report.Change) error {
	if err := applyRecordings(ctx, tx, changes); err != nil {
		return err
	}
	cdr := collect(changes, func(c report.Change) []report.CDRRow { return c.CDR })
	outcomes := collect(changes, func(c report.Change) []report.DispositionRow { return c.Dispositions })
	for _, step := range []func() error{
		func() error {
			return insert(ctx, tx, collect(changes, func(c report.Change) []report.QueueLogRow { return c.QueueLog }), toQueueLog)
		},
		func() error { return insert(ctx, tx, cdr, toCDR) },
		func() error {
			return insert(ctx, tx, collect(changes, func(c report.Change) []report.QualityRow { return c.Quality }), toQuality)
		},
		func() error { return insert(ctx, tx, outcomes, toOutcome) },
		func() error {
			return insert(ctx, tx, collect(changes, func(c report.Change) []report.TagRow { return c.Tags }), toTag)
		},
		func() error {
			return insert(ctx, tx, collect(changes, func(c report.Change) []report.AuditRow { return c.Audit }), toAudit)
		},
		func() error {
			return insert(ctx, tx, collect(changes, func(c report.Change) []report.PoisonRow { return c.Poison }), toPoison)
		},
		func() error { return finishCalls(ctx, tx, cdr, outcomes) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// finishCalls writes the time and tag of a call's disposition into its CDR
// rows (LOG-057, LOG-047), whichever of the two came first.
func finishCalls(ctx context.Context, tx bun.Tx, cdr []report.CDRRow, outcomes []report.DispositionRow) error {
	var guids []string
	for _, r := range cdr {
		guids = append(guids, clean(r.GUID))
	}
	for _, r := range outcomes {
		guids = append(guids, clean(r.GUID))
	}
	slices.Sort(guids)
	for part := range slices.Chunk(slices.Compact(guids), insertRows) {
		_, err := tx.NewUpdate().TableExpr("cdr").
			Set("finishtime = (SELECT max(d.datetime) FROM dispositions AS d WHERE d.guid = cdr.guid)").
			Set("userfield = COALESCE((SELECT d.tag FROM dispositions AS d WHERE d.guid = cdr.guid ORDER BY d.id DESC LIMIT 1), '')").
			Where("guid IN (?)", bun.List(part)).
			Where("EXISTS (SELECT 1 FROM dispositions AS d WHERE d.guid = cdr.guid)").
			Exec(ctx)
		if err != nil {
			return wrap(err, "finish call records")
		}
	}
	return nil
}

// applyRecordings adds recordings and completes them. Rows with the path of an
// earlier one complete it.
func applyRecordings(ctx context.Context, tx bun.Tx, changes []report.Change) error {
	for _, r := range collect(changes, func(c report.Change) []report.RecordingRow { return c.Recordings }) {
		row := toRecording(r)
		_, err := tx.NewInsert().Model(&row).On("CONFLICT (path) DO UPDATE").
			Set("finished_at = EXCLUDED.finished_at").Set("duration_ms = EXCLUDED.duration_ms").
			Set("bytes = EXCLUDED.bytes").Set("sha256 = EXCLUDED.sha256").Set("lost_ms = EXCLUDED.lost_ms").
			Exec(ctx)
		if err != nil {
			return wrap(err, "store recording of %q", r.GUID)
		}
	}
	// The agent and the number come with the call's record.
	for _, r := range collect(changes, func(c report.Change) []report.CDRRow { return c.CDR }) {
		if r.Type != report.TypeRecorded {
			continue
		}
		number := r.Src
		if r.Direction == "outbound" {
			number = r.Dst
		}
		_, err := tx.NewUpdate().Model((*recordingRow)(nil)).
			Set("agent = ?", clean(r.Agent)).Set("number = ?", clean(number)).
			Where("guid = ?", clean(r.GUID)).Where("agent = ''").Exec(ctx)
		if err != nil {
			return wrap(err, "complete recording of %q", r.GUID)
		}
	}
	return nil
}

// applyOpen writes the last state of each item that the batch changed.
func applyOpen(ctx context.Context, tx bun.Tx, changes []report.Change) error {
	type key struct{ kind, item string }
	last := map[key][]byte{}
	for _, c := range changes {
		for _, o := range c.Open {
			last[key{o.Kind, o.Key}] = o.Doc
		}
	}
	var put []openRow
	drop := map[string][]string{}
	for k, doc := range last {
		if doc == nil {
			drop[k.kind] = append(drop[k.kind], clean(k.item))
			continue
		}
		put = append(put, openRow{Kind: k.kind, Item: clean(k.item), Doc: clean(string(doc))})
	}
	for kind, items := range drop {
		for part := range slices.Chunk(items, insertRows) {
			_, err := tx.NewDelete().Model((*openRow)(nil)).Where("kind = ?", kind).Where("item IN (?)", bun.List(part)).Exec(ctx)
			if err != nil {
				return wrap(err, "store open items")
			}
		}
	}
	for part := range slices.Chunk(put, insertRows) {
		_, err := tx.NewInsert().Model(&part).On("CONFLICT (kind, item) DO UPDATE").Set("doc = EXCLUDED.doc").Exec(ctx)
		if err != nil {
			return wrap(err, "store open items")
		}
	}
	return nil
}

func collect[T any](changes []report.Change, of func(report.Change) []T) []T {
	var all []T
	for _, c := range changes {
		all = append(all, of(c)...)
	}
	return all
}

func insert[R, M any](ctx context.Context, tx bun.Tx, rows []R, to func(R) M) error {
	models := make([]M, 0, min(len(rows), insertRows))
	for part := range slices.Chunk(rows, insertRows) {
		models = models[:0]
		for _, r := range part {
			models = append(models, to(r))
		}
		if _, err := tx.NewInsert().Model(&models).Returning("NULL").Exec(ctx); err != nil {
			return wrap(err, "store rows")
		}
	}
	return nil
}
