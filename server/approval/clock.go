package approval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"sync"
	"time"
)

const (
	// largeStep is how far the machine's clock may be set without more ado.
	largeStep = 2 * time.Minute

	// markEvery is how often the time is written when nothing else is.
	markEvery = time.Minute
)

// A clock is the time by which everything here begins and ends. It is the
// machine's, except that it never goes back: while the machine's clock is
// behind what it said before, also before a restart, this one goes on by the
// monotonic clock. So nothing lives longer because somebody set a clock, and
// nothing that is over comes back.
//
// Both clocks are kept as their origins: what they said, or would have said,
// when this one was started. All that happens afterwards is that one of the
// origins moves.
type clock struct {
	started time.Time        // a monotonic reading
	wall    func() time.Time // nil but in tests: another clock of the machine

	mu      sync.Mutex
	origin  time.Time     // of this clock; only rises
	machine time.Time     // of the machine's, at its newest reading
	judged  time.Time     // of the machine's, when it was last looked at for a large step
	step    time.Duration // the newest large step that nobody has acted on, or 0
}

// newClock returns a clock that does not go back behind mark.
func newClock(mark time.Time, wall func() time.Time) *clock {
	c := &clock{started: time.Now(), wall: wall}
	c.machine = c.started.Round(0)
	if wall != nil {
		c.machine = wall().Round(0)
	}
	c.origin, c.judged = latest(c.machine, mark), c.machine
	return c
}

// now reads the machine's clocks.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	read := time.Now()
	passed := read.Sub(c.started) // by the monotonic clock
	if c.wall != nil {
		read = c.wall()
	}
	return c.at(read.Round(0), passed).UTC() // as it is when it was stored and read
}

// at returns the time, given a reading of the machine's two clocks. It is a
// function of the readings so far and of nothing else.
func (c *clock) at(wall time.Time, passed time.Duration) time.Time {
	c.machine = wall.Add(-passed)
	if c.machine.After(c.origin) {
		c.origin = c.machine
	}
	if step := c.machine.Sub(c.judged); step.Abs() > largeStep {
		c.judged, c.step = c.machine, step
	}
	return c.origin.Add(passed)
}

// ahead returns how far this clock is ahead of the machine's.
func (c *clock) ahead() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.origin.Sub(c.machine)
}

// stepped returns the newest large step that nobody has acted on, or 0.
func (c *clock) stepped() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.step
}

// settle says that a step was acted on.
func (c *clock) settle(step time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.step == step {
		c.step = 0
	}
}

// now is the moment of an operation, which reads it once.
func (b *Broker) now() time.Time { return b.clock.now() }

// civil returns what the machine's clock says at a moment of ours: for what
// others compare with clocks of their own.
func (b *Broker) civil(now time.Time) time.Time { return now.Add(-b.clock.ahead()) }

// devicesTime returns what the clocks of devices should say at a moment of ours.
// That is the machine's time, but not if it was set back by much: then codes
// that a device made before would be good again, and none is rather taken.
func (b *Broker) devicesTime(now time.Time) time.Time {
	if ahead := b.clock.ahead(); ahead <= largeStep {
		return now.Add(-ahead)
	}
	return now
}

// Now returns the time by which everything here begins and ends. It never goes
// back, and is ahead of the machine's clock after that was set back.
func (b *Broker) Now() time.Time { return b.now() }

// ClockAhead returns how far [Broker.Now] is ahead of the machine's clock.
func (b *Broker) ClockAhead() time.Duration { return b.clock.ahead() }

// KeepTime must be called every second or so, and not twice at once. It writes
// the time down when that is a minute old. When it finds that the machine's
// clock was set by more than two minutes, or that the machine slept, it calls off
// the open sign-ins and voids the codes that were asked for: nobody knows any
// more how old they are.
func (b *Broker) KeepTime(ctx context.Context) error {
	now := b.now()
	step := b.clock.stepped()
	if step == 0 && (now.Sub(b.marked) < markEvery || b.full()) {
		return nil
	}
	var ring rings
	err := b.update(ctx, func(tx *transaction) error {
		ring = rings{}
		if step != 0 {
			if err := b.clockChanged(tx, now, stepWords(step), &ring); err != nil {
				return err
			}
		}
		return putMark(tx, now)
	})
	if err != nil {
		return err
	}
	b.marked = now
	if step != 0 {
		b.clock.settle(step)
		b.log.Warn("the machine's clock was set, or the machine slept: open sign-ins were called off", "by", step.String(), "ahead", b.clock.ahead().String())
	}
	b.ring(ring.devices, ring.signIns...)
	return nil
}

func stepWords(step time.Duration) string {
	if step < 0 {
		return "set back by " + (-step).Round(time.Second).String()
	}
	return "set forward by " + step.Round(time.Second).String()
}

// clockChanged puts a change of the clock on record and ends what is open.
func (b *Broker) clockChanged(tx *transaction, now time.Time, how string, ring *rings) error {
	if _, err := record(tx, now, Record{Event: EventClockChanged, Actor: Actor{Kind: ActorServer}, Detail: how}); err != nil {
		return err
	}
	return b.voidOpen(tx, now, CancelClockChanged, ring)
}

// voidOpen calls off every open sign-in and test prompt, and voids every code
// that was asked for. The caller rings afterwards.
func (b *Broker) voidOpen(tx *transaction, now time.Time, cause CancelCause, ring *rings) error {
	var accounts []string
	for _, account := range tx.Ascend(bucketOpen, "") {
		accounts = append(accounts, string(account))
	}
	slices.Sort(accounts)
	for _, account := range slices.Compact(accounts) {
		ring.devices = append(ring.devices, b.trustedIDs(tx, account, now)...)
		if err := cancelOpen(tx, now, account, cause, ring, func(*SignIn) bool { return true }); err != nil {
			return err
		}
	}
	return errors.Join(deleteAll(tx, bucketRequestedCodes), deleteAll(tx, bucketTests))
}

// putMark writes the time down, behind which the clock does not go again.
func putMark(tx Tx, now time.Time) error { return putTime(tx, keyClock, now) }

// lastTime returns the latest time that the store knows of: that which was
// written down, or that of the newest record.
func lastTime(tx Tx) (time.Time, error) {
	mark, err := metaTime(tx, keyClock)
	if err != nil {
		return mark, err
	}
	sequence, err := metaNumber(tx, keyRecords)
	if err != nil || sequence == 0 {
		return mark, err
	}
	newest, err := load[Record](tx, bucketRecords, recordKey(sequence))
	if err != nil || newest == nil {
		return mark, err
	}
	return latest(mark, newest.Time), nil
}

// acceptClock takes the machine's clock for right although it is behind what
// the store knows of, as the operator has said. Every time in the store that
// is still to come becomes now: a failure must not count, nor an invitation be
// good, until a year that somebody's clock once showed. What was begun in that
// year is called off.
func (b *Broker) acceptClock(tx *transaction, now time.Time, ring *rings) error {
	if err := b.clockChanged(tx, now, "the operator accepted it", ring); err != nil {
		return err
	}
	for _, bucket := range []string{bucketInvitations, bucketRecoveryTries} {
		if err := deleteAll(tx, bucket); err != nil {
			return err
		}
	}
	// Sign-ins that were denied can still be verified, and are not in the index
	// of those that are open. Their ids are in order of time.
	var begun []string
	ascend(tx, bucketSignIns, "", newSignInID(now), func(id string, _ []byte) bool {
		begun = append(begun, id)
		return true
	})
	for _, id := range begun {
		s, err := load[SignIn](tx, bucketSignIns, id)
		if err != nil {
			return err
		}
		if s.Recorded != Denied {
			continue
		}
		after, err := s.next(step{kind: stepCancel, cause: CancelClockChanged}, now)
		if err != nil {
			return err
		}
		if err := saveSignIn(tx, now, &after); err != nil {
			return err
		}
	}
	if restored, err := metaTime(tx, keyRestored); err != nil {
		return err
	} else if restored.After(now) {
		// Its order to the devices' times gets lost below, so that each device
		// has to be confirmed once more.
		if err := putTime(tx, keyRestored, now.Add(1)); err != nil {
			return err
		}
	}
	if err := tx.saveActivities(); err != nil { // which are among what follows
		return err
	}
	for _, bucket := range timedBuckets {
		for _, key := range keys(tx, bucket, "") {
			if err := pastOnly(tx, bucket, key, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// timedBuckets hold times that matter for longer than a sign-in lives.
var timedBuckets = []string{bucketAccounts, bucketActivity, bucketDevices, bucketApplications, bucketRequesters, bucketRecovery, bucketNotices}

// pastOnly replaces the times in a value that are still to come by now. It
// works on the JSON, so that no field of any type is forgotten.
func pastOnly(tx *transaction, bucket, key string, now time.Time) error {
	value, err := tx.Get(bucket, key)
	if err != nil {
		return err
	}
	changed := writtenTime.ReplaceAllFunc(value, func(found []byte) []byte {
		t, err := time.Parse(`"`+time.RFC3339Nano+`"`, string(found))
		if err != nil || !t.After(now) {
			return found
		}
		return now.AppendFormat(nil, `"`+time.RFC3339Nano+`"`)
	})
	if bytes.Equal(changed, value) {
		return nil
	}
	if bucket != bucketDevices {
		return tx.Put(bucket, key, changed)
	}
	var d Device
	if err := json.Unmarshal(changed, &d); err != nil {
		return tx.Put(bucket, key, changed) // It is trusted by nobody, and holds up nobody.
	}
	return saveDevice(tx, &d) // with its index
}

// writtenTime matches a time as encoding/json writes it.
var writtenTime = regexp.MustCompile(`"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"`)
