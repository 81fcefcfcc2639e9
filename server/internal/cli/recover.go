package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/fsm"
	"github.com/rollcall/rollcall/server/internal/store"
)

func (a *app) recover() *cli.Command {
	return &cli.Command{
		Name: "recover", Usage: "have a stopped server's log go on without the servers that are lost",
		UsageText: "rollcall operator raft recover -data-dir=/var/lib/rollcall",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data-dir", Usage: "the data directory of a server that does not run"},
			&cli.StringSliceFlag{Name: "server", Usage: "a server that survives, by node id, with its address if it has another now; repeat for more (default: this one alone)"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
		},
		Action: func(_ context.Context, c *cli.Command) error {
			dir := c.String("data-dir")
			if dir == "" {
				return misused(c, "give -data-dir, the data directory of a server that does not run")
			}
			id, err := os.ReadFile(filepath.Join(dir, "node-id"))
			if err != nil {
				return fmt.Errorf("%s is no agent's data directory: %w", dir, err)
			}
			quiet := slog.New(slog.DiscardHandler)
			past, err := consensus.Look(dir, quiet)
			if errors.Is(err, consensus.ErrLocked) {
				return fmt.Errorf("the server of %s runs: stop it first", dir)
			}
			if err != nil {
				return err
			}
			servers, err := survivors(past, strings.TrimSpace(string(id)), c.StringSlice("server"))
			if err != nil {
				return err
			}
			a.printf("The log in %s ends with entry %d of term %d. Its servers:\n\n", dir, past.Index, past.Term)
			rows := [][]string{{"ID", "Address", "Voter", "Afterwards"}}
			stays := map[string]bool{}
			for _, s := range servers {
				stays[s.ID] = true
			}
			known := map[string]bool{}
			for _, s := range past.Servers {
				known[s.ID] = true
				after := "gone"
				if stays[s.ID] {
					after = "voter"
				}
				rows = append(rows, []string{s.ID, s.Address, strconv.FormatBool(s.Voter), after})
			}
			for _, s := range servers {
				if !known[s.ID] {
					rows = append(rows, []string{s.ID, s.Addr, "-", "voter"})
				}
			}
			a.table(rows...)
			a.printf("\nThe log will go on with %d of them alone. What only the others had is lost; of several survivors take\n"+
				"the one whose log ends last. Servers that are gone may come back only with an empty data directory.\n", len(servers))
			if !c.Bool("yes") {
				a.printf("Type yes to go on: ")
				line, _ := bufio.NewReader(a.Stdin).ReadString('\n')
				if strings.TrimSpace(line) != "yes" {
					return &exit{1, "Nothing was changed."}
				}
			}
			kept, err := consensus.Recover(dir, servers, fsm.New(store.New(), quiet), quiet)
			if err != nil {
				return err
			}
			a.printf("Recovered. What was there before is in %s. Start this server now.\n", kept)
			return nil
		},
	}
}

// survivors are the servers that the log shall go on with: those named, or self.
func survivors(past *consensus.Past, self string, named []string) ([]consensus.Server, error) {
	addresses := map[string]string{}
	for _, s := range past.Servers {
		addresses[s.ID] = s.Address
	}
	if len(named) == 0 {
		named = []string{self}
	}
	var out []consensus.Server
	for _, n := range named {
		id, addr, given := strings.Cut(n, "=")
		if !given {
			addr = addresses[id]
		}
		if addr == "" {
			return nil, fmt.Errorf("server %q is not in this log: give its address as well, -server=ID=HOST:PORT", id)
		}
		for _, s := range out {
			if s.ID == id || s.Addr == addr {
				return nil, fmt.Errorf("server %q and %q are one: name each server once, with the address it has now", s.ID+"="+s.Addr, id+"="+addr)
			}
		}
		out = append(out, consensus.Server{ID: id, Addr: addr})
	}
	if !slices.ContainsFunc(out, func(s consensus.Server) bool { return s.ID == self }) {
		return nil, fmt.Errorf("the server whose log this is, %s, is not among those that it shall go on with: name it too, or recover the log of one that is", self)
	}
	return out, nil
}
