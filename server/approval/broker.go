package approval

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
)

// Config is what a [Broker] is made of. Store, Secrets and ServerKey are
// required.
type Config struct {
	Store   Store
	Secrets *Secrets

	// ServerKey is the key id of the server's TLS key. Statements name the
	// key that the device saw, so that one made for a connection to somebody
	// else is refused.
	ServerKey string

	// DevicesPerAccount is how many trusted devices an account may have: 0
	// means 20, and 100 is the most.
	DevicesPerAccount int

	// Outside is the number by which an old backup of the store is known; nil
	// means that it is not known.
	Outside *Outside

	// AcceptClock makes Open take the machine's clock for right if it is behind
	// the time that the store knows of, rather than go on from there.
	AcceptClock bool

	// Full reports whether the disk is nearly full, so that nothing new may be
	// begun. It is called often. Nil means that the disk is never full.
	Full func() bool

	// RecoveryWait is how long a device that was enrolled with a recovery code
	// waits before it may be trusted: 0 is not at all, and 7 days is the most.
	RecoveryWait time.Duration

	// Wakers wake devices that have no open stream, by service; a device can
	// register for these only. It may be empty.
	Wakers map[PushService]Waker

	// Observe is told what happens, to count it.
	Observe Observe

	// Log is told what an operator must know; nil means slog.Default().
	Log *slog.Logger

	wall func() time.Time // a machine's clock for tests
}

const (
	defaultDevices        = 20
	maxDevices            = 100
	requestedCodeLifetime = 5 * time.Minute // of a code without a prompt
	grantLifetime         = 2 * time.Minute
	invitationLifetime    = 10 * time.Minute // NIST SP 800-63B-4, 4.1.2.2
	maxInvitationLifetime = 24 * time.Hour
	maxRecoveryWait       = 7 * 24 * time.Hour
)

// A Broker carries out every operation: each is one transaction that checks
// the caller, the state and the counters, writes, and appends to the record.
// Only after the commit does it ring who watches and return what may be shown.
//
// A Broker may be used from many goroutines.
type Broker struct {
	store        Store
	secrets      *Secrets
	serverKey    string
	devices      int // that an account may have
	recoveryWait time.Duration
	log          *slog.Logger
	hub          *hub
	deployment   string
	checkpoints  checkpoints
	restored     time.Time // when the store was last restored from a backup; zero if never
	clock        *clock
	marked       time.Time // when the time was last written down; owned by Open, then by KeepTime
	full         func() bool
	outside      *Outside
	waking       *waking
	deliveries   deliveries
	observe      Observe

	generationMu      sync.Mutex // held by NextGeneration
	generation        uint64     // of the store
	outsideGeneration uint64     // what is known to be outside
}

// Open returns a Broker on the store. In an empty store it makes the
// deployment id; one that was restored from a backup, or whose time the clock
// is far behind of, it puts in order first: see wake.go.
func Open(ctx context.Context, c Config) (*Broker, error) {
	if c.Store == nil || c.Secrets == nil || !pin.ValidKeyID(c.ServerKey) {
		return nil, errors.New("a Broker needs a store, secrets and the id of the server's key")
	}
	devices := cmp.Or(c.DevicesPerAccount, defaultDevices)
	if devices < 1 || devices > maxDevices {
		return nil, fmt.Errorf("the number of devices per account is %d, want 1 to %d", devices, maxDevices)
	}
	if c.RecoveryWait < 0 || c.RecoveryWait > maxRecoveryWait {
		return nil, fmt.Errorf("the waiting time after a recovery is %v, want 0 to %v", c.RecoveryWait, maxRecoveryWait)
	}
	b := &Broker{
		store: c.Store, secrets: c.Secrets, serverKey: c.ServerKey,
		devices: devices, recoveryWait: c.RecoveryWait, log: c.Log, hub: newHub(),
		full: c.Full, outside: c.Outside, deliveries: deliveries{news: newDeliveryNews()}, observe: c.Observe.withDefaults(),
	}
	b.hub.read = b.read
	var err error
	if b.waking, err = newWaking(c.Wakers); err != nil {
		return nil, err
	}
	if b.log == nil {
		b.log = slog.Default()
	}
	if b.full == nil {
		b.full = func() bool { return false }
	}
	if err := b.wake(ctx, c); err != nil {
		return nil, err
	}
	if !statement.ValidDeployment(b.deployment) {
		return nil, fmt.Errorf("%w: the deployment id is damaged", ErrStoreFailed)
	}
	// Nothing can be done without the tree, so this is found out now.
	if _, _, err := b.Checkpoint(ctx); err != nil {
		return nil, fmt.Errorf("reading the record: %w", err)
	}
	return b, nil
}

// Deployment returns the deployment id: 130 random bits made at the first
// start, as 26 characters. It is the audience of every statement and the
// issuer of every grant.
func (b *Broker) Deployment() string { return b.deployment }

// ServerKey returns the key id of the server's TLS key.
func (b *Broker) ServerKey() string { return b.serverKey }

// SigningKey returns the public key that verifies grants and checkpoints, and its
// key id.
func (b *Broker) SigningKey() (keyID string, key statement.JWK) {
	return b.secrets.signingID, b.secrets.signingJWK
}

// WatchDevice opens a [Watch] for [Broker.WatchedScreen]. A device has one; the
// newest wins.
func (b *Broker) WatchDevice(device string) *Watch { return b.hub.watchDevice(device) }

// RingDevices makes every Watch of a device return from waiting, for a server
// that stops.
func (b *Broker) RingDevices() { b.hub.ringDevices() }

// WatchSignIn opens a [Watch] for what [Broker.SignIn] returns.
func (b *Broker) WatchSignIn(id string) *Watch { return b.hub.watchSignIn(id) }

// Connected reports whether the device has a Watch open.
func (b *Broker) Connected(device string) bool { return b.hub.connected(device) }

// ConnectedDevices returns how many devices have a Watch open.
func (b *Broker) ConnectedDevices() int { return b.hub.connectedDevices() }

// RecordSize returns how many records there are.
func (b *Broker) RecordSize(ctx context.Context) (size uint64, err error) {
	err = b.view(ctx, func(tx *transaction) error {
		size, err = recordCount(tx)
		return err
	})
	return size, err
}

// caller is a device that calls, with its account, as one transaction sees
// them.
type caller struct {
	device  *Device
	account *Account
}

// loadCaller returns the device and its account, either of which may be nil.
func loadCaller(tx *transaction, device string) (caller, error) {
	return readCaller(tx, device, load[Device], load[Account])
}

func readCaller(tx *transaction, device string, readDevice reader[Device], readAccount reader[Account]) (caller, error) {
	d, err := readDevice(tx, bucketDevices, device)
	if err != nil || d == nil {
		return caller{}, err
	}
	a, err := readAccount(tx, bucketAccounts, d.Account)
	return caller{device: d, account: a}, err
}

// trusted returns the calling device if [Broker.mayApprove] says that it counts.
func (b *Broker) trusted(tx *transaction, device string, now time.Time) (caller, error) {
	c, err := loadCaller(tx, device)
	if err != nil {
		return caller{}, err
	}
	return c, b.mayApprove(c.account, c.device, now)
}

// readable is like trusted but lets the device of a suspended account in: it
// may look at its list, and may always revoke. There is nothing to deny then.
func (b *Broker) readable(tx *transaction, device string, now time.Time) (c caller, suspended bool, err error) {
	c, err = b.trusted(tx, device, now)
	suspended, err = letSuspended(err)
	return c, suspended, err
}

// lookAtReadable is readable for a caller that is only looked at: nobody may change it.
func (b *Broker) lookAtReadable(tx *transaction, device string, now time.Time) (c caller, suspended bool, err error) {
	if c, err = readCaller(tx, device, look[Device], look[Account]); err != nil {
		return caller{}, false, err
	}
	suspended, err = letSuspended(b.mayApprove(c.account, c.device, now))
	return c, suspended, err
}

// letSuspended takes nothing amiss of what [Broker.mayApprove] says but that the
// account is suspended.
func letSuspended(err error) (suspended bool, _ error) {
	if errors.Is(err, &Error{Reason: ReasonAccountSuspended}) {
		return true, nil
	}
	return false, err
}

// devicesOf returns the devices of an account, revoked ones too, oldest first.
func devicesOf(tx *transaction, account string) ([]Device, error) {
	var devices []Device
	for key := range tx.Ascend(bucketDevicesOf, account+"/") {
		d, err := load[Device](tx, bucketDevices, key[len(account)+1:])
		if err != nil {
			return nil, err
		}
		if d != nil {
			devices = append(devices, *d)
		}
	}
	sortDevices(devices)
	return devices, nil
}

// trustedIDs returns the ids of the trusted devices of an account.
func (b *Broker) trustedIDs(tx *transaction, account string, now time.Time) []string {
	var ids []string
	for d := range standings(tx, account) {
		if d.At(now, b.restored) == DeviceTrusted {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

// nobodyToAsk says why an account has no trusted device.
func (b *Broker) nobodyToAsk(tx *transaction, account string, now time.Time) error {
	for d := range standings(tx, account) {
		switch d.At(now, b.restored) {
		case DeviceUnconfirmed:
			return refuse(ReasonNoTrustedDevice, "The server was restored from a backup, and no device of the account %s was confirmed since, so none can be asked. An administrator must confirm one.", account)
		case DeviceDormant:
			return refuse(ReasonNoTrustedDevice, "No device of the account %s was seen for 90 days, so none counts and none can be asked. Its owner must ask an administrator to readmit one, or enrol one.", account)
		}
	}
	return refuse(ReasonNoTrustedDevice, "The account %s has no trusted device that could be asked. Its owner must enrol one first.", account)
}

// asStatementError turns an error of package statement into a refusal.
func asStatementError(err error) error {
	if errors.Is(err, statement.ErrInvalid) {
		return refuse(ReasonStatementInvalid, "The signed statement was refused: %v.", err)
	}
	return err
}
