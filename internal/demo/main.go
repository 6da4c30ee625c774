// Command demo plays one sign-in from beginning to end through the two real
// programs, in a temporary directory that it removes afterwards: a server, an
// account, two trusted devices, an application, the prompts, a decision, the
// code, the grant and the receipt. Run it with make demo.
//
// In a terminal the person at it answers the prompt and types the code; otherwise
// the demo does both itself. Its last line is "demo: signed in", and it exits with 0,
// only if the sign-in was verified and everything that was signed checks.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/term"
)

func main() {
	bin := flag.String("bin", "bin", "the directory of the two programs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := perform(ctx, *bin)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		fmt.Fprintf(os.Stderr, "\ndemo: not signed in: %v\n", err)
	}
	stop()
	if err != nil {
		os.Exit(1)
	}
	fmt.Println("\ndemo: signed in")
}

// perform plays the story on a stage of its own and clears it away.
func perform(ctx context.Context, bin string) (err error) {
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "countersign-demo-")
	if err != nil {
		return err
	}
	s := &stage{
		dir:    dir,
		server: filepath.Join(bin, "countersign-server"),
		agent:  filepath.Join(bin, "countersign-agent"),
		person: term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd())),
		typed:  make(chan string),
	}
	defer func() {
		for _, p := range s.running {
			p.stop()
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if s.person {
		// The one goroutine that nobody waits for, because reading a terminal
		// cannot be interrupted. It ends with the process.
		go func() {
			defer close(s.typed)
			for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
				s.typed <- lines.Text()
			}
		}()
	}
	return s.play(ctx)
}
