package api

// NodeInfo is a node with all that is on it.
type NodeInfo struct {
	ID              string
	Node            string
	Address         string
	TaggedAddresses map[string]string
	Meta            map[string]string
	Services        []*Service
	Checks          []*Check
}

// ServiceSummary is a service with how its instances are. Checks of a node count once.
type ServiceSummary struct {
	Name            string
	Tags            []string
	Nodes           []string
	InstanceCount   int
	ChecksPassing   int
	ChecksWarning   int
	ChecksCritical  int
	ExternalSources []string // who registered instances, by their meta external-source
}

// CatalogOverview counts nodes, the instances of services and checks by state.
type CatalogOverview struct {
	Nodes    []*HealthCount // one row
	Services []*HealthCount // by name
	Checks   []*HealthCount // by name
}

// HealthCount is how many of something there are, by state.
type HealthCount struct {
	Name     string `json:",omitempty"`
	Total    int
	Passing  int
	Warning  int
	Critical int
}

// Add counts one more in a state.
func (c *HealthCount) Add(status string) {
	c.Total++
	switch status {
	case Passing:
		c.Passing++
	case Warning:
		c.Warning++
	case Critical:
		c.Critical++
	}
}
