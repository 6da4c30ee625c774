package approval_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// TestA15TheStoreHoldsNoSecret plays every kind of operation and searches all
// that was stored.
func TestA15TheStoreHoldsNoSecret(t *testing.T) {
	memory := storetest.NewMemory()
	w := newWorld(t, memory)
	w.account("ada")
	files := w.application("files")
	_, rotated, err := w.admin.RotateApplicationToken(t.Context(), "files")
	if err != nil {
		t.Fatal(err)
	}
	token := w.invite("ada")
	mac := w.newDevice()
	if _, err := w.broker.EnrollDevice(t.Context(), mac.enrolling(token)); err != nil {
		t.Fatal(err)
	}
	mac.account = "ada"
	pending := w.invite("ada")
	s := w.begin(rotated, "ada")
	code := mac.allow(s.ID)
	requested, err := mac.requestCode()
	if err != nil {
		t.Fatal(err)
	}
	admission, err := w.broker.VerifySignIn(t.Context(), rotated, s.ID, code)
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{
		"old token": files, "token": rotated, "used invitation": token, "invitation": pending,
		"code": code, "requested code": requested.Digits, "grant": admission.Grant,
	}
	for bucket, entries := range dump(t, memory) {
		for key, value := range entries {
			for name, secret := range secrets {
				if len(secret) > 6 && (strings.Contains(key, secret) || strings.Contains(value, secret)) {
					t.Errorf("%s/%s holds the %s", bucket, key, name)
				}
				if len(secret) == 6 && strings.Contains(value, `"`+secret+`"`) {
					t.Errorf("%s/%s holds the %s", bucket, key, name)
				}
			}
		}
	}
	if got := fmt.Sprintf("%v %+v %#v", w.secrets, w.secrets, w.secrets); strings.Contains(strings.ReplaceAll(got, "Secrets(redacted)", ""), "[") {
		t.Errorf("printed secrets = %s", got)
	}
}

// dump returns all that a store holds in the buckets that records.go draws.
func dump(t *testing.T, store approval.Store) map[string]map[string]string {
	t.Helper()
	all := map[string]map[string]string{}
	err := store.View(t.Context(), func(tx approval.Tx) error {
		for _, bucket := range approval.Buckets() {
			all[bucket] = map[string]string{}
			for key, value := range tx.Ascend(bucket, "") {
				all[bucket][key] = string(value)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestBadInputIsRefusedAndChangesNothing tries every field at its limit and
// beyond.
func TestBadInputIsRefusedAndChangesNothing(t *testing.T) {
	memory := storetest.NewMemory()
	w := newWorld(t, memory)
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	open := w.begin(files, "ada")
	before := dump(t, memory)
	text := map[string]string{
		"65 runes":         strings.Repeat("x", 65),
		"over 256 bytes":   strings.Repeat("𝒳", 65),
		"control":          "a\x00b",
		"line break":       "a\nb",
		"escape":           "a\x1b[2Jb",
		"bidirectional":    "a\u202eb",
		"isolate":          "a\u2066b",
		"zero width":       "a\u200bb",
		"private use":      "a\ue000b",
		"unassigned":       "a\U000e0fffb",
		"not NFC":          "e\u0301",
		"three marks":      "x\u0301\u0302\u0303",
		"line separator":   "a\u2028b",
		"invalid UTF-8":    "a\xffb",
		"leading space":    " a",
		"only white space": " ",
	}
	for name, s := range text {
		for field, r := range map[string]approval.Request{
			"requester.device":  {Account: "ada", Requester: approval.Requester{Device: s}},
			"requester.program": {Account: "ada", Requester: approval.Requester{Program: s}},
			"requester.place":   {Account: "ada", Requester: approval.Requester{Place: s}},
			"message":           {Account: "ada", Message: s},
		} {
			_, err := w.broker.BeginSignIn(t.Context(), files, r)
			var e *approval.Error
			if !errors.As(err, &e) || e.Reason != approval.ReasonInvalidField || e.Field != field {
				t.Errorf("BeginSignIn with %s in %s = %v, want a refusal of %s", name, field, err, field)
			}
		}
		if _, _, err := w.admin.AddApplication(t.Context(), "mail", s); !errors.Is(err, &approval.Error{Reason: approval.ReasonInvalidField}) {
			t.Errorf("AddApplication with %s = %v", name, err)
		}
	}
	for _, name := range []string{"", "Ada", "a b", "-ada", "ada/bob", strings.Repeat("a", 65), "ада", "a\x00"} {
		_, err := w.admin.AddAccount(t.Context(), name)
		wantReason(t, fmt.Sprintf("AddAccount(%q)", name), err, approval.ReasonInvalidField)
	}
	for _, id := range []string{"", "Files", "1files", "a_b", strings.Repeat("a", 33), "a/b"} {
		_, _, err := w.admin.AddApplication(t.Context(), id, "Files")
		wantReason(t, fmt.Sprintf("AddApplication(%q)", id), err, approval.ReasonInvalidField)
	}
	for _, session := range []string{strings.Repeat("s", 129), "a b", "ä", "\n"} {
		_, err := w.broker.BeginSignIn(t.Context(), files, approval.Request{Account: "ada", Requester: approval.Requester{Session: session}})
		wantReason(t, fmt.Sprintf("session %q", session), err, approval.ReasonInvalidField)
	}
	for _, token := range []string{"", "x", strings.Repeat("x", 1<<16), files + " "} {
		_, err := w.broker.BeginSignIn(t.Context(), token, approval.Request{Account: "ada"})
		wantReason(t, "a wrong token", err, approval.ReasonUnauthenticated)
	}
	for _, code := range []string{"", "12345", "1234567", "abcdef", "12345６", strings.Repeat("1", 1<<16)} {
		_, err := w.broker.VerifySignIn(t.Context(), files, open.ID, code)
		wantReason(t, "a malformed code", err, approval.ReasonInvalidField)
	}
	if after := dump(t, memory); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("refused input changed the store")
	}
	longest := strings.Repeat("x", 64)
	s, err := w.broker.BeginSignIn(t.Context(), files, approval.Request{Account: "ada", Message: longest, Requester: approval.Requester{
		Address: "::ffff:203.0.113.7", Place: longest, Device: strings.Repeat("𝒳", 64), Program: strings.Repeat(`"`, 64), Session: strings.Repeat("s", 128),
	}})
	if err != nil || s.Requester.Address != "203.0.113.7" {
		t.Errorf("everything at its limit = %+v, %v", s.Requester, err)
	}
	if _, err := statement.ParsePrompt(mac.shown(s.ID)); err != nil {
		t.Errorf("the prompt with everything at its limit = %v", err)
	}
}

func TestA22AnUnparsableAddressIsUnknown(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	for given, want := range map[string]string{
		"203.0.113.7": "203.0.113.7", "2001:DB8::1": "2001:db8::1", "fe80::1%eth0": "fe80::1", "": "",
		"203.0.113.7, 10.0.0.1": "", "localhost": "", "203.0.113.256": "", "\u202e7": "",
	} {
		s, err := w.broker.BeginSignIn(t.Context(), files, approval.Request{Account: "ada", Requester: approval.Requester{Address: given, Session: rand.Text()}})
		if err != nil {
			t.Fatal(err)
		}
		p, err := statement.ParsePrompt(mac.shown(s.ID))
		if err != nil || p.Requester.Address != want {
			t.Errorf("address %q is shown as %q, %v, want %q", given, p.Requester.Address, err, want)
		}
		if _, err := w.broker.CancelSignIn(t.Context(), files, s.ID); err != nil {
			t.Fatal(err)
		}
	}
}
