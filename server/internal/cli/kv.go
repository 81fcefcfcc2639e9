package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"
)

func (a *app) kv() *cli.Command {
	return &cli.Command{
		Name: "kv", Usage: "read and write keys",
		Commands: []*cli.Command{a.kvGet(), a.kvPut(), a.kvDelete(), a.kvExport(), a.kvImport()},
	}
}

func (a *app) kvGet() *cli.Command {
	return &cli.Command{
		Name: "get", Usage: "print a key's value", ArgsUsage: "KEY", UsageText: "rollcall kv get app/colour\nrollcall kv get -recurse app/",
		Flags: catalogFlags(format(),
			&cli.BoolFlag{Name: "detailed", Usage: "with flags, indexes and session"},
			&cli.BoolFlag{Name: "keys", Usage: "only the names of the keys below KEY"},
			&cli.BoolFlag{Name: "recurse", Usage: "all keys below KEY"},
			&cli.BoolFlag{Name: "base64", Usage: "values in base64"},
			&cli.StringFlag{Name: "separator", Usage: "with -keys: fold deeper keys at this", Value: "/"},
		),
		Action: func(_ context.Context, c *cli.Command) error {
			key := strings.TrimPrefix(c.Args().First(), "/")
			many := c.Bool("keys") || c.Bool("recurse")
			if c.Args().Len() > 1 || key == "" && !many {
				return misused(c, "name one key, or a prefix with -keys or -recurse")
			}
			cl, err := client(c)
			if err != nil {
				return err
			}
			switch {
			case c.Bool("keys"):
				keys, _, err := cl.KV().Keys(key, c.String("separator"), options(c))
				if err != nil {
					return explain("querying keys", err)
				}
				return a.lines(c, keys)
			case c.Bool("recurse"):
				pairs, _, err := cl.KV().List(key, options(c))
				if err != nil {
					return explain("querying keys", err)
				}
				if c.String("format") == "json" {
					return a.json(pairs)
				}
				for i, p := range pairs {
					if !c.Bool("detailed") {
						a.printf("%s:%s\n", p.Key, value(c, p))
						continue
					}
					if i > 0 {
						a.printf("\n")
					}
					a.pair(c, p)
				}
				return nil
			}
			p, _, err := cl.KV().Get(key, options(c))
			if err != nil {
				return explain("querying key", err)
			}
			if p == nil {
				return fmt.Errorf("Error! No key exists at: %s", key)
			}
			switch {
			case c.String("format") == "json":
				return a.json(p)
			case c.Bool("detailed"):
				a.pair(c, p)
				return nil
			}
			a.printf("%s\n", value(c, p))
			return nil
		},
	}
}

func value(c *cli.Command, p *consul.KVPair) string {
	if c.Bool("base64") {
		return base64.StdEncoding.EncodeToString(p.Value)
	}
	return string(p.Value)
}

func (a *app) pair(c *cli.Command, p *consul.KVPair) {
	session := p.Session
	if session == "" {
		session = "-"
	}
	for _, f := range [][2]string{
		{"CreateIndex", strconv.FormatUint(p.CreateIndex, 10)}, {"Flags", strconv.FormatUint(p.Flags, 10)}, {"Key", p.Key},
		{"LockIndex", strconv.FormatUint(p.LockIndex, 10)}, {"ModifyIndex", strconv.FormatUint(p.ModifyIndex, 10)}, {"Session", session}, {"Value", value(c, p)},
	} {
		a.printf("%s\n", strings.TrimRight(fmt.Sprintf("%-16s %s", f[0], f[1]), " "))
	}
}

func (a *app) kvPut() *cli.Command {
	return &cli.Command{
		Name: "put", Usage: "write a key", ArgsUsage: "KEY [VALUE | @FILE | -]", UsageText: "rollcall kv put app/colour blue",
		Flags: catalogFlags(
			&cli.BoolFlag{Name: "cas", Usage: "only if the key's ModifyIndex is -modify-index; 0 means that it is not there"},
			&cli.Uint64Flag{Name: "modify-index", Usage: "with -cas"},
			&cli.Uint64Flag{Name: "flags", Usage: "a number kept with the value"},
			&cli.BoolFlag{Name: "base64", Usage: "VALUE is base64"},
			&cli.StringFlag{Name: "session", Usage: "with -acquire or -release"},
			&cli.BoolFlag{Name: "acquire", Usage: "take the key's lock for -session"},
			&cli.BoolFlag{Name: "release", Usage: "give it up"},
		),
		Action: func(_ context.Context, c *cli.Command) error {
			if n := c.Args().Len(); n < 1 || n > 2 {
				return misused(c, "name a key and a value (@FILE reads a file, - standard input)")
			}
			key := strings.TrimPrefix(c.Args().First(), "/")
			data, err := a.data(c.Args().Get(1))
			if err != nil {
				return fmt.Errorf("rollcall kv put: %w", err)
			}
			if c.Bool("base64") {
				if data, err = base64.StdEncoding.DecodeString(string(data)); err != nil {
					return fmt.Errorf("rollcall kv put: the value is no base64: %w", err)
				}
			}
			cl, err := client(c)
			if err != nil {
				return err
			}
			p := &consul.KVPair{Key: key, Value: data, Flags: c.Uint64("flags"), ModifyIndex: c.Uint64("modify-index"), Session: c.String("session")}
			ok, why := true, ""
			switch {
			case c.Bool("cas") && !c.IsSet("modify-index"):
				return misused(c, "-cas needs -modify-index; 0 means that the key is not there")
			case (c.Bool("acquire") || c.Bool("release")) && p.Session == "":
				return misused(c, "-acquire and -release need -session")
			case c.Bool("cas"):
				ok, _, err = cl.KV().CAS(p, writeOptions(c))
				why = "CAS failed"
			case c.Bool("acquire"):
				ok, _, err = cl.KV().Acquire(p, writeOptions(c))
				why = "Did not acquire lock: it is held"
			case c.Bool("release"):
				ok, _, err = cl.KV().Release(p, writeOptions(c))
				why = "Did not release lock: it is not held by that session"
			default:
				_, err = cl.KV().Put(p, writeOptions(c))
			}
			if err != nil {
				return explain("writing "+key, err)
			}
			if !ok {
				return fmt.Errorf("Error! Did not write to %s: %s", key, why)
			}
			a.printf("Success! Data written to: %s\n", key)
			return nil
		},
	}
}

// maxInput is how many bytes of a file or of the input are read.
const maxInput = 512 << 20

// data reads a value as it is named.
func (a *app) data(arg string) ([]byte, error) {
	var from io.Reader
	switch {
	case arg == "-":
		from = a.Stdin
	case strings.HasPrefix(arg, "@"):
		file, err := os.Open(arg[1:])
		if err != nil {
			return nil, err
		}
		defer file.Close()
		from = file
	default:
		return []byte(arg), nil
	}
	b, err := io.ReadAll(io.LimitReader(from, maxInput+1))
	if err == nil && len(b) > maxInput {
		err = fmt.Errorf("more than %d MB to read", maxInput>>20)
	}
	return b, err
}

func (a *app) kvDelete() *cli.Command {
	return &cli.Command{
		Name: "delete", Usage: "remove a key, or all below a prefix", ArgsUsage: "KEY", UsageText: "rollcall kv delete -recurse app/",
		Flags: catalogFlags(
			&cli.BoolFlag{Name: "recurse", Usage: "all keys below KEY"},
			&cli.BoolFlag{Name: "cas", Usage: "only if the key's ModifyIndex is -modify-index"},
			&cli.Uint64Flag{Name: "modify-index", Usage: "with -cas"},
		),
		Action: func(_ context.Context, c *cli.Command) error {
			key := strings.TrimPrefix(c.Args().First(), "/")
			switch {
			case c.Args().Len() != 1 || key == "" && !c.Bool("recurse"):
				return misused(c, "name one key, or a prefix with -recurse")
			case c.Bool("recurse") && c.Bool("cas"):
				return misused(c, "-recurse and -cas exclude each other")
			case c.Bool("cas") && c.Uint64("modify-index") == 0:
				return misused(c, "-cas needs -modify-index")
			}
			cl, err := client(c)
			if err != nil {
				return err
			}
			if c.Bool("recurse") {
				if _, err := cl.KV().DeleteTree(key, writeOptions(c)); err != nil {
					return explain("deleting "+key, err)
				}
				a.printf("Success! Deleted keys with prefix: %s\n", key)
				return nil
			}
			ok := true
			if c.Bool("cas") {
				ok, _, err = cl.KV().DeleteCAS(&consul.KVPair{Key: key, ModifyIndex: c.Uint64("modify-index")}, writeOptions(c))
			} else {
				_, err = cl.KV().Delete(key, writeOptions(c))
			}
			if err != nil {
				return explain("deleting "+key, err)
			}
			if !ok {
				return fmt.Errorf("Error! Did not delete key %s: CAS failed", key)
			}
			a.printf("Success! Deleted key: %s\n", key)
			return nil
		},
	}
}

// exported is a key as export and import write it.
type exported struct {
	Key   string `json:"key"`
	Flags uint64 `json:"flags"`
	Value string `json:"value"`
}

func (a *app) kvExport() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "print keys as JSON", ArgsUsage: "[PREFIX]", UsageText: "rollcall kv export app/ > keys.json", Flags: catalogFlags(),
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Len() > 1 {
				return misused(c, "name one prefix")
			}
			show := a.progress("reading", 0, bytesOf)
			cl, err := countedClient(c, show)
			if err != nil {
				return err
			}
			pairs, _, err := cl.KV().List(strings.TrimPrefix(c.Args().First(), "/"), options(c))
			if err != nil {
				return explain("querying keys", err)
			}
			show.end()
			out := make([]exported, len(pairs))
			for i, p := range pairs {
				out[i] = exported{p.Key, p.Flags, base64.StdEncoding.EncodeToString(p.Value)}
			}
			b, err := json.MarshalIndent(out, "", "\t")
			if err != nil {
				return err
			}
			a.printf("%s\n", b)
			return nil
		},
	}
}

func (a *app) kvImport() *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "write keys that export printed", ArgsUsage: "JSON | @FILE | -", UsageText: "rollcall kv import @keys.json",
		Flags: catalogFlags(&cli.StringFlag{Name: "prefix", Usage: "put before every key"}),
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Len() != 1 {
				return misused(c, "give the JSON, @FILE or -")
			}
			b, err := a.data(c.Args().First())
			if err != nil {
				return fmt.Errorf("rollcall kv import: %w", err)
			}
			var in []exported
			if err := json.Unmarshal(b, &in); err != nil {
				return fmt.Errorf("rollcall kv import: this is no export: %w", err)
			}
			pairs := make([]*consul.KVPair, len(in))
			for i, e := range in { // all, before the first is written
				v, err := base64.StdEncoding.DecodeString(e.Value)
				if err != nil {
					return fmt.Errorf("rollcall kv import: value of %s: %w", e.Key, err)
				}
				pairs[i] = &consul.KVPair{Key: c.String("prefix") + e.Key, Flags: e.Flags, Value: v}
			}
			cl, err := client(c)
			if err != nil {
				return err
			}
			show := a.progress("importing", int64(len(pairs)), func(n int64) string { return fmt.Sprint(n) })
			if terminal(a.Stdout) {
				show.to = nil // each key is printed there
			}
			defer show.end()
			for _, p := range pairs {
				if _, err := cl.KV().Put(p, writeOptions(c)); err != nil {
					return explain("writing "+p.Key, err)
				}
				a.printf("Imported: %s\n", p.Key)
				show.add(1)
			}
			return nil
		},
	}
}
