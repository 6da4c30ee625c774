package stories

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/countersigntest"
	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// house is a server process with many agents, which run in the test's process.
type house struct {
	t       *testing.T
	data    string
	address string
	server  *exec.Cmd
	admin   pb.AdminServiceClient
	app     pb.SignInServiceClient
}

// newHouse starts a server and registers an application.
func newHouse(t *testing.T) *house {
	h := &house{t: t, data: filepath.Join(t.TempDir(), "data"), address: "127.0.0.1:0"}
	h.start()
	t.Cleanup(h.kill)
	conn, err := grpc.NewClient("unix:"+filepath.Join(h.data, "admin.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	h.must(err)
	t.Cleanup(func() { conn.Close() })
	h.admin = pb.NewAdminServiceClient(conn)

	added, err := h.admin.AddApplication(t.Context(), &pb.AddApplicationRequest{Id: "files", Name: "Files"})
	h.must(err)
	self, err := h.admin.GetServer(t.Context(), &pb.GetServerRequest{})
	h.must(err)
	conn, err = grpc.NewClient("passthrough:///"+h.address,
		grpc.WithTransportCredentials(credentials.NewTLS(pin.ClientConfig(nil, self.GetServerKeyId()))),
		grpc.WithPerRPCCredentials(countersigntest.Bearer(added.GetToken())))
	h.must(err)
	t.Cleanup(func() { conn.Close() })
	h.app = pb.NewSignInServiceClient(conn)
	return h
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// command is how the server is started, on the address that it had before.
func (h *house) command() []string {
	return []string{"serve", "--data-dir", h.data, "--listen", h.address, "--devices-per-account", "100"}
}

func (h *house) start() {
	h.t.Helper()
	h.must(h.restart())
}

// restart starts the server; it may be called from any goroutine.
func (h *house) restart() error {
	h.server = exec.Command(filepath.Join(bin, "countersign-server"), h.command()...)
	h.server.Stderr = os.Stderr
	if !testing.Verbose() {
		h.server.Stderr = io.Discard
	}
	out, err := h.server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := h.server.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, address, ready := strings.Cut(lines.Text(), "ready, listening on "); ready {
			h.address = address
			go io.Copy(io.Discard, out)
			return nil
		}
	}
	return fmt.Errorf("the server ended before it was ready: %v", h.server.Wait())
}

func (h *house) kill() {
	h.server.Process.Kill()
	h.server.Wait()
}

// enroll enrols a device of the account and returns its directory, and the recovery
// codes that came with the first one.
func (h *house) enroll(account string) (dir string, codes []string, err error) {
	ctx := h.t.Context()
	invited, err := h.admin.CreateInvitation(ctx, &pb.CreateInvitationRequest{Account: account})
	if err != nil {
		return "", nil, err
	}
	link, err := invitation.Parse(invited.GetLink())
	if err != nil {
		return "", nil, err
	}
	dir, err = os.MkdirTemp(filepath.Dir(h.data), "agent")
	if err != nil {
		return "", nil, err
	}
	enrolled, err := agent.Enroll(ctx, agent.Enrollment{Dir: dir, Link: link, Name: "Device of " + account, Kind: "other"})
	return dir, enrolled.RecoveryCodes, err
}

// crowd enrols n devices, at most per to an account, and runs an agent for each.
func (h *house) crowd(n, per int) []*watcher {
	h.t.Helper()
	for i := range (n + per - 1) / per {
		_, err := h.admin.AddAccount(h.t.Context(), &pb.AddAccountRequest{Name: account(i)})
		h.must(err)
	}
	all := make([]*watcher, n)
	errs := make(chan error, n)
	slots := make(chan struct{}, 16)
	for i := range all {
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			dir, _, err := h.enroll(account(i / per))
			if err == nil {
				all[i], err = watch(h.t, dir)
			}
			errs <- err
		}()
	}
	for range all {
		h.must(<-errs)
	}
	return all
}

func account(i int) string { return fmt.Sprintf("ada%d", i) }

// watcher is an agent and what it shows.
type watcher struct {
	agent *agent.Agent

	mu     sync.Mutex
	screen agent.Screen
	news   chan struct{} // closed, and replaced, when the screen changes
}

func watch(t *testing.T, dir string) (*watcher, error) {
	a, err := agent.Open(dir, "")
	if err != nil {
		return nil, err
	}
	w := &watcher{agent: a, news: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, w) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the agent stopped: %v", err)
		}
	})
	return w, nil
}

// Show implements [agent.Prompter].
func (w *watcher) Show(s agent.Screen) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.screen = s
	close(w.news)
	w.news = make(chan struct{})
}

// prompt returns the prompt that is shown for a sign-in.
func (w *watcher) prompt(signIn string) agent.Prompt {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.screen.Prompts {
		if p.SignIn == signIn {
			return p
		}
	}
	return agent.Prompt{}
}

// until waits until what is shown is as wanted.
func (w *watcher) until(ctx context.Context, what string, ok func(agent.Screen) bool) error {
	for {
		w.mu.Lock()
		screen, news := w.screen, w.news
		w.mu.Unlock()
		if ok(screen) {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w; the last that was shown: %d prompts, %d codes, %q", what, ctx.Err(), len(screen.Prompts), len(screen.Codes), screen.Status)
		}
	}
}

func connected(s agent.Screen) bool { return strings.HasPrefix(s.Status, "connected") }
func shows(n int) func(agent.Screen) bool {
	return func(s agent.Screen) bool { return connected(s) && len(s.Prompts) == n }
}

// together waits until all show what is wanted.
func together(t *testing.T, all []*watcher, limit time.Duration, what string, ok func(agent.Screen) bool) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	began := time.Now()
	for i, w := range all {
		if err := w.until(ctx, what, ok); err != nil {
			t.Fatalf("device %d of %d: %v", i, len(all), err)
		}
	}
	return time.Since(began)
}

func (h *house) begin(account string) *pb.SignIn {
	h.t.Helper()
	begun, err := h.app.BeginSignIn(h.t.Context(), &pb.BeginSignInRequest{Account: account, Requester: &pb.Requester{Device: "MacBook Air"}})
	h.must(err)
	return begun.GetSignIn()
}

func TestAHundredDevicesShowAndWithdraw(t *testing.T) {
	h := newHouse(t)
	all := h.crowd(100, 100)
	together(t, all, patience, "connecting", connected)

	began := time.Now()
	signIn := h.begin(account(0))
	together(t, all, patience, "showing the prompt", shows(1))
	t.Logf("100 devices show the prompt %v after BeginSignIn was called", time.Since(began))

	code, err := all[42].agent.Answer(t.Context(), all[42].prompt(signIn.GetId()), statement.Allow, "")
	h.must(err)
	took := together(t, all, patience, "withdrawing the prompt", shows(0))
	t.Logf("all have withdrawn it %v after the answer", took)
	if _, err := h.app.VerifySignIn(t.Context(), &pb.VerifySignInRequest{SignInId: signIn.GetId(), Code: code.Digits}); err != nil {
		t.Errorf("VerifySignIn = %v", err)
	}
}

// TestAThousandAgentsComeBack kills the server under a thousand agents and
// starts it again.
func TestAThousandAgentsComeBack(t *testing.T) {
	h := newHouse(t)
	all := h.crowd(1000, 20)
	together(t, all, time.Minute, "connecting", connected)

	h.kill()
	together(t, all, time.Minute, "noticing", func(s agent.Screen) bool { return !connected(s) })
	h.start()
	took := together(t, all, 30*time.Second, "coming back", connected)
	t.Logf("1000 agents were back %v after the server was", took)

	h.begin(account(7))
	together(t, all[7*20:8*20], patience, "showing a prompt", shows(1))
}

// TestPromptLatency measures how soon a prompt is on a connected agent's
// screen. The figure is printed, and asserted nowhere.
func TestPromptLatency(t *testing.T) {
	h := newHouse(t)
	all := h.crowd(1, 1)
	together(t, all, patience, "connecting", connected)
	var worst, sum time.Duration
	const times = 20
	for range times {
		began := time.Now()
		signIn := h.begin(account(0))
		together(t, all, patience, "showing the prompt", shows(1))
		took := time.Since(began)
		sum += took
		worst = max(worst, took)
		_, err := h.app.CancelSignIn(t.Context(), &pb.CancelSignInRequest{SignInId: signIn.GetId()})
		h.must(err)
		together(t, all, patience, "withdrawing the prompt", shows(0))
	}
	t.Logf("from the call of BeginSignIn to the agent's screen: %v on average, %v at worst, of %d", sum/times, worst, times)
}
