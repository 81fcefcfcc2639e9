// Command rollcall is the catalog server, the client agent and the command line. It
// works the same when called by a link named consul.
package main

import "github.com/rollcall/rollcall/server/internal/cli"

func main() { cli.Main() }
