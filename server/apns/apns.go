// Package apns wakes devices through Apple's push notification service.
//
// A wake-up says nothing. Its payload is one of two texts that are the same for
// everybody: an alert that asks the person to open the program, or a background
// push with which the program takes the alert away. What is asked, of whom and by
// whom, the device reads from its server. So all that Apple and a lock screen learn
// is that this device was woken, when, until when it is worth delivering, and which
// wake-ups belong to the same sign-in.
//
// A [Waker] tries once; retries and queues are the caller's. It holds one connection
// and one provider token, as Apple asks for. github.com/sideshow/apns2 writes the
// requests, and this package keeps from it what it would let through: an address
// that is no token, a push without an end, a key that signs nothing, and answers in
// other words than Apple's.
package apns

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/token"

	"github.com/countersignd/countersign/server/approval"
)

// The environments.
const (
	Production = "production" // what the App Store and TestFlight install
	Sandbox    = "sandbox"    // what Xcode installs
)

// Config is what APNs knows this server by. Nothing has a default.
type Config struct {
	Key         []byte // the .p8 file that Apple hands out: a P-256 key in PKCS#8 and PEM
	KeyID       string // the ten characters that Apple shows with the key
	Team        string // the ten characters of the team's membership
	Topic       string // the bundle ID of the program that is woken
	Environment string // [Production] or [Sandbox]

	// Endpoint is an https URL of a host that stands in for the environment's: a
	// gateway, or a test's. Empty means Apple's own.
	Endpoint string

	// Roots are what the host's certificate is checked with; nil means the system's.
	Roots *x509.CertPool
}

// A Waker is an [approval.Waker] for APNs.
type Waker struct {
	topic   string
	client  *apns2.Client
	timeout time.Duration // of one try

	slots chan struct{} // holds one for each push under way
	first chan struct{} // holds one while a push is under way that APNs may not know us by
	line  lineState

	renewed time.Time // when a token was last made because one was refused; the token's lock guards it
}

var _ approval.Waker = (*Waker)(nil)

// New returns a waker. Its errors are sentences for the administrator. It uses no
// network: see [Waker.Probe].
func New(c Config) (*Waker, error) {
	key, err := parseKey(c.Key)
	if err != nil {
		return nil, err
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	w := &Waker{
		topic:   c.Topic,
		timeout: pushTimeout,
		slots:   make(chan struct{}, maxPushes),
		first:   make(chan struct{}, 1),
	}
	transport := newTransport(c.Roots, &w.line)
	w.client = &apns2.Client{
		Host:       c.host(),
		Token:      &token.Token{AuthKey: key, KeyID: c.KeyID, TeamID: c.Team},
		HTTPClient: &http.Client{Transport: &listener{transport}, CheckRedirect: noRedirect},
	}
	// Apns2 has no answer to a key that cannot sign but to push without a token.
	if _, err := w.client.Token.Generate(); err != nil {
		return nil, fmt.Errorf("the APNs key signs nothing: %w; download it from Apple again", err)
	}
	return w, nil
}

var (
	tenCharacters = regexp.MustCompile(`^[A-Z0-9]{10}$`)
	bundleID      = regexp.MustCompile(`^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$`)
)

// Check refuses settings that cannot be right, whatever the key is. [New] does it,
// too.
func (c Config) Check() error {
	switch {
	case !tenCharacters.MatchString(c.KeyID):
		return fmt.Errorf("the APNs key id is %q, want the ten capital letters and digits that Apple shows with the key", c.KeyID)
	case !tenCharacters.MatchString(c.Team):
		return fmt.Errorf("the APNs team is %q, want the ten capital letters and digits of the team ID in Apple's membership details", c.Team)
	case !bundleID.MatchString(c.Topic) || len(c.Topic) > 155:
		return fmt.Errorf("the APNs topic is %q, want the bundle ID of the program on the devices, such as org.example.countersign", c.Topic)
	case c.Environment != Production && c.Environment != Sandbox:
		return fmt.Errorf("the APNs environment is %q, want %s (for a program from the App Store or TestFlight) or %s (from Xcode)", c.Environment, Production, Sandbox)
	case c.Endpoint == "":
		return nil
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("the APNs endpoint is %q, want https:// and a host, such as %s, or nothing for Apple's own", c.Endpoint, apns2.HostProduction)
	}
	return nil
}

func (c Config) host() string {
	switch {
	case c.Endpoint != "":
		return strings.TrimRight(c.Endpoint, "/")
	case c.Environment == Production:
		return apns2.HostProduction
	}
	return apns2.HostDevelopment
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	const again = "; give the file AuthKey_….p8 as Apple handed it out"
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, errors.New("the APNs key is not one private key in PEM" + again)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the APNs key is not a P-256 key in PKCS#8" + again)
	}
	return key, nil
}

// A deviceToken is written into a URL as it is. Apple says of its length that it
// varies; so far tokens have 32 bytes, and those of some services 80 and more.
var deviceToken = regexp.MustCompile(`^([0-9a-f]{2}){4,100}$`)

// Check implements [approval.Waker].
func (w *Waker) Check(to approval.PushAddress) error {
	if !deviceToken.MatchString(to.Token) {
		return errors.New("a device's token at APNs is its bytes in lower-case hexadecimal, 8 to 200 digits")
	}
	return nil
}

// What a wake-up says, to everybody. The text is a key of the program's
// Localizable.strings, and is shown as it is by a program that does not translate
// it. With mutable-content a program that brings a notification service extension
// can tell its server that the wake-up came, and ask it what to show.
//
// No category is named: the buttons of one would decide without the prompt.
const (
	payloadAsked = `{"aps":{"alert":{"loc-key":"Open Countersign to see what is asked."},` +
		`"interruption-level":"time-sensitive","mutable-content":1,"sound":"default"}}`
	payloadOver = `{"aps":{"content-available":1}}`
)

// maxTopic is how long an apns-collapse-id may be, in bytes.
const maxTopic = 64

// Wake implements [approval.Waker].
func (w *Waker) Wake(ctx context.Context, to approval.PushAddress, wakeup approval.Wakeup) error {
	switch {
	case w.Check(to) != nil:
		return &approval.WakeError{Verdict: approval.WakeDead, Why: "APNs: what is registered is not a device's token"}
	case wakeup.Topic == "" || len(wakeup.Topic) > maxTopic:
		return refusal("APNs: a wake-up's topic must have 1 to 64 bytes")
	case wakeup.Expires.Unix() <= 0:
		// Apns2 would leave the header out, and Apple would keep the push for weeks.
		return refusal("APNs: a wake-up must have an end")
	case !wakeup.Over && !time.Now().Before(wakeup.Expires):
		return refusal("APNs: the prompt has ended")
	}
	return w.push(ctx, w.notification(to, wakeup))
}

func refusal(why string) error {
	return &approval.WakeError{Verdict: approval.WakeRefused, Why: why}
}

// notification writes a wake-up. An alert has priority 10, which is at once; a
// background push must have 5, or APNs refuses it.
func (w *Waker) notification(to approval.PushAddress, wakeup approval.Wakeup) *apns2.Notification {
	n := &apns2.Notification{
		DeviceToken: to.Token,
		Topic:       w.topic,
		CollapseID:  wakeup.Topic,
		Expiration:  wakeup.Expires,
		PushType:    apns2.PushTypeAlert,
		Priority:    apns2.PriorityHigh,
		Payload:     payloadAsked,
	}
	if wakeup.Over {
		n.PushType, n.Priority, n.Payload = apns2.PushTypeBackground, apns2.PriorityLow, payloadOver
	}
	return n
}

// Probe asks APNs whether it takes what this server pushes, with a background push
// to a device that does not exist. It returns nil if the device is all that APNs
// finds fault with, and else what [Waker.Wake] would return: with
// [approval.WakeBroken], an administrator must mend something first.
func (w *Waker) Probe(ctx context.Context) error {
	nobody := approval.PushAddress{Token: strings.Repeat("0", 64)}
	err := w.push(ctx, w.notification(nobody, approval.Wakeup{Topic: "probe", Expires: time.Now(), Over: true}))
	if refused, ok := errors.AsType[*approval.WakeError](err); ok && refused.Verdict == approval.WakeDead {
		return nil
	}
	return err
}
