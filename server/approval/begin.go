package approval

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/internal/text"
)

// Request is what an application asks of an account's owner.
type Request struct {
	Account   string
	Requester Requester
	Message   string

	// Token is what VerifySignIn gave the requester at an earlier sign-in, if
	// it has one.
	Token string
}

// BeginSignIn opens a sign-in and rings the account's devices, or opens it in
// silence ([SignIn.Silent]). If the same requester has one open that asks for
// the same, that one is returned. It rings once more if nobody has answered it
// and it may ring now: see [SignIn.mayRingAgain].
func (b *Broker) BeginSignIn(ctx context.Context, token string, r Request) (SignIn, error) {
	now := b.now()
	id := newSignInID(now)
	var begun SignIn
	var ring rings
	err := b.update(ctx, func(tx *transaction) error {
		ring = rings{}
		app, err := applicationByToken(tx, token)
		if err != nil {
			return err
		}
		if err := r.check(); err != nil {
			return err
		}
		a, err := load[Account](tx, bucketAccounts, r.Account)
		if err != nil {
			return err
		}
		if err := active(a); err != nil {
			return err
		}
		devices := b.trustedIDs(tx, a.Name, now)
		if len(devices) == 0 {
			return b.nobodyToAsk(tx, a.Name, now)
		}
		lane, known, err := b.laneOf(tx, app, a.Name, r.Token, now)
		if err != nil {
			return err
		}
		open, err := openSignIns(tx, a.Name, now)
		if err != nil {
			return err
		}
		asked := r.hash(known)
		if i := slices.IndexFunc(open, func(s *SignIn) bool { return s.Application == app.ID && s.Asked == asked }); i >= 0 {
			begun = *open[i]
			if ring, err = b.ringAgain(tx, app, &begun, devices, now); err != nil {
				return err
			}
			return b.count(tx, &begun, devices)
		}
		if err := b.room(); err != nil {
			return err
		}
		if err := forgetOver(tx, a.Name, open); err != nil {
			return err
		}
		ringing, err := loadRinging(tx, a.Name, now)
		if err != nil {
			return err
		}
		policy := app.Policy.WithDefaults()
		begun = SignIn{
			ID: id, Account: a.Name, Application: app.ID, ApplicationName: app.Name, Lane: lane, Known: known, Source: requesterSource(r.Requester.Address, app.ID),
			Requester: r.Requester, Message: r.Message, Asked: asked,
			Begun: now, Expires: now.Add(policy.PromptLifetime), CodeLifetime: policy.CodeLifetime, MaxTries: policy.Tries,
			Recorded: Pending,
		}
		leaves, err := begun.enter(open, ringing, now)
		if err != nil {
			return err
		}
		if leaves != nil {
			if err := cancelOpen(tx, now, a.Name, CancelMadeRoom, &ring, func(s *SignIn) bool { return s.ID == leaves.ID }); err != nil {
				return err
			}
		}
		detail := string(lane)
		if begun.Silent = ringing.silence(lane, begun.Source, now); begun.Silent == "" {
			begun.Rings, begun.Rung = 1, now
			ringing.rang(lane, begun.Source, now)
			if err := ringing.save(tx, a.Name); err != nil {
				return err
			}
		} else {
			detail += ", silent: " + string(begun.Silent)
		}
		if err := recordSignIn(tx, now, &begun, Record{
			Event: EventSignInBegun, Actor: Actor{Kind: ActorApplication, ID: app.ID}, Address: r.Requester.Address, Detail: detail,
		}); err != nil {
			return err
		}
		if err := addToAccount(tx, &begun); err != nil {
			return err
		}
		ring.devices = devices
		ring.signIns = append(ring.signIns, id)
		if err := b.count(tx, &begun, devices); err != nil {
			return err
		}
		return saveSignIn(tx, now, &begun)
	})
	if err != nil {
		return SignIn{}, err
	}
	b.ring(ring.devices, ring.signIns...)
	return begun, nil
}

// check refuses what may not be shown, and brings the address into its one
// form. An address that cannot be parsed is unknown, never somebody's.
func (r *Request) check() error {
	if !statement.ValidAccount(r.Account) {
		return invalidField("account", "want 1 to 64 characters of a-z, 0-9 and . _ @ + -, beginning with a letter or digit")
	}
	for _, f := range []struct{ field, value string }{
		{"requester.place", r.Requester.Place},
		{"requester.device", r.Requester.Device},
		{"requester.program", r.Requester.Program},
		{"message", r.Message},
	} {
		if err := text.Check(f.value); err != nil {
			return invalidField(f.field, "%v", err)
		}
	}
	if s := r.Requester.Session; len(s) > 128 || strings.ContainsFunc(s, func(c rune) bool { return c < '!' || c > '~' }) {
		return invalidField("requester.session", "want at most 128 visible ASCII characters")
	}
	if t := r.Token; len(t) > 128 || strings.ContainsFunc(t, func(c rune) bool { return c < '!' || c > '~' }) {
		return invalidField("requester.token", "want what VerifySignIn returned, or nothing")
	}
	if len(r.Requester.Address) > 64 {
		return invalidField("requester.address", "want an IP address")
	}
	address, err := netip.ParseAddr(r.Requester.Address)
	if err != nil {
		r.Requester.Address = ""
		return nil
	}
	r.Requester.Address = address.Unmap().WithZone("").String()
	return nil
}

// hash names who asks and for what: only who asks for the very same again is
// given the open sign-in, which somebody may have allowed by now. A requester
// that is known is another than a stranger who says the same.
func (r *Request) hash(known string) string {
	h := sha256.New()
	for _, p := range []string{r.Requester.Session, r.Requester.Address, r.Requester.Place, r.Requester.Device, r.Requester.Program, r.Message, known} {
		h.Write([]byte(p))
		h.Write([]byte{0}) // no part holds a NUL
	}
	return pin.Base32.EncodeToString(h.Sum(nil))
}

// ringGap is how long a known requester must wait for its sign-in to ring again,
// so that an application that asks again because an answer was lost does not.
// Strangers have longer gaps, see ringGaps.
const ringGap = 10 * time.Second

// mayRingAgain reports whether a sign-in rings once more, or at last, when its
// requester asks again: nobody has answered it, and the account may be rung in
// its lane and for its source now as for a new one.
func (s *SignIn) mayRingAgain(r *ringing, now time.Time) bool {
	return s.At(now) == Pending && now.Sub(s.Rung) >= ringGap && r.silence(s.Lane, s.Source, now) == ""
}

// ringAgain rings a sign-in once more if it may, and counts that. On a disk that
// is nearly full, where nothing can be put on record, it does not.
func (b *Broker) ringAgain(tx *transaction, app *Application, s *SignIn, devices []string, now time.Time) (ring rings, err error) {
	r, err := loadRinging(tx, s.Account, now)
	if err != nil || b.full() || !s.mayRingAgain(r, now) {
		return ring, err
	}
	s.Silent = ""
	s.Rings++
	s.Rung = now
	r.rang(s.Lane, s.Source, now)
	if err := r.save(tx, s.Account); err != nil {
		return ring, err
	}
	if err := recordSignIn(tx, now, s, Record{
		Event: EventSignInRungAgain, Actor: Actor{Kind: ActorApplication, ID: app.ID}, Address: s.Requester.Address, Detail: string(s.Lane),
	}); err != nil {
		return ring, err
	}
	return rings{devices, []string{s.ID}}, saveSignIn(tx, now, s)
}

// SignIn returns a sign-in of the calling application.
func (b *Broker) SignIn(ctx context.Context, token, id string) (SignIn, error) {
	now := b.now()
	var found SignIn
	err := b.view(ctx, func(tx *transaction) error {
		_, s, err := ownSignIn(tx, token, id)
		if err != nil {
			return err
		}
		devices := b.trustedIDs(tx, s.Account, now)
		found = *s
		return b.count(tx, &found, devices)
	})
	return found, err
}

// CancelSignIn ends a sign-in that the calling application does not want any
// more.
func (b *Broker) CancelSignIn(ctx context.Context, token, id string) (SignIn, error) {
	now := b.now()
	var after SignIn
	var ring []string
	err := b.update(ctx, func(tx *transaction) error {
		ring = nil
		app, s, err := ownSignIn(tx, token, id)
		if err != nil {
			return err
		}
		if after, err = s.next(step{kind: stepCancel, cause: CancelApplication}, now); err != nil {
			return err
		}
		ring = b.trustedIDs(tx, s.Account, now)
		if err := b.count(tx, &after, ring); err != nil {
			return err
		}
		if s.At(now) == Cancelled {
			return nil
		}
		if err := recordSignIn(tx, now, &after, Record{
			Event: EventSignInCancelled, Actor: Actor{Kind: ActorApplication, ID: app.ID}, Detail: string(CancelApplication),
		}); err != nil {
			return err
		}
		return saveSignIn(tx, now, &after)
	})
	if err != nil {
		return SignIn{}, err
	}
	b.ring(ring, id)
	return after, nil
}

// ownSignIn returns the sign-in if the calling application began it. It does
// not tell somebody else's from none.
func ownSignIn(tx *transaction, token, id string) (*Application, *SignIn, error) {
	app, err := applicationByToken(tx, token)
	if err != nil {
		return nil, nil, err
	}
	if !statement.ValidSignIn(id) {
		return nil, nil, invalidField("sign_in_id", "want the 26 characters that BeginSignIn returned")
	}
	s, err := load[SignIn](tx, bucketSignIns, id)
	if err != nil {
		return nil, nil, err
	}
	if s == nil || s.Application != app.ID || s.Begun.Before(app.Created) {
		return nil, nil, refuse(ReasonSignInUnknown, "This application has no such sign-in.")
	}
	return app, s, nil
}
