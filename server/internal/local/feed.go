package local

// Feed collects what changes for one reader, who takes it in his own time. Changes add
// up to sets of ids: looking at each id once is enough, however often it changed.
type Feed struct {
	state *State
	wake  chan struct{} // 1: there is something to take
	news  Changes       // guarded by state.mu
}

// Changes are the ids of what became different: what is not there any more is gone.
type Changes struct {
	// Definitions are checks to be run otherwise than before.
	Definitions map[string]bool
	// Services and Checks are rows.
	Services, Checks map[string]bool
	// Health are services whose health may be another; "" is the node's.
	Health map[string]bool
}

func noChanges() Changes {
	return Changes{map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}}
}

// Feed gives a new feed. Its first Take has everything that is there.
func (s *State) Feed() *Feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &Feed{state: s, wake: make(chan struct{}, 1), news: noChanges()}
	for id := range s.services {
		f.news.Services[id], f.news.Health[id] = true, true
	}
	for id := range s.checks {
		f.news.Checks[id], f.news.Definitions[id] = true, true
	}
	s.feeds = append(s.feeds, f)
	f.wake <- struct{}{}
	return f
}

// Wake gives the channel that holds a token when there is something to take.
func (f *Feed) Wake() <-chan struct{} { return f.wake }

// Take gives what changed since the last call. The sets are the caller's.
func (f *Feed) Take() Changes {
	f.state.mu.Lock()
	defer f.state.mu.Unlock()
	c := f.news
	f.news = noChanges()
	return c
}

// The changes that feeds are told; all are called with mu held. notify wakes their
// readers.

func (s *State) serviceChanged(id string) {
	for _, f := range s.feeds {
		f.news.Services[id], f.news.Health[id] = true, true
	}
}

func (s *State) checkChanged(id, service string) {
	for _, f := range s.feeds {
		f.news.Checks[id], f.news.Health[service] = true, true
	}
}

func (s *State) definitionChanged(id string) {
	for _, f := range s.feeds {
		f.news.Definitions[id] = true
	}
}
