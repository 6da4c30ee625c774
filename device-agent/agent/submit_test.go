package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersignd/countersign/internal/statement"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// another returns an agent of the same directory, as another process has it.
func another(t *testing.T, f *fakeServer, a *Agent) *Agent {
	t.Helper()
	b, err := Open(a.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	b.dialer = f.dial
	return b
}

// A device that does not count at present is told that, and not that it may have
// counted. Where an answer was lost before, it may have.
func TestRefusedForNowIsNoDoubt(t *testing.T) {
	for _, test := range []struct {
		lost bool
		want bool
	}{{false, false}, {true, true}} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			a := trustedAgent(t, f, "ada")
			d, stop := running(t, a)
			signIn := f.begin("ada")
			d.waitFor(t, "the prompt", prompts(1))
			lose := test.lost
			f.change(func() {
				f.before = func(string) error {
					if lose {
						lose = false
						return reject(codes.Unavailable, pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN, "Stopping.")
					}
					return reject(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_DEVICE_UNCONFIRMED, "Nobody has confirmed this device.")
				}
			})
			_, err := a.Answer(t.Context(), shown(a, signIn.id), statement.Allow, "")
			if Reason(err) != pb.ErrorReason_ERROR_REASON_DEVICE_UNCONFIRMED || strings.Contains(err.Error(), "Whether it counted") != test.want {
				t.Errorf("Answer with an answer lost before %v = %v", test.lost, err)
			}
			stop()
		})
	}
}

func TestNewCode(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	code, err := a.NewCode(t.Context())
	if err != nil || code.Digits != "271828" || !code.ExpireTime.After(time.Now().Add(4*time.Minute)) {
		t.Errorf("NewCode = %+v, %v", code, err)
	}
}

// A12, turned round: many processes of one device never make the server believe
// that its key was copied, since no statement overtakes another.
func TestStatementsOfManyProcesses(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	d, _ := running(t, a)
	const each = 15
	for range each {
		f.begin("ada")
	}
	d.waitFor(t, "the prompts", prompts(each))
	ids := get(f, func() (ids []string) {
		for _, s := range f.signIns {
			ids = append(ids, s.id)
		}
		return ids
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, id := range ids {
			if _, err := a.Answer(t.Context(), shown(a, id), statement.Deny, ""); err != nil {
				t.Errorf("Answer = %v", err)
			}
		}
	})
	for range 3 {
		b := another(t, f, a)
		wg.Go(func() {
			for range each {
				if _, err := b.NewCode(t.Context()); err != nil {
					t.Errorf("NewCode = %v", err)
				}
			}
		})
	}
	wg.Wait()
	if n, err := readCounter(a.dir); err != nil || n != 4*each {
		t.Errorf("counter = %d, %v, want %d", n, err, 4*each)
	}
}

// A statement whose answer was lost is sent again as it is, unless another
// process has signed meanwhile: then its number is too small, and it is signed anew.
func TestStatementIsSignedAnewWhenOvertaken(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	conn, err := a.newConn()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var signed []uint64
	gone := status.Error(codes.Unavailable, "gone")
	s := submission[string]{
		sign: func(counter uint64, _ string) (string, error) {
			signed = append(signed, counter)
			return fmt.Sprint("statement ", counter), nil
		},
		send: func(_ context.Context, _ *Conn, signed string) (string, error) { return signed, gone },
	}
	attempt := func(want string) {
		t.Helper()
		if got, err := s.attempt(t.Context(), a, conn); got != want || !errors.Is(err, gone) {
			t.Errorf("attempt sent %q, %v; want %q", got, err, want)
		}
	}
	attempt("statement 1")
	attempt("statement 1")
	if _, err := another(t, f, a).NewCode(t.Context()); err != nil { // number 2
		t.Fatal(err)
	}
	attempt("statement 3")
	attempt("statement 3")
	if !slices.Equal(signed, []uint64{1, 3}) {
		t.Errorf("signed %v, want 1 and 3", signed)
	}
}

// A process that holds the lock and does not go on is named, and waited for no
// longer than the person's patience.
func TestStatementsLockIsHeld(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	unlock, err := tryLock(a.dir, statementsName)
	if err != nil || unlock == nil {
		t.Fatalf("tryLock = %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := a.NewCode(ctx); err == nil || !strings.Contains(err.Error(), "another countersign-agent") {
		t.Errorf("NewCode = %v, want an error that names the other process", err)
	}
	if n, err := readCounter(a.dir); err != nil || n != 0 {
		t.Errorf("counter = %d, %v: a number was used up", n, err)
	}
	unlock()
	if _, err := a.NewCode(t.Context()); err != nil {
		t.Errorf("NewCode afterwards = %v", err)
	}
}

// While run waits for its connection, the lock is free for others.
func TestLockIsFreeWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		a := trustedAgent(t, f, "ada")
		d, stop := running(t, a)
		signIn := f.begin("ada")
		d.waitFor(t, "the prompt", prompts(1))
		f.stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var answering sync.WaitGroup
		answering.Go(func() { a.Answer(ctx, shown(a, signIn.id), statement.Deny, "") })
		time.Sleep(30 * time.Second)
		free := false
		for range 50 { // it may be in the middle of a try
			unlock, err := tryLock(a.dir, statementsName)
			if err != nil {
				t.Fatal(err)
			}
			if unlock != nil {
				unlock()
				free = true
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if !free {
			t.Errorf("the lock is held while there is no connection")
		}
		cancel()
		answering.Wait()
		stop()
	})
}

func TestRevokeAndRename(t *testing.T) {
	f := newFake(t)
	a, other := trustedAgent(t, f, "ada"), trustedAgent(t, f, "ada")
	if err := a.Rename(t.Context(), "Ada's tablet"); err != nil {
		t.Fatal(err)
	}
	state, err := LoadState(a.dir)
	if name := get(f, func() string { return f.devices[a.state.Device].Name }); err != nil || state.Name != "Ada's tablet" || name != state.Name {
		t.Errorf("the name is %q here and %q on the server, %v", state.Name, name, err)
	}
	if err := a.Rename(t.Context(), "a\u202eb"); err == nil {
		t.Error("Rename to a name that turns around = nil error")
	}
	d, err := a.Revoke(t.Context(), other.state.Device, "stolen")
	if err != nil || d.GetRevokeReason() != "stolen" {
		t.Fatalf("Revoke = %v, %v", d, err)
	}
	if _, err := other.NewCode(t.Context()); Reason(err) != pb.ErrorReason_ERROR_REASON_DEVICE_REVOKED {
		t.Errorf("NewCode of the revoked device = %v", err)
	}
	if _, err := a.Revoke(t.Context(), strings.Repeat("a", 52), ""); Reason(err) != pb.ErrorReason_ERROR_REASON_NO_SUCH_DEVICE {
		t.Errorf("Revoke of a stranger = %v", err)
	}
}

func TestUnlockIsSigned(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	if err := a.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := get(f, func() int { return len(f.decisions) }); n != 1 {
		t.Errorf("the server took %d statements, want 1", n)
	}
	f.change(func() {
		for _, d := range f.devices {
			d.State = pb.DeviceState_DEVICE_STATE_REVOKED
		}
	})
	if err := a.Unlock(t.Context()); ReactionTo(err) != Reenroll {
		t.Errorf("Unlock by a revoked device = %v, want a refusal", err)
	}
}
