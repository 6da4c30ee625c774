package approval

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/countersignd/countersign/internal/statement"
)

// claims are what every statement of a trusted device says, whatever it is
// about.
type claims struct {
	deployment, serverKey, account, approvalKey string
	counter                                     uint64
	jws                                         string
}

// verified checks the signature of a statement by the device's approval key,
// and that it was made for this server. It is done before the transaction
// that acts on it, because one signature takes as long as many transactions;
// that transaction asks [claims.accepted] whether the key still counts.
func verified[P statement.Payload](ctx context.Context, b *Broker, device, jws string, read func(P) claims) (P, claims, error) {
	var none P
	var key statement.JWK
	err := b.store.View(ctx, func(tx Tx) error {
		c, _, err := readable(tx, device)
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
	c.jws = jws
	return p, c, b.addressed(c.deployment, c.serverKey)
}

// standing is how a statement's counter stands to those before it.
type standing int

const (
	_      standing = iota
	fresh           // the counter rose
	repeat          // the newest statement, once more: its answer may have been lost
	stale           // the counter did not rise: the statement is replayed, or the key was copied
)

// accepted checks, inside the transaction, that the statement is by the key
// that the device has and about its account, and notes a fresh counter.
// The caller saves the device.
func (c claims) accepted(d *Device) (standing, error) {
	if c.account != d.Account || c.approvalKey != d.ApprovalID {
		return 0, refuse(ReasonStatementMismatch, "The statement names another account or key than this device's.")
	}
	sum := sha256.Sum256([]byte(statement.SigningInput(c.jws)))
	digest := base64.RawStdEncoding.EncodeToString(sum[:])
	switch {
	case c.counter > d.Counter:
		d.Counter, d.Newest = c.counter, digest
		return fresh, nil
	case c.counter == d.Counter && digest == d.Newest:
		return repeat, nil
	}
	return stale, nil
}

// told tells the operator of a counter that did not rise, which is on record
// by now, and returns the refusal, if there is one.
func (b *Broker) told(device string, refusal error) error {
	if refusal != nil {
		b.log.Warn("a statement's counter did not rise: it was replayed, or the device's key was copied", "device", device)
	}
	return refusal
}

// reportStale puts a counter that did not rise on record. It returns the
// refusal for the caller, which must not undo the record.
func reportStale(tx Tx, now time.Time, d *Device, c claims, address string) (refusal, err error) {
	_, err = record(tx, now, Record{
		Event: EventCounterReused, Actor: Actor{Kind: ActorDevice, ID: d.ID}, Account: d.Account, Device: d.ID,
		Address: address, Statement: c.jws,
	})
	return refuse(ReasonCounterReused, "The counter of this statement did not rise. If this device was not restored from a copy, somebody else has its key: revoke the device."), err
}
