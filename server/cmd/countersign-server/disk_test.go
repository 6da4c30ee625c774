package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersignd/countersign/server"
)

// TestTheBallast plays a disk that fills up and is emptied again. What is free
// is said by the test, less what the ballast takes, which really lies there.
func TestTheBallast(t *testing.T) {
	const mib = 1 << 20
	d := dataDir(t.TempDir())
	var log bytes.Buffer
	others := uint64(1000) // MiB that would be free without the ballast
	room := &disk{dir: d, minFree: 64 * mib, log: slog.New(slog.NewTextHandler(&log, nil)), free: func() (uint64, error) {
		free := others * mib
		if info, err := os.Stat(d.ballast()); err == nil {
			if info.Size() != ballastSize {
				t.Errorf("the ballast has %d bytes, want %d", info.Size(), ballastSize)
			}
			if free < ballastSize {
				return 0, nil
			}
			free -= ballastSize
		}
		return free, nil
	}}
	for i, step := range []struct {
		others uint64
		want   server.Disk
		made   bool
		said   string // in the log
	}{
		{1000, server.Disk{Free: 984 * mib, Ballast: true}, true, ""},
		{1000, server.Disk{Free: 984 * mib, Ballast: true}, false, ""},
		{80, server.Disk{Free: 64 * mib, Ballast: true}, false, ""},
		{79, server.Disk{Free: 63 * mib, Low: true, Ballast: true}, false, "nothing new can be begun"},
		{95, server.Disk{Free: 79 * mib, Low: true, Ballast: true}, false, ""}, // no coming and going
		{96, server.Disk{Free: 80 * mib, Ballast: true}, false, "there is room on the disk again"},
		{20, server.Disk{Free: 4 * mib, Low: true, Ballast: true}, false, "nothing new can be begun"},
		{19, server.Disk{Free: 19 * mib, Low: true}, false, "the ballast was given up"},
		{0, server.Disk{Low: true}, false, ""}, // somebody took its place
		{79, server.Disk{Free: 79 * mib, Low: true}, false, ""},
		{80, server.Disk{Free: 64 * mib, Ballast: true}, true, "there is room on the disk again"},
	} {
		log.Reset()
		others = step.others
		made := false
		if err := room.look(func(string) { made = true }); err != nil {
			t.Fatal(err)
		}
		if got := room.state(); got != step.want || made != step.made || room.full() != step.want.Low {
			t.Errorf("step %d: the disk = %+v, ballast made: %v, want %+v, %v", i, got, made, step.want, step.made)
		}
		if lines := strings.Count(log.String(), "\n"); !strings.Contains(log.String(), step.said) || lines > 0 == (step.said == "") || lines > 1 {
			t.Errorf("step %d: the log says %q, want one line with %q", i, &log, step.said)
		}
	}
}

// A ballast that cannot be made is said once, not every second.
func TestTheBallastCannotBeMade(t *testing.T) {
	d := dataDir(t.TempDir())
	if err := os.Mkdir(d.ballast()+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.ballast()+".new/x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	room := &disk{dir: d, minFree: 1, log: slog.New(slog.NewTextHandler(&log, nil)), free: func() (uint64, error) { return 1 << 40, nil }}
	for range 3 {
		if err := room.look(func(string) { t.Error("the ballast was made") }); err != nil {
			t.Fatal(err)
		}
	}
	if lines := strings.Count(log.String(), "\n"); lines != 1 || room.state().Ballast || room.full() {
		t.Errorf("the log has %d lines, want 1; the disk = %+v", lines, room.state())
	}
	room.free = func() (uint64, error) { return 0, errors.New("no") }
	if err := room.look(func(string) {}); err == nil {
		t.Error("look without knowing what is free = nil")
	}
}

// The real thing: there is room where tests run.
func TestFree(t *testing.T) {
	free, err := dataDir(t.TempDir()).free()
	if err != nil || free == 0 {
		t.Errorf("free = %d, %v", free, err)
	}
	if _, err := dataDir(t.TempDir() + "/nowhere").free(); err == nil {
		t.Error("free of nowhere = nil")
	}
}

// A13: the number is kept beside the secrets, and what cannot be read as it was
// written counts as lost.
func TestA13TheGenerationIsKeptOutside(t *testing.T) {
	d := dataDir(filepath.Join(t.TempDir(), "data"))
	if err := d.prepare(func(string) {}); err != nil {
		t.Fatal(err)
	}
	made := 0
	outside := d.outside(slog.New(slog.DiscardHandler), func(string) { made++ })
	want := func(what string, want uint64) {
		t.Helper()
		if got, err := outside.Load(); err != nil || got != want {
			t.Errorf("%s: Load = %d, %v, want %d", what, got, err, want)
		}
	}
	want("at first", 0)
	for _, n := range []uint64{1, 9, 10, maxGeneration} {
		if err := outside.Save(n); err != nil {
			t.Fatal(err)
		}
		want("after Save", n)
	}
	if made != 1 {
		t.Errorf("the file was made %d times, want once", made)
	}
	path := d.secret("generation")
	for _, text := range []string{"", "7", "7\n", "-000000000000007\n", "0000000000000007", "0000000000000007\n\n", "9999999999999999\n", "000000000000000x\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		want(text, 0)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := outside.Load(); err == nil || !strings.Contains(err.Error(), "others may look into it") {
		t.Errorf("Load of a file that others can read = %v, want a refusal", err)
	}
}
