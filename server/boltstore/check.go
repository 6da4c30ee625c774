package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Check reads all of the file at path and makes sure that it is a sound store:
// that it can be opened, every page is used once and no more, the keys are in
// order, and no bucket, key or value is one that this package would not have
// written. It changes nothing. The file must not be open for writing.
//
// An error is a sentence for the administrator. But a file whose first pages are
// damaged badly enough can bring the process down, since bbolt opens it: see
// [CheckInChild].
func Check(ctx context.Context, path string) error {
	db, err := openReadOnly(path)
	if err != nil {
		return err
	}
	defer db.Close() // It was only read.
	if err := checkFormat(db, path); err != nil {
		return err
	}
	err = withFile(path, func(file []byte) error { return walkPages(ctx, file, db.Info().PageSize) })
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("checking %s: %w", path, ctx.Err())
	}
	return err
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
