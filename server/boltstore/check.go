package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Check reads all of the file at path and makes sure that it is a sound store:
// that it can be opened, every page is used once and no more, the keys are in
// order, and no bucket, key or value is one that this package would not have
// written. It changes nothing. The file must not be open for writing.
//
// An error is a sentence for the administrator. But a file that is damaged badly
// enough can bring the process down, or keep it busy beyond ctx: see
// [CheckInChild]. When the file is damaged or ctx is done, Check leaves it open,
// because bbolt may go on reading in a goroutine that cannot be stopped.
func Check(ctx context.Context, path string) error {
	db, err := openReadOnly(path, true)
	if err != nil {
		return err
	}
	if err := checkFormat(db, path); err != nil {
		return errors.Join(err, db.Close())
	}
	b, err := db.Begin(false)
	if err != nil {
		return fmt.Errorf("checking %s: %w", path, err)
	}
	select {
	case why, ok := <-b.Check():
		if ok {
			// Only the first: bbolt stops at the next one it cannot report, and
			// so does not walk in circles if a page leads back to itself.
			return damaged(path, why)
		}
	case <-ctx.Done():
		return fmt.Errorf("checking %s: %w", path, ctx.Err())
	}
	err = checkRows(ctx, b, path)
	return errors.Join(err, b.Rollback(), db.Close())
}

// checkRows reads all rows. The pages are known to be sound.
func checkRows(ctx context.Context, b *bolt.Tx, path string) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = damaged(path, p)
		}
	}()
	root := b.Cursor()
	for name, value := root.First(); name != nil; name, value = root.Next() {
		if value != nil || len(name) > MaxKey {
			return damaged(path, fmt.Sprintf("%.40q is not a bucket", name))
		}
		rows := b.Bucket(name).Cursor()
		for key, value := rows.First(); key != nil; key, value = rows.Next() {
			if len(key) == 0 || len(key) > MaxKey || len(value) == 0 || len(value) > MaxValue {
				return damaged(path, fmt.Sprintf("bucket %.40q has a key of %d bytes with a value of %d", name, len(key), len(value)))
			}
			bytes.Count(value, []byte{0}) // which reads it to its end
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("checking %s: %w", path, err)
			}
		}
	}
	return nil
}

// maxReport is how much of what a checking process says is kept.
const maxReport = 64 << 10

// CheckInChild has another process check the file at path, and waits for it for
// no longer than timeout, so that no file, however damaged, can harm this one. It
// runs argv with path as one more argument: a program that calls [Check] and, if
// that returns an error, prints it to standard error and exits with status 1.
//
// An error is one sentence for the administrator, or wraps [io/fs.ErrNotExist] if
// there is no file, or the error of ctx.
func CheckInChild(ctx context.Context, path string, timeout time.Duration, argv ...string) error {
	if len(argv) == 0 {
		return errors.New("checking a database: no command was given")
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("checking %s: %w", path, err)
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	said := &report{}
	cmd := exec.CommandContext(limited, argv[0], append(argv[1:len(argv):len(argv)], path)...)
	cmd.Stderr = said
	cmd.WaitDelay = time.Second // for a grandchild that holds standard error open
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("checking %s: %w", path, ctx.Err())
	case limited.Err() != nil:
		return damaged(path, fmt.Sprintf("its check did not end within %v", timeout))
	case !errors.As(err, &exit):
		return fmt.Errorf("checking %s: running %s: %w", path, argv[0], err)
	case exit.ExitCode() == 1 && said.firstLine() != "":
		return errors.New(said.firstLine())
	default: // a crash, or a kill by the kernel when memory ran out
		return damaged(path, strings.TrimSuffix(fmt.Sprintf("its check ended with %v: %s", exit, said.firstLine()), ": "))
	}
}

// A report keeps the beginning of what is written to it.
type report struct{ buf bytes.Buffer }

func (r *report) Write(p []byte) (int, error) {
	r.buf.Write(p[:min(len(p), maxReport-r.buf.Len())])
	return len(p), nil
}

// firstLine returns the first line that says something.
func (r *report) firstLine() string {
	line, _, _ := strings.Cut(strings.TrimSpace(r.buf.String()), "\n")
	return strings.TrimSpace(line)
}
