package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/boltstore"
)

type restoreFromCmd struct {
	File string `arg:"" type:"existingfile" help:"The backup."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (restoreFromCmd) Help() string {
	return `Checks the backup, copies it to the place of the database, and keeps the database that was there under another name. The server must not run.

When it starts, it knows that the database is an old one, even if somebody copied it there by hand. What was revoked or used up since the backup was made is not known to it; so what was open is called off, and no device counts before somebody has said that it belongs here, with restore confirm.

With --json: {"database", "kept"}`
}

// Run puts a backup in the place of the database.
func (c *restoreFromCmd) Run(env *environment) error {
	if err := harden(); err != nil {
		return err
	}
	d := env.dir()
	if _, err := os.Lstat(d.secret("root.key")); err != nil {
		return fmt.Errorf("there are no secrets in %s, without which a backup is worth nothing: put them back first from where you keep a copy", d.secret(""))
	}
	if err := d.prepare(func(string) {}); err != nil {
		return err
	}
	lock, err := d.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	kept, err := d.install(env.ctx, c.File)
	if err != nil {
		return err
	}
	if c.JSON {
		return env.printJSON(map[string]string{"database": d.database(), "kept": kept})
	}
	fmt.Fprintf(env.out, "%s is now a copy of %s.\n", d.database(), c.File)
	if kept != "" {
		fmt.Fprintf(env.out, "The database that was there is kept as %s.\n", kept)
	}
	fmt.Fprintf(env.out, "Start the server. No device counts before it is confirmed:  %s\n", env.command("restore status"))
	return nil
}

// install puts a copy of the backup in the place of the database, which it
// keeps under the name that it returns. At each moment there is a database
// under its name: the old one or the new one.
func (d dataDir) install(ctx context.Context, backup string) (kept string, err error) {
	check, err := checkInChild()
	if err != nil {
		return "", err
	}
	if err := check(ctx, backup); err != nil {
		return "", err
	}
	fresh := d.database() + ".restore"
	defer os.Remove(fresh)
	if err := copyFile(ctx, backup, fresh); err != nil {
		return "", fmt.Errorf("copying the backup: %w", err)
	}
	if err := d.ownedBackup(ctx, backup, fresh); err != nil {
		return "", err
	}
	_, err = os.Lstat(d.database())
	switch {
	case err == nil:
		kept = d.database() + time.Now().Format(".before-20060102-150405")
		err = os.Link(d.database(), kept)
		if errors.Is(err, syscall.EPERM) || errors.Is(err, errors.ErrUnsupported) {
			err = copyFile(ctx, d.database(), kept)
		}
		if err != nil {
			return "", fmt.Errorf("keeping the database that is there: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("looking for the database: %w", err)
	}
	if err := os.Rename(fresh, d.database()); err != nil {
		return "", fmt.Errorf("putting the backup in the place of the database: %w", err)
	}
	return kept, syncDir(string(d))
}

// ownedBackup refuses a backup, of which copied is a copy, that belongs to
// other secrets.
func (d dataDir) ownedBackup(ctx context.Context, backup, copied string) error {
	l := loader{dir: d, told: func(string) {}}
	var mine secrets
	var err error
	if mine.root, err = l.root(); err != nil {
		return err
	}
	if mine.signing, err = l.key("signing.key"); err != nil {
		return err
	}
	fingerprint, err := mine.fingerprint()
	if err != nil {
		return err
	}
	store, err := boltstore.Open(copied, boltstore.Options{})
	if err != nil {
		return err
	}
	var theirs string
	err = store.View(ctx, func(tx approval.Tx) error {
		b, err := tx.Get(serverBucket, fingerprintKey)
		theirs = string(b)
		return err
	})
	if err := errors.Join(err, store.Close()); err != nil {
		return err
	}
	if theirs != fingerprint {
		return fmt.Errorf("the backup %s was made with other secrets than those in %s: put the secrets back first that belong to it", backup, d.secret(""))
	}
	return nil
}

// copyFile makes a durable copy, mode 0600. Nothing may be at dst but what an
// interrupted copy has left.
func copyFile(ctx context.Context, src, dst string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.Remove(dst); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			os.Remove(dst)
		}
	}()
	buffer := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := in.Read(buffer)
		if _, err := out.Write(buffer[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return out.Sync()
		}
		if err != nil {
			return err
		}
	}
}

func (e *environment) dir() dataDir {
	if e.dataDir == "" {
		return dataDir(defaultDataDir())
	}
	return dataDir(filepath.Clean(e.dataDir))
}
