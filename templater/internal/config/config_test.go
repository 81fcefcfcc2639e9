package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A file written for consul-template is read as it is.
func TestConsulTemplateFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ct.hcl")
	text := `
consul {
  address = "10.0.0.1:8500"
  retry {
    attempts = 12
  }
}
max_stale = "10m"
vault {
  address = "https://vault.example:8200"
}
wait {
  min = "5s"
  max = "10s"
}
template {
  source      = "/in/one"
  destination = "/out/one"
  command     = "service nginx reload"
  perms       = 0600
  backup      = true
}
template {
  contents    = "{{ key \"x\" }}"
  destination = "/out/two"
  command     = ["service nginx reload"]
  wait {
    min = "1s"
  }
}
template {
  source      = "/in/three"
  destination = "/out/three"
  exec {
    command = ["nginx", "-s", "reload"]
    timeout = "5s"
  }
}
`
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	in, err := ParseFlags([]string{"-config", path, "-consul-addr=10.0.0.2:8500"})
	if err != nil {
		t.Fatal(err)
	}
	c, warnings, err := in.Load()
	if err != nil {
		t.Fatal(err)
	}
	if c.Consul.Address != "10.0.0.2:8500" || c.MaxStale != 10*time.Minute || len(c.Templates) != 3 {
		t.Errorf("address %s, max stale %v, %d templates", c.Consul.Address, c.MaxStale, len(c.Templates))
	}
	one, two, three := c.Templates[0], c.Templates[1], c.Templates[2]
	if one.Perms != 0o600 || !one.Backup || one.Command.Shell != "service nginx reload" || one.Wait != (Wait{5 * time.Second, 10 * time.Second}) {
		t.Errorf("the first template: %+v", one)
	}
	if len(two.Command.Argv) != 1 || two.Wait != (Wait{time.Second, 4 * time.Second}) {
		t.Errorf("the second template: %+v", two)
	}
	if strings.Join(three.Command.Argv, " ") != "nginx -s reload" || three.Timeout != 5*time.Second {
		t.Errorf("the third template: %+v", three)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "vault") {
		t.Errorf("warnings: %v", warnings)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	in, err := ParseFlags([]string{"-nginx", "-template=a:/a", "-template=b:/b:reload x", "-template=c:/c", "-template=d:/d:reload x", "-template=e:/e:other"})
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := in.Load()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range c.Groups() {
		line := g.Name + ":"
		for _, t := range g.Templates {
			line += t.Source
		}
		got = append(got, line)
	}
	if want := "nginx:ac reload x:bd other:e"; strings.Join(got, " ") != want {
		t.Errorf("groups: %v, want %s", got, want)
	}
	c.Nginx.Enabled = false
	if n := len(c.Groups()); n != 4 {
		t.Errorf("%d groups without the preset, want 4: files without a command stand alone", n)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, c := range map[string]struct {
		args  []string
		want  string
		usage bool
	}{
		"unknown flag":      {[]string{"-templat=x:y"}, "did you mean -template?", true},
		"no destination":    {[]string{"-template=x"}, "SOURCE:DESTINATION", true},
		"bad wait":          {[]string{"-wait=5s:1s"}, "MAX not below MIN", true},
		"a word":            {[]string{"run"}, "is no flag", true},
		"nothing to render": {nil, "nothing to render", false},
		"two for one file":  {[]string{"-template=a:/x", "-template=b:/x"}, "two templates write to it", false},
		"unknown key":       {[]string{"-config=" + file("a.hcl", "templte {\n}\n")}, "did you mean template?", false},
		"two sources":       {[]string{"-config=" + file("b.hcl", "template {\n  source = \"a\"\n  contents = \"b\"\n  destination = \"c\"\n}\n")}, "one of them", false},
		"bad perms":         {[]string{"-config=" + file("c.json", `{"template": {"source": "a", "destination": "b", "perms": "rw"}}`)}, "octal", false},
		"no such file":      {[]string{"-config=/nowhere"}, "/nowhere", false},
	} {
		in, err := ParseFlags(c.args)
		if err == nil {
			if c.usage {
				t.Errorf("%s: no fault of the command line", name)
			}
			_, _, err = in.Load()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrUsage) != c.usage {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// Every flag of the help is one, and teaches.
func TestHelp(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	Help(&out)
	for _, want := range []string{"-template", "-nginx", "-consul-addr", "-once", "Exit codes"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the help lacks %s", want)
		}
	}
	if _, err := ParseFlags([]string{"-h"}); !errors.Is(err, ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}
