package server

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cordboard/cordboard/gateway/api"
)

// diskSpace asks the file system that dir is on.
func diskSpace(dir string) (space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return space{}, fmt.Errorf("free space: %w", err)
	}
	size := uint64(st.Bsize)
	return space{free: st.Bavail * size, total: st.Blocks * size, freeFile: st.Ffree, allFile: st.Files}, nil
}

// clockFinding asks the kernel how well its clock is kept.
func clockFinding() api.Finding {
	const check = "clock"
	const cure = "let chrony or systemd-timesyncd keep it: certificates, schedules and reports go by it"
	var t unix.Timex // modes 0: only read
	state, err := unix.Adjtimex(&t)
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSYS):
		return ok(check, "%s; whether it is kept by a time server is not known here", time.Now().Format(time.RFC3339))
	case err != nil:
		return warn(check, cure, "%v", err)
	case state == unix.TIME_ERROR, t.Status&unix.STA_UNSYNC != 0:
		return warn(check, cure, "%s, but no time server keeps it", time.Now().Format(time.RFC3339))
	}
	off := time.Duration(t.Maxerror) * time.Microsecond
	if off > clockWarn {
		return warn(check, cure, "%s, wrong by up to %v", time.Now().Format(time.RFC3339), off)
	}
	return ok(check, "%s, right within %v", time.Now().Format(time.RFC3339), off.Round(time.Millisecond))
}
