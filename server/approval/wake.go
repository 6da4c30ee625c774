package approval

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"
)

// wake begins where the store left off: with its deployment id, its time and
// its generation. The store is written first, then what is outside of it.
func (b *Broker) wake(ctx context.Context, c Config) error {
	outside, err := b.loadGeneration()
	if err != nil {
		return err
	}
	var last time.Time
	var fresh bool // there is nothing in the store yet
	err = b.view(ctx, func(tx *transaction) (err error) {
		id, err := tx.Get(bucketMeta, keyDeployment)
		if fresh = id == nil; err != nil || fresh {
			return err
		}
		if err := readableLayout(tx); err != nil {
			return err
		}
		last, err = lastTime(tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	if fresh {
		// Here what is outside comes first: were the store first, a crash between
		// would look like a store that has lost what belongs to it.
		b.generation = outside + 1
		if err := b.saveGeneration(); err != nil {
			return err
		}
	}
	b.clock = newClock(last, c.wall)
	behind := b.clock.ahead()
	if behind > 0 && c.AcceptClock {
		b.clock = newClock(time.Time{}, c.wall)
	}
	now := b.now()
	deployment := strings.ToLower(rand.Text()) // 26 characters, 130 bits
	var restored bool
	err = b.update(ctx, func(tx *transaction) (err error) {
		if err := b.wakeDeployment(tx, now, fresh, deployment); err != nil {
			return err
		}
		if err := b.wakeClock(tx, now, behind, c.AcceptClock); err != nil {
			return err
		}
		if restored, err = b.wakeGeneration(tx, now, outside, fresh); err != nil {
			return err
		}
		if b.restored, err = metaTime(tx, keyRestored); err != nil {
			return err
		}
		return putMark(tx, now)
	})
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	b.marked = now
	if behind > largeStep {
		b.warnBehind(behind, c.AcceptClock)
	}
	if restored {
		b.log.Warn("the database is an old one, or belongs elsewhere: no device counts before an administrator has confirmed it, and nothing that was open is", "generation", b.generation, "outside", outside)
	}
	return b.NextGeneration(ctx)
}

// wakeDeployment reads the deployment id, or puts it into a fresh store.
func (b *Broker) wakeDeployment(tx *transaction, now time.Time, fresh bool, made string) error {
	if !fresh {
		id, err := tx.Get(bucketMeta, keyDeployment)
		b.deployment = string(id)
		return err
	}
	b.deployment = made
	if _, err := record(tx, now, Record{Event: EventServerInitialised, Actor: Actor{Kind: ActorServer}}); err != nil {
		return err
	}
	if err := putNumber(tx, keyLayout, layout); err != nil {
		return err
	}
	return tx.Put(bucketMeta, keyDeployment, []byte(made))
}

// readableLayout refuses a store that was written in another layout.
func readableLayout(tx Tx) error {
	switch got, err := metaNumber(tx, keyLayout); {
	case err != nil:
		return err
	case got < layout:
		return errors.New("the database was written by a countersign-server from before the first release, which kept it in another layout, and cannot be carried over: run that program once more, or begin with an empty data directory and enrol the devices again")
	case got > layout:
		return fmt.Errorf("the database was written by a newer countersign-server (layout %d, this program knows %d): install the newer program again, or restore a backup made before the upgrade", got, layout)
	}
	return nil
}

// wakeClock acts on a clock that is behind the time that the store knows of.
func (b *Broker) wakeClock(tx *transaction, now time.Time, behind time.Duration, accept bool) error {
	switch {
	case accept && behind > 0:
		return b.acceptClock(tx, now, &rings{})
	case behind > largeStep:
		return b.clockChanged(tx, now, stepWords(-behind), &rings{})
	}
	return nil
}

func (b *Broker) warnBehind(behind time.Duration, accepted bool) {
	if accepted {
		b.log.Warn("the machine's clock was accepted: what was open is called off, and invitations are void", "behind", behind.String())
		return
	}
	b.log.Warn("the machine's clock is behind the time of the database, so the server goes on from there and what was open is called off: set the clock, or start once with --accept-clock if it is right", "behind", behind.String())
}

// loadGeneration returns the number outside the store.
func (b *Broker) loadGeneration() (uint64, error) {
	if b.outside == nil {
		return 0, nil
	}
	n, err := b.outside.Load()
	if err != nil {
		return 0, fmt.Errorf("reading the generation number: %w", err)
	}
	b.outsideGeneration = n
	return n, nil
}

// wakeGeneration finds out whether the store is an old one, and if so does what
// is to be done then. NextGeneration moves the number on afterwards.
func (b *Broker) wakeGeneration(tx *transaction, now time.Time, outside uint64, fresh bool) (restored bool, err error) {
	if b.outside == nil {
		return false, nil
	}
	if !fresh {
		store, err := metaNumber(tx, keyGeneration)
		if err != nil {
			return false, err
		}
		if b.generation, restored = judgeGeneration(store, outside); restored {
			if err := b.restoredFrom(tx, now, store, outside); err != nil {
				return false, err
			}
		}
	}
	return restored, putNumber(tx, keyGeneration, b.generation)
}
