package approval_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
)

// told returns what the device is told, as "event name".
func (d *device) told() []string {
	d.w.t.Helper()
	screen, err := d.screen()
	if err != nil {
		d.w.t.Fatal(err)
	}
	var lines []string
	for _, n := range screen.Notices {
		lines = append(lines, strings.TrimSpace(string(n.Event)+" "+n.DeviceName))
	}
	return lines
}

func (d *device) rename(name string) {
	d.w.t.Helper()
	if _, err := d.w.broker.UpdateDevice(d.w.t.Context(), d.id, approval.Update{Name: name}, "192.0.2.9"); err != nil {
		d.w.t.Fatal(err)
	}
}

// A deed is what makes an event happen to ada, who has the device phone and others.
type deed struct {
	before func(phone *device) // makes it possible; may be nil
	deed   func(phone *device) error
}

var noticed = map[approval.Event]deed{
	approval.EventAccountSuspended: {nil, (*device).suspendAccount},
	approval.EventAccountResumed: {func(phone *device) { phone.suspendAccount() }, func(phone *device) error {
		_, err := phone.w.admin.ResumeAccount(phone.w.t.Context(), phone.account)
		return err
	}},
	approval.EventDeviceEnrolled: {nil, func(phone *device) error { phone.w.enroll(phone.account); return nil }},
	approval.EventDeviceRenamed:  {nil, func(phone *device) error { phone.rename("Telephone"); return nil }},
	approval.EventDeviceRevoked: {nil, func(phone *device) error {
		_, err := phone.w.admin.RevokeDevice(phone.w.t.Context(), phone.id, "lost")
		return err
	}},
	approval.EventDeviceConfirmed: {func(phone *device) {
		memory := copyOf(phone.w.t, phone.w.store)
		phone.w.config.Outside = memoryOutside()
		phone.w.restore(memory)
		if err := phone.w.config.Outside.Save(99); err != nil {
			phone.w.t.Fatal(err)
		}
		phone.w.restart()
		for _, account := range []string{"ada", "eve"} {
			devices, err := phone.w.admin.Devices(phone.w.t.Context(), account)
			if err != nil {
				phone.w.t.Fatal(err)
			}
			for _, d := range devices {
				if d.ID == phone.id {
					continue
				}
				if _, err := phone.w.admin.ConfirmDevices(phone.w.t.Context(), "", []string{d.ID}); err != nil {
					phone.w.t.Fatal(err)
				}
			}
		}
	}, func(phone *device) error {
		_, err := phone.w.admin.ConfirmDevices(phone.w.t.Context(), "", []string{phone.id})
		return err
	}},
	approval.EventDeviceReadmitted: {func(phone *device) { phone.w.fallDormant(phone) }, func(phone *device) error {
		_, err := phone.w.admin.ReadmitDevice(phone.w.t.Context(), phone.id)
		return err
	}},
	approval.EventCodesClosed: {func(phone *device) {
		phone.wrongCodes(5, 5)
		time.Sleep(24 * time.Hour)
		phone.wrongCodes(5, 4)
	}, func(phone *device) error { phone.wrongCodes(1); return nil }},
	approval.EventRecoveryCreated: {func(phone *device) {
		for _, code := range phone.renew() {
			if _, err := phone.w.admin.RevokeDevice(phone.w.t.Context(), phone.recovered(code).id, ""); err != nil {
				phone.w.t.Fatal(err)
			}
		}
	}, func(phone *device) error { phone.w.enroll(phone.account); return nil }},
	approval.EventSourceSilenced: {nil, func(phone *device) error { return phone.notMe("198.51.100.7") }},
	approval.EventLaneSilenced: {func(phone *device) { phone.notMe("198.51.100.7") }, func(phone *device) error {
		return phone.notMe("198.51.100.8")
	}},
	approval.EventUnlocked:        {nil, (*device).unlock},
	approval.EventRecoveryRenewed: {nil, func(phone *device) error { phone.renew(); return nil }},
	approval.EventRecoveryUsed: {func(phone *device) { phone.w.codes = phone.renew() }, func(phone *device) error {
		phone.recovered(phone.w.codes[0])
		return nil
	}},
	approval.EventRecoveryVoided: {func(phone *device) { phone.renew() }, func(phone *device) error {
		_, err := phone.w.admin.RevokeDevice(phone.w.t.Context(), phone.id, "stolen")
		return err
	}},
	approval.EventPushDied: {func(phone *device) {
		phone.w.push(phone, &pushFake{answer: func(approval.Wakeup) error {
			return &approval.WakeError{Verdict: approval.WakeDead, Why: "APNs: Unregistered"}
		}})
	}, func(phone *device) error {
		stop := phone.w.keepWaking()
		defer stop()
		_, err := phone.w.broker.TestDevice(phone.w.t.Context(), phone.id, "", "")
		synctest.Wait()
		return err
	}},
	approval.EventCounterReused: {func(phone *device) { phone.requestCode(); phone.requestCode() }, func(phone *device) error {
		phone.counter = 0 // a copy goes on from where it was made
		_, err := phone.requestCode()
		wantReason(phone.w.t, "a counter that did not rise", err, approval.ReasonCounterReused)
		return nil
	}},
}

// notMe says of a sign-in from an address that it was not the owner.
func (d *device) notMe(address string) error {
	d.w.t.Helper()
	app := d.w.application("a" + strings.ToLower(rand.Text())[:20])
	s, err := d.w.broker.BeginSignIn(d.w.t.Context(), app, d.w.asking(d.account, "", address))
	if err != nil {
		return err
	}
	_, err = d.decide(s.ID, statement.Deny, statement.NotMe)
	return err
}

// recovered returns a new device that used a recovery code.
func (d *device) recovered(code string) *device {
	d.w.t.Helper()
	other := d.w.newDevice()
	if _, err := other.recover(d.account, code); err != nil {
		d.w.t.Fatal(err)
	}
	return other
}

// wrongCodes lets new devices ask to be trusted one after the other, and each
// guess so many codes.
func (d *device) wrongCodes(guesses ...int) {
	for _, n := range guesses {
		time.Sleep(20 * time.Minute)
		tablet := d.w.newDevice()
		id := tablet.requestTrust(d.account)
		screen, err := d.screen()
		if err != nil || len(screen.Prompts) != 1 {
			d.w.t.Fatalf("the request is not shown: %v, %v", screen.Prompts, err)
		}
		code := d.allow(screen.Prompts[0].SignIn)
		for range n {
			wantReason(d.w.t, "a guess", tablet.completeTrust(id, wrong(code)), approval.ReasonCodeWrong)
		}
	}
}

func (d *device) suspendAccount() error {
	_, err := d.w.admin.SuspendAccount(d.w.t.Context(), d.account, "on leave")
	return err
}

// TestEveryNoticeRings makes each event happen that an owner must know of: the
// other devices of the account are rung and told, and those of other accounts
// are not.
func TestEveryNoticeRings(t *testing.T) {
	for _, event := range approval.Notable() {
		t.Run(string(event), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				happens, ok := noticed[event]
				if !ok {
					t.Fatal("no deed here makes this event happen")
				}
				w := newWorld(t, nil)
				w.account("ada")
				w.account("eve")
				mac, phone, other := w.enroll("ada"), w.enroll("ada"), w.enroll("eve")
				if happens.before != nil {
					happens.before(phone)
				}
				var before uint64
				if screen, err := mac.screen(); err != nil {
					t.Fatal(err)
				} else if n := len(screen.Notices); n > 0 {
					before = screen.Notices[n-1].Sequence
				}
				quietly := len(other.told())
				watch, quiet := w.broker.WatchDevice(mac.id), w.broker.WatchDevice(other.id)
				defer watch.Close()
				defer quiet.Close()
				if err := happens.deed(phone); err != nil {
					t.Fatal(err)
				}
				now, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				if err := watch.Wait(now); err != nil {
					t.Errorf("the other device was not rung: %v", err)
				}
				screen, err := mac.screen()
				if !slices.ContainsFunc(screen.Notices, func(n approval.Notice) bool { return n.Event == event && n.Sequence > before }) {
					t.Errorf("the other device is told %+v, %v, want %s after %d", screen.Notices, err, event, before)
				}
				if err := quiet.Wait(now); err == nil || len(other.told()) != quietly {
					t.Errorf("another account's device was rung (%v) or told %q", err, other.told())
				}
			})
		})
	}
}

// fallDormant lets 90 days pass in which all devices are seen but this one.
func (w *world) fallDormant(d *device) {
	w.t.Helper()
	for range 9 {
		time.Sleep(10 * 24 * time.Hour)
		for _, account := range []string{"ada", "eve"} {
			devices, err := w.admin.Devices(w.t.Context(), account)
			if err != nil {
				w.t.Fatal(err)
			}
			for _, other := range devices {
				if other.ID == d.id {
					continue
				}
				if err := w.broker.Seen(w.t.Context(), other.ID); err != nil {
					w.t.Fatal(err)
				}
			}
		}
	}
}

// What a device is told, in all its words.
func TestANoticeSaysWhoDidWhat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		mac := w.enroll("ada")
		time.Sleep(time.Second)
		phone := w.enroll("ada")
		phone.rename("Phone → “mine”")
		if err := phone.revoke(mac.id); err != nil {
			t.Fatal(err)
		}
		self, err := w.broker.Self(t.Context(), phone.id)
		if err != nil {
			t.Fatal(err)
		}
		by := approval.Actor{Kind: approval.ActorDevice, ID: phone.id}
		want := []approval.Notice{
			{Event: approval.EventDeviceRenamed, Actor: by, ActorName: "Phone → “mine”", Device: phone.id, DeviceName: "Phone → “mine”", DeviceKind: "terminal", Address: "192.0.2.9", Detail: "Mac mini"},
			{Event: approval.EventDeviceRevoked, Actor: by, ActorName: "Phone → “mine”", Device: mac.id, DeviceName: "Mac mini", DeviceKind: "terminal", Address: "192.0.2.9", Detail: "lost"},
		}
		got := slices.Clone(self.Notices)
		for i := range got {
			if n := &got[i]; n.Sequence == 0 || !n.Time.Equal(time.Now()) || i > 0 && n.Sequence <= self.Notices[i-1].Sequence {
				t.Errorf("notice %d has number %d and time %v", i, n.Sequence, n.Time)
			}
			got[i].Sequence, got[i].Time = 0, time.Time{}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("notices: -want +got:\n%s", diff)
		}
		screen, err := phone.screen()
		if err != nil || len(screen.Notices) != len(want) {
			t.Errorf("the stream tells %d notices, %v, want the same %d", len(screen.Notices), err, len(want))
		}
	})
}

// A device learns of what happened since it was enrolled, for 30 days.
func TestNoticesAreOfADevicesOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		mac := w.enroll("ada")
		mac.rename("iMac")
		time.Sleep(time.Hour)
		phone := w.enroll("ada")
		time.Sleep(time.Hour)
		mac.rename("Mac")
		want := map[*device][]string{
			mac:   {"device.renamed iMac", "device.enrolled Mac mini", "device.renamed Mac"},
			phone: {"device.renamed Mac"},
		}
		for d, lines := range want {
			if diff := cmp.Diff(lines, d.told()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		}
		time.Sleep(30*24*time.Hour - time.Hour)
		if got := mac.told(); len(got) != 1 {
			t.Errorf("after 30 days it is still told %q", got)
		}
		time.Sleep(time.Hour)
		if got := mac.told(); len(got) != 0 {
			t.Errorf("after 30 days it is still told %q", got)
		}
	})
}

// A stolen device that makes noise hides nothing by it, and fills no disk.
func TestNoiseDrivesNoNoticeOut(t *testing.T) { synctest.Test(t, testNoise) }

func testNoise(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	mac, phone := w.enroll("ada"), w.enroll("ada")
	thief := w.enroll("ada")
	if err := phone.revoke(thief.id); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		phone.rename(fmt.Sprint("Phone ", i))
		time.Sleep(3 * time.Minute)
	}
	told := mac.told()
	if len(told) != 18 || told[0] != "device.enrolled Mac mini" || told[2] != "device.revoked Mac mini" || told[17] != "device.renamed Phone 99" {
		t.Errorf("after 100 new names it is told %q, want 18, and nothing of its own enrolment, with those that are no names first", told)
	}
}

// Devices that are rung together have most notices in common. Each is encoded once,
// and each device still gets its own and no others.
func TestNoticesAreEncodedOnce(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files := w.application("files")
	var devices []*device
	var watches []*approval.Watch
	for i := range 5 {
		d := w.enroll("ada")
		d.rename(fmt.Sprint("Device ", i))
		watch := w.broker.WatchDevice(d.id)
		defer watch.Close()
		if _, err := w.broker.WatchedScreen(t.Context(), watch); err != nil { // from now on its account is known
			t.Fatal(err)
		}
		devices, watches = append(devices, d), append(watches, watch)
	}
	w.begin(files, "ada")

	var mu sync.Mutex
	encoded := map[uint64]int{}
	spell := func(n *approval.Notice) []byte {
		return fmt.Appendf(nil, "%d %s %s\n", n.Sequence, n.Event, n.DeviceName)
	}
	var all sync.WaitGroup
	for i, watch := range watches {
		all.Go(func() {
			screen, err := w.broker.WatchedScreen(t.Context(), watch)
			if err != nil {
				t.Error(err)
				return
			}
			got, err := screen.AppendNotices([]byte("of old\n"), func(n *approval.Notice) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				encoded[n.Sequence]++
				return spell(n), nil
			})
			want := []byte("of old\n")
			self, selfErr := w.broker.Self(t.Context(), devices[i].id)
			for j := range self.Notices {
				want = append(want, spell(&self.Notices[j])...)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" || err != nil || selfErr != nil {
				t.Errorf("device %d is told (%v, %v): -want +got:\n%s", i, err, selfErr, diff)
			}
		})
	}
	all.Wait()
	// The first device is told of four others, and of five new names.
	if len(encoded) != 9 {
		t.Errorf("%d notices were encoded, want 9", len(encoded))
	}
	for sequence, times := range encoded {
		if times != 1 {
			t.Errorf("notice %d was encoded %d times", sequence, times)
		}
	}
}
