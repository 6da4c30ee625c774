package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/countersignd/countersign/internal/audit"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// What this device knows of the server's record of what happened. It remembers
// the newest checkpoint that continued the one before; the first that it sees, it
// believes, with the key that signed it. A checkpoint that does not continue the
// remembered one is kept beside it as evidence, and the device warns until a
// person accepts the server's new record. Nothing else changes: who cannot deny
// because the record is in disorder is helped by nobody.
const (
	recordName = "record"       // a line: the remembered checkpoint
	alarmName  = "record-alarm" // two lines: the remembered checkpoint, and the other one
)

// A Record is what this device knows of the server's record.
type Record struct {
	Newest audit.Checkpoint // the remembered one; zero if none was seen yet
	Head   audit.Head       // what it says
	Alarm  *RecordAlarm     // nil if all that was seen was one record that grew
}

// A RecordAlarm says that the server's record is not what it was.
type RecordAlarm struct {
	Remembered, Shown audit.Head
}

// Error says what was seen and what to do. An honest server does this only
// after it was restored from a backup.
func (e *RecordAlarm) Error() string {
	was, is := e.Remembered, e.Shown
	what := fmt.Sprintf("the %d records that it had at %s are not among the %d that it showed at %s",
		was.Size, moment(was.Time), is.Size, moment(is.Time))
	switch {
	case is.Key != was.Key:
		what = fmt.Sprintf("at %s it was signed with another key than at %s", moment(is.Time), moment(was.Time))
	case is.Size < was.Size:
		what = fmt.Sprintf("it had %d records at %s, and showed %d at %s", was.Size, moment(was.Time), is.Size, moment(is.Time))
	case is.Size == was.Size:
		what = fmt.Sprintf("it has %d records as it had at %s, but they are others", was.Size, moment(was.Time))
	}
	return "The server's record of what happened was changed or set back: " + what + ". Tell the administrator. " +
		"If the server was restored from a backup, that is why: then run countersign-agent record accept"
}

func moment(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// errRecordDamaged is wrapped when a file of this device's is not what it wrote.
var errRecordDamaged = errors.New("what this device remembers of the server's record is damaged: tell the administrator, then run countersign-agent record accept")

// LoadRecord returns what the device in dir knows of the server's record,
// without the network.
func LoadRecord(dir string) (Record, error) {
	var r Record
	newest, err := readCheckpoints(dir, recordName)
	if err != nil {
		return r, err
	}
	alarm, err := readCheckpoints(dir, alarmName)
	if err != nil {
		return r, err
	}
	switch {
	case len(newest) > 1, len(alarm) != 0 && len(alarm) != 2:
		return r, fmt.Errorf("%s: %w", dir, errRecordDamaged)
	case len(newest) == 1:
		r.Newest, r.Head = newest[0].checkpoint, newest[0].head
	}
	if len(alarm) == 2 {
		r.Alarm = &RecordAlarm{Remembered: alarm[0].head, Shown: alarm[1].head}
	}
	return r, nil
}

// known is a checkpoint whose signature was checked.
type known struct {
	checkpoint audit.Checkpoint
	head       audit.Head
}

// readCheckpoints reads lines as writeCheckpoints writes them; a file that is not
// there has none.
func readCheckpoints(dir, name string) ([]known, error) {
	data, err := readFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what is known of the server's record: %w", err)
	}
	var all []known
	for line := range bytes.Lines(data) {
		c, err := audit.ParseCheckpoint(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, name), errRecordDamaged)
		}
		head, err := c.Head()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, name), errRecordDamaged)
		}
		all = append(all, known{c, head})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, name), errRecordDamaged)
	}
	return all, nil
}

func writeCheckpoints(dir, name string, all ...audit.Checkpoint) error {
	var b bytes.Buffer
	for _, c := range all {
		b.Write(c.Line())
		b.WriteByte('\n')
	}
	if err := writeFile(dir, name, b.Bytes()); err != nil {
		return fmt.Errorf("writing down the server's record: %w", err)
	}
	return nil
}

// CheckRecord asks the server for its newest checkpoint, holds it against the
// remembered one, and returns what is known then. An alarm is no error.
func (a *Agent) CheckRecord(ctx context.Context) (Record, error) {
	conn, done, err := a.borrow()
	if err != nil {
		return Record{}, err
	}
	defer done()
	shown, err := a.newestCheckpoint(ctx, conn)
	if err != nil {
		return Record{}, err
	}
	if err := a.compareRecord(ctx, conn, shown); err != nil {
		return Record{}, err
	}
	return LoadRecord(a.dir)
}

// newestCheckpoint fetches the server's newest checkpoint.
func (a *Agent) newestCheckpoint(ctx context.Context, conn *Conn) (known, error) {
	self, err := countersignv1.NewDeviceServiceClient(conn).GetSelf(ctx, &countersignv1.GetSelfRequest{})
	if err != nil {
		return known{}, a.explain(conn, err)
	}
	if err := a.checkSelf(self); err != nil {
		return known{}, err
	}
	return a.readCheckpoint(self.GetCheckpoint())
}

// readCheckpoint checks the signature of a checkpoint that the server sent, with the
// key that it sent along.
func (a *Agent) readCheckpoint(m *countersignv1.Checkpoint) (known, error) {
	if m == nil {
		return known{}, errors.New("the server does not show its record: tell the administrator")
	}
	k := known{checkpoint: audit.Checkpoint{Statement: m.GetStatement()}}
	err := json.Unmarshal([]byte(m.GetKey()), &k.checkpoint.Key)
	if err == nil {
		k.head, err = k.checkpoint.Head()
	}
	if err != nil {
		return known{}, fmt.Errorf("what the server showed of its record is not signed well: %w: tell the administrator", err)
	}
	if k.head.Deployment != a.state.Deployment {
		return known{}, errors.New("the server showed the record of another deployment: tell the administrator")
	}
	return k, nil
}

// A verdict is what came of holding a checkpoint against the remembered one.
type verdict int

const (
	_         verdict = iota
	unchanged         // the same record, as it was or as it had been before
	grown             // the same record with more in it
	replaced          // not the same record
)

// proofTimeout is how long the server may take to prove something.
const proofTimeout = 10 * time.Second

// compareRecord holds a checkpoint against the remembered one and writes down what
// comes of it. While there is an alarm, nothing is compared.
func (a *Agent) compareRecord(ctx context.Context, conn *Conn, shown known) error {
	// Another process of this device may have remembered another checkpoint
	// meanwhile; then it is compared with that one.
	for {
		r, err := LoadRecord(a.dir)
		if err != nil || r.Alarm != nil {
			return err
		}
		v, err := a.judgeRecord(ctx, conn, r, shown)
		if err != nil || v == unchanged {
			return err
		}
		kept, err := a.keepRecord(r, shown, v)
		if err != nil || kept {
			return err
		}
	}
}

// judgeRecord asks the server for a proof if it needs one. It writes nothing.
func (a *Agent) judgeRecord(ctx context.Context, conn *Conn, r Record, shown known) (verdict, error) {
	was, is := r.Head, shown.head
	switch {
	case r.Newest == audit.Checkpoint{}:
		return grown, nil
	case is.Key != was.Key:
		return replaced, nil
	case is.Size == was.Size && is.Root == was.Root:
		return unchanged, nil
	case is.Size == was.Size:
		return replaced, nil
	case is.Size < was.Size && is.Time.After(was.Time):
		return replaced, nil // it was signed after the larger one
	}
	// A smaller one may have been under way while another process saw a larger
	// one. Then the server can prove that too.
	first, second := was, is
	if is.Size < was.Size {
		first, second = is, was
	}
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	proof, err := countersignv1.NewDeviceServiceClient(conn).GetConsistencyProof(ctx, &countersignv1.GetConsistencyProofRequest{
		OldSize: first.Size, NewSize: second.Size,
	})
	switch {
	case Reason(err) == countersignv1.ErrorReason_ERROR_REASON_INVALID_FIELD:
		return replaced, nil // it has not so many records
	case err != nil:
		return 0, &noProof{a.explain(conn, err)}
	case second.Continues(first, proof.GetHashes()) != nil:
		return replaced, nil
	case is.Size < was.Size:
		return unchanged, nil
	}
	return grown, nil
}

// noProof says that the server did not prove what it was asked to, for now.
type noProof struct{ error }

func (e *noProof) Error() string { return "the server did not prove its record: " + e.error.Error() }
func (e *noProof) Unwrap() error { return e.error }

// keepRecord makes a verdict durable, unless what it was held against is not what is
// remembered any more.
func (a *Agent) keepRecord(r Record, shown known, v verdict) (kept bool, err error) {
	unlock, err := lockDir(a.dir)
	if err != nil {
		return false, err
	}
	defer unlock()
	now, err := LoadRecord(a.dir)
	if err != nil || now.Newest != r.Newest || now.Alarm != nil {
		return false, err
	}
	if v == replaced {
		return true, writeCheckpoints(a.dir, alarmName, r.Newest, shown.checkpoint)
	}
	return true, writeCheckpoints(a.dir, recordName, shown.checkpoint)
}

// ErrNoAlarm says that there is nothing to accept.
var ErrNoAlarm = errors.New("the server's record is what this device remembers: there is nothing to accept")

// AcceptRecord ends an alarm: what the server shows of its record now is what
// counts from here on. It returns what was remembered, what counts now, and the
// file in which both are kept as evidence.
func (a *Agent) AcceptRecord(ctx context.Context) (before, after audit.Head, evidence string, err error) {
	r, err := LoadRecord(a.dir)
	damaged := errors.Is(err, errRecordDamaged)
	if err != nil && !damaged {
		return before, after, "", err
	}
	if !damaged && r.Alarm == nil {
		return before, after, "", ErrNoAlarm
	}
	conn, done, err := a.borrow()
	if err != nil {
		return before, after, "", err
	}
	defer done()
	shown, err := a.newestCheckpoint(ctx, conn)
	if err != nil {
		return before, after, "", err
	}
	unlock, err := lockDir(a.dir)
	if err != nil {
		return before, after, "", err
	}
	defer unlock()
	// The evidence is moved away last: until then there is an alarm.
	if err := writeCheckpoints(a.dir, recordName, shown.checkpoint); err != nil {
		return before, after, "", err
	}
	evidence, err = keepFile(a.dir, alarmName, time.Now())
	return r.Head, shown.head, evidence, err
}

// A showing is what a stream's message says of the record, or that it says
// nothing.
type showing struct {
	conn       *Conn
	checkpoint *countersignv1.Checkpoint
	first      bool // in its stream
}

// showRecord passes on what a message says of the record, to be looked at
// beside the prompts, which must not wait for it. It is called from one goroutine.
func (a *Agent) showRecord(s showing) {
	select {
	case old := <-a.showings:
		if s.checkpoint == nil { // a repetition: the one before is still to be looked at
			s = old
		}
	default:
	}
	a.showings <- s
}

// watchRecord looks at what the stream's messages say of the record, until ctx is
// done.
func (a *Agent) watchRecord(ctx context.Context) {
	var trouble error // of the last look
	a.sayRecord(trouble)
	for {
		select {
		case s := <-a.showings:
			if s.checkpoint != nil || s.first {
				trouble = a.lookAt(ctx, s)
			}
			a.sayRecord(trouble)
		case <-ctx.Done():
			return
		}
	}
}

func (a *Agent) lookAt(ctx context.Context, s showing) error {
	shown, err := a.readCheckpoint(s.checkpoint)
	if err == nil {
		err = a.compareRecord(ctx, s.conn, shown)
	}
	if _, failed := errors.AsType[*noProof](err); failed && Reason(err) == countersignv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		return nil // the connection broke; the next one begins with a checkpoint
	}
	return err
}

// sayRecord has shown what is wrong with the record: what was found just now, or an
// alarm, which another process may have raised or ended.
func (a *Agent) sayRecord(err error) {
	r, damaged := LoadRecord(a.dir)
	switch {
	case r.Alarm != nil:
		err = r.Alarm
	case damaged != nil:
		err = damaged
	}
	a.mu.Lock()
	changed := words(a.recordTrouble) != words(err)
	a.recordTrouble = err
	a.mu.Unlock()
	if changed {
		a.ring()
	}
}
