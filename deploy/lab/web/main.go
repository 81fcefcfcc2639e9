// Command web is the workload of the lab: a web server that says which container
// answered, and that serves on for a while after SIGTERM, as a draining app does.
//
//	web [-listen :8080] [-drain 2s]
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	listen := flag.String("listen", ":8080", "address to serve on")
	drain := flag.Duration("drain", 2*time.Second, "how long to serve on after SIGTERM")
	flag.Parse()
	name, _ := os.Hostname() // in a container: its short id
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	srv := &http.Server{Addr: *listen, ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Instance", name)
		if ctx.Err() != nil {
			w.Header().Set("X-Draining", "true")
		}
		fmt.Fprintf(w, "hello from %s\n", name)
	})}
	failed := make(chan error, 1) // so that the sender never waits
	go func() { failed <- srv.ListenAndServe() }()
	select {
	case err := <-failed:
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	case <-ctx.Done():
	}
	served := time.NewTimer(*drain)
	<-served.C
	end, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	srv.Shutdown(end)
}
