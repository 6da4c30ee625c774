package approval

import (
	"context"
	"slices"
	"time"

	"github.com/countersignd/countersign/internal/statement"
)

// A Screen is all that a device must show at a moment.
type Screen struct {
	Prompts   []Prompt          // pending: first those that rang, then the silent ones; oldest first
	Codes     []OutstandingCode // that this device earned by Allow, oldest first
	Suspended bool              // the account is suspended; there is nothing to answer then
	Notices   []Notice          // what the owner must know, oldest first
	Test      *TestPrompt       // nil if there is none

	// Next is the earliest moment at which it changes by itself; zero if it
	// does not.
	Next time.Time
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

// Screen returns what the device must show now.
func (b *Broker) Screen(ctx context.Context, device string) (Screen, error) {
	now := b.now()
	var screen Screen
	err := b.store.View(ctx, func(tx Tx) error {
		screen = Screen{}
		c, suspended, err := b.readable(tx, device, now)
		if err != nil {
			return err
		}
		if screen.Notices, err = noticesFor(tx, c.device, now); err != nil || suspended {
			screen.Suspended = suspended
			return err
		}
		open, err := openSignIns(tx, c.account.Name, now)
		if err != nil {
			return err
		}
		for _, s := range open {
			b.show(&screen, s, device, now)
		}
		slices.SortStableFunc(screen.Prompts, silentLast)
		if screen.Test, err = b.pendingTest(tx, device, now); screen.Test != nil {
			screen.changes(screen.Test.Expires)
		}
		return err
	})
	return screen, err
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
	return b.store.Update(ctx, func(tx Tx) error {
		c, _, err := b.readable(tx, device, now)
		if err != nil || !c.device.seen(now) {
			return err
		}
		return saveDevice(tx, c.device)
	})
}

// Known reports whether the key is that of a trusted device. It grants
// nothing; the listener asks it to tell strangers from devices.
func (b *Broker) Known(ctx context.Context, device string) bool {
	now := b.now()
	return b.store.View(ctx, func(tx Tx) error {
		_, _, err := b.readable(tx, device, now)
		return err
	}) == nil
}
