// Command inside is all that a test's container holds: "wait" stays, "exit CODE WORDS…"
// says the words, complains if the code is not 0, and ends with it.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	if len(os.Args) > 3 && os.Args[1] == "exit" {
		code, err := strconv.Atoi(os.Args[2])
		if err != nil {
			panic(err)
		}
		fmt.Println(strings.Join(os.Args[3:], " "))
		if code != 0 {
			fmt.Fprintln(os.Stderr, "err")
		}
		os.Exit(code)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
}
