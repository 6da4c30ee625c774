package approval

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/countersignd/countersign/internal/statement"
)

// A Page asks for part of a list.
type Page struct {
	Size  int    // 0 means 100; at most 1,000
	Token string // as the page before returned it; empty for the first
}

func (p *Page) check() error {
	if p.Size == 0 {
		p.Size = 100
	}
	if p.Size < 1 || p.Size > 1000 {
		return invalidField("page_size", "want 1 to 1000")
	}
	if len(p.Token) > 256 {
		return invalidField("page_token", "want what the page before returned")
	}
	return nil
}

// alphabet holds, in order, every character of account names, application
// ids, sign-in ids and record keys.
const alphabet = "+-.0123456789@_abcdefghijklmnopqrstuvwxyz"

// ascend yields the keys of bucket that begin with prefix and come after the
// given key (all, if it is empty), in order.
func ascend(tx Tx, bucket, prefix, after string, yield func(key string, value []byte) bool) {
	if !strings.HasPrefix(after, prefix) {
		after = prefix
	}
	for end := len(after); end >= len(prefix); end-- {
		for _, c := range alphabet {
			if end < len(after) && byte(c) <= after[end] {
				continue
			}
			for key, value := range tx.Ascend(bucket, after[:end]+string(c)) {
				if !yield(key, value) {
					return
				}
			}
		}
	}
}

// few is how many keys are read at once to turn their order round.
const few = 64

// descend yields the keys that begin with prefix and come before the given
// key (all, if it is empty) in descending order. It returns false when yield
// did.
func descend(tx Tx, bucket, prefix, before string, yield func(key string) bool) bool {
	if !strings.HasPrefix(before, prefix) {
		before = ""
	}
	if before == "" {
		return descendAll(tx, bucket, prefix, yield)
	}
	for end := len(before) - 1; end >= len(prefix); end-- {
		for i := len(alphabet) - 1; i >= 0; i-- {
			if alphabet[i] < before[end] && !descendAll(tx, bucket, before[:end]+alphabet[i:i+1], yield) {
				return false
			}
		}
	}
	return true
}

func descendAll(tx Tx, bucket, prefix string, yield func(key string) bool) bool {
	var some []string
	for key := range tx.Ascend(bucket, prefix) {
		if some = append(some, key); len(some) > few {
			break
		}
	}
	if len(some) > few {
		for i := len(alphabet) - 1; i >= 0; i-- {
			if !descendAll(tx, bucket, prefix+alphabet[i:i+1], yield) {
				return false
			}
		}
		return true
	}
	for i := len(some) - 1; i >= 0; i-- {
		if !yield(some[i]) {
			return false
		}
	}
	return true
}

// list returns a page of a bucket in the order of its keys, which is the
// order of what they name.
func list[T any](ctx context.Context, store Store, bucket string, p Page) (page []T, next string, err error) {
	if err := p.check(); err != nil {
		return nil, "", err
	}
	err = store.View(ctx, func(tx Tx) error {
		page, next = nil, ""
		var last string
		var err error
		ascend(tx, bucket, "", p.Token, func(key string, value []byte) bool {
			if len(page) == p.Size {
				next = last
				return false
			}
			last = key
			var v T
			if err = json.Unmarshal(value, &v); err != nil {
				err = &damagedError{bucket, key, err}
				return false
			}
			page = append(page, v)
			return true
		})
		return err
	})
	return page, next, err
}

// newestSignIns returns a page of all sign-ins, newest first.
func newestSignIns(tx Tx, p Page) (page []SignIn, next string, err error) {
	descend(tx, bucketSignIns, "", p.Token, func(id string) bool {
		if len(page) == p.Size {
			next = page[len(page)-1].ID
			return false
		}
		var s *SignIn
		if s, err = load[SignIn](tx, bucketSignIns, id); err != nil || s == nil {
			return false
		}
		page = append(page, *s)
		return true
	})
	return page, next, err
}

// newestOf returns a page of an account's sign-ins, newest first.
func newestOf(tx *transaction, account string, p Page) (page []SignIn, next string, err error) {
	a, err := tx.activity(account)
	if err != nil {
		return nil, "", err
	}
	id := a.Newest
	if p.Token != "" {
		s, err := load[SignIn](tx, bucketSignIns, p.Token)
		if err != nil {
			return nil, "", err
		}
		if s == nil || s.Account != account {
			return nil, "", invalidField("page_token", "want what the page before returned")
		}
		id = s.Before
	}
	for id != "" {
		if len(page) == p.Size {
			return page, page[len(page)-1].ID, nil
		}
		s, err := load[SignIn](tx, bucketSignIns, id)
		if err != nil {
			return nil, "", err
		}
		if s == nil {
			return nil, "", fmt.Errorf("%w: the sign-in %s is missing: restore the latest backup", ErrStoreFailed, id)
		}
		page = append(page, *s)
		id = s.Before
	}
	return page, "", nil
}

// ListSignIns returns a page of sign-ins, newest first: those of an account,
// or all if it is empty.
func (a Administrator) ListSignIns(ctx context.Context, account string, p Page) (page []SignIn, next string, err error) {
	err = p.check()
	if err != nil {
		return nil, "", err
	}
	err = a.broker.view(ctx, func(tx *transaction) error {
		if account == "" {
			page, next, err = newestSignIns(tx, p)
			return err
		}
		if _, err := existingAccount(tx, account); err != nil {
			return err
		}
		page, next, err = newestOf(tx, account, p)
		return err
	})
	return page, next, err
}

// SignIn returns a sign-in and what the record says of it, oldest first.
func (a Administrator) SignIn(ctx context.Context, id string) (SignIn, []Entry, error) {
	if !statement.ValidSignIn(id) {
		return SignIn{}, nil, invalidField("id", "want the 26 characters of a sign-in's id")
	}
	now := a.broker.now()
	var found SignIn
	var records []Entry
	err := a.broker.view(ctx, func(tx *transaction) error {
		records = nil
		s, err := load[SignIn](tx, bucketSignIns, id)
		if err != nil {
			return err
		}
		if s == nil {
			return refuse(ReasonSignInUnknown, "There is no sign-in %s.", id)
		}
		found = *s
		devices := a.broker.trustedIDs(tx, s.Account, now)
		if err := a.broker.count(tx, &found, devices); err != nil {
			return err
		}
		all, err := devicesOf(tx, s.Account)
		if err != nil {
			return err
		}
		if found.Deliveries, err = a.broker.deliveriesOf(tx, s, all, now); err != nil {
			return err
		}
		for _, sequence := range s.Records {
			e, err := entry(tx, recordKey(sequence))
			if err != nil {
				return err
			}
			if e != nil {
				records = append(records, *e)
			}
		}
		return nil
	})
	return found, records, err
}

// expiredInvitations yields the hashes of the invitations that can be
// forgotten, of those whose hash begins so. They are collected first, so that
// the caller may delete.
func expiredInvitations(tx *transaction, now time.Time, prefix string) func(func(string, error) bool) {
	return func(yield func(string, error) bool) {
		for _, key := range keys(tx, bucketInvitations, prefix) {
			inv, err := load[invitationRecord](tx, bucketInvitations, key)
			if err == nil && inv != nil && now.Before(inv.Expires) {
				continue
			}
			if !yield(key, err) {
				return
			}
		}
	}
}

// Devices returns the devices of the caller's account, revoked ones too,
// oldest first.
func (b *Broker) Devices(ctx context.Context, device string) ([]Device, error) {
	now := b.now()
	var self Device
	var devices []Device
	err := b.view(ctx, func(tx *transaction) error {
		c, _, err := b.readable(tx, device, now)
		if err != nil {
			return err
		}
		self = *c.device
		if devices, err = devicesOf(tx, self.Account); err != nil {
			return err
		}
		for i := range devices {
			b.refresh(&devices[i])
		}
		return nil
	})
	b.noteSeen(ctx, err, &self, now)
	return devices, err
}

// A Self is what a device is told of itself.
type Self struct {
	Device
	Suspended     bool     // its account is
	RecoveryCodes int      // that its account has left
	Notices       []Notice // as in [Screen]
}

// Self returns what the calling device may know of itself.
func (b *Broker) Self(ctx context.Context, device string) (Self, error) {
	now := b.now()
	var self Self
	err := b.view(ctx, func(tx *transaction) error {
		c, suspended, err := b.readable(tx, device, now)
		if err != nil {
			return err
		}
		set, err := b.loadRecovery(tx, c.device.Account)
		if err != nil {
			return err
		}
		b.refresh(c.device)
		self = Self{Device: *c.device, Suspended: suspended, RecoveryCodes: set.left()}
		told, err := look[notices](tx, bucketNotices, c.device.Account)
		self.Notices = told.of(c.device, now)
		return err
	})
	b.noteSeen(ctx, err, &self.Device, now)
	return self, err
}

// noteSeen notes that a device was there that has only read. That this could
// not be written down is no reason to keep from it what it has read.
func (b *Broker) noteSeen(ctx context.Context, err error, d *Device, now time.Time) {
	if err != nil || !d.seen(now) {
		return
	}
	if err := b.Seen(ctx, d.ID); err != nil {
		b.log.Warn("noting when a device was last seen", "device", d.ID, "error", err)
	}
}

// RecentSignIns returns a page of the sign-ins of the caller's account, newest
// first, with how far each came on which device. A size of 0 means 20, and 100
// is the most.
func (b *Broker) RecentSignIns(ctx context.Context, device string, p Page) (page []SignIn, next string, err error) {
	now := b.now()
	err = b.view(ctx, func(tx *transaction) error {
		c, _, err := b.readable(tx, device, now)
		if err != nil {
			return err
		}
		if p.Size < 0 || p.Size > 100 {
			return invalidField("page_size", "want 0 to 100")
		}
		// A long one would be looked for in many places.
		if p.Token != "" && !statement.ValidSignIn(p.Token) {
			return invalidField("page_token", "want what the page before returned")
		}
		p.Size = cmp.Or(p.Size, 20)
		if err := p.check(); err != nil {
			return err
		}
		account := c.account.Name
		if page, next, err = newestOf(tx, account, p); err != nil {
			return err
		}
		trusted := b.trustedIDs(tx, account, now)
		devices, err := devicesOf(tx, account)
		if err != nil {
			return err
		}
		for i := range page {
			s := &page[i]
			if err := b.count(tx, s, trusted); err != nil {
				return err
			}
			if s.Deliveries, err = b.deliveriesOf(tx, s, devices, now); err != nil {
				return err
			}
		}
		return nil
	})
	return page, next, err
}
