package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// damaged returns the sentence for a file that cannot be used as it is.
func damaged(path string, why any) error {
	return fmt.Errorf("the database %s is damaged (%v): run  countersign-server restore  with your latest backup, which keeps the damaged file, and start again", path, why)
}

// foreign returns the sentence for a file that is not ours.
func foreign(path string, why any) error {
	return fmt.Errorf("%s is not a database of countersign-server (%v): give the server the right path, or restore a backup to this one", path, why)
}

// look makes sure that the file is a store this program can read, without
// writing to it and without reading more of it than that takes.
func look(path string) error {
	db, err := openReadOnly(path)
	if err != nil {
		return err
	}
	defer db.Close() // It was only read.
	if err := checkFormat(db, path); err != nil {
		return err
	}
	return withFile(path, func(file []byte) error { return walkList(file, db.Info().PageSize) })
}

// openReadOnly opens the file beside other readers.
func openReadOnly(path string) (*bolt.DB, error) {
	return openBolt(path, &bolt.Options{Timeout: lockTimeout, ReadOnly: true, NoStatistics: true})
}

// openBolt opens a file that exists, and turns what can go wrong into sentences.
// bbolt trusts what it reads: it answers damage with panics and, where a page
// number points beyond the file, with memory faults.
func openBolt(path string, opts *bolt.Options) (db *bolt.DB, err error) {
	var file *os.File
	var unfit error // why checkFile refused it
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			// The file must not stay locked. What was mapped stays so: bbolt
			// has kept no way to undo it.
			file.Close()
			db, err = nil, damaged(path, p)
		}
	}()
	opts.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		if unfit = checkFile(os.Stat(name)); unfit != nil { // a pipe would not even open
			return nil, unfit
		}
		// bbolt would make up an empty database for a file that is not there, and
		// for one that is empty.
		f, err := os.OpenFile(name, flag&^os.O_CREATE, mode)
		if err != nil {
			return nil, err
		}
		if unfit = checkFile(f.Stat()); unfit != nil {
			f.Close()
			return nil, unfit
		}
		file = f
		return f, nil
	}
	db, err = bolt.Open(path, 0o600, opts)
	var errno syscall.Errno
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("another countersign-server is using %s: stop it first, or give this one a data directory of its own", path)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, foreign(path, err)
	case !errors.Is(err, errEmpty) && unfit != nil, errors.As(err, &errno):
		return nil, fmt.Errorf("opening %s: %w", path, err)
	default:
		return nil, damaged(path, err)
	}
}

var errEmpty = errors.New("it is empty")

// checkFile refuses a file that is not ours alone to read and write: who can
// write it can make devices trusted.
func checkFile(info fs.FileInfo, err error) error {
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is not a regular file")
	case info.Mode().Perm()&^0o600 != 0:
		return fmt.Errorf("others can use the file (mode %04o): make sure nobody did, then run chmod 600 on it", info.Mode().Perm())
	case info.Size() == 0:
		return errEmpty
	}
	return nil
}

// checkFormat makes sure that the file is complete and holds a store of this
// layout.
func checkFormat(db *bolt.DB, path string) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = damaged(path, p)
		}
	}()
	return db.View(func(b *bolt.Tx) error {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("opening %s: %w", path, err)
		}
		if info.Size() < b.Size() {
			return damaged(path, fmt.Sprintf("it has %d bytes, but should have %d", info.Size(), b.Size()))
		}
		format := b.Bucket([]byte(formatBucket))
		if format == nil {
			return foreign(path, "it belongs to another program")
		}
		if got := format.Get([]byte(formatKey)); string(got) != formatValue {
			return foreign(path, fmt.Sprintf("its format is %.40q", got))
		}
		text := string(format.Get([]byte(schemaKey)))
		got, err := strconv.Atoi(text)
		switch {
		case err != nil || got < 1 || strconv.Itoa(got) != text:
			return damaged(path, fmt.Sprintf("its schema is %.40q", text))
		case got > schema:
			return fmt.Errorf("the database %s was written by a newer countersign-server (schema %d, this program knows %d): install the newer program again, or restore a backup made before the upgrade", path, got, schema)
		}
		return nil
	})
}
