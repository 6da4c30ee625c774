package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

const serverAddress = "countersign.test:8443"

func (f *fakeServer) asking(dir, account string) Asking {
	return Asking{Dir: dir, Server: Server{Address: serverAddress, Pin: f.keyID}, Account: account, Name: "New tablet", Kind: "tablet", dialer: f.dial}
}

// finishing is what is asked when enroll is run alone.
func (f *fakeServer) finishing(dir string) Asking {
	return Asking{Dir: dir, Name: "another name", Kind: "terminal", dialer: f.dial}
}

func TestAskToBeTrusted(t *testing.T) {
	f := newFake(t)
	dir := filepath.Join(t.TempDir(), "device")
	c, err := Ask(t.Context(), f.asking(dir, "ada"))
	if err != nil {
		t.Fatal(err)
	}
	if s := c.State(); s.Phase != Asked || s.Account != "ada" || s.Deployment != deployment || !c.ExpireTime().After(time.Now()) {
		t.Errorf("State = %+v", s)
	}
	if e := f.requests[0].enrollment; e.Name != "New tablet" || e.Kind != "tablet" || e.Invitation != "" {
		t.Errorf("the server was told %+v", e)
	}
	if _, err := Open(dir, ""); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("Open = %v, want ErrNotEnrolled", err)
	}
	if _, err := c.Complete(t.Context(), "111111"); Reason(err) != pb.ErrorReason_ERROR_REASON_SIGN_IN_PENDING {
		t.Errorf("Complete before Allow = %v, want SIGN_IN_PENDING", err)
	}
	code := f.allow()
	if _, err := c.Complete(t.Context(), "111111"); Reason(err) != pb.ErrorReason_ERROR_REASON_CODE_WRONG || Metadata(err, "tries_left") != "4" || errors.Is(err, ErrRequestOver) {
		t.Errorf("Complete with a wrong code = %v", err)
	}
	state, err := c.Complete(t.Context(), code)
	if err != nil || state.Phase != Trusted || state.Request != "" {
		t.Fatalf("Complete = %+v, %v", state, err)
	}
	agree(t, f, dir)
	for _, again := range []Asking{f.asking(dir, "ada"), f.finishing(dir)} {
		if _, err := Ask(t.Context(), again); !errors.Is(err, ErrEnrolled) {
			t.Errorf("Ask again = %v, want ErrEnrolled", err)
		}
	}
}

// S7: the process dies after each thing that it or the server makes durable; a
// second run finishes what was begun, with the same keys and request.
func TestAskAfterCrash(t *testing.T) {
	for _, step := range []string{"keys", "asking", "request made", "request known", "code taken", "trusted"} {
		for _, how := range []string{"same command", "alone"} {
			t.Run(step+", "+how, func(t *testing.T) {
				f := newFake(t)
				dir := filepath.Join(t.TempDir(), "device")
				in := f.asking(dir, "ada")
				again := in
				if how == "alone" {
					again = f.finishing(dir)
				}
				c, err := Ask(t.Context(), in)
				if err != nil {
					t.Fatal(err)
				}
				asked := c.State()
				before := asked
				before.Request, before.RequestExpires = "", 0
				switch step {
				case "keys":
					err = os.Remove(filepath.Join(dir, stateName))
					f.change(func() { f.requests = nil })
				case "asking":
					err = before.save(dir)
					f.change(func() { f.requests = nil })
				case "request made":
					err = before.save(dir)
				case "code taken":
					if _, err = c.Complete(t.Context(), f.allow()); err == nil {
						err = errors.Join(asked.save(dir), os.Remove(filepath.Join(dir, offlineName)))
					}
				case "trusted":
					_, err = c.Complete(t.Context(), f.allow())
				}
				if err != nil {
					t.Fatal(err)
				}
				c, err = Ask(t.Context(), again)
				switch {
				case step == "trusted":
					if !errors.Is(err, ErrEnrolled) {
						t.Errorf("Ask = %v, want ErrEnrolled", err)
					}
				case step == "keys" && how == "alone":
					if !errors.Is(err, ErrNotEnrolled) {
						t.Errorf("Ask = %v, want ErrNotEnrolled", err)
					}
					return
				case err != nil:
					t.Fatal(err)
				case step == "code taken":
					if c.State().Phase != Trusted {
						t.Errorf("Ask = %+v, want a trusted device without another code", c.State())
					}
				default:
					if s := c.State(); s.Device != asked.Device || s.Name != "New tablet" || s.Request != f.requests[0].id || len(f.requests) != 1 {
						t.Errorf("State = %+v, with %d requests; want the keys and the request of %+v", s, len(f.requests), asked)
					}
					if _, err := c.Complete(t.Context(), f.allow()); err != nil {
						t.Fatalf("Complete = %v", err)
					}
				}
				agree(t, f, dir)
			})
		}
	}
}

// Each answer is lost on its way, for as long as the first run lasts.
func TestAskLostAnswer(t *testing.T) {
	for _, method := range []string{"RequestTrust", "CompleteTrust"} {
		f := newFake(t)
		dir := filepath.Join(t.TempDir(), "device")
		lose := func(m string) error {
			if m == method {
				return status.Error(codes.Unavailable, "gone")
			}
			return nil
		}
		f.after = lose
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		c, err := Ask(ctx, f.asking(dir, "ada"))
		if method == "CompleteTrust" && err == nil {
			_, err = c.Complete(ctx, f.allow())
		}
		cancel()
		if err == nil || !strings.Contains(err.Error(), "run countersign-agent enroll again") {
			t.Fatalf("%s lost: %v, want an error that says what to do", method, err)
		}
		f.change(func() { f.after = func(string) error { return nil } })
		c, err = Ask(t.Context(), f.finishing(dir))
		if err != nil {
			t.Fatal(err)
		}
		if c.State().Phase != Trusted {
			if _, err := c.Complete(t.Context(), f.allow()); err != nil {
				t.Fatal(err)
			}
		}
		if len(f.requests) != 1 {
			t.Errorf("%s lost: %d requests, want one", method, len(f.requests))
		}
		agree(t, f, dir)
	}
}

// A request that has ended is forgotten; the next run asks anew, with the same keys.
func TestAskAgainAfterTheEnd(t *testing.T) {
	for name, end := range map[string]func(*fakeServer, *Candidate) error{
		"expired": func(f *fakeServer, c *Candidate) error {
			f.change(func() { f.requests[0].expired = true })
			_, err := c.Complete(t.Context(), "111111")
			return err
		},
		"too many wrong codes": func(f *fakeServer, c *Candidate) (err error) {
			f.allow()
			for range 5 {
				_, err = c.Complete(t.Context(), "111111")
			}
			f.change(func() { f.requests[0].expired = true })
			return err
		},
		"long ago": func(f *fakeServer, c *Candidate) error {
			s := c.State()
			s.RequestExpires = time.Now().Add(-time.Hour).Unix()
			if err := s.save(c.agent.dir); err != nil {
				return err
			}
			f.change(func() { f.requests[0].expired = true })
			_, err := Ask(t.Context(), f.finishing(c.agent.dir))
			return err
		},
	} {
		f := newFake(t)
		dir := filepath.Join(t.TempDir(), "device")
		c, err := Ask(t.Context(), f.asking(dir, "ada"))
		if err != nil {
			t.Fatal(err)
		}
		device := c.State().Device
		if err := end(f, c); !errors.Is(err, ErrRequestOver) || !strings.Contains(err.Error(), "run countersign-agent enroll") {
			t.Fatalf("%s: %v, want ErrRequestOver", name, err)
		}
		c, err = Ask(t.Context(), f.finishing(dir))
		if err != nil || c.State().Device != device || len(f.requests) != 2 {
			t.Fatalf("%s: Ask again = %+v, %v, with %d requests", name, c, err, len(f.requests))
		}
		if _, err := c.Complete(t.Context(), f.allow()); err != nil {
			t.Fatal(err)
		}
		agree(t, f, dir)
	}
}

// Keys that one server may believe in are not shown to another one; and an
// account that was mistyped can be corrected.
func TestAskElsewhereWhileAsked(t *testing.T) {
	f := newFake(t)
	dir := filepath.Join(t.TempDir(), "device")
	if _, err := Ask(t.Context(), f.asking(dir, "adda")); err != nil {
		t.Fatal(err)
	}
	other := f.asking(dir, "adda")
	other.Server.Address = "other.test:8443"
	if _, err := Ask(t.Context(), other); err == nil || !strings.Contains(err.Error(), "the outcome is not known") {
		t.Errorf("Ask at another server = %v, want a refusal", err)
	}
	link := f.invite("ada")
	link.Deployment = strings.Repeat("b", 26)
	if _, err := enrollAt(t.Context(), f, dir, link); err == nil || !strings.Contains(err.Error(), "its outcome is not known") {
		t.Errorf("Enroll at another deployment = %v, want a refusal", err)
	}
	c, err := Ask(t.Context(), f.asking(dir, "ada"))
	if err != nil || c.State().Account != "ada" || c.State().Request != f.requests[1].id {
		t.Fatalf("Ask for another account = %+v, %v", c, err)
	}
	// An administrator may help instead.
	if _, err := enrollAt(t.Context(), f, dir, f.invite("ada")); err != nil {
		t.Fatal(err)
	}
	agree(t, f, dir)
}

// A20: a server with another key is sent nothing, and its key can be looked at.
func TestAskWrongPin(t *testing.T) {
	f, stranger := newFake(t), newFake(t)
	in := f.asking(filepath.Join(t.TempDir(), "device"), "ada")
	in.dialer = stranger.dial
	_, err := Ask(t.Context(), in)
	if wrong, ok := errors.AsType[*WrongServerError](err); !ok || wrong.Got != stranger.keyID || len(stranger.requests) != 0 {
		t.Errorf("Ask = %v, want the stranger's key named", err)
	}
	key, err := serverKey(t.Context(), Server{Address: serverAddress}, f.dial)
	if err != nil || key != f.keyID {
		t.Errorf("serverKey = %q, %v, want %q", key, err, f.keyID)
	}
}
