package event

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// startTimeout bounds the start of the embedded server, which reads the
	// index of its files and checks the newest of them.
	startTimeout = 2 * time.Minute
	// maxStore is the most that the embedded server may keep on disk. The
	// stream's own bounds and the disk are the real ones.
	maxStore = 1 << 50
	// maxMemory is for what JetStream keeps in memory: nothing of ours.
	maxMemory = 64 << 20
)

// embedded runs a NATS server inside this process. It opens no port.
type embedded struct {
	log  *slog.Logger
	opts server.Options
	lock *os.File

	mu  sync.Mutex
	srv *server.Server // nil after stop
}

func startEmbedded(o *Options) (*embedded, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make journal folder: %w", err)
	}
	lock, err := lockFile(filepath.Join(o.Dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", o.Dir, err)
	}
	e := &embedded{log: o.Log, lock: lock, opts: server.Options{
		ServerName:         "cordboard",
		DontListen:         true,
		NoSigs:             true,
		NoSystemAccount:    true,
		JetStream:          true,
		StoreDir:           o.Dir,
		JetStreamMaxStore:  maxStore,
		JetStreamMaxMemory: maxMemory,
		MaxPayload:         1 << 20,
	}}
	if o.Sync == SyncAlways {
		e.opts.SyncAlways = true
	} else if e.opts.SyncInterval, err = time.ParseDuration(o.Sync); err != nil {
		return nil, errors.Join(fmt.Errorf("journal sync: %w", err), lock.Close())
	}
	if err := e.start(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return e, nil
}

func (e *embedded) start() error {
	opts := e.opts // the server writes its defaults into what it is given
	srv, err := server.NewServer(&opts)
	if err != nil {
		return fmt.Errorf("make stream server: %w", err)
	}
	srv.SetLoggerV2(&serverLog{log: e.log}, false, false, false)
	srv.Start()
	if !srv.ReadyForConnections(startTimeout) || !srv.JetStreamEnabled() {
		srv.Shutdown()
		srv.WaitForShutdown()
		return errors.New("stream server did not start: see the log")
	}
	e.mu.Lock()
	e.srv = srv
	e.mu.Unlock()
	return nil
}

// InProcessConn implements nats.InProcessConnProvider, over restarts.
func (e *embedded) InProcessConn() (net.Conn, error) {
	e.mu.Lock()
	srv := e.srv
	e.mu.Unlock()
	if srv == nil {
		return nil, ErrClosed
	}
	conn, err := srv.InProcessConn()
	if err != nil {
		return nil, fmt.Errorf("connect to stream server: %w", err)
	}
	return conn, nil
}

// restart stops the server and starts it again. After a write error (a full
// disk) its files take nothing more until they are opened anew.
func (e *embedded) restart() error {
	e.halt()
	return e.start()
}

func (e *embedded) halt() {
	e.mu.Lock()
	srv := e.srv
	e.srv = nil
	e.mu.Unlock()
	if srv != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
	}
}

func (e *embedded) stop() error {
	e.halt()
	if err := e.lock.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("unlock journal: %w", err)
	}
	return nil
}

// serverLog hands what the embedded server says to slog. Its notices are
// debugging to us.
type serverLog struct{ log *slog.Logger }

func (l *serverLog) say(level slog.Level, format string, v []any) {
	ctx := context.TODO() //nolint:forbidigo // the server's logger has no context to give
	if l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, "stream server", "text", fmt.Sprintf(format, v...))
	}
}

func (l *serverLog) Noticef(format string, v ...any) { l.say(slog.LevelDebug, format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.say(slog.LevelWarn, format, v) }
func (l *serverLog) Errorf(format string, v ...any)  { l.say(slog.LevelError, format, v) }
func (l *serverLog) Fatalf(format string, v ...any)  { l.say(slog.LevelError, format, v) }
func (l *serverLog) Debugf(string, ...any)           {}
func (l *serverLog) Tracef(string, ...any)           {}
