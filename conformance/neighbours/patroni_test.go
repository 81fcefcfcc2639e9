package neighbours

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is for what Patroni does, which takes over when a session of 20 s has ended.
const patience = 90 * time.Second

// database is a PostgreSQL with the Patroni that looks after it.
type database struct {
	name, api, port, dir string
	who                  *syscall.Credential // PostgreSQL does not run as root
	patroni              *exec.Cmd
}

// TestPatroni has two databases find out which of them leads by a lock of ours, and the
// other take over when the leader's process is killed and its session has ended. A server
// of ours that is killed and starts again changes nothing.
func TestPatroni(t *testing.T) {
	for _, program := range []string{"patroni", "psql"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%v: deploy/deps.sh neighbours installs it", err)
		}
	}
	bin := build(t)
	s := agent(t, bin, "-server", "-bootstrap-expect=1", "-bind=127.0.0.1", "-data-dir="+t.TempDir())
	one := startDatabase(t, s.addr, "one")
	eventually(t, patience, "the first leads", func() error { return one.is("primary") })
	two := startDatabase(t, s.addr, "two")
	eventually(t, patience, "the second follows", func() error { return two.is("replica") })
	eventually(t, patience, "the catalog has both in their parts", func() error {
		body, err := get("http://" + s.addr + "/v1/health/service/data?passing")
		var all []struct {
			Service struct {
				ID   string
				Tags []string
			}
		}
		if err == nil {
			err = json.Unmarshal([]byte(body), &all)
		}
		is := map[string]string{}
		for _, e := range all {
			is[e.Service.ID] = strings.Join(e.Service.Tags, ",")
		}
		if err == nil && (!strings.Contains(is["data/one"], "primary") || !strings.Contains(is["data/two"], "replica")) {
			err = fmt.Errorf("it has %v", is)
		}
		return err
	})
	write := func(row string) {
		t.Helper()
		if _, err := one.sql("create table if not exists seen (what text); insert into seen values ('" + row + "')"); err != nil {
			t.Fatal(err)
		}
	}
	copied := func(rows string) {
		t.Helper()
		eventually(t, patience, "the second has a copy", func() error {
			got, err := two.sql("select string_agg(what, ',' order by what) from seen")
			if err == nil && got != rows {
				err = fmt.Errorf("it has %q, want %q", got, rows)
			}
			return err
		})
	}
	write("1")
	copied("1")

	s.end(syscall.SIGKILL)
	s.start(t)
	write("2")
	copied("1,2")
	if err := one.is("primary"); err != nil {
		t.Errorf("our server was killed and started: %v", err)
	}

	one.kill(t)
	eventually(t, patience, "the second takes over", func() error { return two.is("primary") })
	copied("1,2")
}

// startDatabase starts one of the databases of a cluster.
func startDatabase(t *testing.T, consul, name string) *database {
	t.Helper()
	dir, err := os.MkdirTemp("", "patroni")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ports := free(t, 2)
	d := &database{name: name, api: "127.0.0.1:" + ports[0], port: ports[1], dir: filepath.Join(dir, "data")}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		d.who = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	programs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(programs) == 0 {
		t.Fatalf("no PostgreSQL below /usr/lib/postgresql: %v", err)
	}
	config := fmt.Sprintf(`
scope: data
name: %[1]s
restapi: {listen: %[2]s, connect_address: %[2]s}
consul: {host: %[3]s, register_service: true, service_check_interval: 2s}
bootstrap:
  dcs: {ttl: 20, loop_wait: 1, retry_timeout: 5}
  initdb: [{encoding: UTF8}]
  pg_hba: [local all all trust, host all all 127.0.0.1/32 trust, host replication all 127.0.0.1/32 trust]
postgresql:
  listen: 127.0.0.1:%[4]s
  connect_address: 127.0.0.1:%[4]s
  data_dir: %[5]s
  bin_dir: %[6]s
  authentication: {superuser: {username: postgres, password: x}, replication: {username: copies, password: x}}
  pgpass: %[7]s/pgpass
  parameters: {unix_socket_directories: %[7]s}
`, name, d.api, consul, d.port, d.dir, programs[len(programs)-1], dir)
	file := filepath.Join(dir, "patroni.yml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	d.patroni = exec.Command("patroni", file)
	d.patroni.Dir = dir
	d.patroni.Stdout, d.patroni.Stderr = t.Output(), t.Output()
	d.patroni.SysProcAttr = &syscall.SysProcAttr{Credential: d.who}
	if err := d.patroni.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.kill(t) })
	return d
}

// kill ends both, as the loss of their host would.
func (d *database) kill(t *testing.T) {
	if d.patroni.ProcessState != nil {
		return
	}
	d.patroni.Process.Kill()
	defer d.patroni.Wait() // PostgreSQL has what it writes to as well
	text, err := os.ReadFile(filepath.Join(d.dir, "postmaster.pid"))
	if errors.Is(err, os.ErrNotExist) {
		return // it never ran
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, perr := strconv.Atoi(first)
	if err = errors.Join(err, perr); err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		t.Errorf("%s: end PostgreSQL: %v", d.name, err)
	}
}

// is tells whether Patroni calls the database primary or replica.
func (d *database) is(part string) error {
	_, err := get("http://" + d.api + "/" + part)
	return err
}

// sql gives what the database answers.
func (d *database) sql(query string) (string, error) {
	out, err := exec.Command("psql", "-h", "127.0.0.1", "-p", d.port, "-U", "postgres", "-Atc", query).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", d.name, query, err, text)
	}
	return text, err
}
