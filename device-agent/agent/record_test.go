package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/grpc/codes"

	"github.com/countersignd/countersign/internal/audit"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// A fakeRecord is a server's record: leaves, and a key that signs their tree.
type fakeRecord struct {
	t          *testing.T
	key        *ecdsa.PrivateKey
	deployment string
	leaves     []string
	now        time.Time
}

func newFakeRecord(t *testing.T, n int) *fakeRecord {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := &fakeRecord{t: t, key: key, deployment: deployment, now: time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)}
	for i := range n {
		r.leaves = append(r.leaves, "record "+string(rune('a'+i)))
	}
	return r
}

// with returns the record with other leaves, signed a minute later.
func (r *fakeRecord) with(change func(leaves []string) []string) *fakeRecord {
	other := *r
	other.leaves, other.now = change(slices.Clone(r.leaves)), r.now.Add(time.Minute)
	return &other
}

func grow(n int) func([]string) []string {
	return func(leaves []string) []string {
		for range n {
			leaves = append(leaves, rand.Text())
		}
		return leaves
	}
}

func (r *fakeRecord) hashes() tlog.HashReaderFunc {
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var all []tlog.Hash
		for _, i := range indexes {
			all = append(all, hashes[i])
		}
		return all, nil
	})
	for i, leaf := range r.leaves {
		more, err := tlog.StoredHashes(int64(i), []byte(leaf), reader)
		if err != nil {
			r.t.Error(err)
		}
		hashes = append(hashes, more...)
	}
	return reader
}

func (r *fakeRecord) checkpoint() *pb.Checkpoint {
	if r == nil {
		return nil
	}
	root, err := tlog.TreeHash(int64(len(r.leaves)), r.hashes())
	if err != nil {
		r.t.Error(err)
	}
	c, err := audit.NewCheckpoint(r.key, r.deployment, uint64(len(r.leaves)), root, r.now)
	if err != nil {
		r.t.Error(err)
	}
	key, err := json.Marshal(c.Key)
	if err != nil {
		r.t.Error(err)
	}
	return &pb.Checkpoint{Statement: c.Statement, Key: string(key)}
}

// GetConsistencyProof proves what it can, as an honest server does.
func (f *fakeServer) GetConsistencyProof(_ context.Context, r *pb.GetConsistencyProofRequest) (*pb.GetConsistencyProofResponse, error) {
	before, _ := f.hooks()
	if err := before("GetConsistencyProof"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.GetNewSize() > uint64(len(f.record.leaves)) || r.GetOldSize() > r.GetNewSize() {
		return nil, reject(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD, "There are not so many.")
	}
	hashes, err := tlog.ProveTree(int64(r.GetNewSize()), int64(r.GetOldSize()), f.record.hashes())
	proof := &pb.GetConsistencyProofResponse{}
	for _, h := range hashes {
		proof.Hashes = append(proof.Hashes, h[:])
	}
	return proof, err
}

func (f *fakeServer) shows(r *fakeRecord) { f.change(func() { f.record = r }) }

// files returns the names of what a device keeps about the record.
func recordFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, recordName+"*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	return names
}

// TestA14ADeviceRemembersTheRecord shows a device one record after another: it
// follows what grows, and everything else is an alarm with both checkpoints kept.
func TestA14ADeviceRemembersTheRecord(t *testing.T) {
	honest := newFakeRecord(t, 5)
	other := newFakeRecord(t, 5)
	for _, test := range []struct {
		name  string
		shown *fakeRecord
		alarm string // a part of it; empty if there is none
	}{
		{"the same", honest, ""},
		{"the same, signed later", honest.with(grow(0)), ""},
		{"one more", honest.with(grow(1)), ""},
		{"many more", honest.with(grow(100)), ""},
		{"one edited", honest.with(func(l []string) []string { l[2] = "edited"; return l }), "it has 5 records as it had"},
		{"one edited, and more", honest.with(func(l []string) []string { l[2] = "edited"; return grow(9)(l) }), "are not among the 14 that it showed"},
		{"two swapped, and more", honest.with(func(l []string) []string { l[1], l[2] = l[2], l[1]; return grow(1)(l) }), "are not among the 6"},
		{"one dropped, and more", honest.with(func(l []string) []string { return grow(4)(slices.Delete(l, 1, 2)) }), "are not among the 8"},
		{"the end cut off", honest.with(func(l []string) []string { return l[:3] }), "it had 5 records at"},
		{"an old copy, shown as it was signed", &fakeRecord{t: t, key: honest.key, deployment: deployment, leaves: honest.leaves[:3], now: honest.now.Add(-time.Hour)}, "and showed 3"},
		{"another key", &fakeRecord{t: t, key: other.key, deployment: deployment, leaves: honest.leaves, now: honest.now}, "signed with another key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			f.shows(honest)
			a := trustedAgent(t, f, "ada")
			if r, err := a.CheckRecord(t.Context()); err != nil || r.Alarm != nil || r.Head.Size != 5 {
				t.Fatalf("CheckRecord at first = %+v, %v, want 5 records and no alarm", r, err)
			}
			f.shows(test.shown)
			r, err := a.CheckRecord(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if test.alarm == "" {
				if r.Alarm != nil || r.Head.Size != uint64(len(test.shown.leaves)) || len(recordFiles(t, a.dir)) != 1 {
					t.Errorf("CheckRecord = %+v, %v, want %d records and no alarm", r.Head, r.Alarm, len(test.shown.leaves))
				}
				return
			}
			if r.Alarm == nil || !strings.Contains(r.Alarm.Error(), test.alarm) || !strings.Contains(r.Alarm.Error(), "ell the administrator") {
				t.Fatalf("alarm = %v, want one with %q", r.Alarm, test.alarm)
			}
			if r.Head.Size != 5 {
				t.Errorf("%d records are remembered, want the 5 of before", r.Head.Size)
			}
			evidence, err := readCheckpoints(a.dir, alarmName)
			if err != nil || len(evidence) != 2 || evidence[0].head.Size != 5 || evidence[1].head.Size != uint64(len(test.shown.leaves)) {
				t.Errorf("evidence = %+v, %v, want both checkpoints", evidence, err)
			}

			// The alarm stays, even if the server shows the old record again,
			// and through a restart, until a person accepts.
			f.shows(honest)
			again := reopen(t, f, a)
			if r, err := again.CheckRecord(t.Context()); err != nil || r.Alarm == nil {
				t.Errorf("CheckRecord of the old record = %v, %v, want the alarm", r.Alarm, err)
			}
			f.shows(test.shown)
			before, after, kept, err := again.AcceptRecord(t.Context())
			if err != nil || before.Size != 5 || after.Size != uint64(len(test.shown.leaves)) {
				t.Fatalf("AcceptRecord = %d, %d, %v, want from 5 to %d", before.Size, after.Size, err, len(test.shown.leaves))
			}
			if data, err := os.ReadFile(kept); err != nil || strings.Count(string(data), "\n") != 2 {
				t.Errorf("evidence kept in %s: %q, %v, want two lines", kept, data, err)
			}
			f.shows(test.shown.with(grow(2)))
			if r, err := again.CheckRecord(t.Context()); err != nil || r.Alarm != nil || r.Head.Size != after.Size+2 {
				t.Errorf("CheckRecord afterwards = %+v, %v, %v, want the new record growing", r.Head, r.Alarm, err)
			}
			if _, _, _, err := again.AcceptRecord(t.Context()); err != ErrNoAlarm {
				t.Errorf("AcceptRecord without an alarm = %v, want ErrNoAlarm", err)
			}
		})
	}
}

// reopen returns the agent of the same directory, as after a restart.
func reopen(t *testing.T, f *fakeServer, a *Agent) *Agent {
	t.Helper()
	again, err := Open(a.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	again.dialer = f.dial
	return again
}

// TestAnOlderCheckpointOfTheSameRecordIsNoAlarm: it may have been under way while
// another process of the device saw a newer one.
func TestAnOlderCheckpointOfTheSameRecordIsNoAlarm(t *testing.T) {
	f := newFake(t)
	old := newFakeRecord(t, 5)
	f.shows(old.with(grow(3)))
	a := trustedAgent(t, f, "ada")
	if _, err := a.CheckRecord(t.Context()); err != nil {
		t.Fatal(err)
	}
	shown, err := a.readCheckpoint(old.checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	conn, done, err := a.borrow()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if err := a.compareRecord(t.Context(), conn, shown); err != nil {
		t.Fatal(err)
	}
	if r, err := LoadRecord(a.dir); err != nil || r.Alarm != nil || r.Head.Size != 8 {
		t.Errorf("LoadRecord = %d, %v, %v, want 8 records and no alarm", r.Head.Size, r.Alarm, err)
	}
}

// TestTheAlarmIsShownAndAnsweringGoesOn: a person who runs the agent is told, and
// can deny all the same.
func TestTheAlarmIsShownAndAnsweringGoesOn(t *testing.T) {
	f := newFake(t)
	f.always = true
	honest := newFakeRecord(t, 5)
	f.shows(honest)
	a := trustedAgent(t, f, "ada")
	d, stop := running(t, a)
	d.waitFor(t, "connected", func(s Screen) bool { return s.Connected && s.Record == "" })
	f.shows(honest.with(grow(2)))
	waitForSize(t, a, 7)
	f.shows(honest.with(func(l []string) []string { l[0] = "edited"; return grow(4)(l) }))
	alarmed := func(s Screen) bool { return strings.Contains(s.Record, "changed or set back") }
	d.waitFor(t, "the alarm", alarmed)

	signIn := f.begin("ada")
	s := d.waitFor(t, "a prompt beside the alarm", func(s Screen) bool { return len(s.Prompts) == 1 && alarmed(s) })
	if _, err := a.Answer(t.Context(), s.Prompts[0], "deny", "not_me"); err != nil {
		t.Fatalf("Answer = %v, want nil", err)
	}
	if got := get(f, func() string { return signIn.decision }); got != "deny" {
		t.Errorf("decision = %q, want deny", got)
	}

	// Another process accepts, and the warning goes at the next message.
	if _, _, _, err := reopen(t, f, a).AcceptRecord(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.begin("ada")
	d.waitFor(t, "no alarm", func(s Screen) bool { return s.Record == "" })
	if err := stop(); err != nil {
		t.Error(err)
	}

	// An alarm is shown at once after a restart, also without the network.
	f.shows(newFakeRecord(t, 2))
	if _, err := a.CheckRecord(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.stop()
	d, _ = running(t, reopen(t, f, a))
	d.waitFor(t, "the alarm without the network", alarmed)
}

func waitForSize(t *testing.T, a *Agent, want uint64) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		r, err := LoadRecord(a.dir)
		if err != nil {
			t.Fatal(err)
		}
		if r.Head.Size == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d records are remembered, want %d", r.Head.Size, want)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestWhatIsNoCheckpointIsToldAndNotRemembered: it is no evidence against a
// server either.
func TestWhatIsNoCheckpointIsToldAndNotRemembered(t *testing.T) {
	honest := newFakeRecord(t, 5)
	foreign := *honest
	foreign.deployment = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
	good, other := honest.checkpoint(), newFakeRecord(t, 5).checkpoint()
	for name, test := range map[string]struct {
		shown *pb.Checkpoint
		want  string
	}{
		"none":               {nil, "does not show its record"},
		"empty":              {&pb.Checkpoint{}, "not signed well"},
		"another's key":      {&pb.Checkpoint{Statement: good.GetStatement(), Key: other.GetKey()}, "not signed well"},
		"no key":             {&pb.Checkpoint{Statement: good.GetStatement(), Key: "{}"}, "not signed well"},
		"a bit":              {&pb.Checkpoint{Statement: good.GetStatement() + "A", Key: good.GetKey()}, "not signed well"},
		"another deployment": {foreign.checkpoint(), "another deployment"},
	} {
		a := trustedAgent(t, newFake(t), "ada")
		if _, err := a.readCheckpoint(test.shown); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: readCheckpoint = %v, want %q", name, err, test.want)
		}
	}
	f := newFake(t)
	f.shows(nil)
	d, _ := running(t, trustedAgent(t, f, "ada"))
	d.waitFor(t, "that there is none", func(s Screen) bool { return strings.Contains(s.Record, "does not show its record") })
}

// TestAProofThatDoesNotComeIsNoAlarm: a broken network is not a broken record. What
// the server refuses for a while is told.
func TestAProofThatDoesNotComeIsNoAlarm(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	if _, err := a.CheckRecord(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.change(func() {
		f.before = func(method string) error {
			if method == "GetConsistencyProof" {
				return reject(codes.Unavailable, pb.ErrorReason_ERROR_REASON_STORE_FAILED, "No.")
			}
			return nil
		}
		f.record = f.record.with(grow(3))
	})
	if _, err := a.CheckRecord(t.Context()); err == nil || !strings.Contains(err.Error(), "did not prove") {
		t.Errorf("CheckRecord = %v, want that it was not proven", err)
	}
	if r, err := LoadRecord(a.dir); err != nil || r.Alarm != nil || r.Head.Size != 3 {
		t.Errorf("LoadRecord = %d, %v, %v, want the 3 records of before", r.Head.Size, r.Alarm, err)
	}
}

// TestDamagedMemoryIsTold: it is never taken for a device that has seen nothing.
func TestDamagedMemoryIsTold(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	if _, err := a.CheckRecord(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(a.dir, recordName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"empty": "", "cut off": string(good[:len(good)/2]), "twice": string(good) + string(good),
		"a bit": strings.Replace(string(good), `"checkpoint":"eyJhbGciOiJ`, `"checkpoint":"eyJhbGciOiK`, 1), "trailing": string(good) + "x",
	} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := a.CheckRecord(t.Context()); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: CheckRecord = %v, want that it is damaged", name, err)
		}
	}
	if _, after, _, err := a.AcceptRecord(t.Context()); err != nil || after.Size != 3 {
		t.Errorf("AcceptRecord = %d, %v, want 3 records", after.Size, err)
	}
	if _, err := a.CheckRecord(t.Context()); err != nil {
		t.Errorf("CheckRecord afterwards = %v", err)
	}
}
