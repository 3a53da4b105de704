package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// The errors of a DB. Packages that must not import this one match the errors
// of io/fs that they wrap: fs.ErrNotExist and fs.ErrExist.
var (
	ErrNotFound error = &sentinel{"not found", fs.ErrNotExist}
	// ErrConflict says that somebody else changed or made it first, or that
	// something unique in it is taken.
	ErrConflict error = &sentinel{"conflict", fs.ErrExist}
)

type sentinel struct {
	text string
	is   error
}

func (s *sentinel) Error() string { return s.text }
func (s *sentinel) Unwrap() error { return s.is }

// opError is what was being done, which of our errors it met, and the engine's
// own error, whose text is not for users.
type opError struct {
	doing       string
	kind, cause error
}

func (e *opError) Error() string   { return e.doing + ": " + e.kind.Error() }
func (e *opError) Unwrap() []error { return []error{e.kind, e.cause} }

// FileName is the SQLite database in the data folder.
const FileName = "cordboard.db"

// Engine names a database engine.
type Engine string

// The engines.
const (
	SQLite     Engine = "sqlite"
	PostgreSQL Engine = "postgres"
)

//go:embed migrations
var migrations embed.FS

// Options of Open. Log is needed, and URL or Dir.
type Options struct {
	// URL is postgres://…, or empty for the SQLite file in Dir.
	URL string
	Dir string
	Log *slog.Logger
	// MaxConns bounds the readers' pool (default 8).
	MaxConns int
	// BusyTimeout is how long a writer waits for another (default 10 s).
	BusyTimeout time.Duration
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	engine Engine
	path   string // SQLite's file
	url    string
	log    *slog.Logger
	// write holds the state's writer, facts the one of the fact reader: its
	// commits need not wait for the disk, since lost ones are read again from
	// the stream. Both and read are one pool on PostgreSQL.
	write, facts, read *bun.DB

	closing  sync.Once
	closeErr error
}

// Open opens the database and brings its tables up to date.
func Open(ctx context.Context, o Options) (*DB, error) {
	if o.Log == nil || (o.URL == "" && o.Dir == "") {
		return nil, errors.New("store: options need Log, and URL or Dir")
	}
	if o.MaxConns <= 0 {
		o.MaxConns = 8
	}
	if o.BusyTimeout <= 0 {
		o.BusyTimeout = 10 * time.Second
	}
	d := &DB{log: o.Log, url: o.URL}
	open := d.openSQLite
	if o.URL != "" {
		open = d.openPostgres
	}
	if err := open(ctx, o); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := d.migrate(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *DB) openSQLite(ctx context.Context, o Options) error {
	d.engine, d.path = SQLite, filepath.Join(o.Dir, FileName)
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	// The file holds hashes and sealed secrets: nobody else may read it.
	f, err := os.OpenFile(d.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	for _, p := range []struct {
		db       **bun.DB
		sync     string
		readOnly bool
		conns    int
	}{
		{&d.write, "FULL", false, 1},
		{&d.facts, "NORMAL", false, 1},
		{&d.read, "NORMAL", true, o.MaxConns},
	} {
		s, err := sqliteFile(d.path, p.sync, p.readOnly, o.BusyTimeout)
		if err != nil {
			return err
		}
		s.SetMaxOpenConns(p.conns)
		s.SetMaxIdleConns(p.conns)
		*p.db = bun.NewDB(s, sqlitedialect.New())
		if err := s.PingContext(ctx); err != nil {
			return fmt.Errorf("open database %s: %w", d.path, err)
		}
	}
	return nil
}

// sqliteFile opens SQLite's file.
func sqliteFile(path, syncMode string, readOnly bool, busy time.Duration) (*sql.DB, error) {
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds()),
		"journal_mode(WAL)", "synchronous(" + syncMode + ")", "temp_store(MEMORY)",
	}}
	if readOnly {
		q.Set("_txlock", "deferred")
		q.Add("_pragma", "query_only(1)")
	}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	return db, nil
}

func (d *DB) openPostgres(ctx context.Context, o Options) error {
	d.engine = PostgreSQL
	cfg, err := pgx.ParseConfig(o.URL)
	if err != nil {
		// The parser's error may show the URL with its password.
		return errors.New("database url is not a PostgreSQL URL")
	}
	// Every query has its values in its text, so prepared statements would
	// only fill the cache.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "cordboard"
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	s := stdlib.OpenDB(*cfg)
	s.SetMaxOpenConns(o.MaxConns + 4)
	s.SetMaxIdleConns(o.MaxConns)
	s.SetConnMaxIdleTime(5 * time.Minute)
	b := bun.NewDB(s, pgdialect.New())
	d.write, d.facts, d.read = b, b, b
	if err := s.PingContext(ctx); err != nil {
		return fmt.Errorf("connect to database %s: %w", cfg.Host, err)
	}
	return nil
}

// migrate runs the migrations of the engine that have not run yet.
func (d *DB) migrate(ctx context.Context) error {
	p, err := d.provider()
	if err != nil {
		return err
	}
	done, err := p.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrate database: %w", err)
	}
	for _, m := range done {
		d.log.InfoContext(ctx, "database migrated", "version", m.Source.Version, "took", m.Duration)
	}
	return nil
}

// provider is what runs the migrations of the engine.
func (d *DB) provider() (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations/"+string(d.engine))
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	opts := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	dialect := goose.DialectSQLite3
	if d.engine == PostgreSQL {
		dialect = goose.DialectPostgres
		// Several nodes may start at once.
		l, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return nil, fmt.Errorf("migration lock: %w", err)
		}
		opts = append(opts, goose.WithSessionLocker(l))
	}
	p, err := goose.NewProvider(dialect, d.write.DB, files, opts...)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return p, nil
}

// Engine returns which engine holds the data.
func (d *DB) Engine() Engine { return d.engine }

// Ping reports whether the database answers.
func (d *DB) Ping(ctx context.Context) error {
	if err := d.read.PingContext(ctx); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	var one int
	if err := d.write.NewSelect().ColumnExpr("1").Scan(ctx, &one); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return nil
}

// Stats of a DB.
type Stats struct {
	Open     int // connections
	InUse    int
	WaitFor  time.Duration // spent waiting for a connection, in sum
	FileSize int64         // SQLite's file and its log, bytes
}

// Stats returns figures about the connections.
func (d *DB) Stats() Stats {
	var st Stats
	pools := []*bun.DB{d.read}
	if d.engine == SQLite {
		pools = append(pools, d.write, d.facts)
		for _, suffix := range []string{"", "-wal"} {
			if fi, err := os.Stat(d.path + suffix); err == nil {
				st.FileSize += fi.Size()
			}
		}
	}
	for _, p := range pools {
		s := p.DB.Stats()
		st.Open += s.OpenConnections
		st.InUse += s.InUse
		st.WaitFor += s.WaitDuration
	}
	return st
}

// Close closes the database.
func (d *DB) Close() error {
	d.closing.Do(func() {
		seen := map[*bun.DB]bool{nil: true}
		// The writer comes last: closing SQLite's last connection folds its
		// log into the file, which a read-only one cannot.
		for _, b := range []*bun.DB{d.read, d.facts, d.write} {
			if !seen[b] {
				seen[b] = true
				d.closeErr = errors.Join(d.closeErr, b.Close())
			}
		}
	})
	return d.closeErr
}

// wrap adds what was being done to an error of the database, and turns the
// engines' errors into ours.
func wrap(err error, doing string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(doing, args...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return &opError{what, ErrNotFound, err}
	case isUnique(err):
		return &opError{what, ErrConflict, err}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func isUnique(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == "23505" // unique_violation
	}
	sl, ok := errors.AsType[*sqlite.Error](err)
	return ok &&
		(sl.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || sl.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}

// isRefused reports whether the engine will never take what it was given.
func isRefused(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(pg.Code, "22") || strings.HasPrefix(pg.Code, "23") // data exception, integrity violation
	}
	sl, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	switch sl.Code() & 0xff { // the low byte is the primary code
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE:
		return true
	}
	return false
}

// stamp is how times are kept: microseconds since 1970, UTC.
func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func unstamp(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
