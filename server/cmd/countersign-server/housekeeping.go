package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/boltstore"
)

const (
	lookEvery       = time.Second
	generationEvery = time.Hour

	// roomForRecord is how much must be free to write down that little is.
	roomForRecord = 1 << 20

	// reserve is how much the database can grow on a full disk. The ballast
	// is for everything else, and for file systems that promise nothing: what
	// fills a disk will fill the place of the ballast, too.
	reserve = 4 << 20
)

// housekeeping is what is done beside serving: to look at the disk and at the
// clock, and to make the copies of the database old that somebody may have made
// without asking the server.
type housekeeping struct {
	broker *approval.Broker
	store  *boltstore.Store
	disk   *disk
	health *health
	notify notifier
	log    *slog.Logger

	noted   bool      // that the disk is nearly full is on record
	moved   time.Time // when the generation last moved on
	trouble string    // the error that was logged last
}

// run does it until ctx ends.
func (h *housekeeping) run(ctx context.Context) {
	h.moved = time.Now()
	second := time.NewTicker(lookEvery)
	defer second.Stop()
	for {
		if err := h.once(ctx); err != nil && ctx.Err() == nil && err.Error() != h.trouble {
			h.trouble = err.Error()
			h.log.Error("housekeeping", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-second.C:
		}
	}
}

func (h *housekeeping) once(ctx context.Context) error {
	err := h.disk.look(func(path string) { h.log.Info("the ballast was made again", "path", path) })
	err = errors.Join(err, h.note(ctx), h.keep(ctx))
	if !h.disk.full() {
		err = errors.Join(err, h.store.Reserve(reserve))
	}
	if time.Since(h.moved) >= generationEvery && !h.disk.full() {
		h.moved = time.Now()
		err = errors.Join(err, h.broker.NextGeneration(ctx))
	}
	return err
}

// keep keeps the time and reads the store: while both work, the server is well.
func (h *housekeeping) keep(ctx context.Context) error {
	if err := h.broker.KeepTime(ctx); err != nil {
		return err
	}
	size, err := h.store.Size()
	if err != nil {
		return err
	}
	records, err := h.broker.RecordSize(ctx)
	if err != nil {
		return err
	}
	h.health.pass(size, records)
	return h.notify.alive()
}

// note puts it on record when the disk gets nearly full, and when it is over.
func (h *housekeeping) note(ctx context.Context) error {
	now := h.disk.state()
	if now.Low == h.noted || now.Free < roomForRecord {
		return nil
	}
	if err := h.broker.NoteStorage(ctx, now.Low, fmt.Sprintf("%d MiB free", now.Free>>20)); err != nil {
		return err
	}
	h.noted = now.Low
	return nil
}
