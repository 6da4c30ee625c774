package keystore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
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
		name, err := locate(dir)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
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

// TestForeignOwnerIsRefused hands a file and a directory to another user, or, if
// the tests may not do that, takes ones that are root's.
func TestForeignOwnerIsRefused(t *testing.T) {
	file, dir := "/etc/passwd", "/etc"
	if os.Geteuid() == 0 {
		dir = t.TempDir()
		file = filepath.Join(t.TempDir(), plainName)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{file, dir} {
			if err := os.Chown(path, 1, 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	if data, err := read(file); err == nil || data != nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("read(another user's file) = %q, %v, want a refusal", data, err)
	}
	if err := checkDir(dir); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("checkDir(another user's directory) = %v, want a refusal", err)
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

// TestFailedWriteLeavesNothing: a process that may write files of no more than 100
// bytes stands for a full disk. It is a process of its own, since the limit would
// hit the log of the tests as well.
func TestFailedWriteLeavesNothing(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range passphrases {
		dir := t.TempDir()
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Env = append(os.Environ(), fullDiskDir+"="+dir, fullDiskPassphrase+"="+p)
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != "full" {
			t.Errorf("Create on a full disk: %s, %v, want full", out, err)
		}
		if got := names(t, dir); len(got) > 0 {
			t.Errorf("Create on a full disk left %q", got)
		}
		mustCreate(t, dir, p)
	}
}

// The variables that make the test binary run createOnFullDisk instead of the tests.
const (
	fullDiskDir        = "KEYSTORE_TEST_FULL_DISK_DIR"
	fullDiskPassphrase = "KEYSTORE_TEST_FULL_DISK_PASSPHRASE"
)

// createOnFullDisk prints "full" if Create fails as it has to.
func createOnFullDisk(dir string) {
	limit := syscall.Rlimit{Cur: 100, Max: 100}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		fmt.Print("setrlimit: ", err)
		return
	}
	keys, err := Create(dir, os.Getenv(fullDiskPassphrase))
	if keys != nil || !errors.Is(err, syscall.EFBIG) {
		fmt.Printf("Create = %v, %v", keys, err)
		return
	}
	fmt.Print("full")
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
