package approval

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"time"

	"github.com/countersignd/countersign/internal/statement"
)

// claims are what every statement of a trusted device says, whatever it is
// about.
type claims struct {
	deployment, serverKey, account, approvalKey string
	counter                                     uint64

	jws    string // the statement; set by verified
	digest string // names what the statement signed; set by verified
}

// verified checks the signature of a statement by the device's approval key,
// and that it was made for this server. It is done before the transaction
// that acts on it, because one signature takes as long as many transactions;
// that transaction asks [claims.accepted] whether the key still counts.
func verified[P statement.Payload](ctx context.Context, b *Broker, device, jws string, read func(P) claims) (P, claims, error) {
	var none P
	var key statement.JWK
	now := b.now()
	err := b.view(ctx, func(tx *transaction) error {
		c, _, err := b.lookAtReadable(tx, device, now)
		if err != nil {
			return err
		}
		key = c.device.ApprovalKey
		return nil
	})
	if err != nil {
		return none, claims{}, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return none, claims{}, err
	}
	p, err := statement.Verify[P](public, device, jws)
	if err != nil {
		return none, claims{}, asStatementError(err)
	}
	c := read(p)
	sum := sha256.Sum256([]byte(statement.SigningInput(jws)))
	c.jws, c.digest = jws, base64.RawStdEncoding.EncodeToString(sum[:])
	return p, c, b.addressed(c.deployment, c.serverKey)
}

// standing is how a statement's counter stands to those before it.
type standing int

const (
	_        standing = iota
	fresh             // the counter rose
	repeat            // the newest statement, once more: its answer may have been lost
	outdated          // the counter did not rise: the statement is replayed, or the key was copied
)

// accepted checks, inside the transaction, that the statement is by the key
// that the device has and about its account, and notes a fresh counter.
// The caller saves the device.
func (c claims) accepted(d *Device) (standing, error) {
	if c.account != d.Account || c.approvalKey != d.ApprovalID {
		return 0, refuse(ReasonStatementMismatch, "The statement names another account or key than this device's.")
	}
	switch {
	case c.counter > d.Counter:
		d.Counter, d.Newest = c.counter, c.digest
		return fresh, nil
	case c.counter == d.Counter && c.digest == d.Newest:
		return repeat, nil
	}
	return outdated, nil
}

// stale is what was put on record of a device's outdated statements: each
// once, and so many in an hour, so that who holds the key cannot fill the disk.
type stale struct {
	Digest string      // of the newest
	Noted  []time.Time // in the last hour
}

const maxStalePerHour = 5

// noteOutdated puts a counter that did not rise on record. A key that is used
// in two places shows in this way, whoever of the two is refused.
// It returns whom to tell, if it did, for [Broker.warnCopied] after the commit.
func (b *Broker) noteOutdated(tx *transaction, now time.Time, d *Device, c claims, address string) (warn []string, err error) {
	d.Stale.Noted = slices.DeleteFunc(d.Stale.Noted, func(t time.Time) bool { return now.Sub(t) >= time.Hour })
	if c.digest == d.Stale.Digest || len(d.Stale.Noted) >= maxStalePerHour {
		return nil, nil
	}
	d.Stale.Digest = c.digest
	d.Stale.Noted = append(d.Stale.Noted, now)
	if _, err := record(tx, now, Record{
		Event: EventCounterReused, Actor: Actor{Kind: ActorDevice, ID: d.ID}, Account: d.Account, Device: d.ID,
		Address: address, Statement: c.jws,
	}); err != nil {
		return nil, err
	}
	return b.trustedIDs(tx, d.Account, now), saveDevice(tx, d)
}

// warnCopied tells the operator and the account's devices what noteOutdated has
// put on record.
func (b *Broker) warnCopied(warn []string, device string) {
	if len(warn) > 0 {
		b.hub.ring(warn)
		b.log.Warn("a statement's counter did not rise: it was replayed, or the device's key was copied", "device", device)
	}
}

// What the device is told of an outdated statement. Denying and revoking take
// effect nevertheless: they let nobody in, and whoever copied the key must not
// be able to keep its owner from them by running ahead.
var (
	errOutdated = refuse(ReasonCounterReused, "The counter of this statement did not rise. If this device was not restored from a copy, somebody else has its key: revoke the device.")
	errCopied   = refuse(ReasonCounterReused, "This was done. But the counter did not rise: if this device was not restored from a copy, somebody else has its key: revoke the device.")
)
