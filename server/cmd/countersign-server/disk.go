package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/countersignd/countersign/server"
)

// ballastSize is how much is kept back for the day when the disk is full:
// enough for thousands of denials and revocations with their records.
const ballastSize = 16 << 20

// A disk watches how much room there is where the data lies.
//
// Below minFree nothing new is begun. Below a sixteenth of that the ballast, a
// file that holds nothing but the place, is given up, so that deny and revoke
// can still be written. Both end when there is room for minFree and the
// ballast, which is made again then; so they do not come and go with every
// file that somebody writes.
type disk struct {
	dir     dataDir
	minFree uint64                 // bytes
	free    func() (uint64, error) // bytes that this user may still write
	log     *slog.Logger

	mu    sync.Mutex
	known server.Disk // as it was when last looked at
	stuck bool        // the ballast could not be made, and is not tried again until there was no room
}

func newDisk(d dataDir, s settings, log *slog.Logger) *disk {
	return &disk{dir: d, minFree: uint64(s.MinFree) << 20, free: d.free, log: log}
}

// free returns how much more this process may write to the data directory.
func (d dataDir) free() (uint64, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(string(d), &stat); err != nil {
		return 0, fmt.Errorf("looking for room on the disk: %w", err)
	}
	return uint64(stat.Bavail) * uint64(stat.Bsize), nil
}

// state returns how the disk was a second ago.
func (d *disk) state() server.Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known
}

// full reports whether nothing new may be begun.
func (d *disk) full() bool { return d.state().Low }

// look looks at the disk, and gives the ballast up or makes it. told is called
// for the ballast when it was made. One goroutine calls it.
func (d *disk) look(told func(string)) error {
	now, was := server.Disk{}, d.state()
	var err error
	if now.Free, err = d.free(); err != nil {
		return err
	}
	_, err = os.Lstat(d.dir.ballast())
	now.Ballast = err == nil
	enough := now.Free >= d.minFree+ballastSize
	switch {
	case now.Ballast && now.Free < d.minFree/16:
		if err := os.Remove(d.dir.ballast()); err != nil {
			return fmt.Errorf("giving up the ballast: %w", err)
		}
		now.Ballast = false
		d.log.Warn("the disk is full: the ballast was given up, so that devices can still deny and be revoked; make room", "free_bytes", now.Free)
		now.Free += ballastSize
	case !now.Ballast && enough && !d.stuck:
		if err := d.makeBallast(); err != nil {
			d.stuck = true
			d.log.Error("the ballast could not be made, so on a full disk nothing can be denied or revoked", "error", err)
			break
		}
		now.Ballast = true
		now.Free -= ballastSize
		told(d.dir.ballast())
	}
	now.Low = now.Free < d.minFree
	if was.Low {
		now.Low = !enough
	}
	switch {
	case now.Low && !was.Low:
		d.stuck = false
		d.log.Warn("the disk is nearly full: nothing new can be begun, only denied, revoked and finished; make room", "free_bytes", now.Free, "min_free_bytes", d.minFree)
	case was.Low && !now.Low:
		d.log.Info("there is room on the disk again", "free_bytes", now.Free)
	}
	d.mu.Lock()
	d.known = now
	d.mu.Unlock()
	return nil
}

// makeBallast fills a file with random bytes, which no file system can store
// in less room than they have.
func (d *disk) makeBallast() error {
	bytes := make([]byte, ballastSize)
	rand.Read(bytes)
	return writeSecret(d.dir.ballast(), bytes)
}

// removeLeftover removes what a crash left of a ballast that was being made.
func (d *disk) removeLeftover() error {
	err := os.Remove(d.dir.ballast() + ".new")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing what is left of the ballast: %w", err)
	}
	return nil
}

func (d dataDir) ballast() string { return filepath.Join(string(d), "ballast") }
