// Command bench measures what Countersign does beside what the machine can do.
// Run it with make bench, or make bench BENCH=name for one of the benches.
//
// # What is measured
//
// Each bench runs the product and its limit in turns, in the same minute and
// under the same load, because a machine is not equally fast from one minute to
// the next. The limit is the least program that could do the same: bbolt with
// one writer, a gRPC server without logic, TLS connections that carry nothing.
// Each figure is one line:
//
//	bench: NAME RATIO unit=… ours=… limit=… n=… spread=…
//
// RATIO is ours by limit, the median of the rounds; spread is how far the
// rounds lie apart, in percent of it; n is how often the thing was done. Where
// there is no limit but a goal, limit is the goal. docs/performance.md tells what
// the figures mean, and what they were on one machine.
//
// # How
//
// The server is the program countersign-server, with its defaults but for limits
// on strangers, on a loopback port with mutual TLS. Agents and applications are
// real too: each agent has keys and a connection of its own, from one of many
// addresses of 127.0.0.0/8, and signs what it is asked. All of them are processes
// of their own: this program starts itself again for each (roles.go) and speaks
// to it over its standard input and output. When that closes, a role ends; when
// this program is interrupted, it ends all that it started and removes its
// directory.
//
// Nothing is asserted. It exits with 1 if something did not work.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == roleArg {
		if err := playRole(os.Args[2]); err != nil {
			fmt.Fprintf(os.Stderr, "bench: the role %s: %v\n", os.Args[2], err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "the directory of countersign-server")
	flag.StringVar(&o.name, "bench", "", "the one bench to run; all if empty")
	flag.StringVar(&o.pictures, "pictures", "", "a directory to draw pictures into; none if empty")
	flag.StringVar(&o.dir, "dir", "", "a directory for the stores, on the disk that is to be measured; the system's temporary one if empty")
	flag.StringVar(&o.home, "home", "", "a directory to keep the enrolled devices in from one run to the next; it must be new or such a one, of the same sizes and program")
	flag.StringVar(&o.profile, "profile", "", "a directory to keep CPU profiles in, where a role can make them; none if empty")
	try := flag.Bool("small", false, "do everything a few times only, to see whether it works")
	flag.Parse()
	o.sizes, o.out = full, os.Stdout
	if *try {
		o.sizes = tiny
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, o)
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// options say what to run and how.
type options struct {
	bin, name, pictures, dir, profile, home string
	sizes                                   sizes
	out                                     io.Writer
}

// sizes say how much of everything there is.
type sizes struct {
	rounds     int           // of ours and limit in turns
	measure    time.Duration // of one turn, where a turn is a time
	callers    []int         // of commit
	inFlight   []int         // sign-ins of signin, in different accounts
	accounts   int           // with three devices each; all devices of these are the crowd
	crowd      int           // agents that are idle
	samples    int           // of latency, in a round
	rates      []int         // sign-ins in a second, for latency under load
	fanDevices int           // of the account of fanout
	fanouts    int           // in a round
	reconnect  int           // agents
	growth     []int         // accounts
	growFlight int           // sign-ins in flight in growth and verify-flood
	revoke     int           // devices
	flood      int           // wrong codes in flight
	records    int           // of log
}

var full = sizes{
	rounds: 3, measure: 3 * time.Second,
	callers: []int{1, 64, 1024}, inFlight: []int{64, 512},
	accounts: 3400, crowd: 10_000, samples: 300, rates: []int{10, 50, 100, 200},
	fanDevices: 100, fanouts: 60, reconnect: 4000,
	growth: []int{10_000, 100_000, 1_000_000}, growFlight: 64,
	revoke: 300, flood: 64, records: 1_000_000,
}

var tiny = sizes{
	rounds: 2, measure: 100 * time.Millisecond,
	callers: []int{1, 16}, inFlight: []int{4},
	accounts: 8, crowd: 12, samples: 4, rates: []int{20, 40},
	fanDevices: 5, fanouts: 2, reconnect: 12,
	growth: []int{10, 40}, growFlight: 4,
	revoke: 4, flood: 4, records: 300,
}

// A bench measures one thing.
type bench struct {
	name string
	run  func(ctx context.Context, s *stage) error
}

var benches = []bench{
	{"commit", benchCommit},
	{"signin", benchSignIn},
	{"latency", benchLatency},
	{"fanout", benchFanout},
	{"idle", benchIdle},
	{"reconnect", benchReconnect},
	{"growth", benchGrowth},
	{"revoke", benchRevoke},
	{"verify-flood", benchFlood},
	{"log", benchLog},
}

// run runs what the options ask for, and clears everything away.
func run(ctx context.Context, o options) (err error) {
	chosen := benches
	if o.name != "" {
		chosen = slices.DeleteFunc(slices.Clone(benches), func(b bench) bool { return b.name != o.name })
	}
	if len(chosen) == 0 {
		var names []string
		for _, b := range benches {
			names = append(names, b.name)
		}
		return fmt.Errorf("there is no bench %s: choose one of %s", o.name, strings.Join(names, ", "))
	}
	if err := raiseOpenFiles(o.sizes.crowd); err != nil {
		return err
	}
	s, err := newStage(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.clear()) }()
	began := time.Now()
	fmt.Fprintf(o.out, "machine: %s\n", machine(s.dir))
	for _, b := range chosen {
		started := time.Now()
		err := b.run(ctx, s)
		s.endAll()
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		fmt.Fprintf(o.out, "took: %s %.0f s\n", b.name, time.Since(started).Seconds())
	}
	fmt.Fprintf(o.out, "took: all %.0f s\n", time.Since(began).Seconds())
	return nil
}
