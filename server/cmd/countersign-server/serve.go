package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/grpclog"

	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/server"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/boltstore"
	"github.com/countersignd/countersign/server/metrics"
)

const (
	// checkTimeout is how long the check of the database may take at the start
	// and for a backup, and checkTimeoutPerGiB how much longer for each GiB: what
	// a slow disk takes that reads one page here and one there. A fast one takes
	// seconds.
	checkTimeout       = 5 * time.Minute
	checkTimeoutPerGiB = 5 * time.Minute

	// checkEvery is how old the last check of the whole database may be at the
	// start if it was closed well since: it is there to find what a disk forgot.
	checkEvery = 7 * 24 * time.Hour

	// fatalGrace is how long calls that were answered may take to leave when
	// the store has failed and the process ends.
	fatalGrace = time.Second
)

type serveCmd struct {
	Config  string `placeholder:"FILE" type:"path" help:"Read settings from this TOML file. Flags go before it."`
	JSONLog bool   `name:"json-log" help:"Log as JSON, and print nothing else."`
	settings
}

// Help implements [kong.HelpProvider].
func (serveCmd) Help() string {
	return `Serves until it is told to stop by SIGTERM or SIGINT; then calls may end, for five seconds at most. A second signal stops it at once.

On its first start it creates what is missing in the data directory and prints what it made: the database countersign.db, and secrets/ with the keys. Keep a copy of secrets/ in a safe place: without it the database and its backups are worth nothing. When it is ready it prints

  countersign-server: ready, listening on HOST:PORT

on standard output. With --json-log, the line of the log whose msg is "serving" says the same. Its log goes to standard error, and holds no code, token, link or caller's address.

The TOML file has the same settings as the flags, with these names: data_dir, listen, public_address, observe_listen, tls_certificate, tls_key, tls_roots ("pin" or "system"), devices_per_account, min_free (in MiB), recovery_wait (such as "24h"), log_format ("text" or "json"), log_level, and a table [limits] with accept_rate, source_rate, strangers, strangers_per_source, stranger_call_rate, device_connections, application_connections. A setting that is unknown is refused.

A table [apns] wakes Apple devices: key_file, key_id, team, topic, environment ("production" or "sandbox"), and endpoint, which only a gateway needs.

A table [web_push] wakes devices through Web Push and UnifiedPush: contact, and allow (a list).`
}

// Run serves.
func (c *serveCmd) Run(env *environment) error {
	s := c.settings
	s.DataDir = env.dataDir
	if c.JSONLog {
		s.LogFormat = "json"
	}
	if c.Config != "" {
		file, err := readSettings(c.Config)
		if err != nil {
			return err
		}
		s = s.over(file)
	}
	s = s.over(builtIn())
	if err := s.check(); err != nil {
		return usageError{err}
	}
	return serve(env.ctx, s, env.out, env.err)
}

func serve(ctx context.Context, s settings, out, logOut io.Writer) error {
	if err := harden(); err != nil {
		return err
	}
	log := newLog(s, logOut)
	// What gRPC has to say of single connections is for its developers.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	say := func(words string) { fmt.Fprintf(out, "%s: %s\n", program, words) }
	made := func(path string) { say("created " + path) }
	if s.LogFormat == "json" {
		say = func(string) {}
		made = func(path string) { log.Info("created", "path", path) }
	}

	d := dataDir(s.DataDir)
	if err := d.prepare(made); err != nil {
		return err
	}
	lock, err := d.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	room := newDisk(d, s, log)
	watch, err := newObserver(s, room, log)
	if err != nil {
		return err
	}
	defer watch.stop()
	// Before anything is written: it may be the ballast that makes room for it.
	if err := errors.Join(room.removeLeftover(), room.look(made)); err != nil {
		return err
	}
	all, err := loadSecrets(d, s, made)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	store, err := openStore(ctx, d, made, watch.metrics.Committed, func(err error) {
		watch.health.end(storeFailed)
		log.Error("the store failed, so the server ends; start it again", "error", err)
		time.AfterFunc(fatalGrace, func() { os.Exit(exitError) })
		cancel(fmt.Errorf("the store failed: %w", err))
	})
	if err != nil {
		return err
	}
	defer store.Close()
	if err := all.belong(ctx, store, d, s); err != nil {
		return err
	}
	broker, err := openBroker(ctx, s, d, all, store, room, watch.metrics, log, made)
	if err != nil {
		return err
	}
	srv, public, admin, err := wire(s, d, all, store, broker, room, watch.metrics, log)
	if err != nil {
		return err
	}
	stop := stopOnSignal(cancel)
	defer stop()
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel(nil)
	beside.Go(func() {
		(&housekeeping{broker: broker, store: store, disk: room, health: watch.health, notify: watch.notify, log: log}).run(ctx)
	})
	watch.begin(broker, srv, all)
	beside.Go(func() { watch.end(ctx) })
	beside.Go(func() { broker.KeepWaking(ctx) })
	say("ready, listening on " + public.Addr().String())
	if err := srv.Serve(ctx, public, admin); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil && err != errStopped {
		return err
	}
	return nil
}

// openBroker makes what decides.
func openBroker(ctx context.Context, s settings, d dataDir, all *secrets, store *boltstore.Store, room *disk, count *metrics.Metrics, log *slog.Logger, made func(string)) (*approval.Broker, error) {
	key, err := pin.KeyID(all.cert.Leaf.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("the server's certificate: %w", err)
	}
	keys, err := approval.NewSecrets(all.root, all.signing)
	if err != nil {
		return nil, err
	}
	wake, err := wakers(ctx, s, all, log)
	if err != nil {
		return nil, err
	}
	return approval.Open(ctx, approval.Config{
		Store:             store,
		Secrets:           keys,
		ServerKey:         key,
		DevicesPerAccount: s.DevicesPerAccount,
		Outside:           d.outside(log, made),
		AcceptClock:       s.AcceptClock,
		Full:              room.full,
		RecoveryWait:      s.RecoveryWait,
		Wakers:            wake,
		Observe:           count.Observe(),
		Log:               log,
	})
}

// wire makes the server and opens its listeners.
func wire(s settings, d dataDir, all *secrets, store *boltstore.Store, broker *approval.Broker, room *disk, count *metrics.Metrics, log *slog.Logger) (srv *server.Server, public, admin net.Listener, err error) {
	if public, err = net.Listen("tcp", s.Listen); err != nil {
		return nil, nil, nil, fmt.Errorf("listening for devices and applications: %w", err)
	}
	if s.PublicAddress == "" {
		if s.PublicAddress, err = publicAddress(public.Addr()); err != nil {
			public.Close()
			return nil, nil, nil, err
		}
	}
	srv, err = server.New(server.Config{
		Broker:        broker,
		Certificate:   all.cert,
		PublicAddress: s.PublicAddress,
		SystemRoots:   s.TLSRoots == "system",
		Backup: func(ctx context.Context, path string) (int64, error) {
			info, err := store.Backup(ctx, path, func() error { return broker.NextGeneration(ctx) })
			return info.Size, err
		},
		Disk:    room.state,
		Called:  count.Called,
		Version: version(),
		Log:     log,
		Limits:  s.Limits.limits(),

		WebPushKey: all.webPushPoint,
	})
	if err == nil {
		admin, err = d.listen()
	}
	if err != nil {
		public.Close()
		return nil, nil, nil, err
	}
	return srv, public, admin, nil
}

// openStore opens the database, after another process has checked it; but not if
// it was closed well and that was done lately.
func openStore(ctx context.Context, d dataDir, made func(string), committed func(time.Duration, int, error), fatal func(error)) (*boltstore.Store, error) {
	check, err := checkInChild()
	if err != nil {
		return nil, err
	}
	_, err = os.Lstat(d.database())
	checked, undisturbed := boltstore.Undisturbed(d.database())
	if err == nil {
		if err := checkPrivate(d.database(), 0o600); err != nil {
			return nil, err
		}
	}
	if age := time.Since(checked); !undisturbed || age < 0 || age >= checkEvery {
		checked = time.Now()
		if err == nil {
			if err := check(ctx, d.database()); err != nil {
				return nil, err
			}
		}
	}
	store, openErr := boltstore.Open(d.database(), boltstore.Options{Fatal: fatal, Committed: committed, Verify: check, Checked: checked})
	if openErr != nil {
		return nil, openErr
	}
	if err != nil {
		made(d.database())
	}
	return store, nil
}

// checkInChild returns what checks a database in another process.
func checkInChild() (func(ctx context.Context, path string) error, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	return func(ctx context.Context, path string) error {
		timeout := checkTimeout
		if info, err := os.Stat(path); err == nil { // else the check says it
			timeout += time.Duration(info.Size()>>20) * checkTimeoutPerGiB >> 10
		}
		err := boltstore.CheckInChild(ctx, path, timeout, self, "check-database")
		if err == nil {
			return nil
		}
		if said, found := strings.CutPrefix(err.Error(), program+": "); found {
			return errors.New(said) // it begins what it says with its name, as this process does
		}
		return err
	}, nil
}

// errStopped is why a server ends that was told to by a signal.
var errStopped = fmt.Errorf("stopped by a signal")

// stopOnSignal calls cancel at the first signal and ends the process at the
// second. The function it returns waits until it no longer does.
func stopOnSignal(cancel context.CancelCauseFunc) (stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for first := true; ; first = false {
			select {
			case <-signals:
				if !first {
					os.Exit(exitError)
				}
				cancel(errStopped)
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
		<-ended
	}
}

func newLog(s settings, out io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		level = slog.LevelInfo // settings.check has refused it
	}
	options := &slog.HandlerOptions{Level: level}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(out, options))
	}
	return slog.New(slog.NewTextHandler(out, options))
}
