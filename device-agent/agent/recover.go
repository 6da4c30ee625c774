package agent

import (
	"context"
	"errors"
	"time"

	"github.com/countersignd/countersign/internal/recovery"
	"github.com/countersignd/countersign/internal/statement"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

var errRecoveryBegun = errors.New("a recovery code was handed in here, and what came of it is not known, or this device waits to be trusted: " +
	"go on with that by running countersign-agent enroll alone, or choose another directory with --dir")

// A Recovery is a device that has a recovery code, or had one and waits to be
// trusted. What it needs to go on after a crash is in its directory; the code is
// not, because the server knows by the keys of the device that the code was used.
type Recovery struct {
	agent *Agent
	left  int
}

// State returns what is known of the device. In phase [Trusted] there is nothing
// left to do. In phase [Recovering] it waits if there is a TrustTime, and wants a
// code if not.
func (r *Recovery) State() State { return r.agent.state }

// TrustTime returns until when the device waits, by the server's clock.
func (r *Recovery) TrustTime() time.Time { return time.Unix(r.agent.state.TrustTime, 0) }

// CodesLeft returns how many recovery codes the account has left, once the server
// has said so.
func (r *Recovery) CodesLeft() int { return r.left }

// Recover prepares to have this device trusted for a recovery code, or goes on with
// what was begun: it asks the server what became of a code whose answer was lost
// and, if the device had to wait and has, becomes trusted. It may be called again
// after a crash or an error at any point.
//
// The error wraps [ErrEnrolled] if the directory holds a trusted device, and
// [ErrNotEnrolled] if there is nothing to go on with and no server to ask.
func Recover(ctx context.Context, in Asking) (*Recovery, error) {
	if err := makeDir(in.Dir); err != nil {
		return nil, err
	}
	a, begun, err := in.begin(Recovering)
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
	r := &Recovery{agent: a}
	if begun.Phase == Recovering {
		err := r.goOn(ctx, conn)
		if Reason(err) != countersignv1.ErrorReason_ERROR_REASON_DEVICE_UNKNOWN {
			return r, err
		}
		// The code has never come there.
		if err := a.forget(); err != nil {
			return nil, err
		}
		a.state.TrustTime = 0
	}
	if a.state, err = a.inDeployment(ctx, conn); err != nil {
		return nil, err
	}
	return r, nil
}

// Use hands a recovery code in. That this is about to happen is durable first. If
// the answer is lost it asks again, and the server says the same again. If the
// server refuses the code, nothing was begun, and another one may be tried.
func (r *Recovery) Use(ctx context.Context, typed string) error {
	code, err := recovery.Parse(typed)
	if err != nil {
		return err
	}
	a := r.agent
	if err := a.keep(a.state); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, enrollPatience)
	defer cancel()
	conn, err := a.newConn()
	if err != nil {
		return err
	}
	defer conn.Close()
	err = r.call(ctx, conn, func() (*countersignv1.RecoverDeviceRequest, error) {
		signed, err := a.announce(conn.ServerKey(), statement.Enrollment{Account: a.state.Account, Recovery: recovery.Hash(a.state.Account, code)})
		return &countersignv1.RecoverDeviceRequest{Statement: signed, RecoveryCode: code}, err
	})
	if Reason(err) == countersignv1.ErrorReason_ERROR_REASON_KEY_IN_USE {
		// The keys came there before, with another code or in another way.
		err = r.goOn(ctx, conn)
	}
	switch {
	case err == nil || errors.As(err, new(*localError)):
		return err
	case ReactionTo(err) == Retry:
		return andThat(andThat(err, NotConfirmed, "Whether the code was used is not known"), Unfinished, "To go on, run countersign-agent enroll again")
	}
	return errors.Join(err, a.forget())
}

// goOn asks what this device is to the server.
func (r *Recovery) goOn(ctx context.Context, conn *Conn) error {
	return r.call(ctx, conn, func() (*countersignv1.RecoverDeviceRequest, error) {
		return &countersignv1.RecoverDeviceRequest{}, nil
	})
}

// call makes one call until it is answered, and makes the answer durable.
func (r *Recovery) call(ctx context.Context, conn *Conn, request func() (*countersignv1.RecoverDeviceRequest, error)) error {
	var response *countersignv1.RecoverDeviceResponse
	if err := Persist(ctx, func() error {
		if err := conn.Ready(ctx); err != nil {
			return err
		}
		message, err := request()
		if err != nil {
			return err
		}
		response, err = countersignv1.NewEnrollmentServiceClient(conn).RecoverDevice(ctx, message)
		return conn.Explain(err)
	}); err != nil {
		return err
	}
	a, device := r.agent, response.GetDevice()
	r.left = int(response.GetRecoveryCodesLeft())
	if err := a.keepOfflineSecret(response.GetOfflineSecret()); err != nil {
		return local(err)
	}
	if device.GetState() != countersignv1.DeviceState_DEVICE_STATE_WAITING {
		return local(a.becomeTrusted(device))
	}
	if device.GetId() != a.state.Device || device.GetApprovalKeyId() != a.approvalKey || device.GetAccount() != a.state.Account || device.GetTrustTime().GetSeconds() <= 0 {
		return local(errAnswer)
	}
	state := a.state
	state.TrustTime = device.GetTrustTime().GetSeconds()
	return local(a.keep(state))
}

// local marks what went wrong on this side after the server has said yes.
func local(err error) error {
	if err == nil {
		return nil
	}
	return &localError{err}
}

// NewRecoveryCodes asks the server for new recovery codes, by a signed statement,
// and returns them as people are to be shown them. All older codes are void then.
// They are kept nowhere.
func (a *Agent) NewRecoveryCodes(ctx context.Context) ([]string, error) {
	response, err := submitNow(ctx, a, submission[*countersignv1.CreateRecoveryCodesResponse]{
		sign: func(counter uint64, serverKey string) (string, error) {
			return statement.Sign(a.keys.Approval, statement.RecoveryRenewal{
				Account: a.state.Account, ApprovalKey: a.approvalKey, Aud: a.state.Deployment, Counter: counter,
				Device: a.state.Device, Iat: time.Now().Unix(), ServerKey: serverKey,
			})
		},
		send: func(ctx context.Context, conn *Conn, signed string) (*countersignv1.CreateRecoveryCodesResponse, error) {
			return countersignv1.NewDeviceServiceClient(conn).CreateRecoveryCodes(ctx, &countersignv1.CreateRecoveryCodesRequest{Statement: signed})
		},
	})
	if err != nil {
		return nil, err
	}
	codes, err := shownCodes(response.GetRecoveryCodes())
	if err == nil && len(codes) == 0 {
		err = errNoCodes
	}
	return codes, err
}

var errNoCodes = errors.New("the server sent no recovery codes, or what is none: ask the administrator, and make new ones with countersign-agent recovery-codes renew")

// shownCodes returns recovery codes as people are to be shown them.
func shownCodes(codes []string) ([]string, error) {
	if len(codes) > 0 && len(codes) != recovery.Codes {
		return nil, errNoCodes
	}
	var shown []string
	for _, c := range codes {
		parsed, err := recovery.Parse(c)
		if err != nil {
			return nil, errNoCodes
		}
		shown = append(shown, recovery.Group(parsed))
	}
	return shown, nil
}
