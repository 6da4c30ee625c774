package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/device-agent/agent"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// exampleNotice is number n: the phone was revoked.
func exampleNotice(n int) *pb.Notice {
	return &pb.Notice{
		Sequence: uint64(n), Time: timestamppb.New(start.Add(time.Duration(n) * time.Minute)), Event: "device.revoked",
		ActorKind: "device", ActorId: strings.Repeat("b", 52), ActorName: "Mac mini",
		DeviceId: strings.Repeat("a", 52), DeviceName: fmt.Sprint("Phone ", n), DeviceKind: "phone", Detail: "lost",
	}
}

func withNotices(s agent.Screen, numbers ...int) agent.Screen {
	for _, n := range numbers {
		s.Notices = append(s.Notices, exampleNotice(n))
	}
	return s
}

func numbersOf(notices []*pb.Notice) string {
	var numbers []uint64
	for _, n := range notices {
		numbers = append(numbers, n.GetSequence())
	}
	return fmt.Sprint(numbers)
}

// In lines, a notice is said once and taken for shown.
func TestNoticesInLines(t *testing.T) {
	s := sit(t)
	s.shown(withNotices(screenOf(1), 1, 2))
	s.want(viewAsk, nil, "connected", "notice: ", "Phone 2")
	if got := numbersOf(s.desk.shown); got != "[1 2]" {
		t.Errorf("%s are taken for shown, want 1 and 2", got)
	}
	s.shown(withNotices(screenOf(1), 1, 2)) // the agent has not written it down yet
	s.want(viewAsk, nil)
	s.shown(withNotices(screenOf(1), 2, 3))
	s.want(viewAsk, nil, "Phone 3")
}

// On a terminal, notices stay until they were read, disturb no prompt, and are
// not read by a key that was meant for something else.
func TestNoticesOnScreen(t *testing.T) {
	s := sit(t)
	s.newsWait = true
	s.shown(screenOf())
	s.after(time.Second, 0)
	s.shown(withNotices(screenOf(), 1))
	s.after(0, '\r') // before anybody could read it
	s.want(viewIdle, nil, "connected")
	if len(s.news) != 1 || len(s.desk.shown) != 0 {
		t.Errorf("%d notices wait and %d are read, want 1 and 0", len(s.news), len(s.desk.shown))
	}
	s.shown(withNotices(screenOf(1), 1, 2))
	s.after(time.Second, '\r') // decides nothing, and reads nothing
	s.want(viewAsk, nil)
	lines, complete := render(s.desk, 80, 24, s.now, nil)
	if !complete || strings.Contains(strings.Join(lines, "\n"), "Phone") {
		t.Errorf("beside a prompt:\n%s", strings.Join(lines, "\n"))
	}
	s.shown(withNotices(screenOf(), 1, 2))
	s.want(viewIdle, nil, "withdrawn")
	lines, _ = render(s.desk, 80, 24, s.now, nil)
	all := strings.Join(lines, "\n")
	if one, two := strings.Index(all, "Phone 1"), strings.Index(all, "Phone 2"); one < 0 || two < 0 || two > one || !strings.Contains(all, "I have read it") {
		t.Errorf("the newest should be first in:\n%s", all)
	}
	s.after(time.Second, 'a')
	s.after(time.Second, '\r')
	s.want(viewIdle, nil)
	if got := numbersOf(s.desk.shown); got != "[1 2]" || len(s.news) != 0 {
		t.Errorf("%s are read and %d wait, want 1 and 2, and none", got, len(s.news))
	}
	s.shown(withNotices(screenOf(), 1, 2)) // sent before that was written down
	if len(s.news) != 0 {
		t.Error("notices come back after they were read")
	}
	// More than have room are counted.
	s.shown(withNotices(screenOf(), 3, 4, 5, 6, 7, 8, 9))
	lines, complete = render(s.desk, 80, 24, s.now, nil)
	if all := strings.Join(lines, "\n"); !complete || !strings.Contains(all, "and 2 more: countersign-agent notices") || strings.Contains(all, "Phone 4") || !strings.Contains(all, "Phone 9") {
		t.Errorf("complete %v:\n%s", complete, all)
	}
}

// Why a device does not count stands in the place of a promise.
func TestABarredDeviceSaysWhy(t *testing.T) {
	s := sit(t)
	s.shown(agent.Screen{Barred: "This device was not seen for 90 days, so it does not count", Status: "not"})
	lines, _ := render(s.desk, 60, 24, s.now, nil)
	all := strings.Join(lines, "\n")
	if !strings.Contains(all, "not seen for 90 days") || strings.Contains(all, "until the server answers") || strings.Contains(all, "you are asked here") {
		t.Errorf("shown:\n%s", all)
	}
}

// A18: whatever names and reasons say, a notice is one paragraph of this
// program's, at any width.
func TestA18HostileNotices(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	events := []string{"account.suspended", "account.resumed", "account.codes_closed", "account.source_silenced", "account.strangers_silenced", "account.unlocked", "recovery.codes_created", "recovery.codes_renewed", "recovery.code_used", "recovery.codes_voided", "device.confirmed", "device.enrolled", "device.renamed", "device.revoked", "device.readmitted", "device.counter_reused", "device.push_died", "x\x1b[2J"}
	for range 2_000 {
		d := newDesk()
		d.newsWait = true
		n := &pb.Notice{
			Sequence: 1, Event: events[random.IntN(len(events))], ActorKind: []string{"device", "administrator", "application", "server", hostile(random)}[random.IntN(5)],
			ActorId: hostile(random), ActorName: hostile(random), DeviceId: hostile(random), DeviceName: hostile(random), DeviceKind: hostile(random),
			Application: hostile(random), Address: hostile(random), Detail: hostile(random),
		}
		d.show(agent.Screen{Status: "connected", Connected: true, Notices: []*pb.Notice{n}}, start)
		width := 40 + random.IntN(161)
		lines, complete := render(d, width, 200, start, nil)
		lines = append(lines, hanging("  ", sentence(n, ""), width)...)
		printed := &pb.Device{Id: strings.Repeat("a", 52), Name: n.GetDeviceName(), State: pb.DeviceState_DEVICE_STATE_REVOKED, RevokedBy: n.GetActorId(), RevokeReason: n.GetDetail()}
		lines = append(lines, labelled("state", stateLine(printed, []*pb.Device{printed}), width)...)
		for _, line := range lines {
			if c := controls(bare(line)); c != "" {
				t.Fatalf("%q is in the line %q", c, line)
			}
			if columnsOf(bare(line)) > width {
				t.Fatalf("%d columns of %d: %q", columnsOf(bare(line)), width, line)
			}
		}
		if all := strings.Join(lines, "\n"); !complete || strings.Count(all, "I have read it") != 1 {
			t.Fatalf("complete %v:\n%s", complete, all)
		}
	}
}

// It is a person who says that it wasn't her, on a device, though it is the server
// that silences.
func TestWhereItWasSaid(t *testing.T) {
	n := exampleNotice(1)
	n.ActorKind, n.ActorId, n.ActorName = "server", "", ""
	for _, n.Event = range []string{"account.source_silenced", "account.strangers_silenced"} {
		if got := sentence(n, n.GetDeviceId()); !strings.Contains(got, " on this device: ") {
			t.Errorf("on that device: %s", got)
		}
		if got := sentence(n, strings.Repeat("b", 52)); !strings.Contains(got, " on the device \u2068“Phone 1”\u2069: ") {
			t.Errorf("on another device: %s", got)
		}
	}
}

// A device that came with a recovery code was let in by whoever holds the paper.
func TestWhoLetADeviceIn(t *testing.T) {
	n := exampleNotice(1)
	for kind, want := range map[string]string{"administrator": "the administrator uid 0", "recovery": "a recovery code", "server": "the server"} {
		n.Event, n.ActorKind, n.ActorId = "device.enrolled", kind, "uid 0"
		if got := sentence(n, ""); !strings.Contains(got, ", let in by "+want+". ") {
			t.Errorf("by %s: %s", kind, got)
		}
	}
}

// status and notices tell what happened, the one once.
func TestStatusTellsNotices(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f)
	if out := call(t, 0, "--dir", dir, "notices"); !strings.Contains(out, "Nothing happened") {
		t.Errorf("notices printed:\n%s", out)
	}
	f.change(func() { f.notices = []*pb.Notice{exampleNotice(4)} })
	var r report
	for range 2 { // programs that ask read nothing away
		if err := json.Unmarshal([]byte(call(t, 0, "--dir", dir, "status", "--json")), &r); err != nil || r.Notices != 1 {
			t.Errorf("status --json says %d notices, %v, want 1", r.Notices, err)
		}
	}
	for _, want := range []bool{true, false} {
		if out := call(t, 0, "--dir", dir, "status"); strings.Contains(out, "Phone 4") != want {
			t.Errorf("status printed, want the notice %v:\n%s", want, out)
		}
	}
	if out := call(t, 0, "--dir", dir, "notices"); !strings.Contains(out, "Phone 4") {
		t.Errorf("notices printed:\n%s", out)
	}
	if out := call(t, 0, "--dir", dir, "notices", "--json"); !strings.Contains(out, `"event":"device.revoked"`) || !strings.Contains(out, `"text":"Revoked by `) {
		t.Errorf("notices --json printed:\n%s", out)
	}
}

// A device that does not count is told where to go, and exits as one that is not trusted.
func TestADormantDeviceIsToldWhatToDo(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f)
	f.change(func() { f.device.State = pb.DeviceState_DEVICE_STATE_DORMANT })
	for _, command := range []string{"status", "devices", "notices"} {
		if out := call(t, exitNotTrusted, "--dir", dir, command); !strings.Contains(out, "on another device, run countersign-agent devices readmit") {
			t.Errorf("%s printed:\n%s", command, out)
		}
	}
}

// S6: enrolling anew supersedes nothing silently.
func TestEnrollSpeaksOfADeviceOfTheSameName(t *testing.T) {
	f := newFake(t)
	device := func(id, name string, state pb.DeviceState) *pb.Device {
		return &pb.Device{Id: strings.Repeat(id, 52), Name: name, State: state}
	}
	f.others = []*pb.Device{
		device("a", "Ada's iMac", pb.DeviceState_DEVICE_STATE_TRUSTED), device("b", "Ada's iMac", pb.DeviceState_DEVICE_STATE_REVOKED),
		device("c", "iMac", pb.DeviceState_DEVICE_STATE_TRUSTED), device("d", "Ada's iMac", pb.DeviceState_DEVICE_STATE_DORMANT),
	}
	p := begin(t, []string{"--dir", t.TempDir() + "/d", "enroll", f.link(), "--name", "Ada's iMac"})
	out := p.exits(0)
	for id, want := range map[string]int{"a": 1, "b": 0, "c": 0, "d": 1} {
		if got := strings.Count(out, "devices revoke "+strings.Repeat(id, shownID)+"\n"); got != want {
			t.Errorf("the device %s is spoken of %d times, want %d:\n%s", id, got, want, out)
		}
	}
}
