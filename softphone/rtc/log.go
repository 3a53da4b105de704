package rtc

import (
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// quiet hands pion's warnings and errors to our log as debug: what matters to a person comes as an error
// or a state of the session.
type quiet struct{ log *slog.Logger }

// NewLogger implements logging.LoggerFactory.
func (q quiet) NewLogger(scope string) logging.LeveledLogger {
	return scoped{log: q.log.With("pion", scope)}
}

type scoped struct{ log *slog.Logger }

func (scoped) Trace(string)          {}
func (scoped) Tracef(string, ...any) {}
func (scoped) Debug(string)          {}
func (scoped) Debugf(string, ...any) {}
func (scoped) Info(string)           {}
func (scoped) Infof(string, ...any)  {}

func (s scoped) Warn(msg string)                { s.say(msg) }
func (s scoped) Warnf(format string, a ...any)  { s.say(fmt.Sprintf(format, a...)) }
func (s scoped) Error(msg string)               { s.say(msg) }
func (s scoped) Errorf(format string, a ...any) { s.say(fmt.Sprintf(format, a...)) }

func (s scoped) say(text string) {
	s.log.Debug("media library", "text", text)
}
