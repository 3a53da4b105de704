package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// ErrNotEmpty says that a database that is to be filled holds something.
var ErrNotEmpty = errors.New("database is not empty")

// Version returns the version of the tables.
func (d *DB) Version(ctx context.Context) (int64, error) {
	p, err := d.provider()
	if err != nil {
		return 0, err
	}
	v, err := p.GetDBVersion(ctx)
	if err != nil {
		return 0, fmt.Errorf("version of tables: %w", err)
	}
	return v, nil
}

// Dump writes a snapshot of the database while it is in use. For each part of
// it add is called with the part's name and what writes it: with SQLite one
// file, with PostgreSQL one CSV file for each table.
func (d *DB) Dump(ctx context.Context, add func(name string, write func(io.Writer) error) error) error {
	if d.engine == SQLite {
		return d.dumpSQLite(ctx, add)
	}
	return d.onPgx(ctx, func(c *pgx.Conn) error { return dumpPostgres(ctx, c, add) })
}

func (d *DB) dumpSQLite(ctx context.Context, add func(string, func(io.Writer) error) error) (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(d.path), "dump")
	if err != nil {
		return fmt.Errorf("dump database: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, FileName)
	// A connection of its own: writers go on meanwhile, and the readers' are
	// not allowed to write.
	own, err := sqliteFile(d.path, "NORMAL", false, 10*time.Second)
	if err != nil {
		return err
	}
	_, err = own.ExecContext(ctx, "VACUUM INTO ?", file)
	if err := errors.Join(err, own.Close()); err != nil {
		return fmt.Errorf("dump database: %w", err)
	}
	return add(FileName, func(w io.Writer) (err error) {
		f, err := os.Open(file) //nolint:gosec // a file of our own making
		if err != nil {
			return fmt.Errorf("dump database: %w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		if _, err := io.Copy(w, f); err != nil {
			return fmt.Errorf("dump database: %w", err)
		}
		return nil
	})
}

// onPgx lends fn a connection of the pool.
func (d *DB) onPgx(ctx context.Context, fn func(*pgx.Conn) error) (err error) {
	c, err := d.write.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return c.Raw(func(driver any) error {
		sc, ok := driver.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("connection is a %T", driver)
		}
		return fn(sc.Conn())
	})
}

const versionTable = "goose_db_version"

// tables returns the names of the tables that hold data.
func tables(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT table_name::text FROM information_schema.tables
		WHERE table_schema = current_schema() AND table_type = 'BASE TABLE' AND table_name <> '`+versionTable+`' ORDER BY 1`)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	return names, nil
}

func dumpPostgres(ctx context.Context, c *pgx.Conn, add func(string, func(io.Writer) error) error) (err error) {
	tx, err := c.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("dump database: %w", err)
	}
	defer func() { err = errors.Join(err, tx.Rollback(ctx)) }()
	names, err := tables(ctx, tx)
	if err != nil {
		return err
	}
	for _, name := range names {
		err := add(name+".csv", func(w io.Writer) error {
			_, err := c.PgConn().CopyTo(ctx, w, "COPY "+pgx.Identifier{name}.Sanitize()+" TO STDOUT WITH (FORMAT csv, HEADER)")
			if err != nil {
				return fmt.Errorf("dump table %s: %w", name, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Dumped is what Dump wrote.
type Dumped struct {
	Engine  Engine
	Version int64
	Parts   []string
	Open    func(part string) (io.ReadCloser, error)
}

// Load fills an empty database with a dump and closes it. The tables are those
// of the dump's version; Open brings them up to date.
func Load(ctx context.Context, o Options, dump Dumped) error {
	engine := SQLite
	if o.URL != "" {
		engine = PostgreSQL
	}
	if dump.Engine != engine {
		return fmt.Errorf("the backup's database is %s and the configured one is %s", dump.Engine, engine)
	}
	if engine == SQLite {
		return loadSQLite(o, dump)
	}
	return loadPostgres(ctx, o, dump)
}

func loadSQLite(o Options, dump Dumped) (err error) {
	if !slices.Equal(dump.Parts, []string{FileName}) {
		return fmt.Errorf("load database: the backup holds %q, want %s", dump.Parts, FileName)
	}
	r, err := dump.Open(FileName)
	if err != nil {
		return fmt.Errorf("load database: %w", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	f, err := os.OpenFile(filepath.Join(o.Dir, FileName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("load database: %w", ErrNotEmpty)
	}
	if err != nil {
		return fmt.Errorf("load database: %w", err)
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("load database: %w", err)
	}
	return nil
}

func loadPostgres(ctx context.Context, o Options, dump Dumped) (err error) {
	d := &DB{log: o.Log, url: o.URL}
	o.MaxConns = 2
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.openPostgres(ctx, o); err != nil {
		return err
	}
	var there sql.NullString
	if err := d.write.NewSelect().ColumnExpr("to_regclass(?)::text", versionTable).Scan(ctx, &there); err != nil {
		return fmt.Errorf("look into database: %w", err)
	}
	if there.Valid {
		return fmt.Errorf("load database: %w", ErrNotEmpty)
	}
	p, err := d.provider()
	if err != nil {
		return err
	}
	if _, err := p.UpTo(ctx, dump.Version); err != nil {
		return fmt.Errorf("make tables of version %d: %w", dump.Version, err)
	}
	err = d.onPgx(ctx, func(c *pgx.Conn) error { return fillPostgres(ctx, c, dump) })
	if err != nil {
		// Empty again, so that the next attempt is not refused.
		if _, e := p.DownTo(ctx, 0); e != nil {
			return errors.Join(err, fmt.Errorf("empty the database again: %w", e))
		}
		_, e := d.write.NewDropTable().Table(versionTable).Exec(ctx)
		return errors.Join(err, e)
	}
	return nil
}

func fillPostgres(ctx context.Context, c *pgx.Conn, dump Dumped) (err error) {
	tx, err := c.Begin(ctx)
	if err != nil {
		return fmt.Errorf("load database: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback(ctx))
		}
	}()
	names, err := tables(ctx, tx)
	if err != nil {
		return err
	}
	for _, part := range dump.Parts {
		name, ok := strings.CutSuffix(part, ".csv")
		if !ok || !slices.Contains(names, name) {
			return fmt.Errorf("load database: the backup holds %q, which is no table", part)
		}
		if err := fillTable(ctx, c, tx, name, part, dump); err != nil {
			return fmt.Errorf("load table %s: %w", name, err)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("load database: %w", err)
	}
	return nil
}

func fillTable(ctx context.Context, c *pgx.Conn, tx pgx.Tx, name, part string, dump Dumped) (err error) {
	table := pgx.Identifier{name}.Sanitize()
	if _, err := tx.Exec(ctx, "DELETE FROM "+table); err != nil {
		return err
	}
	r, err := dump.Open(part)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if _, err := c.PgConn().CopyFrom(ctx, r, "COPY "+table+" FROM STDIN WITH (FORMAT csv, HEADER MATCH)"); err != nil {
		return err
	}
	var identity bool
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = current_schema()
		AND table_name = $1 AND column_name = 'id' AND is_identity = 'YES')`, name).Scan(&identity)
	if err != nil || !identity {
		return err
	}
	_, err = tx.Exec(ctx, "SELECT setval(pg_get_serial_sequence($1, 'id'), COALESCE((SELECT max(id) FROM "+table+"), 0) + 1, false)", name)
	return err
}
