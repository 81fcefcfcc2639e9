package templates

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The template is rendered by the templater itself, from a catalog that a file describes:
// see cases. What comes out is golden, and nginx has to accept it.
func TestNginx(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "templater")
	if out, err := exec.Command("go", "build", "-o", bin, "../templater").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			catalog := serve(t, c)
			cmd := exec.Command(bin, "-once", "-dry", "-consul-addr="+catalog, "-template=nginx.conf.ctmpl:/out")
			cmd.Env = append(os.Environ(), "DEFAULT_SERVICE="+c.def)
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("templater: %v", err)
			}
			got := strings.TrimPrefix(string(out), "> /out\n")
			golden := filepath.Join("testdata", name+".conf")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(got, string(want)); d != "" {
				t.Errorf("got (-) want (+):\n%s", d)
			}
			check(t, got)
		})
	}
}

// check has nginx read a configuration.
func check(t *testing.T, conf string) {
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
	conf = strings.ReplaceAll(conf, "listen 80", "listen 127.0.0.1:18080")
	main := filepath.Join(dir, "nginx.conf")
	text := "pid " + dir + "/pid;\nerror_log " + dir + "/logs/error.log;\nevents {}\nhttp {\naccess_log off;\n" + conf + "\n}\n"
	if err := os.WriteFile(main, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(nginx, "-t", "-q", "-p", dir, "-c", main).CombinedOutput(); err != nil {
		t.Errorf("nginx refuses it: %v\n%s", err, out)
	}
}
