package agent

import (
	"context"
	"errors"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// NewCode asks the server for a verification code, by a signed statement (Get
// Verification Code). The code lets the account's next sign-in in, or one that
// is open or was denied by accident, once, until its time is over. The account
// has one such code at a time: a new one replaces the old. The Prompt of the
// result is zero.
//
// With the code comes what this device needs to make codes by itself
// ([Agent.OfflineCode]), which it keeps if it has it not.
func (a *Agent) NewCode(ctx context.Context) (Code, error) {
	response, err := submitNow(ctx, a, submission[*countersignv1.CreateCodeResponse]{
		sign: func(counter uint64, serverKey string) (string, error) {
			return statement.Sign(a.keys.Approval, statement.CodeRequest{
				Account: a.state.Account, ApprovalKey: a.approvalKey, Aud: a.state.Deployment, Counter: counter,
				Device: a.state.Device, Iat: time.Now().Unix(), ServerKey: serverKey,
			})
		},
		send: func(ctx context.Context, conn *Conn, signed string) (*countersignv1.CreateCodeResponse, error) {
			return countersignv1.NewDeviceServiceClient(conn).CreateCode(ctx, &countersignv1.CreateCodeRequest{Statement: signed})
		},
	})
	if err != nil {
		return Code{}, err
	}
	ahead := clockAhead(response.GetServerTime(), time.Now())
	a.noteClock(ahead)
	made, err := newCode(Prompt{ahead: ahead}, response.GetCode(), response.GetExpireTime().AsTime())
	if err == nil {
		made.Prompt = Prompt{}
		err = a.keepOfflineSecret(response.GetOfflineSecret())
	}
	return made, err
}

// Revoke ends the trust in a device of this device's account, which may be this
// one, by a signed statement. reason is a text of at most 64 characters and may be
// empty. Revoking a device that is revoked already succeeds.
func (a *Agent) Revoke(ctx context.Context, device, reason string) (*countersignv1.Device, error) {
	response, err := submitNow(ctx, a, submission[*countersignv1.RevokeDeviceResponse]{
		sign: func(counter uint64, serverKey string) (string, error) {
			return statement.Sign(a.keys.Approval, statement.Revocation{
				Account: a.state.Account, ApprovalKey: a.approvalKey, Aud: a.state.Deployment, Counter: counter,
				Device: a.state.Device, Iat: time.Now().Unix(), Reason: reason, Revoked: device, ServerKey: serverKey,
			})
		},
		send: func(ctx context.Context, conn *Conn, signed string) (*countersignv1.RevokeDeviceResponse, error) {
			return countersignv1.NewDeviceServiceClient(conn).RevokeDevice(ctx, &countersignv1.RevokeDeviceRequest{Statement: signed})
		},
	})
	if err != nil {
		return nil, err
	}
	if d := response.GetDevice(); d.GetId() != device || d.GetState() != countersignv1.DeviceState_DEVICE_STATE_REVOKED {
		return nil, errors.New("the server's answer is not about the device that was to be revoked: look at the list of devices")
	}
	return response.GetDevice(), nil
}

// Readmit lets a device of this device's account count again that was not seen
// for long, by a signed statement. Readmitting a trusted device succeeds.
func (a *Agent) Readmit(ctx context.Context, device string) (*countersignv1.Device, error) {
	response, err := submitNow(ctx, a, submission[*countersignv1.ReadmitDeviceResponse]{
		sign: func(counter uint64, serverKey string) (string, error) {
			return statement.Sign(a.keys.Approval, statement.Readmission{
				Account: a.state.Account, ApprovalKey: a.approvalKey, Aud: a.state.Deployment, Counter: counter,
				Device: a.state.Device, Iat: time.Now().Unix(), Readmitted: device, ServerKey: serverKey,
			})
		},
		send: func(ctx context.Context, conn *Conn, signed string) (*countersignv1.ReadmitDeviceResponse, error) {
			return countersignv1.NewDeviceServiceClient(conn).ReadmitDevice(ctx, &countersignv1.ReadmitDeviceRequest{Statement: signed})
		},
	})
	if err != nil {
		return nil, err
	}
	if d := response.GetDevice(); d.GetId() != device || d.GetState() != countersignv1.DeviceState_DEVICE_STATE_TRUSTED {
		return nil, errors.New("the server's answer is not about the device that was to be readmitted: look at the list of devices")
	}
	return response.GetDevice(), nil
}

// Unlock clears, by a signed statement, the counts of wrong codes, the gaps and
// the silences of this device's account.
func (a *Agent) Unlock(ctx context.Context) error {
	_, err := submitNow(ctx, a, submission[*countersignv1.UnlockResponse]{
		sign: func(counter uint64, serverKey string) (string, error) {
			return statement.Sign(a.keys.Approval, statement.Unlock{
				Account: a.state.Account, ApprovalKey: a.approvalKey, Aud: a.state.Deployment, Counter: counter,
				Device: a.state.Device, Iat: time.Now().Unix(), ServerKey: serverKey,
			})
		},
		send: func(ctx context.Context, conn *Conn, signed string) (*countersignv1.UnlockResponse, error) {
			return countersignv1.NewDeviceServiceClient(conn).Unlock(ctx, &countersignv1.UnlockRequest{Statement: signed})
		},
	})
	return err
}

// Rename gives this device another name on the server, and here.
func (a *Agent) Rename(ctx context.Context, name string) error {
	if err := validName(name); err != nil {
		return err
	}
	conn, done, err := a.borrow()
	if err != nil {
		return err
	}
	defer done()
	if _, err := countersignv1.NewDeviceServiceClient(conn).UpdateDevice(ctx, &countersignv1.UpdateDeviceRequest{Name: name}); err != nil {
		return a.explain(conn, err)
	}
	state := a.state
	state.Name = name
	unlock, err := lockDir(a.dir)
	if err != nil {
		return err
	}
	defer unlock()
	return state.save(a.dir)
}

// submitNow is submit for a person who waits and for whom there may be no
// stream: it connects by itself.
func submitNow[R any](ctx context.Context, a *Agent, s submission[R]) (R, error) {
	var none R
	done, err := a.alone(ctx)
	if err != nil {
		return none, err
	}
	defer done()
	conn, hangUp, err := a.borrow()
	if err != nil {
		return none, err
	}
	defer hangUp()
	return submit(ctx, a, s, func(ctx context.Context) (*Conn, error) {
		if err := Persist(ctx, func() error { return conn.Ready(ctx) }); err != nil {
			return nil, a.explain(conn, err)
		}
		return conn, nil
	})
}
