package keystore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mustRefuseOpen checks that Open refuses with words that say what to do.
func mustRefuseOpen(t *testing.T, name, dir, passphrase, advice string) {
	t.Helper()
	keys, err := Open(dir, passphrase)
	if err == nil || keys != nil {
		t.Errorf("%s: Open = %v, %v, want an error", name, keys, err)
		return
	}
	if !strings.Contains(err.Error(), advice) || !strings.Contains(err.Error(), dir) {
		t.Errorf("%s: Open = %q, want it to name the path and say %q", name, err, advice)
	}
}

func TestOpenRefusesLoosePermissions(t *testing.T) {
	for _, p := range passphrases {
		dir := t.TempDir()
		mustCreate(t, dir, p)
		path, _, err := locate(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range []fs.FileMode{0o640, 0o604, 0o660, 0o644, 0o666, 0o700, 0o610, 0o601, 0o602, 0o777} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			mustRefuseOpen(t, mode.String(), dir, p, "chmod 600")
		}
		for _, mode := range []fs.FileMode{0o600, 0o400} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir, p); err != nil {
				t.Errorf("%v: Open = %v, want nil", mode, err)
			}
		}
	}
}

func TestDirectoryOthersMayWriteToIsRefused(t *testing.T) {
	for _, mode := range []fs.FileMode{0o720, 0o702, 0o777, 0o777 | fs.ModeSticky} {
		dir := t.TempDir()
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if keys, err := Create(dir, ""); err == nil || keys != nil || !strings.Contains(err.Error(), "chmod 700") {
			t.Errorf("%v: Create = %v, %v, want a refusal", mode, keys, err)
		}
		if got := names(t, dir); len(got) > 0 {
			t.Errorf("%v: Create left %q", mode, got)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		mustCreate(t, dir, "")
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		mustRefuseOpen(t, mode.String(), dir, "", "chmod 700")
	}
}

func TestOpenRefusesWhatIsNoRegularFile(t *testing.T) {
	elsewhere := t.TempDir()
	mustCreate(t, elsewhere, "")
	for name, place := range map[string]func(path string) error{
		"symbolic link": func(path string) error { return os.Symlink(filepath.Join(elsewhere, plainName), path) },
		"dangling link": func(path string) error { return os.Symlink("nowhere", path) },
		"directory":     func(path string) error { return os.Mkdir(path, 0o600) },
		"named pipe":    func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		dir := t.TempDir()
		if err := place(filepath.Join(dir, plainName)); err != nil {
			t.Fatal(err)
		}
		mustRefuseOpen(t, name, dir, "", "not a regular file")
	}
}

// foreign is a file of somebody else.
type foreign struct{ fs.FileInfo }

func (foreign) Sys() any { return &syscall.Stat_t{Uid: uint32(os.Geteuid()) + 1} }

// strange is a file on a system that does not say whose it is.
type strange struct{ fs.FileInfo }

func (strange) Sys() any { return nil }

func TestOwn(t *testing.T) {
	info, err := os.Stat(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if !own(info) {
		t.Error("own(our file) = false, want true")
	}
	if own(foreign{info}) {
		t.Error("own(another user's file) = true, want false")
	}
	if own(strange{info}) {
		t.Error("own(nobody's file) = true, want false")
	}
}

func TestUmaskDoesNotLoosenOrBreak(t *testing.T) {
	for _, mask := range []int{0, 0o077, 0o022} {
		dir := filepath.Join(t.TempDir(), "keys")
		old := syscall.Umask(mask)
		keys, err := Create(dir, "")
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := Open(dir, "")
		if err != nil || ids(t, opened) != ids(t, keys) {
			t.Errorf("umask %o: Open = %v, want the keys", mask, err)
		}
	}
}

func TestCreateWhereItCannot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below"), "/proc/none/keys"} {
		if keys, err := Create(dir, ""); err == nil || keys != nil {
			t.Errorf("Create(%s) = %v, %v, want an error", dir, keys, err)
		}
	}
}

// TestFailedWriteLeavesNothing: a process that may write no more than 100 bytes
// stands for a full disk.
func TestFailedWriteLeavesNothing(t *testing.T) {
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	for _, p := range passphrases {
		dir := t.TempDir()
		small := syscall.Rlimit{Cur: 100, Max: old.Max}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
			t.Fatal(err)
		}
		keys, err := Create(dir, p)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
		if keys != nil || !errors.Is(err, syscall.EFBIG) {
			t.Errorf("Create on a full disk = %v, %v, want EFBIG", keys, err)
		}
		if got := names(t, dir); len(got) > 0 {
			t.Errorf("Create on a full disk left %q", got)
		}
		mustCreate(t, dir, p)
	}
}

// TestReadDoesNotWait: a pipe that nobody writes to must not hold up the agent.
func TestReadDoesNotWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := read(path)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("read(pipe) = nil, want an error")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("read(pipe) waits")
	}
}
