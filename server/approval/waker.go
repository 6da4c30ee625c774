package approval

import (
	"context"
	"fmt"
	"time"
)

// A PushService is a way to wake a device that has no open stream.
type PushService string

// The push services.
const (
	PushAPNs    PushService = "apns"
	PushWebPush PushService = "web_push"
)

// A Waker wakes devices through one push service, so that they open their
// stream and read what they must show. A wake-up names no account, no application
// and nobody who asks; that it came is all it says.
//
// Methods may be called from many goroutines at the same time.
type Waker interface {
	// Check refuses an address that the service can never reach, before it is
	// registered. The error's text is for whoever wrote the device's program. It
	// uses no network.
	Check(PushAddress) error

	// Wake hands the service one wake-up and returns what it answered: nil means
	// that it was taken, which says nothing of its arrival. It tries once, and
	// returns soon after ctx ends. Every other error than those of ctx is a
	// [*WakeError].
	Wake(ctx context.Context, to PushAddress, w Wakeup) error
}

// A PushAddress is where a push service finds a device: what the device
// registered. It is a secret of the device and appears in no log.
type PushAddress struct {
	// Token is a device's token at APNs, in lower-case hexadecimal; empty for
	// other services.
	Token string `json:",omitzero"`

	// Endpoint is the URL of a Web Push subscription (RFC 8030, 4), P256DH its
	// public key as an uncompressed point, and Auth its authentication secret
	// (RFC 8291, 2); empty for other services.
	Endpoint string `json:",omitzero"`
	P256DH   []byte `json:",omitempty"`
	Auth     []byte `json:",omitempty"`
}

// String keeps the address out of logs.
func (PushAddress) String() string { return "push address (redacted)" }

// GoString likewise.
func (PushAddress) GoString() string { return "push address (redacted)" }

// A Wakeup is one push.
type Wakeup struct {
	// Topic is the id of the sign-in or test prompt. A newer wake-up of the same
	// topic takes the place of an older one on the device.
	Topic string

	// Expires is when the prompt ends, by the machine's clock: afterwards it must
	// not be delivered.
	Expires time.Time

	// Over means that there is nothing to answer any more: what an earlier
	// wake-up of the topic put on the screen can go. It must disturb nobody.
	Over bool
}

// A WakeVerdict says what follows from a push that was not taken.
type WakeVerdict int

// The verdicts. In the zero value this push has failed, and that is all.
const (
	WakeRefused WakeVerdict = iota // not this one; another may be taken
	WakeLater                      // the same may be taken later
	WakeDead                       // the registration is no more
	WakeBroken                     // the service refuses this server until an operator mends something
)

// A WakeError is why a push was not taken.
type WakeError struct {
	Verdict WakeVerdict

	// Why is a phrase for the device's owner and the administrator, which names
	// the service and what it said, without an address or a token: "APNs:
	// Unregistered".
	Why string

	// Advice says what an administrator can do about it, or nothing; like Why it
	// holds no address and no token.
	Advice string

	// After is how long the service asked to wait at least, with WakeLater; 0 if
	// it did not say.
	After time.Duration

	// Since is when the registration ceased to be, by the machine's clock, with
	// WakeDead: one that is newer is another, and alive. Zero if the service did not
	// say.
	Since time.Time

	Err error // what is behind it, if anything; it may name the address
}

func (e *WakeError) Error() string {
	words := e.Why
	if e.Advice != "" {
		words += ": " + e.Advice
	}
	if e.Err != nil {
		words += fmt.Sprintf(": %v", e.Err)
	}
	return words
}

func (e *WakeError) Unwrap() error { return e.Err }
