package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/cordboard/cordboard/gateway/apply"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/config"
	"github.com/cordboard/cordboard/gateway/doctor"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/server"
	"github.com/cordboard/cordboard/gateway/store/backup"
)

// interruptible ends the context of a command at Ctrl-C, so that it cleans up.
func interruptible(cmd *cobra.Command) *cobra.Command {
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		cmd.SetContext(ctx)
		return run(cmd, args)
	}
	return cmd
}

func doctorCommand() *cobra.Command {
	var f apply.Flags
	return interruptible(doctor.Command(&f, func() (doctor.Gateway, error) {
		c, err := f.Dial()
		if err != nil {
			return nil, err
		}
		return c, nil
	}))
}

func backupCommand() *cobra.Command {
	var f apply.Flags
	var recordings bool
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write database, journal and keys into one file, also of a running gateway",
		Long: `Writes one file with all that a gateway needs to go on elsewhere: the database
(users, trunks, campaigns, log tables), the journal, the installation's key, the
certificate and the sounds. Recordings are left out unless --recordings is
given. The configuration file is not part of it: keep it beside.

A running gateway is asked over its API and goes on meanwhile; a stopped one is
read from its data folder (or its database). The file can open every secret of
the installation: keep it as you would keep the data folder.`,
		Args: exactly(1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return makeBackup(cmd, args[0], &f, recordings)
		},
	}
	f.Add(cmd)
	cmd.Flags().BoolVar(&recordings, "recordings", false, "with the recordings")
	return interruptible(cmd)
}

// exactly wants n arguments.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return fmt.Errorf("%w: %s needs %s", errUsage, cmd.CommandPath(), what)
		}
		return nil
	}
}

// makeBackup writes beside the place and moves a whole, verified file there.
func makeBackup(cmd *cobra.Command, name string, f *apply.Flags, recordings bool) (err error) {
	if _, err := os.Stat(name); err == nil {
		return fmt.Errorf("%s exists already: name another file", name)
	}
	out, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".part-*") // 0600
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	part := out.Name()
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreGone(os.Remove(part)))
		}
	}()
	if err := errors.Join(writeBackup(cmd.Context(), out, f, recordings), out.Sync(), out.Close()); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	m, err := backup.Verify(part)
	if err != nil {
		return fmt.Errorf("backup: what was written cannot be read again: %w", err)
	}
	if err := os.Rename(part, name); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return tell(cmd.OutOrStdout(), name, m)
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func tell(w io.Writer, name string, m backup.Manifest) error {
	var size int64
	for _, e := range m.Entries {
		size += e.Size
	}
	facts := uint64(0)
	if m.LastSeq >= m.FirstSeq {
		facts = m.LastSeq - m.FirstSeq + 1
	}
	_, err := fmt.Fprintf(w, "%s: gateway %s of %s, %s, %d facts, %d files, %.1f MB unpacked\n",
		name, m.Version, m.CreatedAt.Format(time.RFC3339), m.Engine, facts, len(m.Entries), float64(size)/1e6)
	return err
}

// writeBackup asks a running gateway, or reads the data of a stopped one.
func writeBackup(ctx context.Context, w io.Writer, f *apply.Flags, recordings bool) error {
	if f.Server != "" {
		client, err := f.Dial()
		if err != nil {
			return err
		}
		return client.Backup(ctx, w, recordings)
	}
	c, err := config.Load(f.ConfigFile, os.Environ())
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.Path(auth.KeyFile)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is no data folder of a gateway: name the configuration with --config", c.Data)
	}
	if _, err := os.Stat(c.Path(auth.AdminTokenFile)); err == nil { // it runs, or was killed
		client, err := apply.Dial(apply.Target{Config: c, TokenFile: f.TokenFile, CA: f.CA})
		if err != nil {
			return err
		}
		err = client.Backup(ctx, w, recordings)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	err = server.BackupStopped(ctx, c, log, versionText(), w, recordings)
	if errors.Is(err, event.ErrLocked) {
		return fmt.Errorf("a gateway runs with %s, but not at %s: %w", c.Data, c.HTTP.URL(), err)
	}
	return err
}

func restoreCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make the data folder of a configuration from a backup",
		Long: `Makes the data folder that the configuration names from a backup. The folder
must be empty or not there, and so must the PostgreSQL database and the external
NATS stream if the configuration names them. A backup of SQLite becomes SQLite,
one of PostgreSQL becomes PostgreSQL. Nothing is changed when the file is
damaged. Start the gateway afterwards.`,
		Args: exactly(1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := config.Load(file, os.Environ())
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
			m, err := backup.Restore(cmd.Context(), args[0], backup.Target{
				Log: log, Data: c.Data, DatabaseURL: c.Database.URL, NATSURL: c.NATS.URL,
			})
			if errors.Is(err, backup.ErrNotEmpty) {
				return fmt.Errorf("%w: move it away first, nothing is ever restored over something", err)
			}
			if err != nil {
				return err
			}
			return tell(cmd.OutOrStdout(), "restored to "+c.Data, m)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "the gateway's configuration file (none: the defaults)")
	return interruptible(cmd)
}
