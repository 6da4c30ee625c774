package agent

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/countersignd/countersign/device-agent/keystore"
	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// ErrEnrolled is wrapped when a directory holds a trusted device already.
var ErrEnrolled = errors.New("this device is enrolled already; to enrol another one on this machine, give it a directory of its own with --dir; to enrol this one anew, because it was revoked or its files were damaged, move its directory away first")

// enrollPatience is how long an unreachable server is asked again.
const enrollPatience = 20 * time.Second

// An Enrollment says what to enrol.
type Enrollment struct {
	Dir        string // is made if there is none
	Passphrase string // of the keys; if empty, new keys are not encrypted with one

	Vaults []keystore.Vault // where keys may be besides in a file
	Vault  keystore.Vault   // where new keys are made; if nil, in a file

	// Link is the invitation. The zero Link finishes what was begun.
	Link invitation.Link

	Name string // of the device, 1 to 64 characters; what was begun keeps its name
	Kind string // terminal, desktop, phone, tablet, watch or other

	dialer func(context.Context, string) (net.Conn, error) // nil: TCP; for tests
}

// An Enrolled is a device that is trusted now.
type Enrolled struct {
	State

	// RecoveryCodes are those of the account, as people are to be shown them, if
	// they were made with this device. They are kept nowhere: whoever shows
	// them shows them now or never.
	RecoveryCodes []string

	// Namesakes are as [Candidate.Namesakes] returns them.
	Namesakes []*countersignv1.Device
}

// Enroll makes this device a trusted one, and returns its state. It may be
// called again after a crash or an error at any point: it finishes what was begun,
// with the same keys, and the server takes the same invitation from the same
// keys again.
//
// The error wraps [ErrEnrolled] if the directory holds a trusted device, and
// [ErrNotEnrolled] if there is neither a link nor something begun. If the
// server refuses the invitation for good, what was begun is forgotten, except
// for the keys, which are trusted nowhere and serve for the next invitation.
func Enroll(ctx context.Context, e Enrollment) (Enrolled, error) {
	if err := makeDir(e.Dir); err != nil {
		return Enrolled{}, err
	}
	a, err := e.begin()
	if err != nil {
		return Enrolled{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, enrollPatience)
	defer cancel()
	conn, err := a.newConn()
	if err != nil {
		return Enrolled{}, err
	}
	defer conn.Close()

	device, codes, err := a.enroll(ctx, conn)
	switch Reason(err) {
	case countersignv1.ErrorReason_ERROR_REASON_INVITATION_INVALID, countersignv1.ErrorReason_ERROR_REASON_KEY_IN_USE:
		// An earlier attempt may have succeeded, its answer been lost, and
		// the invitation have expired since. The server knows.
		device, err = a.ask(ctx, conn, err)
	}
	if err != nil {
		return Enrolled{}, err
	}
	shown, err := shownCodes(codes)
	if err != nil {
		return Enrolled{}, err
	}
	state, err := a.trusted(device)
	if err != nil {
		return Enrolled{}, err
	}
	return Enrolled{state, shown, a.namesakes(ctx, conn)}, nil
}

// namesakes returns the other devices of the account that have this one's name and
// were not revoked. A device that is enrolled anew takes nothing from its old
// entry, whose keys somebody may still have. What the server does not say is
// left out, as this device is trusted all the same.
func (a *Agent) namesakes(ctx context.Context, conn *Conn) []*countersignv1.Device {
	list, err := countersignv1.NewDeviceServiceClient(conn).ListDevices(ctx, &countersignv1.ListDevicesRequest{})
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(list.GetDevices(), func(d *countersignv1.Device) bool {
		return d.GetId() == a.state.Device || d.GetName() != a.state.Name || d.GetState() == countersignv1.DeviceState_DEVICE_STATE_REVOKED
	})
}

// begin makes what must be durable before the server is asked.
func (e Enrollment) begin() (*Agent, error) {
	unlock, err := lockDir(e.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := sweep(e.Dir); err != nil {
		return nil, err
	}
	begun, err := LoadState(e.Dir)
	if err == nil {
		err = whole(e.Dir, begun)
	}
	switch {
	case errors.Is(err, ErrNotEnrolled):
		if e.Link == (invitation.Link{}) {
			return nil, &explained{"there is no enrolment to finish here: give the invitation that the administrator made", err}
		}
	case err != nil:
		return nil, err
	case begun.Phase == Trusted:
		return nil, fmt.Errorf("%s: %w", e.Dir, ErrEnrolled)
	case begun.Phase == Recovering:
		return nil, errRecoveryBegun
	case begun.Phase == Asked && e.Link == (invitation.Link{}):
		return nil, errors.New("a trusted device was asked here to trust this one: finish that first, or give an invitation")
	case begun.Phase == Asked && begun.Request == "":
		// No code was ever handed in, so nobody believes in these keys yet.
		return e.start()
	case begun.Phase == Enrolling && (e.Link == (invitation.Link{}) || e.Link == begun.link()):
		return e.resume(begun)
	case e.Link.Deployment != begun.Deployment:
		// The first server may believe in these keys already, so they must
		// not be given to another one.
		return nil, fmt.Errorf("an enrolment at %s was begun here and its outcome is not known: "+
			"finish it by running countersign-agent enroll without an invitation, or choose another directory with --dir", begun.Server)
	}
	return e.start()
}

// start begins with a link that was not tried yet. Keys that are there are
// trusted nowhere yet, or by the very server that is asked.
func (e Enrollment) start() (*Agent, error) {
	if err := validName(e.Name); err != nil {
		return nil, fmt.Errorf("the name of the device cannot be used: %w: choose another one with --name", err)
	}
	if !validKind(e.Kind) {
		return nil, fmt.Errorf("there is no kind of device %q", e.Kind)
	}
	keys, err := keysOf(e.Dir, e.Passphrase, e.Vaults, e.Vault)
	if err != nil {
		return nil, err
	}
	if err := startCounter(e.Dir); err != nil {
		return nil, err
	}
	device, err := pin.KeyID(keys.Identity.Public())
	if err != nil {
		return nil, fmt.Errorf("looking at the identity key: %w", err)
	}
	state := State{
		Deployment: e.Link.Deployment,
		Device:     device,
		Invitation: e.Link.Token,
		Kind:       e.Kind,
		Name:       e.Name,
		Phase:      Enrolling,
		Pin:        e.Link.Pin,
		Server:     e.Link.Server,
		Version:    1,
	}
	if state.Pin == "" {
		state.Roots = "system"
	}
	if err := state.save(e.Dir); err != nil {
		return nil, err
	}
	return e.agent(state, keys)
}

// resume goes on with what was begun.
func (e Enrollment) resume(begun State) (*Agent, error) {
	keys, err := openKeys(e.Dir, e.Passphrase, e.Vaults)
	if err != nil {
		return nil, err
	}
	if err := startCounter(e.Dir); err != nil {
		return nil, err
	}
	return e.agent(begun, keys)
}

func (e Enrollment) agent(state State, keys *keystore.Keys) (*Agent, error) {
	a, err := newAgent(e.Dir, state, keys)
	if err != nil {
		return nil, err
	}
	a.dialer = e.dialer
	return a, nil
}

// enroll asks the server to trust this device, again and again if it cannot be
// reached.
func (a *Agent) enroll(ctx context.Context, conn *Conn) (device *countersignv1.Device, codes []string, err error) {
	err = Persist(ctx, func() (err error) {
		device, codes, err = a.enrollOnce(ctx, conn)
		return err
	})
	if err != nil && ReactionTo(err) == Retry {
		err = andThat(err, Unfinished, "To finish the enrolment, run countersign-agent enroll again, without an invitation")
	}
	return device, codes, err
}

func (a *Agent) enrollOnce(ctx context.Context, conn *Conn) (*countersignv1.Device, []string, error) {
	// The statement names the server's key, so that comes first.
	if err := conn.Ready(ctx); err != nil {
		return nil, nil, err
	}
	signed, err := a.announce(conn.ServerKey(), statement.Enrollment{Invitation: invitation.Hash(a.state.Invitation)})
	if err != nil {
		return nil, nil, err
	}
	response, err := countersignv1.NewEnrollmentServiceClient(conn).EnrollDevice(ctx, &countersignv1.EnrollDeviceRequest{
		InvitationToken: a.state.Invitation,
		Statement:       signed,
	})
	if err != nil {
		return nil, nil, conn.Explain(err)
	}
	return response.GetDevice(), response.GetRecoveryCodes(), a.keepOfflineSecret(response.GetOfflineSecret())
}

// announce fills in and signs what e, which says by whom this device hopes to be
// trusted, must say of the device itself.
func (a *Agent) announce(serverKey string, e statement.Enrollment) (string, error) {
	approval, ok := a.keys.Approval.Public().(*ecdsa.PublicKey)
	if !ok {
		return "", errors.New("the approval key is not an ECDSA key")
	}
	public, err := statement.NewJWK(approval)
	if err != nil {
		return "", err
	}
	e.ApprovalKey, e.Aud, e.Device, e.Iat = public, a.state.Deployment, a.state.Device, time.Now().Unix()
	e.KeyStorage, e.Kind, e.Name, e.ServerKey = a.keys.Storage, a.state.Kind, a.state.Name, serverKey
	return statement.Sign(a.keys.Approval, e)
}

// ask finds out from the server whether this device is trusted already, after it
// refused to enrol it.
func (a *Agent) ask(ctx context.Context, conn *Conn, refused error) (*countersignv1.Device, error) {
	self, err := countersignv1.NewDeviceServiceClient(conn).GetSelf(ctx, &countersignv1.GetSelfRequest{})
	if err == nil {
		return self.GetDevice(), errors.Join(a.checkSelf(self), a.keepOfflineSecret(self.GetOfflineSecret()))
	}
	switch Reason(err) {
	case countersignv1.ErrorReason_ERROR_REASON_DEVICE_UNKNOWN:
		// Trusted nowhere. The next invitation starts anew.
		if err := a.forget(); err != nil {
			return nil, err
		}
		if Reason(refused) == countersignv1.ErrorReason_ERROR_REASON_KEY_IN_USE {
			return nil, fmt.Errorf("%w: move %s away, or choose another directory with --dir", refused, a.dir)
		}
		return nil, fmt.Errorf("%w. If it was used, and not by you, somebody else may be trusted in your place: "+
			"the administrator's list of devices shows it. With the new invitation, run countersign-agent enroll again", refused)
	case countersignv1.ErrorReason_ERROR_REASON_DEVICE_REVOKED:
		return nil, conn.Explain(err)
	}
	return nil, fmt.Errorf("%w. Whether an earlier attempt succeeded is not known: %w", refused, conn.Explain(err))
}

// forget removes what was begun, unless another process has begun something else
// or finished meanwhile. The keys stay.
func (a *Agent) forget() error {
	unlock, err := lockDir(a.dir)
	if err != nil {
		return err
	}
	defer unlock()
	switch now, err := LoadState(a.dir); {
	case err == nil && now.Phase == Trusted:
		return fmt.Errorf("%s: %w", a.dir, ErrEnrolled)
	case err != nil || now != a.state:
		return nil
	}
	return removeFile(a.dir, stateName)
}

var errAnswer = errors.New("the server's answer does not fit this device: ask the administrator to look at its list of devices")

// trusted checks the server's answer and makes it durable.
func (a *Agent) trusted(device *countersignv1.Device) (State, error) {
	if device.GetId() != a.state.Device || device.GetApprovalKeyId() != a.approvalKey ||
		device.GetState() != countersignv1.DeviceState_DEVICE_STATE_TRUSTED {
		return State{}, errAnswer
	}
	unlock, err := lockDir(a.dir)
	if err != nil {
		return State{}, err
	}
	defer unlock()
	state := a.state
	state.Phase, state.Invitation, state.Account = Trusted, "", device.GetAccount()
	if name := device.GetName(); validName(name) == nil {
		state.Name = name // it may have been enrolled before, under another one
	}
	state.Request, state.RequestExpires, state.TrustTime = "", 0, 0
	if err := state.save(a.dir); err != nil {
		return State{}, fmt.Errorf("the server trusts this device, but this was not written down: run countersign-agent enroll again, alone: %w", err)
	}
	return state, nil
}
