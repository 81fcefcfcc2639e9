package acl

// Ids and names of what every cluster has.
const (
	ManagementID   = "00000000-0000-0000-0000-000000000001"
	ManagementName = "global-management"
	ReadOnlyID     = "00000000-0000-0000-0000-000000000002"
	ReadOnlyName   = "builtin/global-read-only"
)

// The texts of the built-in policies, as the API shows them.
const (
	ManagementRules = `
acl = "write"
agent_prefix "" { policy = "write" }
event_prefix "" { policy = "write" }
key_prefix "" { policy = "write" }
keyring = "write"
node_prefix "" { policy = "write" }
operator = "write"
query_prefix "" { policy = "write" }
service_prefix "" { policy = "write" }
session_prefix "" { policy = "write" }
`
	ReadOnlyRules = `
acl = "read"
agent_prefix "" { policy = "read" }
event_prefix "" { policy = "read" }
key_prefix "" { policy = "read" }
keyring = "read"
node_prefix "" { policy = "read" }
operator = "read"
query_prefix "" { policy = "read" }
service_prefix "" { policy = "read" }
session_prefix "" { policy = "read" }
`
)

// ServiceIdentity gives what an instance of a service needs: to register itself (and the
// proxy that Consul's mesh would put beside it), and to see who else is there.
func ServiceIdentity(service string) Policy {
	return Policy{
		{Resource: Service, Name: service, Access: Write},
		{Resource: Service, Name: service + "-sidecar-proxy", Access: Write},
		{Resource: Service, Prefix: true, Access: Read},
		{Resource: Node, Prefix: true, Access: Read},
	}
}

// NodeIdentity gives what an agent needs: to register its node, and to see services.
func NodeIdentity(node string) Policy {
	return Policy{
		{Resource: Node, Name: node, Access: Write},
		{Resource: Service, Prefix: true, Access: Read},
	}
}

// AgentRecovery gives what the agent_recovery token may on its own agent, also while no
// server answers.
func AgentRecovery(node string) Policy {
	return Policy{
		{Resource: Agent, Name: node, Access: Write},
		{Resource: Node, Prefix: true, Access: Read},
	}
}
