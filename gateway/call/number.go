package call

import "log/slog"

// Number is a telephone number as people dial it or carriers send it.
type Number string

// LogValue implements slog.LogValuer: logs show only the last two digits.
func (n Number) LogValue() slog.Value {
	if len(n) < 4 {
		return slog.StringValue("**")
	}
	return slog.StringValue("**" + string(n[len(n)-2:]))
}
