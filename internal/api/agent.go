package api

// Self is what an agent says of itself at /v1/agent/self.
type Self struct {
	Config      map[string]any
	DebugConfig map[string]any
	Coord       *Coordinate
	Member      Member
	Stats       map[string]map[string]string
	Meta        map[string]string
}
