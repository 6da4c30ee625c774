package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// A stage is where the benches run: a temporary directory with a data directory
// in which devices are enrolled already, of which each bench gets a copy.
type stage struct {
	options  options
	sizes    sizes
	dir      string
	program  string // countersign-server
	began    time.Time
	running  []*process
	profiles int // made so far
	copies   int // of the data directory

	ready   bool   // prepare has run
	home    string // data directory with the crowd enrolled
	devices string // file of the crowd's devices
	crowd   crowd
	rows    recorded // rows of one sign-in
}

// A crowd is what else is known of the data directory in which it is enrolled.
type crowd struct {
	Token   string  // of the application
	Samples Samples // messages of one sign-in
	Fan     Samples // likewise, in fanAccount: more has happened there, and its devices are told of it
}

// Target is a server that agents and applications can call.
type Target struct {
	Address string
	Pin     string // key id of its TLS key
	Name    string // deployment id
	Token   string // of the application
}

func newStage(ctx context.Context, o options) (*stage, error) {
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return nil, err
	}
	program := filepath.Join(bin, "countersign-server")
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("%w: build it first, with make", err)
	}
	for _, dir := range []string{o.pictures, o.profile, o.home} {
		if dir != "" {
			if err := os.MkdirAll(dir, 0o777); err != nil {
				return nil, err
			}
		}
	}
	dir, err := os.MkdirTemp(o.dir, "csbench") // short, because sockets are in it
	if err != nil {
		return nil, err
	}
	s := &stage{began: time.Now(), options: o, sizes: o.sizes, dir: dir, program: program}
	if s.rows, err = rehearse(ctx, filepath.Join(dir, "rehearsal.db")); err != nil {
		return nil, errors.Join(fmt.Errorf("rehearsing a sign-in: %w", err), s.clear())
	}
	return s, nil
}

// endAll ends every process of the stage, the newest first: roles before the
// servers that they call.
func (s *stage) endAll() {
	for len(s.running) > 0 {
		last := len(s.running) - 1
		s.running[last].end()
		s.running = s.running[:last]
	}
}

// stop ends one process of the stage.
func (s *stage) stop(p *process) {
	p.end()
	s.running = slices.DeleteFunc(s.running, func(other *process) bool { return other == p })
}

// clear ends everything and removes the directory.
func (s *stage) clear() error {
	s.endAll()
	return os.RemoveAll(s.dir)
}

// say tells how far a bench is.
func (s *stage) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "   %4.0f s  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// print prints a figure.
func (s *stage) print(f *figure) { fmt.Fprintln(s.options.out, f) }

// A server is a countersign-server that runs.
type server struct {
	*process
	Target
	data  string // its data directory
	conn  *grpc.ClientConn
	admin pb.AdminServiceClient
}

// serve starts the server on a data directory. Enrolling thousands of devices
// from one machine is what its limits on strangers are there to prevent, so
// these are raised; they are not what is measured.
func (s *stage) serve(ctx context.Context, data string, env ...string) (*server, error) {
	cmd := exec.Command(s.program, "serve", "--data-dir", data, "--listen", "127.0.0.1:0",
		"--devices-per-account", "100", "--limit-accept-rate", "100000", "--limit-source-rate", "100000",
		"--limit-strangers", "20000", "--limit-strangers-per-source", "20000", "--limit-stranger-call-rate", "100000")
	cmd.Env = append(os.Environ(), env...)
	log, err := os.OpenFile(filepath.Join(s.dir, "server.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the server has its own
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p, err := s.start("countersign-server", cmd)
	if err != nil {
		return nil, err
	}
	ready := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if _, address, ok := strings.Cut(lines.Text(), "ready, listening on "); ok {
				ready <- address
			}
		}
		p.wait()
	}()
	srv := &server{process: p, data: data}
	select {
	case srv.Address = <-ready:
	case <-p.done:
		said, _ := os.ReadFile(log.Name()) // if it cannot be read, there is nothing to add
		return nil, fmt.Errorf("countersign-server ended before it was ready: %v\n%s", p.err, said)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	srv.conn, err = grpc.NewClient("unix:"+filepath.Join(data, "admin.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	srv.admin = pb.NewAdminServiceClient(srv.conn)
	self, err := srv.admin.GetServer(ctx, &pb.GetServerRequest{})
	if err != nil {
		return nil, err
	}
	srv.Pin, srv.Name, srv.Token = self.GetServerKeyId(), self.GetDeploymentId(), s.crowd.Token
	return srv, nil
}

// prepare enrols the crowd, once for all benches: through the real protocol,
// which is the only way that makes devices. It also keeps the messages of a
// sign-in, for servers that only pretend.
func (s *stage) prepare(ctx context.Context) error {
	if s.ready {
		return nil
	}
	dir := cmp.Or(s.options.home, s.dir)
	s.home, s.devices = filepath.Join(dir, "home"), filepath.Join(dir, "devices")
	kept := filepath.Join(dir, "crowd")
	if b, err := os.ReadFile(kept); err == nil {
		s.ready = true
		return json.Unmarshal(b, &s.crowd)
	}
	if err := s.enrollCrowd(ctx); err != nil {
		return err
	}
	s.ready = true
	b, err := json.Marshal(s.crowd)
	if err != nil {
		return err
	}
	return os.WriteFile(kept, b, 0o600)
}

func (s *stage) enrollCrowd(ctx context.Context) error {
	srv, err := s.serve(ctx, s.home)
	if err != nil {
		return err
	}
	added, err := srv.admin.AddApplication(ctx, &pb.AddApplicationRequest{Id: application, Name: applicationName})
	if err != nil {
		return err
	}
	s.crowd.Token, srv.Token = added.GetToken(), added.GetToken()
	agents, err := s.role("agents")
	if err != nil {
		return err
	}
	s.say("enrolling %d devices in %d accounts", devicesPerAccount*s.sizes.accounts+s.sizes.fanDevices, s.sizes.accounts+1)
	if err := tell(ctx, agents, "Enroll", EnrollArgs{
		Target: srv.Target, Admin: filepath.Join(s.home, "admin.sock"), File: s.devices,
		Accounts: s.sizes.accounts, Fan: s.sizes.fanDevices,
	}); err != nil {
		return err
	}
	if s.crowd.Samples, err = s.sample(ctx, srv, accountName(0), 0, devicesPerAccount); err != nil {
		return fmt.Errorf("one sign-in: %w", err)
	}
	if s.crowd.Fan, err = s.sample(ctx, srv, fanAccount, s.sizes.accounts*devicesPerAccount, s.sizes.fanDevices); err != nil {
		return fmt.Errorf("one sign-in with many devices: %w", err)
	}
	srv.conn.Close()
	s.endAll()
	return nil
}

// sample plays sign-ins of an account and returns the messages of the last one.
func (s *stage) sample(ctx context.Context, srv *server, account string, first, devices int) (Samples, error) {
	l, err := s.load(ctx, srv.Target, first, devices)
	if err != nil {
		return Samples{}, err
	}
	if _, err := l.cycles(ctx, CyclesArgs{Accounts: 1, Account: account, Cycles: 2}); err != nil {
		return Samples{}, err
	}
	seen, err := ask[Samples](ctx, l.agents, "Samples", None{})
	if err != nil {
		return Samples{}, err
	}
	begun, err := ask[Samples](ctx, l.applications, "Samples", None{})
	seen.Begin, seen.Verify = begun.Begin, begun.Verify
	return seen, err
}

// fresh starts a server on a copy of the data directory with the crowd.
func (s *stage) fresh(ctx context.Context, env ...string) (*server, error) {
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	data, err := s.copyHome()
	if err != nil {
		return nil, err
	}
	return s.serve(ctx, data, env...)
}

// copyHome copies the data directory with the crowd.
func (s *stage) copyHome() (string, error) {
	s.copies++
	data := filepath.Join(s.dir, fmt.Sprintf("data%d", s.copies))
	for _, dir := range []string{data, filepath.Join(data, "secrets")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return "", err
		}
	}
	names, err := filepath.Glob(filepath.Join(s.home, "secrets", "*"))
	if err != nil {
		return "", err
	}
	for _, name := range append(names, filepath.Join(s.home, "countersign.db")) {
		rel, err := filepath.Rel(s.home, name)
		if err != nil {
			return "", err
		}
		if err := copyFile(filepath.Join(data, rel), name); err != nil {
			return "", err
		}
	}
	return data, nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// bare starts the limit: a gRPC server without logic, that answers with these
// messages.
func (s *stage) bare(ctx context.Context, samples func(crowd) Samples, env ...string) (*process, Target, error) {
	if err := s.prepare(ctx); err != nil {
		return nil, Target{}, err
	}
	p, err := s.role("bare", env...)
	if err != nil {
		return nil, Target{}, err
	}
	s.copies++
	target, err := ask[Target](ctx, p, "Serve", BareArgs{
		Devices: s.devices, Samples: samples(s.crowd), Rows: s.rows, Store: filepath.Join(s.dir, fmt.Sprintf("bare%d.db", s.copies)),
	})
	target.Token = s.crowd.Token
	return p, target, err
}

// small and fan choose the messages of an account with three devices, and of
// the one with many.
func small(c crowd) Samples { return c.Samples }
func fan(c crowd) Samples   { return c.Fan }
