package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/uptrace/bun"
)

// docTable is a table of documents with a key and a revision.
type docTable struct {
	name, key string
	what      string // for errors
}

// put stores doc under key by the rule of revisions. extra are further columns
// and their values.
func (t docTable) put(ctx context.Context, db bun.IDB, key string, rev uint64, v any, extra map[string]any) error {
	doc, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s %q: %w", t.what, key, err)
	}
	row := map[string]any{t.key: key, "rev": rev + 1, "doc": string(doc)}
	maps.Copy(row, extra)
	if rev == 0 {
		_, err := db.NewInsert().Model(&row).Table(t.name).Exec(ctx)
		return wrap(err, "make %s %q", t.what, key)
	}
	q := db.NewUpdate().Table(t.name).Where("? = ?", bun.Ident(t.key), key).Where("rev = ?", rev)
	for k, val := range row {
		q = q.Set("? = ?", bun.Ident(k), val)
	}
	res, err := q.Exec(ctx)
	if err != nil {
		return wrap(err, "change %s %q", t.what, key)
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return wrap(err, "change %s %q", t.what, key)
	}
	var now uint64
	if err := db.NewSelect().Table(t.name).Column("rev").Where("? = ?", bun.Ident(t.key), key).Scan(ctx, &now); err != nil {
		return wrap(err, "change %s %q", t.what, key)
	}
	return fmt.Errorf("change %s %q: has revision %d, not %d: %w", t.what, key, now, rev, ErrConflict)
}

// get reads the document whose column has the value. into is called with its
// revision and text.
func (t docTable) get(ctx context.Context, db bun.IDB, column, val string, into func(rev uint64, doc []byte) error) error {
	var rev uint64
	var doc string
	err := db.NewSelect().Table(t.name).Column("rev", "doc").Where("? = ?", bun.Ident(column), val).Scan(ctx, &rev, &doc)
	if err != nil {
		return wrap(err, "%s %q", t.what, val)
	}
	if err := into(rev, []byte(doc)); err != nil {
		return fmt.Errorf("decode %s %q: %w", t.what, val, err)
	}
	return nil
}

// all reads every document in the order of the keys.
func (t docTable) all(ctx context.Context, db bun.IDB, into func(rev uint64, doc []byte) error) (err error) {
	rows, err := db.NewSelect().Table(t.name).Column("rev", "doc").OrderExpr("?", bun.Ident(t.key)).Rows(ctx)
	if err != nil {
		return wrap(err, "list %ss", t.what)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var rev uint64
		var doc string
		if err := rows.Scan(&rev, &doc); err != nil {
			return wrap(err, "list %ss", t.what)
		}
		if err := into(rev, []byte(doc)); err != nil {
			return fmt.Errorf("decode a %s: %w", t.what, err)
		}
	}
	return wrap(rows.Err(), "list %ss", t.what)
}

func (t docTable) remove(ctx context.Context, db bun.IDB, key string) error {
	res, err := db.NewDelete().Table(t.name).Where("? = ?", bun.Ident(t.key), key).Exec(ctx)
	return gone(res, err, "delete %s %q", t.what, key)
}

// gone turns a deletion or change of nothing into ErrNotFound.
func gone(res sql.Result, err error, doing string, args ...any) error {
	if err != nil {
		return wrap(err, doing, args...)
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		err = sql.ErrNoRows
	}
	return wrap(err, doing, args...)
}
