package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// BackupInfo tells about a backup that was made.
type BackupInfo struct {
	Path string
	Size int64 // in bytes
}

// Backup writes a copy of the store as it is now to a new file at dst, while
// views and updates go on. The copy can be opened like the store itself. It holds
// all that the store holds, so it gets mode 0600 and wants the same care.
//
// The copy is made beside dst, under a name of its own: written, fsynced,
// checked, and only then given its name, so that dst is whole or not there, and
// nothing that was there is touched. dst should be on a local disk, because the
// pages that the store replaces in the meantime cannot be used again until all
// is copied. After a crash a file .countersign-backup-* may be left beside it.
//
// An error is a sentence for the administrator. It wraps [io/fs.ErrExist] if there
// is something at dst.
//
// When the copy is sound, and right before it gets its name, sound is called,
// unless it is nil; if that fails, there is no backup.
func (s *Store) Backup(ctx context.Context, dst string, sound func() error) (info BackupInfo, err error) {
	defer func() {
		if err != nil {
			info, err = BackupInfo{}, fmt.Errorf("backing up %s to %s: %w", s.path, dst, err)
		}
	}()
	if err := refuseExisting(dst); err != nil {
		return info, err
	}
	f, err := os.CreateTemp(filepath.Dir(dst), ".countersign-backup-*") // 0600
	if err != nil {
		return info, fmt.Errorf("writing to the directory: %w", errors.Unwrap(err))
	}
	partial := f.Name()
	defer os.Remove(partial)

	size, err := s.copyTo(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return info, err
	}
	verify := s.opts.Verify
	if verify == nil {
		verify = Check
	}
	if err := verify(ctx, partial); err != nil {
		return info, fmt.Errorf("the copy is not sound, and neither may the original be: %w", err)
	}
	if sound != nil {
		if err := sound(); err != nil {
			return info, err
		}
	}
	if err := giveName(partial, dst); err != nil {
		return info, err
	}
	if err := syncDir(filepath.Dir(dst)); err != nil {
		os.Remove(dst) // A backup that may be gone tomorrow is none.
		return info, err
	}
	return BackupInfo{Path: dst, Size: size}, nil
}

// giveName names a finished file. A link, unlike a rename, replaces nothing that
// came there meanwhile; but there are file systems without, for example on
// sticks.
func giveName(file, name string) error {
	err := os.Link(file, name)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, errors.ErrUnsupported) {
		if err := refuseExisting(name); err != nil {
			return err
		}
		return os.Rename(file, name)
	}
	return err
}

// copyTo writes one state of the store to w, and reads no longer than that takes.
func (s *Store) copyTo(ctx context.Context, w io.Writer) (size int64, err error) {
	b, err := s.begin()
	if err != nil {
		return 0, err
	}
	defer b.Rollback() // It only ends the reading: no error to lose.
	size, err = b.WriteTo(contextWriter{ctx, w})
	if err != nil && ctx.Err() != nil {
		err = ctx.Err() // bbolt has not wrapped it.
	}
	return size, err
}

// A contextWriter fails once its context is done.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c contextWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

func refuseExisting(path string) error {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return fmt.Errorf("choose a name that is not taken: %w", fs.ErrExist)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return err
	}
}
