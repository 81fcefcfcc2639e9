package command

import "github.com/rollcall/rollcall/internal/api"

// The kinds of command that go to a server, in whichever datacenter, and are carried out
// by the one that takes them: they never are in the log.
const (
	OpFire    Op = 24
	OpKeyring Op = 25
)

// Fire sends a user event to all agents of a datacenter. Its ID is chosen by who fires it.
type Fire struct{ Event api.UserEvent }

// Op is OpFire.
func (*Fire) Op() Op { return OpFire }

// Exclusive is true.
func (*Fire) Exclusive() bool { return true }

// Keys is empty.
func (*Fire) Keys() []string { return nil }

// KeyOp is what is done about the keys of gossip.
type KeyOp string

// The operations on keys.
const (
	ListKeys   KeyOp = "list"
	InstallKey KeyOp = "install" // everybody reads with it from now on
	UseKey     KeyOp = "use"     // everybody writes with it from now on
	RemoveKey  KeyOp = "remove"  // it must not be in use
)

// Keyring has the members of the gossip pools do something about their keys.
type Keyring struct {
	Do    KeyOp
	Key   string `codec:",omitempty"` // base64
	Relay uint8  `codec:",omitempty"`
	// Here leaves out the pool between datacenters, and the other datacenters.
	Here bool `codec:",omitempty"`
}

// Op is OpKeyring.
func (*Keyring) Op() Op { return OpKeyring }

// Exclusive is true.
func (*Keyring) Exclusive() bool { return true }

// Keys is empty.
func (*Keyring) Keys() []string { return nil }
