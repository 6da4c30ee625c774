package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// noticesName is the file that says up to which notice this device has shown:
// the number and the time, in nanoseconds of Unix, of the newest, in decimal
// with a space between and a line feed behind. If it is missing or damaged,
// notices are shown once more, which does no harm.
const noticesName = "notices"

// A mark says up to which notice this device has shown. It has the time, too,
// because the numbers begin again where they were when a server was restored
// from a backup, and what happened since must not be taken for shown.
type mark struct {
	sequence uint64
	time     time.Time
}

func markOf(n *countersignv1.Notice) mark {
	return mark{n.GetSequence(), n.GetTime().AsTime()}
}

// covers reports whether n was shown.
func (m mark) covers(n *countersignv1.Notice) bool {
	other := markOf(n)
	return other.sequence <= m.sequence && !other.time.After(m.time)
}

// with returns a mark that covers what m does, and n.
func (m mark) with(n mark) mark {
	m.sequence = max(m.sequence, n.sequence)
	if n.time.After(m.time) {
		m.time = n.time
	}
	return m
}

func readMark(dir string) (mark, error) {
	data, err := readFile(filepath.Join(dir, noticesName))
	if errors.Is(err, fs.ErrNotExist) {
		return mark{}, nil
	}
	if err != nil {
		return mark{}, fmt.Errorf("reading which notices were shown: %w", err)
	}
	var m mark
	var nanoseconds int64
	if n, err := fmt.Sscanf(string(data), "%d %d\n", &m.sequence, &nanoseconds); n != 2 || err != nil {
		return mark{}, nil
	}
	m.time = time.Unix(0, nanoseconds)
	return m, nil
}

// NewNotices returns those of the notices that this device has not shown yet.
func (a *Agent) NewNotices(all []*countersignv1.Notice) []*countersignv1.Notice {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.newNoticesLocked(all)
}

func (a *Agent) newNoticesLocked(all []*countersignv1.Notice) []*countersignv1.Notice {
	return slices.DeleteFunc(slices.Clone(all), a.shown.covers)
}

// NoticesShown remembers that a person was shown these notices, durably.
func (a *Agent) NoticesShown(shown ...*countersignv1.Notice) error {
	var newest mark
	for _, n := range shown {
		newest = newest.with(markOf(n))
	}
	// First here, so that nothing is shown twice even if the disk is full.
	a.mu.Lock()
	a.shown = a.shown.with(newest)
	a.mu.Unlock()
	a.ring()

	unlock, err := lockDir(a.dir)
	if err != nil {
		return err
	}
	defer unlock()
	before, err := readMark(a.dir) // another process may have shown more
	if err != nil {
		return err
	}
	after := before.with(newest)
	if after == before {
		return nil
	}
	if err := writeFile(a.dir, noticesName, fmt.Appendf(nil, "%d %d\n", after.sequence, after.time.UnixNano())); err != nil {
		return fmt.Errorf("writing down which notices were shown: %w", err)
	}
	return nil
}
