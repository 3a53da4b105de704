package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/config"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/store"
	"github.com/cordboard/cordboard/gateway/store/backup"
)

// care is the installation as the API sees it; it implements rest.Care.
type care struct{ s *Server }

// Backup implements rest.Care.
func (c care) Backup(ctx context.Context, w io.Writer, recordings bool) error {
	s := c.s
	m, err := backup.Write(ctx, w, backup.Source{
		DB: s.db, Stream: s.stream, Version: s.o.Version, Data: s.c.Data, Files: backupFiles(recordings),
	})
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	s.log.InfoContext(ctx, "backup made", "last_fact", m.LastSeq, "files", len(m.Entries), "recordings", recordings)
	return nil
}

// backupFiles are the files of the data folder that belong to a backup: what
// opens the secrets in the database, what clients have pinned, and what an
// administrator put there.
func backupFiles(recordings bool) []string {
	files := []string{auth.KeyFile, "tls", "sounds"}
	if recordings {
		files = append(files, "recordings")
	}
	return files
}

// BackupStopped writes a backup of a gateway that does not run. Its error is
// event.ErrLocked when one does.
func BackupStopped(ctx context.Context, c *config.Config, log *slog.Logger, version string, w io.Writer, recordings bool) (err error) {
	stream, err := event.Open(ctx, event.Options{Dir: c.Path(backup.JournalDir), URL: c.NATS.URL, Sync: c.Journal.Sync, Log: log})
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	s := &Server{c: c, log: log, stream: stream, o: Options{Version: version}}
	s.onClose(stream.Close)
	defer func() {
		if e := s.Close(); err == nil {
			err = e
		}
	}()
	if s.db, err = store.Open(ctx, store.Options{URL: c.Database.URL, Dir: c.Data, Log: log}); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	s.onClose(s.db.Close)
	return care{s}.Backup(ctx, w, recordings)
}

// watchEvery is how often the disk is looked at.
const watchEvery = 30 * time.Second

// watchDisk raises an alarm before the disk is full.
func (s *Server) watchDisk(ctx context.Context) error {
	raised := false
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if sp, err := diskSpace(s.c.Data); err == nil {
			f := diskFinding(s.c.Data, sp)
			if full := f.Status == api.FindingFail; full != raised {
				s.alarm("disk")(full, f.Detail)
				raised = full
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
