package call

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
)

// recording is a call's one recording: from the first connection to the end,
// customer left and agent right. A nil recording records nothing.
type recording struct {
	rec  *media.Recording
	path string // relative to the recordings' folder
	once sync.Once
}

// recordingPath is where a call's recording lies under the recordings' folder:
// dated folders, named by guid (REC-13).
func (c *Call) recordingPath() string {
	t := c.started.UTC()
	return filepath.Join(t.Format("2006"), t.Format("01"), t.Format("02"), c.ID+".wav")
}

// startRecording begins the recording at the first connection.
func (c *Call) startRecording() {
	if !c.Record || c.rec != nil || c.sw.o.Recorder == nil {
		return
	}
	rel := c.recordingPath()
	full := filepath.Join(c.sw.o.Recordings, rel)
	law := c.customer.port.Codec()
	if law != "PCMA" && law != "PCMU" {
		law = ""
	}
	// The fact goes first: a file that no fact tells of would be found by nobody
	// after a crash.
	path := filepath.ToSlash(rel)
	c.journal(event.RecordingStarted{CallID: c.ID, Campaign: c.Campaign, Path: path})
	rec, err := c.sw.o.Recorder.Record(full, media.RecordOptions{Codec: law, Failed: func(err error) {
		c.post(func() { c.recordingFailed(err) })
	}})
	if err != nil {
		c.recordingFailed(err)
		c.journal(event.RecordingFinished{CallID: c.ID, Path: path})
		return
	}
	c.rec = &recording{rec: rec, path: rel}
	c.rec.rec.Customer(c.customer.port)
}

// recordingFailed raises the alarm; the call goes on (design: disk full).
func (c *Call) recordingFailed(err error) {
	c.log.Error("recording stopped", "err", err)
	c.recordingAlarm(true, fmt.Sprintf("call %s is not recorded: %v", c.ID, err))
}

// recordingAlarm raises the alarm, or lowers it once a whole recording could
// be written again.
func (c *Call) recordingAlarm(active bool, message string) {
	if was := c.sw.recordingAlarm.Swap(active); !active && !was {
		return
	}
	if c.sw.o.Alarm != nil {
		c.sw.o.Alarm(active, message)
	}
	c.journal(event.Alarm{Name: "recording", Active: active, Message: message})
}

// agent changes whose voice is on the right side; nil = nobody's.
func (r *recording) agent(p *media.Port) {
	if r == nil {
		return
	}
	if p == nil {
		r.rec.Agent(nil)
		return
	}
	r.rec.Agent(p)
}

// stopRecording finishes the file beside the call's goroutine; the switch
// waits for it when it closes.
func (c *Call) stopRecording() {
	r := c.rec
	if r == nil {
		return
	}
	c.sw.wg.Go(func() { r.finish(c) })
}

func (r *recording) finish(c *Call) {
	r.once.Do(func() {
		info, err := r.rec.Stop()
		switch {
		case err != nil && !errors.Is(err, media.ErrRecorderClosed):
			c.log.Error("finish recording", "err", err)
			c.recordingAlarm(true, fmt.Sprintf("recording of call %s is incomplete: %v", c.ID, err))
		case err == nil && info.Lost == 0:
			c.recordingAlarm(false, "recordings can be written")
		}
		c.journal(event.RecordingFinished{
			CallID: c.ID, Path: filepath.ToSlash(r.path), DurationMs: info.Duration.Milliseconds(),
			Bytes: info.Bytes, SHA256: info.SHA256, LostMs: info.Lost.Milliseconds(),
		})
	})
}
