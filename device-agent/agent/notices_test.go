package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/device-agent/keystore"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// notice is number n, of the hour n.
func notice(n int) *pb.Notice {
	return &pb.Notice{Sequence: uint64(n), Time: timestamppb.New(time.Unix(int64(n)*3600, 5)), Event: "device.enrolled"}
}

func sequences(notices []*pb.Notice) (numbers []uint64) {
	for _, n := range notices {
		numbers = append(numbers, n.GetSequence())
	}
	return numbers
}

// A notice is shown until somebody says that it was, and then by no process.
func TestNoticesAreShownOnce(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	f.change(func() { f.notices = []*pb.Notice{notice(3), notice(7)} })
	d, _ := running(t, a)
	notices := func(n int) func(Screen) bool {
		return func(s Screen) bool { return s.Connected && len(s.Notices) == n }
	}
	s := d.waitFor(t, "two notices", notices(2))
	if err := a.NoticesShown(s.Notices[0]); err != nil {
		t.Fatal(err)
	}
	s = d.waitFor(t, "one notice", notices(1))
	if s.Notices[0].GetSequence() != 7 {
		t.Errorf("notice %d is left, want 7", s.Notices[0].GetSequence())
	}
	f.change(func() { f.notices = append(f.notices, notice(9)) })
	s = d.waitFor(t, "two notices", notices(2))
	if err := a.NoticesShown(s.Notices...); err != nil {
		t.Fatal(err)
	}
	d.waitFor(t, "none", notices(0))

	// Another process, and this one after a restart.
	again, err := Open(a.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	all := []*pb.Notice{notice(3), notice(7), notice(9), notice(10)}
	if got := sequences(again.NewNotices(all)); len(got) != 1 || got[0] != 10 {
		t.Errorf("after a restart %v are new, want 10", got)
	}
	// What another process has shown is not forgotten by one that shows older ones.
	if err := again.NoticesShown(notice(10)); err != nil {
		t.Fatal(err)
	}
	if err := a.NoticesShown(notice(9)); err != nil {
		t.Fatal(err)
	}
	third, err := Open(a.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := sequences(third.NewNotices(all)); len(got) != 0 {
		t.Errorf("%v are new again", got)
	}
	if err := third.NoticesShown(); err != nil {
		t.Errorf("NoticesShown of none = %v", err)
	}
}

// A server that was restored from a backup counts its records from where they
// were then: what happens there is news all the same.
func TestNoticesAfterARestoredBackup(t *testing.T) {
	a := trustedAgent(t, newFake(t), "ada")
	if err := a.NoticesShown(notice(500)); err != nil {
		t.Fatal(err)
	}
	late := notice(501)
	late.Sequence = 41
	if got := sequences(a.NewNotices([]*pb.Notice{notice(40), late})); len(got) != 1 || got[0] != 41 {
		t.Errorf("%v are new, want 41", got)
	}
}

func TestDamagedMarkShowsNoticesAgain(t *testing.T) {
	for _, content := range []string{"", "x", "7", "-1 2\n", strings.Repeat("9", 40) + " 1\n"} {
		a := trustedAgent(t, newFake(t), "ada")
		if err := os.WriteFile(filepath.Join(a.dir, noticesName), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := Open(a.dir, "")
		if err != nil {
			t.Fatalf("Open with the mark %q = %v", content, err)
		}
		if got := again.NewNotices([]*pb.Notice{notice(1)}); len(got) != 1 {
			t.Errorf("with the mark %q nothing is new", content)
		}
		if err := again.NoticesShown(notice(1)); err != nil {
			t.Errorf("NoticesShown over the mark %q = %v", content, err)
		}
	}
}

// A device that does not count says why, asks now and then, and is back soon
// after it was readmitted.
func TestADormantDeviceAsksCalmly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		a := trustedAgent(t, f, "ada")
		other := trustedAgent(t, f, "ada")
		set := func(state pb.DeviceState) { f.change(func() { f.devices[a.state.Device].State = state }) }
		set(pb.DeviceState_DEVICE_STATE_DORMANT)
		d, stop := running(t, a)
		s := d.waitFor(t, "why it does not count", func(s Screen) bool { return s.Barred != "" })
		if s.Connected || s.Barred != "This device was not seen for 90 days" || !strings.HasSuffix(s.Status, "; trying again") {
			t.Errorf("screen = %+v", s)
		}
		time.Sleep(time.Hour)
		if tries := get(f, func() int { return f.dials }); tries < 60 || tries > 240 {
			t.Errorf("%d attempts in an hour, want one in half a minute or so", tries)
		}
		readmitted, err := other.Readmit(t.Context(), a.state.Device)
		if err != nil || readmitted.GetId() != a.state.Device {
			t.Fatalf("Readmit = %v, %v", readmitted, err)
		}
		back := time.Now()
		d.waitFor(t, "connected", func(s Screen) bool { return s.Connected && s.Barred == "" })
		if took := time.Since(back); took > barredPause {
			t.Errorf("back after %v, want %v at most", took, barredPause)
		}
		if _, err := other.Readmit(t.Context(), strings.Repeat("a", 52)); Reason(err) != pb.ErrorReason_ERROR_REASON_NO_SUCH_DEVICE {
			t.Errorf("Readmit of a stranger = %v", err)
		}
		stop()
		f.stop()
	})
}

// S6: a wiped device is told what to do.
func TestWithoutItsKeysADeviceIsToldWhatToDo(t *testing.T) {
	a := trustedAgent(t, newFake(t), "ada")
	if err := os.Remove(filepath.Join(a.dir, "keys.pem")); err != nil {
		t.Fatal(err)
	}
	_, err := Open(a.dir, "")
	if !errors.Is(err, keystore.ErrNoKeys) || !strings.Contains(err.Error(), "move the directory away and enrol it anew") || !strings.Contains(err.Error(), Fingerprint(a.state.Device)) {
		t.Errorf("Open = %v", err)
	}
}
