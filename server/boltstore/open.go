package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The records of the format bucket.
const (
	formatKey   = "format"
	formatValue = "countersign-server database"
	schemaKey   = "schema"
	schema      = 1 // the layout this program reads and writes
)

// lockTimeout is how long to wait for another process to let go of the file: a
// server that was told to stop, or a check that is about to end.
const lockTimeout = time.Second

// mmapSize is how much address space (not memory) is reserved for the file. To
// map more, bbolt waits for all views to end, and the views that come after wait
// for it, so a server should hardly ever need to. A 64-bit process has room for
// 1 GiB; should the file outgrow it, bbolt goes on in steps of another 1 GiB.
func mmapSize() int {
	if strconv.IntSize == 64 {
		return 1 << 30
	}
	return 1 << 27
}

// Open opens the store kept in the file at path, and creates it if there is none.
// Its directory must exist. The caller must call Close, and should have called
// [CheckInChild] before, since Open looks at the file only as far as it must.
//
// An error is a sentence for the administrator.
func Open(path string, opts Options) (*Store, error) {
	if err := ensure(path); err != nil {
		return nil, err
	}
	if err := forgetClosed(path); err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	// Look before opening for writing: bbolt may write to a file as it opens it,
	// and must not write to one that is not ours.
	if err := look(path); err != nil {
		return nil, err
	}
	db, err := openBolt(path, &bolt.Options{
		Timeout:         lockTimeout,
		FreelistType:    bolt.FreelistMapType, // the other one is slow when much is free
		InitialMmapSize: mmapSize(),
		NoStatistics:    true,
	})
	if err != nil {
		return nil, err
	}
	// A process that was killed within a commit can have left it visible but not
	// on the disk.
	if err := db.Sync(); err != nil {
		db.Close()
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return start(db, path, opts), nil
}

func start(db *bolt.DB, path string, opts Options) *Store {
	s := &Store{
		db:     db,
		path:   path,
		opts:   opts,
		commit: (*bolt.Tx).Commit,
		queue:  make(chan *update, queueLen),
		ended:  make(chan struct{}),
	}
	go s.run()
	return s
}

// ensure makes sure that there is a file at path.
func ensure(path string) error {
	dir, err := lockDir(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	defer dir.Close() // which unlocks it
	// A crash can have left a file that was not finished. With the directory
	// locked it is nobody's.
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing what is left of an attempt to create %s: %w", path, err)
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(fresh); err != nil {
			os.Remove(fresh)
			return fmt.Errorf("creating %s: %w", path, err)
		}
		if err := os.Rename(fresh, path); err != nil {
			return fmt.Errorf("creating %s: %w", path, err)
		}
	} else if err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	// Also when it was there already: whoever gave it its name may have been
	// stopped before it came here.
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	return nil
}

// lockDir locks a directory against others that create a store in it.
func lockDir(path string) (*os.File, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(10 * time.Millisecond) {
		err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return dir, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			dir.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		case time.Now().After(deadline):
			dir.Close()
			return nil, fmt.Errorf("another countersign-server is starting in %s: give this one a data directory of its own", path)
		}
	}
}

// create makes an empty store at path, which is not its final name: a power cut
// while bbolt writes its first pages leaves a file that cannot be opened.
func create(path string) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout})
	if err != nil {
		return err
	}
	err = db.Update(func(b *bolt.Tx) error {
		format, err := b.CreateBucket([]byte(formatBucket))
		if err != nil {
			return err
		}
		if err := format.Put([]byte(formatKey), []byte(formatValue)); err != nil {
			return err
		}
		return format.Put([]byte(schemaKey), []byte(strconv.Itoa(schema)))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncDir makes a rename in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
