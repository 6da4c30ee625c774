package approval

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/countersignd/countersign/internal/code"
	"github.com/countersignd/countersign/internal/statement"
)

// verification is what one try is about.
type verification struct {
	account   string
	lane      Lane
	failures  *failures      // of the account in the lane
	approver  *Device        // that allowed the sign-in, if one did
	allowed   string         // the code after Allow; empty if there is none
	decision  string         // the statement that allowed it, after a match with that
	requested *requestedCode // the code asked for without a prompt, if there is one
	asker     *Device        // that asked for it
	digits    string         // of requested

	offline       []offlineCode // that count, if eight digits were typed
	offlineDigits []string      // of these

	six, eight string // what is compared of what was typed; empty if nothing is

	// matched is the device whose code it was, nil before a match, and acr says
	// which kind of code.
	matched *Device
	acr     string
	step    int64 // of an offline code

	devicesTime time.Time // see Broker.devicesTime

	closed string // this try was one too many wrong ones: until when no other is compared

	requesterToken   string // what makes the requester known, after a match
	requesterExpires time.Time
}

// outstanding finds the codes that exist for a sign-in. The code after Allow
// exists only while the device that allowed is trusted.
func (b *Broker) outstanding(tx *transaction, a *Account, s *SignIn, now time.Time) (v verification, err error) {
	v.account, v.lane, v.devicesTime = a.Name, s.Lane, b.devicesTime(now)
	if v.failures, err = loadFailures(tx, a.Name, s.Lane); err != nil {
		return v, err
	}
	if s.At(now) == Approved {
		if v.approver, err = load[Device](tx, bucketDevices, s.DecidedBy); err != nil {
			return v, err
		}
		if err := b.mayApprove(a, v.approver, now); err != nil {
			return v, refuse(ReasonSignInCancelled, "The device that allowed the sign-in is not trusted any more. Begin a new one.")
		}
		v.allowed = b.secrets.allowCode(s.ID, s.DecidedBy)
	}
	if v.requested, err = b.loadRequestedCode(tx, a, now); err != nil || v.requested == nil {
		return v, err
	}
	if s.At(now) == Denied && v.requested.Created.Before(s.Ended) {
		v.requested = nil // it was asked for before the denial, which it must not undo
		return v, nil
	}
	if v.asker, err = load[Device](tx, bucketDevices, v.requested.Device); err != nil {
		return v, err
	}
	v.digits = b.secrets.requestedCode(a.Name, v.requested.ID)
	return v, nil
}

// compare compares in constant time, and with all codes always.
func (v *verification) compare() bool {
	allowed := code.Equal(v.allowed, v.six)
	requested := code.Equal(v.digits, v.six)
	offline := code.Find(v.offlineDigits, v.eight)
	switch {
	case v.approver != nil && allowed:
		v.matched, v.acr = v.approver, acrCode
	case v.requested != nil && requested:
		v.matched, v.acr = v.asker, acrRequested
	case offline >= 0:
		v.matched, v.acr, v.step = v.offline[offline].device, acrOffline, v.offline[offline].step
	}
	return v.matched != nil
}

// write stores what a counted try has changed.
func (v *verification) write(tx *transaction, now time.Time, by Actor, after *SignIn) error {
	r := Record{Event: EventCodeWrong, Actor: by, Address: after.Requester.Address}
	if v.matched != nil {
		r.Event, r.Device, r.Detail = EventSignInVerified, v.matched.ID, v.acr
		if err := v.use(tx, after.Account); err != nil {
			return err
		}
		v.failures.right()
		if err := endVain(tx, v.account, v.lane, now); err != nil {
			return err
		}
	} else {
		v.failures.wrong(v.lane, now, v.kinds()...)
		v.closed = v.failures.closed(now, v.kinds()...)
	}
	if err := v.failures.save(tx, v.account, v.lane); err != nil {
		return err
	}
	if err := recordSignIn(tx, now, after, r); err != nil {
		return err
	}
	if v.closed != "" {
		if err := recordSignIn(tx, now, after, Record{
			Event: EventCodesClosed, Actor: Actor{Kind: ActorServer}, Detail: string(v.lane) + ", " + v.closed,
		}); err != nil {
			return err
		}
	}
	if after.At(now) == Cancelled {
		if err := recordSignIn(tx, now, after, Record{
			Event: EventSignInCancelled, Actor: Actor{Kind: ActorServer}, Detail: string(after.CancelCause),
		}); err != nil {
			return err
		}
	}
	return saveSignIn(tx, now, after)
}

// kinds returns the kinds of codes that were compared.
func (v *verification) kinds() []codeKind {
	var kinds []codeKind
	if v.six != "" {
		kinds = append(kinds, codesShown)
	}
	if v.eight != "" {
		kinds = append(kinds, codesOffline)
	}
	return kinds
}

// warnClosed tells the operator what write has put on record.
func (b *Broker) warnClosed(v *verification) {
	if v.closed != "" {
		b.log.Warn("too many wrong codes: no code is compared in this lane for now", "account", v.account, "lane", v.lane, "until", v.closed)
	}
}

// use uses up the code that matched. The code after Allow is used up with its
// sign-in.
func (v *verification) use(tx *transaction, account string) error {
	switch v.acr {
	case acrRequested:
		return tx.Delete(bucketRequestedCodes, account)
	case acrOffline:
		v.matched.useOffline(v.step, v.devicesTime)
		return saveDevice(tx, v.matched)
	}
	return nil
}

// decisionOf returns the statement that allowed or denied a sign-in, from the
// record of it.
func decisionOf(tx Tx, s *SignIn) (string, error) {
	document, err := tx.Get(bucketRecords, recordKey(s.Decision))
	if err != nil {
		return "", err
	}
	var r Record
	if json.Unmarshal(document, &r) != nil || r.SignIn != s.ID || r.Statement == "" {
		return "", fmt.Errorf("%w: the record of who allowed the sign-in %s is damaged: restore the latest backup", ErrStoreFailed, s.ID)
	}
	return r.Statement, nil
}

// admit makes the grant and the receipt for a sign-in whose code is used up.
func (b *Broker) admit(s *SignIn, v *verification, now time.Time) (Admission, error) {
	civil := b.civil(now) // the application has a clock of its own
	grant, err := statement.Sign(b.secrets.signing, statement.Grant{
		Acr:      v.acr,
		Amr:      v.amr(),
		Aud:      s.Application,
		AuthTime: civil.Unix(),
		Exp:      civil.Add(grantLifetime).Unix(),
		Iat:      civil.Unix(),
		Iss:      b.deployment,
		Jti:      strings.ToLower(rand.Text()),
		SignInID: s.ID,
		Sub:      s.Account,
	})
	if err != nil {
		return Admission{}, fmt.Errorf("signing the grant: %w", err)
	}
	admission := Admission{
		Grant:      grant,
		Receipt:    Receipt{Device: v.matched.ID, ApprovalKey: v.matched.ApprovalKey},
		CodeLength: code.Digits,

		RequesterToken:   v.requesterToken,
		RequesterExpires: v.requesterExpires,
	}
	switch v.acr {
	case acrCode:
		admission.Receipt.Statement = v.decision
	case acrRequested:
		admission.Receipt.Statement = v.requested.Statement
	case acrOffline:
		admission.CodeLength = code.OfflineDigits
	}
	return admission, nil
}

// amr returns the methods of RFC 8176 that were used. For an offline code there
// is one: no key has signed and nothing shows that the person pressed anything
// (no hwk, swk or user), and the code was carried by the person, not by another
// channel (no mca).
func (v *verification) amr() []string {
	switch {
	case v.acr == acrOffline:
		return []string{"otp"}
	case v.matched.KeyStorage == "tpm":
		return []string{"hwk", "user", "otp", "mca"}
	}
	return []string{"swk", "user", "otp", "mca"}
}
