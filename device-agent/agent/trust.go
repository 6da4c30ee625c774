package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/countersignd/countersign/device-agent/keystore"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// ErrRequestOver is wrapped when a request to be trusted has ended without
// success. It is forgotten; the keys and the server stay, for the next one.
var ErrRequestOver = errors.New("to ask again, run countersign-agent enroll")

// An Asking says which device asks to be trusted without an invitation, and where:
// it asks the trusted devices of an account ([Ask]), or has a recovery code of it
// ([Recover]).
type Asking struct {
	Dir        string // is made if there is none
	Passphrase string // of the keys; if empty, new keys are not encrypted with one

	Vaults []keystore.Vault // where keys may be besides in a file
	Vault  keystore.Vault   // where new keys are made; if nil, in a file

	// Server and Account are whom to ask. The zero values finish what was begun.
	Server  Server
	Account string

	Name string // of the device, 1 to 64 characters; what was begun keeps its name
	Kind string // terminal, desktop, phone, tablet, watch or other

	dialer func(context.Context, string) (net.Conn, error) // nil: TCP; for tests
}

// A Candidate is a device that has asked to be trusted. What it needs to go on
// after a crash is in its directory.
type Candidate struct{ agent *Agent }

// State returns what is known of the device. Its phase is [Trusted] if there is
// nothing left to do, and [Asked] else.
func (c *Candidate) State() State { return c.agent.state }

// ExpireTime returns when the request ends, by the server's clock, if nobody allows it.
func (c *Candidate) ExpireTime() time.Time { return time.Unix(c.agent.state.RequestExpires, 0) }

// Ask asks the trusted devices of an account to trust this one. It may be called
// again after a crash or an error at any point: it goes on with what was
// begun, with the same keys and the same request. Whether the account exists and
// whether anybody is rung, the server does not tell.
//
// The error wraps [ErrEnrolled] if the directory holds a trusted device,
// [ErrNotEnrolled] if there is nothing to finish and nobody to ask, and
// [ErrRequestOver] if the request that was made before has ended.
func Ask(ctx context.Context, in Asking) (*Candidate, error) {
	if err := makeDir(in.Dir); err != nil {
		return nil, err
	}
	a, begun, err := in.begin(Asked)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, enrollPatience)
	defer cancel()
	conn, err := a.newConn()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if begun.Request != "" {
		// The code may have been taken and the answer lost. The server knows.
		device, err := a.self(ctx, conn)
		if err != nil {
			return nil, err
		}
		if device != nil {
			a.state = begun
			err = a.becomeTrusted(device)
		} else if a.state.Request != "" {
			err = a.stillAsked(time.Now())
		}
		if err != nil {
			return nil, err
		}
		if a.state.Phase == Trusted || a.state.Request != "" {
			return &Candidate{a}, nil
		}
	}
	err = a.requestTrust(ctx, conn)
	if err != nil && ReactionTo(err) == Retry {
		err = andThat(err, Unfinished, "To go on, run countersign-agent enroll again")
	}
	if Reason(err) == countersignv1.ErrorReason_ERROR_REASON_KEY_IN_USE {
		err = a.trustedBefore(ctx, conn, err)
	}
	if err != nil {
		return nil, err
	}
	return &Candidate{a}, nil
}

// Namesakes returns the other devices of the account that have this one's name
// and were not revoked, if this one is trusted and the server says them.
func (c *Candidate) Namesakes(ctx context.Context) []*countersignv1.Device {
	conn, err := c.agent.newConn()
	if err != nil {
		return nil
	}
	defer conn.Close()
	return c.agent.namesakes(ctx, conn)
}

// begin returns the agent of what was begun or, if that is not what is asked
// for, of what is to be begun in a phase; begun is what the directory said.
func (in Asking) begin(phase string) (a *Agent, begun State, err error) {
	unlock, err := lockDir(in.Dir)
	if err != nil {
		return nil, State{}, err
	}
	defer unlock()
	if err := sweep(in.Dir); err != nil {
		return nil, State{}, err
	}
	begun, err = LoadState(in.Dir)
	if err == nil {
		err = whole(in.Dir, begun)
	}
	switch {
	case errors.Is(err, ErrNotEnrolled):
		if in.Server == (Server{}) {
			return nil, State{}, err
		}
	case err != nil:
		return nil, State{}, err
	case begun.Phase == Trusted:
		return nil, State{}, fmt.Errorf("%s: %w", in.Dir, ErrEnrolled)
	case begun.Phase == Enrolling:
		return nil, State{}, fmt.Errorf("an enrolment by invitation was begun here and its outcome is not known: " +
			"finish it by running countersign-agent enroll alone, or choose another directory with --dir")
	case begun.Phase == Recovering && (phase != Recovering || in.Server != (Server{}) && (in.Server != begun.server() || in.Account != begun.Account)):
		return nil, State{}, errRecoveryBegun
	case in.Server == (Server{}):
		in.Server, in.Account = begun.server(), begun.Account
	case begun.Request != "" && in.Server != begun.server():
		// The first server may believe in these keys already, so they must
		// not be shown to another one.
		return nil, State{}, fmt.Errorf("%s was asked to trust this device, and the outcome is not known: "+
			"finish that by running countersign-agent enroll alone, or choose another directory with --dir", begun.Server)
	}
	keys, err := in.keys()
	if err != nil {
		return nil, State{}, err
	}
	state := State{Account: in.Account, Kind: in.Kind, Name: in.Name, Phase: phase, Pin: in.Server.Pin, Server: in.Server.Address, Version: 1}
	if state.Pin == "" {
		state.Roots = "system"
	}
	if state.Device, err = pin.KeyID(keys.Identity.Public()); err != nil {
		return nil, State{}, fmt.Errorf("looking at the identity key: %w", err)
	}
	if begun.Phase == phase && begun.server() == in.Server && begun.Account == in.Account {
		state = begun
	} else if begun.Phase != "" && begun.server() == in.Server {
		state.Deployment = begun.Deployment // another account or another way
	}
	if err := validName(state.Name); err != nil {
		return nil, State{}, fmt.Errorf("the name of the device cannot be used: %w: choose another one with --name", err)
	}
	if !validKind(state.Kind) {
		return nil, State{}, fmt.Errorf("there is no kind of device %q", state.Kind)
	}
	if !statement.ValidAccount(state.Account) {
		return nil, State{}, errors.New("an account has 1 to 64 characters of a-z 0-9 . _ @ + -, and begins with a letter or digit")
	}
	a, err = newAgent(in.Dir, state, keys)
	if err == nil {
		a.dialer = in.dialer
	}
	return a, begun, err
}

// keys returns keys that are on disk, made now if there were none.
func (in Asking) keys() (*keystore.Keys, error) {
	keys, err := keysOf(in.Dir, in.Passphrase, in.Vaults, in.Vault)
	if err != nil {
		return nil, err
	}
	return keys, startCounter(in.Dir)
}

// trustedBefore finds out whether keys that the server knows are this device's, and
// trusted for the account already: if its directory lost all else, or if another
// process finished here meanwhile.
func (a *Agent) trustedBefore(ctx context.Context, conn *Conn, refused error) error {
	device, err := a.self(ctx, conn)
	if err != nil {
		return err
	}
	if device == nil {
		return fmt.Errorf("%w: move %s away, or choose another directory with --dir", refused, a.dir)
	}
	return a.becomeTrusted(device)
}

// self returns what the server has of this device, or nil if it trusts it not.
func (a *Agent) self(ctx context.Context, conn *Conn) (*countersignv1.Device, error) {
	var self *countersignv1.GetSelfResponse
	err := Persist(ctx, func() (err error) {
		if self, err = countersignv1.NewDeviceServiceClient(conn).GetSelf(ctx, &countersignv1.GetSelfRequest{}); err != nil {
			return conn.Explain(err)
		}
		return nil
	})
	if Reason(err) == countersignv1.ErrorReason_ERROR_REASON_DEVICE_UNKNOWN {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return self.GetDevice(), errors.Join(a.checkSelf(self), a.keepOfflineSecret(self.GetOfflineSecret()))
}

// stillAsked forgets a request that must be over, so that nobody waits for it:
// sign-ins and codes live for ten minutes together at most.
func (a *Agent) stillAsked(now time.Time) error {
	if now.Before(time.Unix(a.state.RequestExpires, 0).Add(keepAnswers)) {
		return nil
	}
	return a.over(errors.New("the request was not allowed in time"))
}

// requestTrust makes the request. What was begun is durable before the server is
// asked, and its request before anybody is told.
func (a *Agent) requestTrust(ctx context.Context, conn *Conn) error {
	state, err := a.inDeployment(ctx, conn)
	if err != nil {
		return err
	}
	if err := a.keep(state); err != nil {
		return err
	}
	var response *countersignv1.RequestTrustResponse
	if err := Persist(ctx, func() error {
		if err := conn.Ready(ctx); err != nil {
			return err
		}
		signed, err := a.announce(conn.ServerKey(), statement.Enrollment{Account: state.Account})
		if err != nil {
			return err
		}
		response, err = countersignv1.NewEnrollmentServiceClient(conn).RequestTrust(ctx, &countersignv1.RequestTrustRequest{Statement: signed})
		return conn.Explain(err)
	}); err != nil {
		return err
	}
	state.Request, state.RequestExpires = response.GetRequestId(), response.GetExpireTime().GetSeconds()
	return a.keep(state)
}

// inDeployment returns the state with the deployment that the server says it is.
func (a *Agent) inDeployment(ctx context.Context, conn *Conn) (State, error) {
	var deployment *countersignv1.GetDeploymentResponse
	if err := Persist(ctx, func() (err error) {
		if err = conn.Ready(ctx); err == nil {
			deployment, err = countersignv1.NewEnrollmentServiceClient(conn).GetDeployment(ctx, &countersignv1.GetDeploymentRequest{})
			err = conn.Explain(err)
		}
		return err
	}); err != nil {
		return State{}, err
	}
	state := a.state
	switch id := deployment.GetDeploymentId(); {
	case !statement.ValidDeployment(id):
		return State{}, errors.New("the server did not say which deployment it is")
	case state.Deployment != "" && state.Deployment != id:
		return State{}, errors.New("the server belongs to another deployment than it did: ask the administrator")
	default:
		state.Deployment = id
	}
	return state, nil
}

// keep makes a state durable and then this agent's.
func (a *Agent) keep(state State) error {
	unlock, err := lockDir(a.dir)
	if err != nil {
		return err
	}
	defer unlock()
	// Another process may have finished meanwhile.
	if now, err := LoadState(a.dir); err == nil && now.Phase == Trusted && now != state {
		return fmt.Errorf("%s: %w", a.dir, ErrEnrolled)
	}
	if err := state.save(a.dir); err != nil {
		return err
	}
	a.state = state
	return nil
}

// Complete hands in the code that a trusted device showed. If the answer is
// lost it asks again, and the server says the same again. What may be tried
// again with another code is told by [Reason]: SIGN_IN_PENDING and, as long as
// [Metadata] has tries_left, CODE_WRONG. If there is nothing to wait for any
// more, the request is forgotten and the error wraps [ErrRequestOver].
func (c *Candidate) Complete(ctx context.Context, code string) (State, error) {
	a := c.agent
	ctx, cancel := context.WithTimeout(ctx, enrollPatience)
	defer cancel()
	conn, err := a.newConn()
	if err != nil {
		return State{}, err
	}
	defer conn.Close()
	var device *countersignv1.Device
	err = Persist(ctx, func() error {
		if err := conn.Ready(ctx); err != nil {
			return err
		}
		response, err := countersignv1.NewEnrollmentServiceClient(conn).CompleteTrust(ctx,
			&countersignv1.CompleteTrustRequest{RequestId: a.state.Request, Code: code})
		if err != nil {
			return conn.Explain(err)
		}
		device = response.GetDevice()
		return a.keepOfflineSecret(response.GetOfflineSecret())
	})
	switch reason := Reason(err); {
	case err == nil:
		err = a.becomeTrusted(device)
	case reason == countersignv1.ErrorReason_ERROR_REASON_KEY_IN_USE:
		err = a.trustedBefore(ctx, conn, err)
	case reason == countersignv1.ErrorReason_ERROR_REASON_SIGN_IN_EXPIRED,
		reason == countersignv1.ErrorReason_ERROR_REASON_TOO_MANY_TRIES,
		reason == countersignv1.ErrorReason_ERROR_REASON_CODE_WRONG && !moreTries(err):
		err = a.over(err)
	case ReactionTo(err) == Retry:
		err = andThat(andThat(err, NotConfirmed, "Whether the code counted is not known"), Unfinished, "To go on, run countersign-agent enroll again")
	}
	return a.state, err
}

func moreTries(err error) bool {
	left := Metadata(err, "tries_left")
	return left != "" && left != "0"
}

// over forgets a request that has ended.
func (a *Agent) over(why error) error {
	state := a.state
	state.Request, state.RequestExpires = "", 0
	if err := a.keep(state); err != nil {
		return errors.Join(why, err)
	}
	return &ended{why}
}

// An ended is why a request is over, with what to do.
type ended struct{ why error }

func (e *ended) Error() string   { return e.why.Error() + ": " + ErrRequestOver.Error() }
func (e *ended) Unwrap() []error { return []error{e.why, ErrRequestOver} }

// becomeTrusted is [Agent.trusted] for a device that knows its account.
func (a *Agent) becomeTrusted(device *countersignv1.Device) error {
	if a.state.Account != device.GetAccount() {
		return errors.New("the server trusts this device, but for another account than the one that was asked: ask the administrator to revoke it, and enrol it anew")
	}
	state, err := a.trusted(device)
	if err == nil {
		a.state = state
	}
	return err
}

// ServerKey returns the key id of the TLS key of a server that is not known
// yet, for the person to compare. Nothing is sent to that server, and that it
// holds the private key is not proven by this: pin the key when it was compared.
func ServerKey(ctx context.Context, address string) (string, error) {
	return serverKey(ctx, Server{Address: address}, nil)
}

func serverKey(ctx context.Context, server Server, dialer func(context.Context, string) (net.Conn, error)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, enrollPatience)
	defer cancel()
	if dialer == nil {
		dialer = dialTCP
	}
	server.Pin = "none" // which no key has, so every handshake fails
	conn, err := dial(server, nil, dialer)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	err = conn.Ready(ctx)
	if wrong, ok := errors.AsType[*WrongServerError](err); ok && wrong.Got != "" {
		return wrong.Got, nil
	}
	if err == nil {
		err = errors.New("the server could not be identified")
	}
	return "", err
}
