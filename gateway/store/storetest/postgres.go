package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres is a PostgreSQL server of a test's own, on a UNIX socket only.
type Postgres struct {
	dir  string // of data and socket
	bin  string
	cred *syscall.Credential // nil = as ourselves
	cmd  *exec.Cmd
	done chan struct{}
	n    int
	mu   sync.Mutex
}

// StartPostgres starts a server that is stopped when the test ends. Without
// PostgreSQL on the machine the test is skipped, or fails when CI is true.
func StartPostgres(tb testing.TB) *Postgres {
	tb.Helper()
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(bins) == 0 {
		if p, err := exec.LookPath("initdb"); err == nil {
			bins = []string{p}
		}
	}
	if len(bins) == 0 {
		if os.Getenv("CI") == "true" {
			tb.Fatal("PostgreSQL is not installed")
		}
		tb.Skip("PostgreSQL is not installed")
	}
	slices.Sort(bins)
	// A socket's path is short by law of the kernel, and t.TempDir's is not.
	dir, err := os.MkdirTemp("", "cbpg") //nolint:usetesting // see above
	if err != nil {
		tb.Fatal(err)
	}
	p := &Postgres{dir: dir, bin: filepath.Dir(bins[len(bins)-1])}
	tb.Cleanup(func() {
		p.Stop(tb)
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	if os.Getuid() == 0 { // the server refuses to run as root
		if p.cred, err = credential("postgres"); err != nil {
			tb.Skip(err)
		}
		if err := os.Chown(dir, int(p.cred.Uid), int(p.cred.Gid)); err != nil {
			tb.Fatal(err)
		}
	}
	out, err := p.command(tb.Context(), "initdb", "-D", p.data(), "-A", "trust", "-U", "cordboard", "-E", "UTF8",
		"--locale=C.UTF-8", "--no-sync").CombinedOutput()
	if err != nil {
		tb.Fatalf("initdb: %v\n%s", err, out)
	}
	p.Start(tb)
	return p
}

func credential(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("user to run PostgreSQL as: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user to run PostgreSQL as: %w", err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user to run PostgreSQL as: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }

func (p *Postgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...) //nolint:gosec // a program of the test's own choice
	cmd.Dir = p.dir
	cmd.Env = []string{"LC_ALL=C.UTF-8", "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
	return cmd
}

// Start starts the server, again after Stop.
func (p *Postgres) Start(tb testing.TB) {
	tb.Helper()
	// The server outlives the context of a test that is being cleaned up.
	p.cmd = p.command(context.WithoutCancel(tb.Context()), "postgres", "-D", p.data(), "-k", p.dir,
		"-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50")
	if err := p.cmd.Start(); err != nil {
		tb.Fatalf("start PostgreSQL: %v", err)
	}
	p.done = make(chan struct{})
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	deadline := time.Now().Add(30 * time.Second)
	for {
		c, err := pgx.Connect(tb.Context(), p.url("postgres"))
		if err == nil {
			if err := c.Close(tb.Context()); err != nil {
				tb.Fatal(err)
			}
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("PostgreSQL does not answer: %v", err)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-p.done:
			tb.Fatal("PostgreSQL ended at once")
		}
	}
}

// Stop stops the server as a power failure would: at once.
func (p *Postgres) Stop(tb testing.TB) {
	tb.Helper()
	if p.cmd == nil {
		return
	}
	err := p.cmd.Process.Signal(syscall.SIGQUIT)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		tb.Errorf("stop PostgreSQL: %v", err)
	}
	<-p.done
	p.cmd = nil
}

func (p *Postgres) url(db string) string {
	return "postgres://cordboard@/" + db + "?host=" + p.dir + "&sslmode=disable"
}

// Database makes a new database and returns its URL.
func (p *Postgres) Database(tb testing.TB) string {
	tb.Helper()
	p.mu.Lock()
	p.n++
	name := fmt.Sprintf("test%d", p.n)
	p.mu.Unlock()
	c, err := pgx.Connect(tb.Context(), p.url("postgres"))
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := c.Exec(tb.Context(), "CREATE DATABASE "+name); err != nil {
		tb.Fatal(err)
	}
	if err := c.Close(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return p.url(name)
}
