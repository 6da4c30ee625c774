package main

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/countersignd/countersign/server/boltstore"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

type keysJWKSCmd struct{}

// Help implements [kong.HelpProvider].
func (keysJWKSCmd) Help() string {
	return "Prints a JWK Set (RFC 7517) in JSON. With it an application, or anybody, checks the signature of a grant with any JOSE library."
}

// Run prints the keys.
func (c *keysJWKSCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		resp, err := admin.GetKeys(ctx, &pb.GetKeysRequest{})
		if err != nil {
			return err
		}
		fmt.Fprintln(env.out, resp.GetJwks())
		return nil
	})
}

type backupCmd struct {
	File string `arg:"" type:"path" help:"Where to write it, on the server's machine. Nothing may be there yet."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (backupCmd) Help() string {
	return `The copy is the database as it is at one moment, written by the server, and checked. It is useless without the directory secrets/ in the data directory, which does not change: keep a copy of that once, in another place.

To restore, stop the server, run restore FILE, and start it again. It knows then that the database is an old one, and no device counts before an administrator has confirmed it.

With --json: {"file", "size_bytes"}`
}

// Run makes a backup. It waits as long as it takes.
func (c *backupCmd) Run(env *environment) error {
	return env.connect(env.ctx, func(ctx context.Context, admin pb.AdminServiceClient) error {
		resp, err := admin.Backup(ctx, &pb.BackupRequest{Path: c.File})
		if err != nil {
			return err
		}
		if c.JSON {
			return env.printJSON(map[string]any{"file": c.File, "size_bytes": resp.GetSizeBytes()})
		}
		fmt.Fprintf(env.out, "Wrote %s, %d bytes, and checked it.\nThe directory secrets/ is not in it: keep a copy of that in another place.\n", c.File, resp.GetSizeBytes())
		return nil
	})
}

type versionCmd struct{ jsonFlag }

// Help implements [kong.HelpProvider].
func (versionCmd) Help() string { return `With --json: {"version", "go"}` }

// Run prints the version.
func (c *versionCmd) Run(env *environment) error {
	goVersion := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		goVersion = info.GoVersion
	}
	if c.JSON {
		return env.printJSON(map[string]string{"version": version(), "go": goVersion})
	}
	fmt.Fprintf(env.out, "%s %s (%s)\n", program, version(), goVersion)
	return nil
}

// version returns the version that the program was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(unknown)"
	}
	return info.Main.Version
}

// checkDatabaseCmd is what the server runs in another process before it opens
// a database: see [boltstore.CheckInChild].
type checkDatabaseCmd struct {
	Path string `arg:"" type:"path"`
}

// Run checks.
func (c *checkDatabaseCmd) Run(env *environment) error {
	if err := harden(); err != nil {
		return err
	}
	return boltstore.Check(env.ctx, c.Path)
}
