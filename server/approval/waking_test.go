package approval_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// A pushFake is a push service. It refuses what no service would take, keeps
// what it was handed, and answers as it is told.
type pushFake struct {
	answer func(approval.Wakeup) error // nil takes all
	hang   bool                        // no answer comes

	mu     sync.Mutex
	handed []handed
}

type handed struct {
	at    time.Time
	token string
	approval.Wakeup
}

// Check implements [approval.Waker].
func (f *pushFake) Check(a approval.PushAddress) error {
	if a.Token == "" || strings.Trim(a.Token, "0123456789abcdef") != "" {
		return errors.New("want a device token in hexadecimal")
	}
	return nil
}

// Wake implements [approval.Waker].
func (f *pushFake) Wake(ctx context.Context, to approval.PushAddress, w approval.Wakeup) error {
	if err := f.Check(to); err != nil || w.Topic == "" || !time.Now().Before(w.Expires) {
		return &approval.WakeError{Why: fmt.Sprintf("the fake refuses %+v: %v", w, err)}
	}
	f.mu.Lock()
	f.handed = append(f.handed, handed{time.Now(), to.Token, w})
	f.mu.Unlock()
	if f.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if f.answer == nil {
		return nil
	}
	return f.answer(w)
}

// got returns what was handed over until now, in words.
func (f *pushFake) got() []string {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	// Those of one moment are handed over at once.
	slices.SortStableFunc(f.handed, func(x, y handed) int { return cmp.Or(x.at.Compare(y.at), strings.Compare(x.token, y.token)) })
	all := []string{}
	for _, h := range f.handed {
		word := "ring "
		if h.Over {
			word = "over "
		}
		all = append(all, word+h.token)
	}
	return all
}

func (f *pushFake) wantGot(t *testing.T, when string, want ...string) {
	t.Helper()
	if got := f.got(); !slices.Equal(got, want) {
		t.Errorf("%s, the push service was handed %q, want %q", when, got, want)
	}
}

// push makes f the world's APNs, at which the devices register, each with a
// token that begins with its number.
func (w *world) push(d *device, f *pushFake, more ...*device) {
	w.t.Helper()
	w.config.Wakers = map[approval.PushService]approval.Waker{approval.PushAPNs: f}
	w.restart()
	for i, d := range append([]*device{d}, more...) {
		if _, err := d.register(fmt.Sprintf("%d0abcdef", i+1)); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (d *device) register(token string) (approval.Device, error) {
	return d.w.broker.UpdateDevice(d.w.t.Context(), d.id, approval.Update{Push: &approval.PushChange{
		Service: approval.PushAPNs, Address: approval.PushAddress{Token: token},
	}}, "192.0.2.9")
}

func (d *device) report(id string, stage approval.DeliveryStage) error {
	return d.w.broker.ReportPrompts(d.w.t.Context(), d.id, []approval.Report{{ID: id, Stage: stage}})
}

// rung reports whether a Watch was rung since it was last asked.
func rung(w *approval.Watch) bool {
	synctest.Wait()
	now, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	return w.Wait(now) == nil
}

// keepWaking runs the Broker's KeepWaking until stop is called, or the test ends.
func (w *world) keepWaking() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	broker := w.broker
	go func() {
		defer close(ended)
		broker.KeepWaking(ctx)
	}()
	stop = func() {
		cancel()
		<-ended
	}
	w.t.Cleanup(stop)
	return stop
}

// pushed returns a world in which mac and phone of ada are registered, and a
// push service.
func pushed(t *testing.T, store approval.Store) (w *world, files string, mac, phone *device, f *pushFake) {
	t.Helper()
	w = newWorld(t, store)
	w.account("ada")
	files = w.application("files")
	mac, phone = w.enroll("ada"), w.enroll("ada")
	f = &pushFake{}
	w.push(mac, f, phone)
	return w, files, mac, phone, f
}

func (d *device) self() approval.Device {
	d.w.t.Helper()
	found, err := d.w.admin.Device(d.w.t.Context(), d.id)
	if err != nil {
		d.w.t.Fatal(err)
	}
	return found
}

// delivery returns how far a sign-in has come on the device.
func (d *device) delivery(id string) approval.Delivery {
	d.w.t.Helper()
	s, _, err := d.w.admin.SignIn(d.w.t.Context(), id)
	if err != nil {
		d.w.t.Fatal(err)
	}
	for _, delivery := range s.Deliveries {
		if delivery.Device == d.id {
			return delivery
		}
	}
	d.w.t.Fatalf("the sign-in was not for the device")
	return approval.Delivery{}
}

func TestDevicesWithoutAStreamAreWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, mac, phone, f := pushed(t, storetest.NewMemory())
		w.enroll("ada") // registers nothing
		w.keepWaking()
		watch := w.broker.WatchDevice(mac.id)
		defer watch.Close()
		s := w.begin(files, "ada")
		f.wantGot(t, "after the sign-in began", "ring 20abcdef")
		if got := f.handed[0]; got.Topic != s.ID || !got.Expires.Equal(s.Expires) {
			t.Errorf("it was handed %+v, want the sign-in's id and end", got.Wakeup)
		}
		if got := phone.delivery(s.ID); got.Stage != approval.DeliveryPushed {
			t.Errorf("the phone's stage = %v, want pushed", got.Stage)
		}
		if err := mac.report(s.ID, approval.DeliveryShown); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		f.wantGot(t, "while the connected device shows it", "ring 20abcdef")
		code := mac.allow(s.ID)
		f.wantGot(t, "after it was allowed", "ring 20abcdef", "over 20abcdef")
		if _, err := w.broker.VerifySignIn(t.Context(), files, s.ID, code); err != nil {
			t.Fatal(err)
		}
		f.wantGot(t, "after it was verified", "ring 20abcdef", "over 20abcdef")
		if got := phone.self().Push; got.Accepted.IsZero() || got.Dead {
			t.Errorf("the phone's push = %+v, want it to have been taken", got)
		}
	})
}

// A stream may be open at the server that nobody hears any more.
func TestADeviceThatSaysNothingOnItsStreamIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, mac, phone, f := pushed(t, storetest.NewMemory())
		w.keepWaking()
		for _, d := range []*device{mac, phone} {
			defer w.broker.WatchDevice(d.id).Close()
		}
		s := w.begin(files, "ada")
		if err := phone.report(s.ID, approval.DeliveryReceived); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		f.wantGot(t, "after 9 s")
		time.Sleep(2 * time.Second)
		f.wantGot(t, "after 11 s", "ring 10abcdef")
	})
}

func TestATrustRequestWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, _, _, f := pushed(t, storetest.NewMemory())
		w.keepWaking()
		w.newDevice().requestTrust("ada")
		f.wantGot(t, "after a device asked to be trusted", "ring 10abcdef", "ring 20abcdef")
	})
}

func TestSilenceWakesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, _, _, f := pushed(t, storetest.NewMemory())
		w.keepWaking()
		w.begin(files, "ada")
		rings := len(f.got())
		s := w.begin(files, "ada")
		if s.Silent == "" {
			t.Fatal("the second sign-in at once rings")
		}
		if got := f.got(); len(got) != rings {
			t.Errorf("a silent sign-in was pushed: %q", got[rings:])
		}
	})
}

// TestStateIsReadBeforeEachAttempt lets a push wait, and changes something
// meanwhile that makes it pointless.
func TestStateIsReadBeforeEachAttempt(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(w *world, files string, mac, phone *device, s approval.SignIn) error
	}{
		{"nothing", nil},
		{"the account is suspended", func(w *world, _ string, _, phone *device, _ approval.SignIn) error { return phone.suspendAccount() }},
		{"the device is revoked", func(w *world, _ string, mac, phone *device, _ approval.SignIn) error { return mac.revoke(phone.id) }},
		{"it is denied", func(w *world, _ string, mac, _ *device, s approval.SignIn) error {
			_, err := mac.decide(s.ID, statement.Deny, "")
			return err
		}},
		{"it is cancelled", func(w *world, files string, _, _ *device, s approval.SignIn) error {
			_, err := w.broker.CancelSignIn(w.t.Context(), files, s.ID)
			return err
		}},
		{"it is silenced", func(w *world, _ string, mac, _ *device, s approval.SignIn) error { return mac.notMe("203.0.113.7") }},
		{"the device has it", func(w *world, _ string, _, phone *device, s approval.SignIn) error {
			w.t.Cleanup(w.broker.WatchDevice(phone.id).Close)
			return phone.report(s.ID, approval.DeliveryReceived)
		}},
		{"the registration is taken back", func(w *world, _ string, _, phone *device, _ approval.SignIn) error {
			_, err := w.broker.UpdateDevice(w.t.Context(), phone.id, approval.Update{Push: &approval.PushChange{}}, "")
			return err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, files, mac, phone, f := pushed(t, storetest.NewMemory())
				f.answer = func(approval.Wakeup) error {
					return &approval.WakeError{Verdict: approval.WakeLater, Why: "APNs: TooManyRequests", After: time.Minute}
				}
				w.keepWaking()
				defer w.broker.WatchDevice(mac.id).Close()
				s := w.begin(files, "ada")
				mac.report(s.ID, approval.DeliveryShown)
				f.wantGot(t, "at first", "ring 20abcdef")
				if test.change == nil {
					time.Sleep(70 * time.Second)
					f.wantGot(t, "after a minute", "ring 20abcdef", "ring 20abcdef")
					return
				}
				if err := test.change(w, files, mac, phone, s); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Minute)
				f.wantGot(t, "after the change", "ring 20abcdef")
			})
		})
	}
}

func TestRetriesEndWithThePrompt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, _, phone, f := pushed(t, storetest.NewMemory())
		f.answer = func(approval.Wakeup) error {
			return &approval.WakeError{Verdict: approval.WakeLater, Why: "APNs: 503"}
		}
		w.keepWaking()
		s := w.begin(files, "ada")
		time.Sleep(time.Hour)
		f.got()
		last := f.handed[len(f.handed)-1].at
		// 2, 4, 8, 16, 32 and then 60 seconds, a fifth more or less.
		if n := len(f.handed) / 2; n < 8 || n > 11 || !last.Before(s.Expires) {
			t.Errorf("a device was tried %d times, the last %v before the end; want about 9, and none afterwards", n, s.Expires.Sub(last))
		}
		got := phone.delivery(s.ID)
		if got.Stage != approval.DeliveryPushRefused || got.PushFailure != "APNs: 503" {
			t.Errorf("the phone's delivery = %v %q, want push refused, and why", got.Stage, got.PushFailure)
		}
		if got := phone.self().Push; got.Failure != "APNs: 503" || got.Failed.IsZero() || got.Dead {
			t.Errorf("the phone's push = %+v, want its failure", got)
		}
	})
}

func TestAServiceThatDoesNotAnswerHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, mac, _, f := pushed(t, storetest.NewMemory())
		f.hang = true
		stop := w.keepWaking()
		start := time.Now()
		s := w.begin(files, "ada")
		mac.allow(s.ID)
		if took := time.Since(start); took != 0 {
			t.Errorf("a sign-in took %v, want no time", took)
		}
		time.Sleep(time.Second)
		start = time.Now()
		stop()
		if took := time.Since(start); took != 0 {
			t.Errorf("stopping took %v, want no time", took)
		}
	})
}

// TestADeadRegistration: what the service says of an older registration does
// not end a newer one.
func TestADeadRegistration(t *testing.T) {
	for _, test := range []struct {
		name  string
		since time.Duration // from the registration on; 0 if the service does not say
		dead  bool
	}{
		{"it does not say since when", 0, true},
		{"since after it was made", time.Second, true},
		{"since before it was made", -time.Second, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, files, mac, phone, f := pushed(t, storetest.NewMemory())
				registered := phone.self().Push.Registered
				f.answer = func(approval.Wakeup) error {
					e := &approval.WakeError{Verdict: approval.WakeDead, Why: "APNs: Unregistered"}
					if test.since != 0 {
						e.Since = registered.Add(test.since)
					}
					return e
				}
				w.keepWaking()
				defer w.broker.WatchDevice(mac.id).Close()
				s := w.begin(files, "ada")
				mac.report(s.ID, approval.DeliveryReceived)
				f.wantGot(t, "at first", "ring 20abcdef")
				if got := phone.self().Push; got.Dead != test.dead || got.Failure != "APNs: Unregistered" {
					t.Errorf("the registration = %+v, want dead: %v", got, test.dead)
				}
				if got := w.recorded(approval.EventPushDied); (got == 1) != test.dead {
					t.Errorf("%d records of a dead registration, want it to be %v", got, test.dead)
				}
				if told := slices.ContainsFunc(mac.told(), func(n string) bool { return strings.HasPrefix(n, "device.push_died") }); told != test.dead {
					t.Errorf("the owner was told: %v, want %v", told, test.dead)
				}
				time.Sleep(10 * time.Minute)
				if !test.dead {
					return
				}
				mac.report(w.begin(files, "ada").ID, approval.DeliveryReceived)
				f.wantGot(t, "at the next sign-in", "ring 20abcdef")
				// The same address, registered anew, is alive until the service says
				// something of it.
				f.answer = nil
				if d, err := phone.register("20abcdef"); err != nil || d.Push.Dead {
					t.Fatalf("registering again = %+v, %v, want it alive", d.Push, err)
				}
				time.Sleep(10 * time.Minute)
				w.begin(files, "ada")
				f.wantGot(t, "after it was registered again", "ring 20abcdef", "ring 20abcdef")
			})
		})
	}
}

func TestABrokenServiceIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, mac, phone, f := pushed(t, storetest.NewMemory())
		var log bytes.Buffer
		w.config.Log = slog.New(slog.NewTextHandler(&log, nil))
		w.restart()
		broken := true
		f.answer = func(approval.Wakeup) error {
			if broken {
				return &approval.WakeError{Verdict: approval.WakeBroken, Why: "APNs: InvalidProviderToken"}
			}
			return nil
		}
		stop := w.keepWaking()
		defer w.broker.WatchDevice(mac.id).Close()
		s := w.begin(files, "ada")
		mac.report(s.ID, approval.DeliveryReceived)
		f.wantGot(t, "at first", "ring 20abcdef")
		got := w.broker.PushServices()
		if len(got) != 1 || got[0].Trouble != "APNs: InvalidProviderToken" || got[0].Since.IsZero() {
			t.Errorf("the services = %+v, want the trouble", got)
		}
		time.Sleep(50 * time.Second)
		f.wantGot(t, "after 50 s", "ring 20abcdef")
		time.Sleep(30 * time.Second)
		f.wantGot(t, "after 80 s", "ring 20abcdef", "ring 20abcdef")
		broken = false
		time.Sleep(70 * time.Second)
		f.wantGot(t, "after it was mended", "ring 20abcdef", "ring 20abcdef", "ring 20abcdef")
		if got := w.broker.PushServices(); got[0].Trouble != "" || phone.delivery(s.ID).Stage != approval.DeliveryPushed {
			t.Errorf("the services = %+v, want no trouble, and the push taken", got)
		}
		stop()
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "takes pushes again") {
			t.Errorf("the log has %d errors, want one, and that it is over:\n%s", n, &log)
		}
	})
}

// Nothing is pushed that is not durable; and what was durable and not pushed,
// because the process ended between, is pushed by the next one.
func TestNothingIsPushedBeforeTheCommit(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.Before, storetest.After} {
		synctest.Test(t, func(t *testing.T) {
			faulty := &storetest.Faulty{Store: storetest.NewMemory()}
			w, files, _, _, f := pushed(t, faulty)
			stop := w.keepWaking()
			synctest.Wait()
			at := faulty.Updates() + 1
			faulty.Fault = func(n int) storetest.Fault {
				if n == at {
					return fault
				}
				return storetest.None
			}
			if _, err := w.broker.BeginSignIn(t.Context(), files, w.asking("ada", "", "203.0.113.7")); !errors.Is(err, approval.ErrStoreFailed) {
				t.Fatalf("BeginSignIn = %v, want that the store failed", err)
			}
			f.wantGot(t, "after the commit failed")
			stop()
			w.restart()
			w.keepWaking()
			if fault == storetest.Before {
				f.wantGot(t, "after a restart")
				return
			}
			f.wantGot(t, "after a restart", "ring 10abcdef", "ring 20abcdef")
		})
	}
}

// TestA15NoAddressLeavesTheStore looks for what a device registered in the
// record, in the log and in what is shown.
func TestA15NoAddressLeavesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, mac, phone, f := pushed(t, storetest.NewMemory())
		var log bytes.Buffer
		w.config.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		w.restart()
		for _, verdict := range []approval.WakeVerdict{approval.WakeRefused, approval.WakeLater, approval.WakeBroken, approval.WakeDead} {
			f.answer = func(approval.Wakeup) error {
				return &approval.WakeError{Verdict: verdict, Why: "APNs: no", Err: errors.New("POST /3/device/20abcdef")}
			}
			stop := w.keepWaking()
			w.begin(files, "ada")
			time.Sleep(20 * time.Minute)
			stop()
		}
		entries, _, err := w.admin.ListRecords(t.Context(), approval.RecordFilter{}, approval.Page{})
		if err != nil {
			t.Fatal(err)
		}
		all := log.String() + fmt.Sprint(mac.told(), phone.self()) + fmt.Sprintf("%+v %#v", *phone.self().Push, *phone.self().Push)
		for _, e := range entries {
			all += string(e.Document)
		}
		if strings.Contains(all, "0abcdef") {
			t.Errorf("a token is shown in:\n%s", all)
		}
		if !strings.Contains(all, "push_died") || !strings.Contains(all, "push_registered") {
			t.Error("the pushes left no trace at all")
		}
	})
}
