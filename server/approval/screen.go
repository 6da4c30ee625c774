package approval

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/countersignd/countersign/internal/statement"
)

// A Screen is all that a device must show at a moment.
type Screen struct {
	Prompts   []Prompt          // pending: first those that rang, then the silent ones; oldest first
	Codes     []OutstandingCode // that this device earned by Allow, oldest first
	Suspended bool              // the account is suspended; there is nothing to answer then
	Notices   []Notice          // what the owner must know, oldest first; must not be changed
	Test      *TestPrompt       // nil if there is none; must not be changed
	Records   uint64            // size of the record that it was read with

	// Next is the earliest moment at which it changes by itself; zero if it
	// does not.
	Next time.Time

	reading *reading
}

// A Prompt is a question to the owner of one device.
type Prompt struct {
	SignIn   string
	Document []byte // canonical JSON, see [statement.Prompt]
	Silent   bool   // it rings nobody, and is shown after those that do
	Rings    int    // how often it has rung
}

// An OutstandingCode is a code that was not used yet.
type OutstandingCode struct {
	SignIn   string
	Document []byte // the prompt that was allowed
	Code     string
	Expires  time.Time
}

// A reading is what one state of the store says of an account, for the screens of
// its devices. Nobody changes it but for what is encoded of it.
type reading struct {
	name      string // of the account
	account   *Account
	standings []indexed // of its devices, by id
	open      []*SignIn
	notices   *notices
	tests     map[string]*TestPrompt // those to be shown, by device
	records   uint64                 // size of the record

	encoding sync.Mutex
	encoded  [][]byte // what is made of each of notices; nil of those that nobody asked for
}

// An indexed device is what the index of an account's devices says of one.
type indexed struct{ device, standing string }

// AppendNotices appends the encoding of each notice to b. Each is encoded once for
// all screens of devices that were rung together, always by the same function.
func (s *Screen) AppendNotices(b []byte, encode func(*Notice) ([]byte, error)) ([]byte, error) {
	if len(s.Notices) == 0 {
		return b, nil
	}
	r := s.reading
	r.encoding.Lock()
	defer r.encoding.Unlock()
	if r.encoded == nil {
		r.encoded = make([][]byte, len(r.notices.List))
	}
	at := 0
	for i := range s.Notices {
		for r.notices.List[at].Sequence != s.Notices[i].Sequence { // which are in order in both
			at++
		}
		if r.encoded[at] == nil {
			e, err := encode(&s.Notices[i])
			if err != nil {
				return nil, err
			}
			r.encoded[at] = e
		}
		b = append(b, r.encoded[at]...)
	}
	return b, nil
}

// read reads an account.
func (b *Broker) read(account string) (*reading, error) {
	now := b.now()
	var r *reading
	err := b.view(context.Background(), func(tx *transaction) (err error) {
		r, err = b.reading(tx, account, now)
		return err
	})
	return r, err
}

func (b *Broker) reading(tx *transaction, account string, now time.Time) (r *reading, err error) {
	r = &reading{name: account}
	for key, standing := range tx.Ascend(bucketDevicesOf, account+"/") {
		r.standings = append(r.standings, indexed{key[len(account)+1:], string(standing)})
	}
	if r.account, err = look[Account](tx, bucketAccounts, account); err != nil {
		return nil, err
	}
	if r.notices, err = look[notices](tx, bucketNotices, account); err != nil {
		return nil, err
	}
	if r.open, err = lookAtOpen(tx, account, now); err != nil {
		return nil, err
	}
	for key := range tx.Ascend(bucketTests, account+"/") {
		device := key[len(account)+1:]
		t, err := b.pendingTest(tx, account, device, now)
		if err != nil {
			return nil, err
		}
		if t == nil {
			continue
		}
		if r.tests == nil {
			r.tests = map[string]*TestPrompt{}
		}
		r.tests[device] = t
	}
	r.records, err = recordCount(tx)
	return r, err
}

// Screen returns what the device must show now.
func (b *Broker) Screen(ctx context.Context, device string) (Screen, error) {
	now := b.now()
	var r *reading
	err := b.view(ctx, func(tx *transaction) error {
		r = &reading{}
		d, err := look[Device](tx, bucketDevices, device)
		if err != nil || d == nil {
			return err
		}
		r, err = b.reading(tx, d.Account, now)
		return err
	})
	if err != nil {
		return Screen{}, err
	}
	return b.screen(r, device, now)
}

// WatchedScreen returns what a watched device must show now. The devices of an
// account that were rung at once share what the first of them reads.
func (b *Broker) WatchedScreen(ctx context.Context, w *Watch) (Screen, error) {
	account, together := w.take()
	if account == "" {
		return b.firstScreen(ctx, w)
	}
	var r *reading
	var err error
	if together != nil {
		r, err = together()
	} else {
		r, err = b.read(account)
	}
	if err != nil {
		return Screen{}, err
	}
	return b.screen(r, w.device, b.now())
}

// firstScreen is Screen for a device of which the account is not known yet. It
// never changes.
func (b *Broker) firstScreen(ctx context.Context, w *Watch) (Screen, error) {
	screen, err := b.Screen(ctx, w.device)
	if err == nil {
		w.setAccount(screen.reading.name)
	}
	return screen, err
}

// screen returns what the device must show of what was read.
func (b *Broker) screen(r *reading, device string, now time.Time) (Screen, error) {
	var d *Device
	if i, ok := slices.BinarySearchFunc(r.standings, device, func(x indexed, id string) int { return strings.Compare(x.device, id) }); ok {
		stands := parseStanding(r.name, device, r.standings[i].standing)
		d = &stands
	}
	err := b.mayApprove(r.account, d, now)
	suspended := errors.Is(err, &Error{Reason: ReasonAccountSuspended})
	if err != nil && !suspended {
		return Screen{}, err
	}
	screen := Screen{reading: r, Notices: r.notices.of(d, now), Suspended: suspended, Records: r.records}
	if suspended {
		return screen, nil
	}
	for _, s := range r.open {
		b.show(&screen, s, device, now)
	}
	slices.SortStableFunc(screen.Prompts, silentLast)
	if t := r.tests[device]; t != nil && now.Before(t.Expires) {
		screen.Test = t
		screen.changes(t.Expires)
	}
	return screen, nil
}

func silentLast(x, y Prompt) int {
	switch {
	case x.Silent == y.Silent:
		return 0
	case x.Silent:
		return 1
	}
	return -1
}

func (b *Broker) show(screen *Screen, s *SignIn, device string, now time.Time) {
	switch {
	case s.At(now) == Pending:
		screen.Prompts = append(screen.Prompts, Prompt{SignIn: s.ID, Document: b.prompt(s, device), Silent: s.Silent != "", Rings: s.Rings})
	case s.At(now) == Approved && s.DecidedBy == device:
		screen.Codes = append(screen.Codes, OutstandingCode{
			SignIn: s.ID, Document: b.prompt(s, device), Code: b.secrets.allowCode(s.ID, device), Expires: s.CodeExpires,
		})
	default:
		return
	}
	screen.changes(s.Ends(now))
}

// changes notes that the screen changes by itself at a moment.
func (s *Screen) changes(at time.Time) {
	if s.Next.IsZero() || at.Before(s.Next) {
		s.Next = at
	}
}

// prompt makes the exact bytes that a device shows and signs. They are the
// same each time, so nothing is stored for each device; the nonce is what
// makes them this device's own.
func (b *Broker) prompt(s *SignIn, device string) []byte {
	p := statement.Prompt{
		Account:     s.Account,
		Action:      statement.ActionSignIn,
		Application: statement.Application{ID: s.Application, Name: s.ApplicationName},
		Created:     s.Begun.Unix(),
		Expires:     s.Expires.Unix(),
		Message:     s.Message,
		Nonce:       b.secrets.nonce(s.ID, device),
		Requester: statement.Requester{
			Address: s.Requester.Address,
			Device:  s.Requester.Device,
			Place:   s.Requester.Place,
			Program: s.Requester.Program,
		},
		SignIn: s.ID,
		V:      1,
	}
	if c := s.Candidate; c != nil {
		p.Action = statement.ActionTrustDevice
		p.Candidate = &statement.Candidate{Fingerprint: c.Device, Kind: c.Kind, Name: c.Name}
	}
	return p.Encode()
}

// Seen notes when the device was last there, to the minute.
func (b *Broker) Seen(ctx context.Context, device string) error {
	now := b.now()
	var noted bool
	if err := b.view(ctx, func(tx *transaction) error {
		c, _, err := b.lookAtReadable(tx, device, now)
		noted = err == nil && c.device.wasSeen(now)
		return err
	}); err != nil || noted {
		return err
	}
	return b.update(ctx, func(tx *transaction) error {
		c, _, err := b.readable(tx, device, now)
		if err != nil || !c.device.seen(now) {
			return err
		}
		return saveDevice(tx, c.device)
	})
}

// SeenNow reports whether a device of which it is noted that it was there at that
// moment need not be noted again now.
func (b *Broker) SeenNow(noted time.Time) bool { return sameMinute(noted, b.now()) }

// Known reports whether the key is that of a trusted device, and when that was last
// seen. It grants nothing; the listener asks it to tell strangers from devices.
func (b *Broker) Known(ctx context.Context, device string) (lastSeen time.Time, known bool) {
	now := b.now()
	err := b.view(ctx, func(tx *transaction) error {
		c, _, err := b.lookAtReadable(tx, device, now)
		if err == nil {
			lastSeen = c.device.LastSeen
		}
		return err
	})
	return lastSeen, err == nil
}
