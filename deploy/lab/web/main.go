// Command web is the workload of the lab: a web server that says which container
// answered, and that serves on for a while after SIGTERM or SIGQUIT, as a draining app
// does. SIGHUP is taken for a wish to reload, and changes nothing.
//
//	web [-listen :8080] [-drain 2s] [-start 1s]   serve
//	web -probe                        exit 0 if it is well: for HEALTHCHECK
//	web -ill true|false               make it ill, or well again
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	listen := flag.String("listen", ":8080", "address to serve on")
	drain := flag.Duration("drain", 2*time.Second, "how long to serve on after SIGTERM")
	start := flag.Duration("start", 0, "how long it takes until it listens")
	probe := flag.Bool("probe", false, "ask the server in this container whether it is well")
	ill := flag.String("ill", "", "true or false: make the server in this container ill, or well again")
	flag.Parse()
	var err error
	switch {
	case *probe:
		err = ask(http.MethodGet, "/health")
	case *ill != "":
		err = ask(http.MethodPost, "/health?ill="+*ill)
	default:
		time.Sleep(*start)
		err = serve(*listen, *drain)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}

// ask sends a request to the server in the same container; a check has its own timeout,
// which is shorter as a rule.
func ask(method, path string) error {
	req, err := http.NewRequest(method, "http://127.0.0.1:8080"+path, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

func serve(listen string, drain time.Duration) error {
	name, _ := os.Hostname() // in a container: its short id
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGINT)
	defer stop()
	signal.Ignore(syscall.SIGHUP)
	var ill atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			ill.Store(r.FormValue("ill") == "true")
			return
		}
		if ill.Load() {
			http.Error(w, "ill", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Instance", name)
		if ctx.Err() != nil {
			w.Header().Set("X-Draining", "true")
		}
		fmt.Fprintf(w, "hello from %s\n", name)
	})
	srv := &http.Server{Addr: listen, ReadHeaderTimeout: 5 * time.Second, Handler: mux}
	failed := make(chan error, 1) // so that the sender never waits
	go func() { failed <- srv.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	<-time.NewTimer(drain).C
	end, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return srv.Shutdown(end)
}
