package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/countersignd/countersign/device-agent/keystore"
)

// A machine has a TPM made of software (swtpm), which it keeps when it is restarted.
type machine struct {
	t       *testing.T
	dir     string
	process *exec.Cmd
}

func newMachine(t *testing.T) *machine {
	// Not in t.TempDir, whose names can be too long for a socket.
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir}
	m.start()
	t.Cleanup(func() {
		m.stop()
		os.RemoveAll(dir)
	})
	return m
}

func (m *machine) start() {
	m.process = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+m.dir, "--flags", "not-need-init,startup-clear",
		"--server", "type=unixio,path="+m.socket(), "--ctrl", "type=unixio,path="+m.socket()+".ctrl")
	if err := m.process.Start(); err != nil {
		m.t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for m.tpm().Check() != nil {
		if time.Now().After(deadline) {
			m.t.Fatalf("the TPM does not answer: %v", m.tpm().Check())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (m *machine) stop() {
	m.process.Process.Kill() // as a power cut does
	m.process.Wait()
	os.Remove(m.socket())
}

func (m *machine) socket() string { return filepath.Join(m.dir, "socket") }

// tpm returns the machine's TPM, as a program that has just started sees it.
func (m *machine) tpm() *TPM {
	return &TPM{Open: func() (transport.TPMCloser, error) { return linuxudstpm.Open(m.socket()) }}
}

// tell gives the TPM a command.
func (m *machine) tell(command func(transport.TPM) error) {
	m.t.Helper()
	tpm, err := linuxudstpm.Open(m.socket())
	if err == nil {
		err = errors.Join(command(tpm), tpm.Close())
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) clear() {
	m.tell(func(tpm transport.TPM) error {
		_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(tpm)
		return err
	})
}

// loaded returns what is left in the TPM.
func (m *machine) loaded() (handles []tpm2.TPMHandle) {
	for _, first := range []uint32{0x80000000, 0x02000000} { // objects, sessions
		m.tell(func(tpm transport.TPM) error {
			got, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 64}.Execute(tpm)
			if err != nil {
				return err
			}
			list, err := got.CapabilityData.Data.Handles()
			if err != nil {
				return err
			}
			handles = append(handles, list.Handle...)
			return nil
		})
	}
	return handles
}

func seal(t *testing.T, keys *keystore.Keys) []byte {
	t.Helper()
	sealed, err := keys.Seal("test", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// TestKeysInATPM: keys of a TPM sign what a device signs, in every program and after
// every restart, and leave nothing behind in the TPM.
func TestKeysInATPM(t *testing.T) {
	m := newMachine(t)
	dir := filepath.Join(t.TempDir(), "device")
	made, err := keystore.CreateIn(dir, m.tpm())
	if err != nil {
		t.Fatal(err)
	}
	sealed := seal(t, made)
	working(t, made, sealed)
	m.stop()
	if _, err := made.Approval.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
		t.Error("the key signs without its TPM")
	}
	if _, err := keystore.Open(dir, "", m.tpm()); err == nil || errors.Is(err, keystore.ErrGone) || !strings.Contains(err.Error(), "switch it on") {
		t.Errorf("Open without a TPM = %v, want to be told to switch it on", err)
	}
	m.start()
	working(t, made, sealed) // with keys that were open all the while
	keys, err := keystore.Open(dir, "", m.tpm())
	if err != nil {
		t.Fatal(err)
	}
	if !made.Identity.Public().(*ecdsa.PublicKey).Equal(keys.Identity.Public()) || !made.Approval.Public().(*ecdsa.PublicKey).Equal(keys.Approval.Public()) {
		t.Error("after a restart the keys are others")
	}
	if keys.Storage != "tpm" {
		t.Errorf("Storage = %q, want tpm", keys.Storage)
	}
	working(t, keys, sealed)
	var wg sync.WaitGroup
	for range 8 { // the TPM holds three keys at once
		wg.Go(func() { working(t, keys, sealed) })
	}
	wg.Wait()
	if left := m.loaded(); len(left) > 0 {
		t.Errorf("left in the TPM: %x, want nothing", left)
	}
}

// TestA12KeysOfATPMCannotBeCopied: what is on the disk is of no use with another TPM, and
// the TPM does not export the keys or make others of them.
func TestA12KeysOfATPMCannotBeCopied(t *testing.T) {
	m := newMachine(t)
	dir := filepath.Join(t.TempDir(), "device")
	if _, err := keystore.CreateIn(dir, m.tpm()); err != nil {
		t.Fatal(err)
	}
	thief := newMachine(t)
	if keys, err := keystore.Open(dir, "", thief.tpm()); !errors.Is(err, keystore.ErrGone) || !strings.Contains(err.Error(), "another machine") {
		t.Errorf("Open with another TPM = %v, %v, want ErrGone and to be told why", keys, err)
	}
	file, err := os.ReadFile(filepath.Join(dir, "keys.tpm"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := parseTPMFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// With the name of its own root in the file, the thief's TPM itself refuses.
	err = thief.tpm().use(func(_ transport.TPM, r root) error { f.Root = r.name.Buffer; return nil })
	if err != nil {
		t.Fatal(err)
	}
	forged, err := f.encode()
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := thief.tpm().Keys(forged); err == nil {
		t.Errorf("Keys with another TPM = %v, want an error", kept)
	}
	for _, o := range []object{f.Identity, f.Approval, f.Sealing} {
		err := m.tpm().use(func(tpm transport.TPM, r root) error {
			return r.load(tpm, o, func(h tpm2.NamedHandle) error {
				_, err := tpm2.Duplicate{
					ObjectHandle:    tpm2.AuthHandle{Handle: h.Handle, Name: h.Name, Auth: tpm2.PasswordAuth(nil)},
					NewParentHandle: tpm2.TPMRHNull,
					Symmetric:       tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull},
				}.Execute(tpm)
				if err == nil {
					t.Error("the TPM exports what is in it")
				}
				public, err := tpm2.ReadPublic{ObjectHandle: h.Handle}.Execute(tpm)
				if err != nil {
					return err
				}
				p, err := public.OutPublic.Contents()
				if err != nil {
					return err
				}
				if a := p.ObjectAttributes; !a.FixedTPM || !a.FixedParent || a.Restricted || a.Decrypt {
					t.Errorf("the TPM keeps an object with the attributes %+v, want it fixed, and to sign at most", a)
				}
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// S6: a TPM that was cleared has no keys any more, and the person is told what to do.
func TestAClearedTPMIsToldOf(t *testing.T) {
	m := newMachine(t)
	dir := filepath.Join(t.TempDir(), "device")
	made, err := keystore.CreateIn(dir, m.tpm())
	if err != nil {
		t.Fatal(err)
	}
	m.clear()
	if _, err := keystore.Open(dir, "", m.tpm()); !errors.Is(err, keystore.ErrGone) || !strings.Contains(err.Error(), "was cleared") {
		t.Errorf("Open after the TPM was cleared = %v, want ErrGone and to be told why", err)
	}
	if _, err := made.Approval.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
		t.Error("a key signs after its TPM was cleared")
	}
	// And it is good for new ones.
	if _, err := keystore.CreateIn(filepath.Join(t.TempDir(), "device"), m.tpm()); err != nil {
		t.Error(err)
	}
}

// TestADamagedFileOfATPM: no byte of it can change without that being seen.
func TestADamagedFileOfATPM(t *testing.T) {
	m := newMachine(t)
	file, err := m.tpm().Make()
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{nil, []byte("-----BEGIN"), file[:len(file)-1], append(bytes.Clone(file), '\n'), append([]byte(" "), file...)} {
		if _, err := m.tpm().Keys(data); !errors.Is(err, errDamaged) {
			t.Errorf("Keys of %d bytes that are damaged = %v, want errDamaged", len(data), err)
		}
	}
	f, err := parseTPMFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range [][]byte{f.Identity.Public, f.Identity.Private, f.Approval.Public, f.Approval.Private, f.Sealing.Public, f.Sealing.Private} {
		for _, at := range []int{0, 5, len(part) / 2, len(part) - 1} {
			part[at] ^= 1
			data, err := f.encode()
			if err != nil {
				t.Fatal(err)
			}
			if kept, err := m.tpm().Keys(data); err == nil {
				t.Errorf("Keys of a file with byte %d of a part of %d changed = %v, want an error", at, len(part), kept)
			}
			part[at] ^= 1
		}
	}
	if left := m.loaded(); len(left) > 0 {
		t.Errorf("left in the TPM: %x, want nothing", left)
	}
}

// TestKeysOfATPMSignSHA256: and nothing else that is handed to them.
func TestKeysOfATPMSignSHA256(t *testing.T) {
	m := newMachine(t)
	file, err := m.tpm().Make()
	if err != nil {
		t.Fatal(err)
	}
	kept, err := m.tpm().Keys(file)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("test"))
	signature, err := kept.Approval.Sign(nil, digest[:], crypto.SHA256)
	if err != nil || !ecdsa.VerifyASN1(kept.Approval.Public().(*ecdsa.PublicKey), digest[:], signature) {
		t.Errorf("Sign = %x, %v, want a signature", signature, err)
	}
	for _, hash := range []crypto.Hash{crypto.SHA384, crypto.SHA3_256, crypto.Hash(0)} {
		if _, err := kept.Approval.Sign(nil, make([]byte, 32), hash); err == nil {
			t.Errorf("Sign(%v) succeeds, want an error", hash)
		}
	}
	if _, err := kept.Approval.Sign(nil, digest[:31], crypto.SHA256); err == nil {
		t.Error("Sign(31 bytes) succeeds, want an error")
	}
}

// TestATPMThatCannotBeUsed: each way says what to do.
func TestATPMThatCannotBeUsed(t *testing.T) {
	owned := newMachine(t)
	owned.tell(func(tpm transport.TPM) error {
		_, err := tpm2.HierarchyChangeAuth{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			NewAuth:    tpm2.TPM2BAuth{Buffer: []byte("password")},
		}.Execute(tpm)
		return err
	})
	for want, tpm := range map[string]*TPM{
		"added to its group":    {Open: func() (transport.TPMCloser, error) { return nil, &fs.PathError{Err: fs.ErrPermission} }},
		"has no TPM 2.0":        {Open: func() (transport.TPMCloser, error) { return linuxudstpm.Open("nowhere") }},
		"password of its owner": owned.tpm(),
	} {
		if err := tpm.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check = %v, want to be told %q", err, want)
		}
		if file, err := tpm.Make(); err == nil {
			t.Errorf("Make = %q, want an error", file)
		}
	}
}
