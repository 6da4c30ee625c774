package keys

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"

	"github.com/countersignd/countersign/device-agent/keystore"
)

// TestKeysInAKeyring: keys sealed by a keyring are had again with it, and not without.
func TestKeysInAKeyring(t *testing.T) {
	keyring.MockInit()
	roundTrip(t)
}

// roundTrip makes keys with the keyring that there is, and has them again.
func roundTrip(t *testing.T) {
	if err := (Keyring{}).Check(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "device")
	made, err := keystore.CreateIn(dir, Keyring{})
	if err != nil {
		t.Fatal(err)
	}
	if made.Storage != "keyring" {
		t.Errorf("Storage = %q, want keyring", made.Storage)
	}
	sealed := seal(t, made)
	keys, err := keystore.Open(dir, "", Keyring{})
	if err != nil {
		t.Fatal(err)
	}
	working(t, keys, sealed)
	if err := keyring.Delete(service, entryIn(t, dir)); err != nil {
		t.Fatal(err)
	}
	if keys, err := keystore.Open(dir, "", Keyring{}); err == nil || !strings.Contains(err.Error(), "enrol it anew") {
		t.Errorf("Open after the keyring lost its entry = %v, %v, want to be told what to do", keys, err)
	}
}

// entryIn returns the name of the keyring's entry for the keys in dir.
func entryIn(t *testing.T, dir string) string {
	file, err := os.ReadFile(filepath.Join(dir, "keys.keyring"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(file), header+": ")
	entry, _, found := strings.Cut(rest, "\n")
	if !found {
		t.Fatalf("no entry is named in %s", file)
	}
	return entry
}

// TestA12KeysInAKeyringAreSealed: nothing of the keys is in the file, which another
// entry does not open, and of which no byte can change without that being seen.
func TestA12KeysInAKeyringAreSealed(t *testing.T) {
	keyring.MockInit()
	file, err := (Keyring{}).Make()
	if err != nil {
		t.Fatal(err)
	}
	other, err := (Keyring{}).Make()
	if err != nil {
		t.Fatal(err)
	}
	for at := range file {
		data := bytes.Clone(file)
		data[at] ^= 1
		if kept, err := (Keyring{}).Keys(data); err == nil {
			t.Fatalf("Keys of a file with byte %d changed = %v, want an error", at, kept)
		}
	}
	for _, data := range [][]byte{nil, []byte("-----BEGIN"), file[:len(file)-1], append(bytes.Clone(file), '\n'), append(bytes.Clone(file), other...)} {
		if _, err := (Keyring{}).Keys(data); !errors.Is(err, errDamaged) {
			t.Errorf("Keys of %d bytes that are damaged = %v, want errDamaged", len(data), err)
		}
	}
	// The entry of one with the content of the other.
	head, _, _ := strings.Cut(string(file), "\n\n")
	_, body, _ := strings.Cut(string(other), "\n\n")
	if _, err := (Keyring{}).Keys([]byte(head + "\n\n" + body)); !errors.Is(err, errDamaged) {
		t.Errorf("Keys of two files put together = %v, want errDamaged", err)
	}
}

// TestAKeyringThatCannotBeUsed: it is told, and no keys are made.
func TestAKeyringThatCannotBeUsed(t *testing.T) {
	keyring.MockInit()
	file, err := (Keyring{}).Make()
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("no bus")
	keyring.MockInitWithError(broken)
	if err := (Keyring{}).Check(); !errors.Is(err, broken) {
		t.Errorf("Check = %v, want %v", err, broken)
	}
	if made, err := (Keyring{}).Make(); !errors.Is(err, broken) || made != nil {
		t.Errorf("Make = %q, %v, want %v", made, err, broken)
	}
	if _, err := (Keyring{}).Keys(file); !errors.Is(err, broken) || !strings.Contains(err.Error(), "unlock it") {
		t.Errorf("Keys = %v, want %v and to be told to unlock it", err, broken)
	}
}

// inSession is set in a session of TestASecretService, to the directory of its device.
const inSession = "COUNTERSIGN_TEST_IN_SESSION"

// TestASecretService runs itself in two sessions, one after the other, with the keyring
// of GNOME in them, and a third time without one: keys that the first has made, the
// second has again, and without the keyring nobody has.
func TestASecretService(t *testing.T) {
	if dir := os.Getenv(inSession); dir != "" {
		roundTrip(t)
		keys, err := keystore.Open(dir, "", Keyring{})
		if errors.Is(err, keystore.ErrNoKeys) {
			keys, err = keystore.CreateIn(dir, Keyring{})
		}
		if err != nil {
			t.Fatal(err)
		}
		working(t, keys, seal(t, keys))
		return
	}
	home := t.TempDir()
	dir := filepath.Join(home, "device")
	var ids []string
	for range 2 {
		session := exec.Command("dbus-run-session", "--", "sh", "-ec",
			`printf password | gnome-keyring-daemon --unlock --components=secrets >/dev/null; exec "$0" -test.run='^TestASecretService$' -test.v`, os.Args[0])
		session.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_RUNTIME_DIR=" + home, inSession + "=" + dir}
		if out, err := session.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestASecretService")) {
			t.Fatalf("in a session with a keyring: %v\n%s", err, out)
		}
		ids = append(ids, entryIn(t, dir))
	}
	if ids[0] != ids[1] {
		t.Errorf("the keyring's entries are %q in two sessions, want one", ids)
	}
	without := exec.Command(os.Args[0], "-test.run=^TestASecretService$")
	without.Env = append(os.Environ(), inSession+"="+dir, "DBUS_SESSION_BUS_ADDRESS=unix:path="+filepath.Join(home, "nothing"))
	if said, err := without.CombinedOutput(); err == nil || !bytes.Contains(said, []byte("no keyring that can be used")) {
		t.Errorf("in a session without a keyring: %v\n%s", err, said)
	}
}
