package dnsserver

// warn logs a message, unless it was logged a moment ago: anyone can ask what cannot be
// answered, as often as they like.
func (s *Server) warn(c *Config, msg string, args ...any) {
	s.warnings.Warn(c.Log, "", msg, args...)
}
