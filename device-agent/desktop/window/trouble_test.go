package window

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/keystore"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// Everything that can be wrong is said in every language.
func TestEveryProblemIsSaid(t *testing.T) {
	for _, language := range languages {
		m := LoadMessages(language)
		for kind := agent.OtherProblem; kind <= agent.OtherProcess; kind++ {
			if key := problems[kind]; kind != agent.Refused && !m.Has(key) {
				t.Errorf("%s says nothing of problem %d", language, kind)
			}
		}
	}
}

// elsewhere are the reasons that no call of a device's is refused for.
var elsewhere = map[countersignv1.ErrorReason]bool{
	countersignv1.ErrorReason_ERROR_REASON_UNSPECIFIED: true, countersignv1.ErrorReason_ERROR_REASON_CALLER_GONE: true,
	countersignv1.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN: true, countersignv1.ErrorReason_ERROR_REASON_ACCOUNT_EXISTS: true,
	countersignv1.ErrorReason_ERROR_REASON_APPLICATION_UNKNOWN: true, countersignv1.ErrorReason_ERROR_REASON_APPLICATION_EXISTS: true,
	countersignv1.ErrorReason_ERROR_REASON_PUSH_NOT_CONFIGURED: true, countersignv1.ErrorReason_ERROR_REASON_BACKUP_FAILED: true,
}

func TestEveryReasonIsSaid(t *testing.T) {
	m := LoadMessages("de")
	said := make(map[string]bool)
	for number := range countersignv1.ErrorReason_name {
		reason := countersignv1.ErrorReason(number)
		key := m.refusal(reason)
		said[key] = true
		if other := key == "refused.other"; other != elsewhere[reason] {
			t.Errorf("%v is said as %s", reason, key)
		}
	}
	for key := range m.texts {
		if strings.HasPrefix(key, "refused.") && !said[key] {
			t.Errorf("no reason is said as %s", key)
		}
	}
}

// What is known is said in the person's language. Nobody else's words are in a sentence of
// the window's.
func TestTellings(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("x: %w", keystore.ErrWrongPassphrase), "Die Passphrase stimmt nicht."},
		{errors.Join(agent.ErrGone), "Die Anfrage ist weg: Sie wurde auf einem anderen Gerät beantwortet, abgebrochen, oder ihre Zeit ist um."},
		{&agent.WrongServerError{Got: thisKey}, agent.Fingerprint(thisKey)},
		{errors.New("Allow”\n\u202ethis"), "Bekannt ist, auf Englisch: / “Allow\\u{201d}\\u{a}\\u{202e}this”"},
		{Said("Das ist keine Einladung."), "Das ist keine Einladung."},
	} {
		var got []string
		for _, telling := range LoadMessages("de").tellings(test.err, "/home/ada") {
			if telling.others != strings.HasPrefix(telling.words, "“") {
				t.Errorf("%q: others' words = %v", telling.words, telling.others)
			}
			got = append(got, telling.words)
		}
		if got := strings.Join(got, " / "); !strings.Contains(got, test.want) {
			t.Errorf("%v is told as %q, want %q", test.err, got, test.want)
		}
	}
}

const thisKey = "mfrggzdfmztwq2lknnwg23tpobyxe43uov3ho6dzpiydcmrtgq2q"
