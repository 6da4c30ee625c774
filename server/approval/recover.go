package approval

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/countersignd/countersign/internal/recovery"
)

// Refused recovery codes are counted for the source that they come from, and
// not for the account: 80 bits are not guessed, so a count for the account would
// protect nothing, and would let a stranger who knows its name close the last way
// in of an owner who has lost all her devices. It would also tell which accounts exist.
const (
	maxRecoveryTries   = 5 // of a source, in recoveryWindow
	recoveryWindow     = 24 * time.Hour
	maxRecoverySources = 4096 // that are remembered; the oldest go
)

// Recovering is a request to be trusted for a recovery code, or, with neither
// statement nor code, to go on with one that was made before with the same key.
type Recovering struct {
	Device    string // key id of the TLS client key
	Statement string // countersign-enrollment+jws that names account and code
	Code      string // as it was typed
	Address   string // where it came from
}

// A Recovery is what came of a [Recovering].
type Recovery struct {
	Device    Device // trusted, or waiting until TrustFrom
	CodesLeft int
}

// RecoverDevice turns nothing into a device and uses up a recovery code in one
// transaction. It does not tell an account that does not exist, or is suspended,
// from a code that is wrong, used or void: the answer is the same, after the same
// kind of transaction.
//
// If there is a waiting time, the device is not trusted before it is over, and
// then only when it calls again; until then any trusted device can revoke it.
func (b *Broker) RecoverDevice(ctx context.Context, in Recovering) (Recovery, error) {
	if in.Statement == "" && in.Code == "" {
		return b.resumeRecovery(ctx, in)
	}
	e, candidate, err := b.announced(in.Device, in.Statement)
	if err != nil {
		return Recovery{}, err
	}
	code, err := recovery.Parse(in.Code)
	if err != nil {
		return Recovery{}, invalidField("recovery_code", "%v", err)
	}
	hash := recovery.Hash(e.Account, code)
	if e.Recovery != hash {
		return Recovery{}, refuse(ReasonStatementMismatch, "The statement was signed for another recovery code.")
	}

	now := b.now()
	source := sourceOf(in.Address)
	var answer Recovery
	var refusal error
	var ring []string
	err = b.update(ctx, func(tx *transaction) error {
		answer, refusal, ring = Recovery{}, nil, nil
		old, err := load[Device](tx, bucketDevices, in.Device)
		if err != nil {
			return err
		}
		if old != nil {
			if old.Recovery != hash || old.ApprovalKey != candidate.ApprovalKey {
				return old.mayRepeat(false)
			}
			answer, ring, err = b.goOn(tx, now, old, in.Address)
			return err
		}
		tries, err := recoveryTries(tx, source, now)
		if err != nil {
			return err
		}
		if len(tries) >= maxRecoveryTries {
			return refuse(ReasonTooManyFailures, "Too many recovery codes from this network address were refused in the last 24 hours, so none is looked at. Try again tomorrow or from another network, or ask an administrator.")
		}
		a, err := load[Account](tx, bucketAccounts, e.Account)
		if err != nil {
			return err
		}
		set, err := b.loadRecovery(tx, e.Account)
		if err != nil {
			return err
		}
		spent := set.find(b.secrets.recoveryHash(e.Account, set.ID, hash))
		if active(a) != nil || spent == nil {
			refusal = refuse(ReasonRecoveryCodeInvalid, "This recovery code is not good for this account: one of the two is mistyped, or the code was used already, or replaced by newer ones. Look at both again, try another code, or ask an administrator.")
			return countRecoveryTry(tx, source, append(tries, now), now)
		}
		if a.Trusted >= b.devices {
			return tooManyDevices(a)
		}
		ring = b.trustedIDs(tx, a.Name, now)
		d := candidate.enrolled(a.Name, Actor{Kind: ActorRecovery}, now)
		d.Recovery = hash
		spent.Used, spent.By = now, d.ID
		if err := save(tx, bucketRecovery, a.Name, set); err != nil {
			return err
		}
		detail := fmt.Sprintf("%d left", set.left())
		if b.recoveryWait > 0 {
			d.State, d.TrustFrom = DeviceWaiting, now.Add(b.recoveryWait)
			detail += "; the device waits until " + d.TrustFrom.UTC().Format(time.RFC3339)
		}
		answer = Recovery{Device: d, CodesLeft: set.left()}
		// Stored before it is enrolled, because the notice of what let it in has
		// its name.
		if err := saveDevice(tx, &d); err != nil {
			return err
		}
		if _, err := record(tx, now, Record{
			Event: EventRecoveryUsed, Actor: Actor{Kind: ActorRecovery}, Account: a.Name, Device: d.ID,
			Address: in.Address, Detail: detail, Statement: d.Enrollment,
		}); err != nil {
			return err
		}
		return addDevice(tx, now, a, &d, in.Address)
	})
	if err != nil {
		return Recovery{}, err
	}
	b.hub.ring(ring)
	return answer, refusal
}

func (b *Broker) resumeRecovery(ctx context.Context, in Recovering) (Recovery, error) {
	now := b.now()
	var answer Recovery
	var ring []string
	err := b.update(ctx, func(tx *transaction) error {
		answer, ring = Recovery{}, nil
		d, err := load[Device](tx, bucketDevices, in.Device)
		if err != nil {
			return err
		}
		if d == nil {
			return refuse(ReasonDeviceUnknown, "This device has handed in no recovery code that was good.")
		}
		answer, ring, err = b.goOn(tx, now, d, in.Address)
		return err
	})
	if err != nil {
		return Recovery{}, err
	}
	b.hub.ring(ring)
	return answer, nil
}

// goOn returns a device that exists as it is, and trusts it if it has waited long
// enough.
func (b *Broker) goOn(tx *transaction, now time.Time, d *Device, address string) (Recovery, []string, error) {
	set, err := b.loadRecovery(tx, d.Account)
	if err != nil {
		return Recovery{}, nil, err
	}
	if d.State != DeviceWaiting {
		return Recovery{*d, set.left()}, nil, d.mayRepeat(true)
	}
	if now.Before(d.TrustFrom) {
		return Recovery{*d, set.left()}, nil, nil
	}
	a, err := load[Account](tx, bucketAccounts, d.Account)
	if err != nil {
		return Recovery{}, nil, err
	}
	if err := active(a); err != nil {
		return Recovery{}, nil, err
	}
	if a.Trusted >= b.devices {
		return Recovery{}, nil, tooManyDevices(a)
	}
	ring := b.trustedIDs(tx, a.Name, now)
	d.State, d.LastSeen = DeviceTrusted, now.Truncate(time.Minute)
	err = admitDevice(tx, now, a, d, address)
	return Recovery{*d, set.left()}, ring, err
}

// sourceOf returns the block of addresses that is one source: an IPv4 address or
// an IPv6 /64. All that is no address is one source, too.
func sourceOf(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return "unknown"
	}
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	block, err := a.Prefix(bits)
	if err != nil {
		return "unknown"
	}
	return block.Addr().String()
}

// recoveryTries returns when codes of the source were refused in the window.
func recoveryTries(tx *transaction, source string, now time.Time) ([]time.Time, error) {
	b, err := tx.Get(bucketRecoveryTries, source)
	if err != nil {
		return nil, err
	}
	var tries []time.Time
	for word := range strings.FieldsSeq(string(b)) {
		if t := parseNanos(word); now.Sub(t) < recoveryWindow {
			tries = append(tries, t)
		}
	}
	return tries, nil
}

// countRecoveryTry stores the tries of a source, and forgets sources: those whose
// newest try is out of the window, and the oldest if there are too many.
func countRecoveryTry(tx *transaction, source string, tries []time.Time, now time.Time) error {
	var over []string
	var oldest string
	var since time.Time
	others := 0
	for key, value := range tx.Ascend(bucketRecoveryTries, "") {
		words := string(value)
		newest := parseNanos(words[strings.LastIndexByte(words, ' ')+1:])
		switch {
		case key == source:
		case now.Sub(newest) >= recoveryWindow:
			over = append(over, key)
		default:
			if others++; oldest == "" || newest.Before(since) {
				oldest, since = key, newest
			}
		}
	}
	if others >= maxRecoverySources {
		over = append(over, oldest)
	}
	for _, key := range over {
		if err := tx.Delete(bucketRecoveryTries, key); err != nil {
			return err
		}
	}
	words := make([]string, len(tries))
	for i, t := range tries {
		words[i] = strconv.FormatInt(t.UnixNano(), 10)
	}
	return tx.Put(bucketRecoveryTries, source, []byte(strings.Join(words, " ")))
}

// parseNanos returns the time that a word says in nanoseconds since 1970, or
// 1970, if it says none.
func parseNanos(word string) time.Time {
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		n = 0
	}
	return time.Unix(0, n)
}
