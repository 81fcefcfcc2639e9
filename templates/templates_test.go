package templates

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// binary builds the templater, once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "templates")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "templater")
	if out, err := exec.Command("go", "build", "-o", bin, "../templater").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if bin, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

// render has the templater itself render a template from a catalog.
func render(t *testing.T, template string, c catalog, env ...string) (string, error) {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-once", "-dry", "-consul-addr="+serve(t, c), "-template="+template+":/out")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return strings.TrimPrefix(string(out), "> /out\n"), err
}

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(got, string(want)); d != "" {
		t.Errorf("got (-) want (+):\n%s", d)
	}
}

// What the template makes of each catalog is golden, and nginx has to accept it.
func TestNginx(t *testing.T) {
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := render(t, "nginx.conf.ctmpl", c, "DEFAULT_SERVICE="+c.def)
			if err != nil {
				t.Fatalf("templater: %v", err)
			}
			golden(t, name+".conf", got)
			check(t, "http", got)
		})
	}
}

// check has nginx read a configuration.
func check(t *testing.T, block, conf string) {
	t.Helper()
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if nginx, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			t.Skip("no nginx on this machine to check the file: make deps installs it")
		}
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	// a port above 1023, so that no rights are needed
	conf = strings.NewReplacer("listen 80", "listen 127.0.0.1:18080", "listen 443", "listen 127.0.0.1:18443").Replace(conf)
	main := filepath.Join(dir, "nginx.conf")
	text := "pid " + dir + "/pid;\nerror_log " + dir + "/logs/error.log;\nevents {}\n"
	if modules, _ := filepath.Glob("/usr/lib/nginx/modules/ngx_stream_module.so"); block == "stream" && len(modules) > 0 {
		text = "load_module " + modules[0] + ";\n" + text
	} else if block == "stream" {
		t.Skip("this nginx has no stream module to check the file")
	}
	if block == "http" {
		conf = "access_log off;\n" + conf
	}
	text += block + " {\n" + conf + "\n}\n"
	if err := os.WriteFile(main, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(nginx, "-t", "-q", "-p", dir, "-c", main).CombinedOutput(); err != nil {
		t.Errorf("nginx refuses it: %v\n%s", err, out)
	}
}
