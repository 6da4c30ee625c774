// Package agent is the device's side of Countersign: it enrols a device, watches
// for prompts, asks the person, and signs the answer. Programs that face the
// person, in a terminal or a window, are built on it.
//
// # What it sees to
//
//   - Keys, counter and state are durable before anybody relies on them (state.go).
//   - A prompt is shown as the bytes that came say, and these bytes are signed. What
//     does not parse, is for another account, or asks for something this version
//     cannot show is not shown and cannot be allowed; the status says so.
//   - Nothing is decided here. Only [Agent.Answer] decides, and it is called
//     because a person did something.
//   - There is one statement under way at a time, so that the server sees
//     the counters rise, and it is the same bytes however often it has to be sent.
//   - What to do about an error is in one table ([ReactionTo]).
//
// # What it does not
//
// It keeps nothing secret from other programs of the same user, and it does not
// set this device's clock; it only remembers how wrong it is. It trusts the server for what is asked and when,
// and for nothing else: without a signature of this device nobody gets in with it.
package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/countersignd/countersign/device-agent/keystore"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// A Prompter shows the person what there is to decide.
type Prompter interface {
	// Show is told everything that is to be shown now; it replaces what was
	// shown before. It is called from one goroutine, and soon returns. What
	// is on the screen then, the Prompter tells [Agent.PromptsShown]; what
	// the person answers, it hands to [Agent.Answer], later and on
	// a goroutine of its own.
	Show(Screen)
}

// A Screen is all that is to be shown at one moment.
//
// Prompts and codes end at their time also if no further Screen says so, as when
// the connection is lost: who shows them looks at the clock.
type Screen struct {
	Prompts   []Prompt // that can be answered: first those that ring, then the silent ones; oldest first
	Codes     []Code   // that this device has earned and that are good still, oldest first
	Suspended bool     // the account is suspended, and nothing can be answered
	Connected bool     // the server answers; if not, nobody is asked here
	Barred    string   // why this device does not count at present, in the server's words, or ""
	Status    string   // one line: the connection, and what is wrong
	Record    string   // what is wrong with the server's record of what happened, or ""

	// Tests are test prompts, to be shown behind all prompts and taken for none.
	// Who has put one away says so: [Agent.TestSeen].
	Tests []TestPrompt

	// Notices are what happened to the account and was not shown on this
	// device yet, oldest first. Who has shown them says so: [Agent.NoticesShown].
	// All names and details are somebody else's words.
	Notices []*countersignv1.Notice
}

// A Prompt is a question to the person. The embedded fields are what exactly the
// signed bytes say. All texts but the application's name are a stranger's
// words: show them through text.Isolate.
type Prompt struct {
	statement.Prompt

	// Silent is whether it must ring nobody: the account was asked too often
	// lately, or such a request was said not to be the person. Show it behind
	// the others, without a bell and without taking the screen, and say so. The
	// server says this; it is not signed.
	Silent bool

	// Rings is how often it has rung. When it rises while the prompt is shown,
	// somebody asked again: ring again, and say so. The server says this; it is
	// not signed.
	Rings int

	document []byte        // as it came
	ahead    time.Duration // of this device's clock against the server's
}

// Same reports whether both are the very same question: the same bytes.
func (p Prompt) Same(other Prompt) bool {
	return p.SignIn == other.SignIn && bytes.Equal(p.document, other.document)
}

// ExpireTime returns when the prompt ends, by this device's clock, right or wrong.
func (p Prompt) ExpireTime() time.Time { return time.Unix(p.Expires, 0).Add(p.ahead) }

// A Code lets a sign-in in. It is for the eyes of the person only.
type Code struct {
	Prompt     Prompt    // that was allowed
	Digits     string    // six decimal digits
	ExpireTime time.Time // when it stops being good, by this device's clock
}

// An Agent acts for one trusted device. Its methods may be called at the same
// time.
type Agent struct {
	dir         string
	state       State
	keys        *keystore.Keys
	certificate tls.Certificate
	approvalKey string // key id

	dialer func(context.Context, string) (net.Conn, error) // nil: TCP; for tests
	clocks func() clocks

	// signing holds one token while a statement is under way.
	signing chan struct{}
	// bell has one slot; it is rung when the screen may have changed.
	bell chan struct{}
	// reports has one slot; it is filled when there may be something to report.
	reports chan struct{}
	// showings has one slot: what the stream last said of the server's record.
	showings chan showing

	mu       sync.Mutex
	conn     *Conn              // of the stream that stands; nil while there is none
	up       chan struct{}      // closed while conn is not nil
	latest   set                // what the stream said last
	answered map[string]*answer // by sign-in id: what this process answered
	// stages say, by the ids of the prompts and test prompts in latest, how far
	// each has come here.
	stages map[string]countersignv1.DeliveryStage
	status string
	barred string // what Screen.Barred says
	shown  mark   // up to which notice was shown

	recordTrouble string // what is wrong with the server's record, or ""
}

// Open makes an Agent for the trusted device in dir. The error wraps
// [ErrNotEnrolled] if there is none or its enrolment is not finished, [ErrLost] if
// its keys or its counter are gone, and the errors of [keystore.Open] if its keys cannot
// be used. The keys may be in one of the vaults. Open does not use the network. The
// Agent needs no closing; what it opens, [Agent.Run] closes.
func Open(dir, passphrase string, vaults ...keystore.Vault) (*Agent, error) {
	state, err := LoadState(dir)
	if err != nil {
		return nil, err
	}
	if state.Phase != Trusted {
		return nil, &explained{"the enrolment that was begun in " + dir + " is not finished: run countersign-agent enroll again, alone", ErrNotEnrolled}
	}
	if err := whole(dir, state); err != nil {
		return nil, err
	}
	keys, err := openKeys(dir, passphrase, vaults)
	if err != nil {
		return nil, err
	}
	return newAgent(dir, state, keys)
}

func newAgent(dir string, state State, keys *keystore.Keys) (*Agent, error) {
	device, err := pin.KeyID(keys.Identity.Public())
	if err != nil {
		return nil, fmt.Errorf("looking at the identity key: %w", err)
	}
	if device != state.Device {
		return nil, fmt.Errorf("%s: the keys are not those of the device that %s names: restore both from one backup, or move it away and enrol this device anew", dir, stateName)
	}
	approvalKey, err := pin.KeyID(keys.Approval.Public())
	if err != nil {
		return nil, fmt.Errorf("looking at the approval key: %w", err)
	}
	certificate, err := pin.Certificate(keys.Identity, "countersign device")
	if err != nil {
		return nil, err
	}
	shown, err := readMark(dir)
	if err != nil {
		return nil, err
	}
	return &Agent{
		dir:         dir,
		state:       state,
		keys:        keys,
		certificate: certificate,
		approvalKey: approvalKey,
		clocks:      readClocks,
		signing:     make(chan struct{}, 1),
		bell:        make(chan struct{}, 1),
		reports:     make(chan struct{}, 1),
		showings:    make(chan showing, 1),
		up:          make(chan struct{}),
		answered:    make(map[string]*answer),
		shown:       shown,
	}, nil
}

// State returns what is known of this device without the network.
func (a *Agent) State() State { return a.state }

// Self asks the server what it thinks of this device.
func (a *Agent) Self(ctx context.Context) (*countersignv1.GetSelfResponse, error) {
	conn, done, err := a.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	self, err := countersignv1.NewDeviceServiceClient(conn).GetSelf(ctx, &countersignv1.GetSelfRequest{})
	if err != nil {
		return nil, a.explain(conn, err)
	}
	if err := a.checkSelf(self); err != nil {
		return nil, err
	}
	a.noteClock(clockAhead(self.GetServerTime(), time.Now()))
	return self, nil
}

// checkSelf refuses an answer that is about another device than this one.
func (a *Agent) checkSelf(self *countersignv1.GetSelfResponse) error {
	if self.GetDeploymentId() != a.state.Deployment {
		return errors.New("the server belongs to another deployment than the one this device was enrolled in: ask the administrator")
	}
	if d := self.GetDevice(); d.GetId() != a.state.Device || d.GetApprovalKeyId() != a.approvalKey {
		return errors.New("the server knows this device with other keys than it has: ask the administrator to revoke it, and enrol it anew")
	}
	return nil
}

// Devices returns the devices of this device's account, revoked ones included,
// oldest first.
func (a *Agent) Devices(ctx context.Context) ([]*countersignv1.Device, error) {
	conn, done, err := a.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	list, err := countersignv1.NewDeviceServiceClient(conn).ListDevices(ctx, &countersignv1.ListDevicesRequest{})
	if err != nil {
		return nil, a.explain(conn, err)
	}
	return list.GetDevices(), nil
}

// borrow returns the connection of the stream, or a new one if there is none.
func (a *Agent) borrow() (conn *Conn, done func(), err error) {
	a.mu.Lock()
	conn = a.conn
	a.mu.Unlock()
	if conn != nil {
		return conn, func() {}, nil
	}
	conn, err = a.newConn()
	if err != nil {
		return nil, nil, err
	}
	return conn, func() { conn.Close() }, nil
}

func (a *Agent) newConn() (*Conn, error) {
	server := a.state.server()
	if a.dialer != nil {
		return dial(server, &a.certificate, a.dialer)
	}
	return Dial(server, &a.certificate)
}

// explain is [Conn.Explain] with the words for a device that knew its server.
func (a *Agent) explain(conn *Conn, err error) error {
	err = conn.Explain(err)
	if wrong, ok := errors.AsType[*WrongServerError](err); ok {
		return &explained{"the server's key " + wrong.short() + "is not the one this device was enrolled with: " +
			"it is another server, or its key was replaced. Nothing was sent to it. Ask the administrator before going on", err}
	}
	return err
}
