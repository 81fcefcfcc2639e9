package logging

import (
	"fmt"
	"log/slog"
	"log/syslog"
)

// dialSyslog opens the host's syslog, or one at an address, which is connected anew when it
// has been away.
func dialSyslog(network, addr string, facility int) (write func(slog.Level, []byte), close func() error, err error) {
	w, err := syslog.Dial(network, addr, syslog.Priority(facility<<3)|syslog.LOG_INFO, "rollcall")
	if err != nil {
		return nil, nil, fmt.Errorf("no syslog answers on this host: %w", err)
	}
	return func(level slog.Level, line []byte) {
		text := string(line)
		switch { // an error has nobody to be told to: the stream has the line too
		case level >= slog.LevelError:
			_ = w.Err(text)
		case level >= slog.LevelWarn:
			_ = w.Warning(text)
		case level >= slog.LevelInfo:
			_ = w.Info(text)
		default:
			_ = w.Debug(text)
		}
	}, w.Close, nil
}
