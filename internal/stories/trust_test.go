package stories

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/statement"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// A way is one in which a device becomes trusted.
type way string

const (
	byInvitation way = "invitation"
	byApproval   way = "approval"
	byRecovery   way = "recovery"
)

var ways = []way{byInvitation, byApproval, byRecovery}

// A newcomer is a device that is to be trusted, with an owner who has another one.
type newcomer struct {
	h       *house
	t       *testing.T
	way     way
	account string
	dir     string
	command []string // how it is begun: arguments of countersign-agent
	link    string   // the invitation, if there is one
	codes   []string // the account's recovery codes
	macDir  string   // the owner's trusted device
	mac     *watcher // the same, once it runs here
}

// newcomer returns a device that reaches the server at an address. The owner's
// device does not run yet.
func (h *house) newcomer(t *testing.T, w way, address string) *newcomer {
	t.Helper()
	ctx := t.Context()
	n := &newcomer{h: h, t: t, way: w, dir: filepath.Join(t.TempDir(), "new")}
	// Each test has a house of its own, so what tells its accounts apart is behind the
	// slash; with all of the name in it, devices' names would become too long.
	_, part, _ := strings.Cut(t.Name(), "/")
	n.account = "ada" + strings.ToLower(regexp.MustCompile(`\W`).ReplaceAllString(part, ""))
	n.account = n.account[:min(len(n.account), 60)]
	_, err := h.admin.AddAccount(ctx, &pb.AddAccountRequest{Name: n.account})
	n.must(err)
	n.macDir, n.codes, err = h.enroll(n.account)
	n.must(err)
	mac, err := agent.LoadState(n.macDir)
	n.must(err)
	n.command = []string{"--dir", n.dir, "enroll", "--name", "New tablet", "--kind", "tablet"}
	if w != byInvitation {
		n.command = append(n.command, "--server", address, "--account", n.account, "--pin", mac.Pin)
		if w == byRecovery {
			n.command = append(n.command, "--recovery")
		}
		return n
	}
	invited, err := h.admin.CreateInvitation(ctx, &pb.CreateInvitationRequest{Account: n.account})
	n.must(err)
	n.link = strings.Replace(invited.GetLink(), h.address, address, 1)
	n.command = append(n.command, n.link)
	return n
}

func (n *newcomer) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// watched returns the newcomer when the owner's device is connected.
func (n *newcomer) watched() *newcomer {
	n.t.Helper()
	var err error
	n.mac, err = watch(n.t, n.macDir)
	n.must(err)
	together(n.t, []*watcher{n.mac}, patience, "connecting", connected)
	return n
}

// again is how what was begun is finished.
func (n *newcomer) again() []string { return []string{"--dir", n.dir, "enroll"} }

var asks = regexp.MustCompile(`Then type the code`)

// finish waits until an enrolment has ended, and does meanwhile what the owner
// does: she allows it and types the code, or types a recovery code.
func (n *newcomer) finish(v *victim) {
	n.t.Helper()
	if n.way == byRecovery {
		io.WriteString(v.stdin, n.codes[0]+"\n")
	} else if _, _, err := v.match(asks, 0); err == nil {
		if code, err := n.code(); err == nil {
			io.WriteString(v.stdin, code+"\n") // to one that may be dead
		}
	}
	select {
	case <-v.done:
	case <-time.After(2 * patience):
		text, _ := v.out.text()
		n.t.Fatalf("the enrolment hangs:\n%s", text)
	}
}

// code returns the code that the owner's device shows once she has allowed the
// new one.
func (n *newcomer) code() (string, error) {
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	var screen agent.Screen
	if err := n.mac.until(ctx, "showing the new device", func(s agent.Screen) bool {
		screen = s
		return len(s.Codes)+len(s.Prompts) > 0
	}); err != nil {
		return "", err
	}
	if len(screen.Codes) > 0 {
		return screen.Codes[0].Digits, nil
	}
	code, err := n.mac.agent.Answer(ctx, screen.Prompts[0], statement.Allow, "")
	return code.Digits, err
}

// run runs the agent to its end, and the owner with it.
func (n *newcomer) run(args ...string) (output string, status int) {
	n.t.Helper()
	v := doom(n.t, 0, agentSteps, "countersign-agent", args...)
	n.finish(v)
	text, _ := v.out.text()
	return text, v.status
}

// A report is what countersign-agent status --json prints, in part.
type report struct {
	Phase   string `json:"phase"`
	Device  string `json:"device"`
	Trusted bool   `json:"trusted"`
	Offline bool   `json:"offline_codes"`
	Problem string `json:"problem"`
}

// believed returns what the device believes of itself.
func (n *newcomer) believed() report {
	n.t.Helper()
	out, err := exec.Command(filepath.Join(bin, "countersign-agent"), "--dir", n.dir, "status", "--json").Output()
	var r report
	if json.Unmarshal(out, &r) != nil {
		n.t.Fatalf("status --json = %q, %v", out, err)
	}
	if (err == nil) != (r.Problem == "") || r.Trusted != (err == nil) {
		n.t.Errorf("status = %+v and ended with %v", r, err)
	}
	return r
}

// listed returns the ids of the account's trusted devices, without the owner's,
// and checks that the server's list and the one on the owner's device are one.
func (n *newcomer) listed() []string {
	n.t.Helper()
	ctx := n.t.Context()
	list, err := n.h.admin.ListAccountDevices(ctx, &pb.ListAccountDevicesRequest{Account: n.account})
	n.must(err)
	var own []*pb.Device
	n.must(agent.Persist(ctx, func() (err error) { // the server may just have come back
		own, err = n.mac.agent.Devices(ctx)
		return err
	}))
	var ids, ownIDs []string
	for _, d := range list.GetDevices() {
		if d.GetState() != pb.DeviceState_DEVICE_STATE_TRUSTED {
			n.t.Errorf("%s is %v", d.GetId(), d.GetState())
		}
		if d.GetId() != n.mac.agent.State().Device {
			ids = append(ids, d.GetId())
		}
	}
	for _, d := range own {
		if d.GetId() != n.mac.agent.State().Device {
			ownIDs = append(ownIDs, d.GetId())
		}
	}
	if !slices.Equal(ids, ownIDs) {
		n.t.Errorf("the server lists %q, the owner's device %q", ids, ownIDs)
	}
	return ids
}

// interrupted checks what must be so at any moment: the device believes nothing
// that the server does not, and says what to do.
func (n *newcomer) interrupted() {
	n.t.Helper()
	r, listed := n.believed(), n.listed()
	if len(listed) > 1 {
		n.t.Errorf("the list has %d new devices, want one at most", len(listed))
	}
	switch r.Phase {
	case "trusted":
		if !r.Trusted || !slices.Equal(listed, []string{r.Device}) {
			n.t.Errorf("status = %+v, but the list has %q", r, listed)
		}
	case "none", "enrolling", "asking", "recovering":
		if r.Trusted || !strings.Contains(r.Problem, "run countersign-agent enroll") {
			n.t.Errorf("status = %+v, want it to say how to go on", r)
		}
		if r.Phase == "none" && len(listed) > 0 {
			n.t.Errorf("the list has %q, and the device knows nothing of it", listed)
		}
	default:
		n.t.Errorf("status = %+v", r)
	}
}

// retry finishes what was begun, and checks that all believe the same then.
func (n *newcomer) retry(alone bool) {
	n.t.Helper()
	command := n.command
	if alone && n.believed().Phase != "none" {
		command = n.again()
	}
	was := n.believed().Phase
	out, status := n.run(command...)
	if was == "trusted" {
		if status != 1 || !strings.Contains(out, "enrolled already") {
			n.t.Errorf("enrolling a trusted device ended with %d:\n%s", status, out)
		}
	} else if status != 0 || !strings.Contains(out, "This device is trusted now") {
		n.t.Errorf("the retry %q ended with %d:\n%s", command, status, out)
	}
	n.agreed()
}

// agreed checks that the device, the server and the owner's list say the same, that
// nothing is left half, and that the invitation or one recovery code is used up.
func (n *newcomer) agreed() {
	n.t.Helper()
	r, listed := n.believed(), n.listed()
	if !r.Trusted || !r.Offline || r.Phase != "trusted" || !slices.Equal(listed, []string{r.Device}) {
		n.t.Errorf("the device says %+v, the list has %q, want that device, trusted, with all it needs", r, listed)
	}
	records, err := n.h.admin.ListAuditRecords(n.t.Context(), &pb.ListAuditRecordsRequest{Account: n.account, PageSize: 100})
	n.must(err)
	enrolled := 0
	for _, record := range records.GetRecords() {
		if record.GetEvent() == "device.enrolled" {
			enrolled++
		}
	}
	if enrolled != 2 {
		n.t.Errorf("%d enrolments are on record, want the owner's and one", enrolled)
	}
	entries, err := os.ReadDir(n.dir)
	n.must(err)
	for _, entry := range entries {
		if !slices.Contains([]string{"clock", "counter", "device.json", "keys.pem", "lock", "notices", "offline.key", "record"}, entry.Name()) {
			n.t.Errorf("%s is left in the device's directory", entry.Name())
		}
	}
	self, err := n.mac.agent.Self(n.t.Context())
	n.must(err)
	if left := len(n.codes) - int(self.GetRecoveryCodesLeft()); (left == 1) != (n.way == byRecovery) || left > 1 {
		n.t.Errorf("%d recovery codes were used", left)
	}
	if n.way == byInvitation {
		link, err := invitation.Parse(n.link)
		n.must(err)
		_, err = agent.Enroll(n.t.Context(), agent.Enrollment{Dir: filepath.Join(n.t.TempDir(), "thief"), Link: link, Name: "Thief", Kind: "other"})
		if agent.Reason(err) != pb.ErrorReason_ERROR_REASON_INVITATION_INVALID {
			n.t.Errorf("the invitation once more = %v, want INVITATION_INVALID", err)
		}
	}
}

// atOnce is how many of the moments are played at the same time: most of each is
// spent waiting.
const atOnce = 4

// each plays an enrolment of each kind for every moment at which it can be
// interrupted: play says whether there may be another after the nth.
func each(t *testing.T, play func(t *testing.T, w way, nth int) (more bool)) {
	for _, w := range ways {
		t.Run(string(w), func(t *testing.T) {
			var played atomic.Int32
			var over atomic.Bool
			var playing sync.WaitGroup
			for range atOnce {
				playing.Go(func() {
					for !over.Load() {
						nth := int(played.Add(1))
						t.Run(fmt.Sprint(nth), func(t *testing.T) {
							if !play(t, w, nth) || t.Failed() {
								over.Store(true)
							}
						})
					}
				})
			}
			playing.Wait()
			t.Logf("%d moments", played.Load())
			if canTrace() && played.Load() < 2*atOnce {
				t.Errorf("there were %d moments only", played.Load())
			}
		})
	}
}

// TestS7TheNewDeviceIsKilledAtEachStep kills the agent that enrols before each change
// of a file and each message. A retry finishes what it had begun.
func TestS7TheNewDeviceIsKilledAtEachStep(t *testing.T) {
	h := newHouse(t)
	each(t, func(t *testing.T, w way, nth int) bool {
		n := h.newcomer(t, w, h.address).watched()
		v := doom(t, nth, agentSteps, "countersign-agent", n.command...)
		v.armed.Store(true)
		n.finish(v)
		n.interrupted()
		n.retry(nth%2 == 0)
		return v.killed
	})
}

// TestS7TheServerIsKilledAtEachStep kills the server before each commit and
// each message while a device enrols, and starts it again. The device finishes by
// itself.
func TestS7TheServerIsKilledAtEachStep(t *testing.T) {
	each(t, func(t *testing.T, w way, nth int) bool {
		h := newHouse(t)
		n := h.newcomer(t, w, h.address).watched()
		h.kill()
		server := doom(t, nth, serverSteps, "countersign-server", h.command()...)
		_, _, err := server.match(regexp.MustCompile("ready, listening on"), 0)
		n.must(err)
		together(t, []*watcher{n.mac}, patience, "coming back", connected)
		started := make(chan error, 1)
		ended := make(chan struct{})
		go func() {
			select {
			case <-server.done:
				started <- h.restart()
			case <-ended:
				server.kill()
				started <- h.restart()
			}
		}()
		server.armed.Store(true)
		out, status := n.run(n.command...)
		close(ended)
		n.must(<-started)
		if status != 0 {
			t.Errorf("the enrolment ended with %d:\n%s", status, out)
		}
		together(t, []*watcher{n.mac}, patience, "coming back", connected)
		n.agreed()
		return server.killed
	})
}
