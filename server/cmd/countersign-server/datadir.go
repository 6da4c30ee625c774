package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A dataDir is the directory that holds all a server keeps:
//
//	countersign.db         the database
//	countersign.db.closed  how it was left; there is none while a server runs
//	secrets/root.key       32 random bytes from which codes and nonces are made
//	secrets/signing.key    the P-256 key that signs grants
//	secrets/tls.key        the P-256 key of the TLS listener, and
//	secrets/tls.crt        its self-signed certificate
//	secrets/webpush.key    the P-256 key that Web Push services know the server by
//	secrets/generation     a number by which an old copy of the database is known
//	ballast                16 MiB of nothing, given up when the disk is full
//	admin.sock             where the administrators' commands connect
//	lock                   locked by the server that uses the directory
//
// Directories have mode 0700 and files 0600; with looser permissions the
// server does not start. A backup holds the database alone, so that a thief of
// backups has no secrets.
type dataDir string

func (d dataDir) database() string          { return filepath.Join(string(d), "countersign.db") }
func (d dataDir) socket() string            { return filepath.Join(string(d), "admin.sock") }
func (d dataDir) secret(name string) string { return filepath.Join(string(d), "secrets", name) }

// prepare makes the directories that are missing and checks the others. told
// is called for what it made.
func (d dataDir) prepare(told func(string)) error {
	for _, dir := range []string{string(d), filepath.Dir(d.secret("x"))} {
		_, err := os.Lstat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return fmt.Errorf("creating the data directory: %w", err)
			}
			told(dir)
		}
		if err := checkPrivate(dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// checkPrivate refuses a file or directory that others than its owner may look
// into, or that belongs to somebody else. want is the mode to set.
func checkPrivate(path string, want fs.FileMode) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("looking at the data directory: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, so others may look into it: run  chmod %o %s", path, info.Mode().Perm(), want, path)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to uid %d, and this process runs as uid %d: run the server as the owner of its data", path, owner.Uid, os.Geteuid())
	}
	return nil
}

// checkKeyFile does the same for a key that an administrator keeps elsewhere. What
// systemd hands over (LoadCredential=) is root's, in a directory that only root and
// this process can enter; the entry that lets it read the file shows as the group's
// right in the mode.
func checkKeyFile(path string) error {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && filepath.Dir(path) == filepath.Clean(dir) {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&^0o640 == 0 {
			return nil
		}
	}
	return checkPrivate(path, 0o600)
}

// lock makes sure that no other server uses the directory, as long as the file
// it returns is open. The system unlocks it when the process ends, however.
func (d dataDir) lock() (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(string(d), "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another countersign-server is running with the data in %s: stop it, or give this one a --data-dir of its own", d)
		}
		return nil, fmt.Errorf("locking the data directory: %w", err)
	}
	return f, nil
}

// maxSocketPath is what the address of a Unix socket has room for on Linux:
// 108 bytes with the final zero (unix(7)). Others have 104.
const maxSocketPath = 103

func checkSocketPath(path string) error {
	if len(path) > maxSocketPath {
		return fmt.Errorf("the path of the socket %s has %d bytes, more than the system allows (%d): choose a data directory with a shorter name", path, len(path), maxSocketPath)
	}
	return nil
}

// listen opens the administrators' socket. A socket that is there already and
// that nobody answers was left by a server that was killed.
func (d dataDir) listen() (net.Listener, error) {
	path := d.socket()
	if err := checkSocketPath(path); err != nil {
		return nil, err
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("opening the administrators' socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is not a socket, and the server does not remove what it did not make: move it away", path)
	default:
		if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
			conn.Close()
			return nil, fmt.Errorf("another process answers at %s: stop it, or give this server a --data-dir of its own", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("removing the socket of a server that was killed: %w", err)
		}
	}
	// The directory keeps others out in the moment before the mode is set.
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening the administrators' socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("opening the administrators' socket: %w", err)
	}
	return l, nil
}

// writeSecret writes a file so that after a power cut it is whole, or as it
// was before: not there, or the old one. The caller holds the lock.
func writeSecret(path string, data []byte) (err error) {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(fresh)
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
