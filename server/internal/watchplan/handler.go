package watchplan

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// kept is how much of what a handler prints goes to the log, from its end.
const kept = 4096

// Program runs a program with the answer on its standard input, and the index as
// CONSUL_INDEX. What it prints goes to the log. It and what it started are killed when the
// watch ends.
func Program(args []string, log *slog.Logger) Handler {
	return func(ctx context.Context, index uint64, answer []byte) error {
		out := &tail{}
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CONSUL_INDEX="+strconv.FormatUint(index, 10))
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(answer), out, out
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.WaitDelay = time.Second // for one that went on in another group and holds the pipes
		err := cmd.Run()
		var exit *exec.ExitError
		if err == nil || errors.As(err, &exit) {
			log.Debug("handler ran", "program", args[0], "index", index, "output", out.String())
		}
		if err != nil {
			return fmt.Errorf("%s: %w: %s", args[0], err, out.String())
		}
		return nil
	}
}

// Shell runs a line by the shell, as Program does.
func Shell(line string, log *slog.Logger) Handler {
	shell := os.Getenv("SHELL")
	if shell == "" {
		shell = "/bin/sh"
	}
	return Program([]string{shell, "-c", line}, log)
}

// tail keeps the end of what is written to it.
type tail struct {
	b   []byte
	cut bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if n := len(t.b) - kept; n > 0 {
		t.b, t.cut = append([]byte(nil), t.b[n:]...), true
	}
	return len(p), nil
}

func (t *tail) String() string {
	text := string(bytes.TrimSpace(t.b))
	if t.cut {
		text = "…" + text
	}
	return text
}

// Target is a URL that takes answers.
type Target struct {
	URL           string
	Method        string        // "" is POST
	Timeout       time.Duration // 0 is 10s
	Header        map[string][]string
	TLSSkipVerify bool
}

// Send sends the answer as the body of a request, with the index as X-Consul-Index. Any
// status of 200 to 299 is success.
func Send(t Target, log *slog.Logger) Handler {
	if t.Method == "" {
		t.Method = http.MethodPost
	}
	if t.Timeout == 0 {
		t.Timeout = 10 * time.Second
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // there may be hours between two answers
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: t.TLSSkipVerify}
	client := &http.Client{Transport: transport, Timeout: t.Timeout}
	return func(ctx context.Context, index uint64, answer []byte) error {
		req, err := http.NewRequestWithContext(ctx, t.Method, t.URL, bytes.NewReader(answer))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		for k, values := range t.Header {
			req.Header[http.CanonicalHeaderKey(k)] = values
			if http.CanonicalHeaderKey(k) == "Host" && len(values) > 0 {
				req.Host = values[0]
			}
		}
		req.Header.Set("X-Consul-Index", strconv.FormatUint(index, 10))
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, kept))
		if err != nil {
			return fmt.Errorf("%s %s: read the answer: %w", t.Method, t.URL, err)
		}
		if resp.StatusCode/100 != 2 {
			return fmt.Errorf("%s %s: %s: %s", t.Method, t.URL, resp.Status, bytes.TrimSpace(body))
		}
		log.Debug("handler called", "url", t.URL, "index", index, "status", resp.StatusCode)
		return nil
	}
}
