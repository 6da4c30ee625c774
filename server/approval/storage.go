package approval

import "context"

// room refuses what begins something new when the disk is nearly full. What
// was begun may be finished, and what lets nobody in (denying, revoking,
// suspending) is never refused: the little room that is left is theirs.
func (b *Broker) room() error {
	if b.full() {
		return refuse(ReasonStorageLow, "The server's disk is nearly full, so nothing new can be begun. Ask an administrator to make room; it goes on by itself then.")
	}
	return nil
}

// NoteStorage puts on record that the disk is nearly full, or is not any more.
func (b *Broker) NoteStorage(ctx context.Context, low bool, detail string) error {
	now := b.now()
	event := EventStorageFreed
	if low {
		event = EventStorageLow
	}
	return b.update(ctx, func(tx *transaction) error {
		_, err := record(tx, now, Record{Event: event, Actor: Actor{Kind: ActorServer}, Detail: detail})
		return err
	})
}
