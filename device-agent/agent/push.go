package agent

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"net/url"
	"strings"

	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// RegisterPush has the server wake this device through a push service, when there
// is a prompt and no stream is open, from now on; what was registered before is
// forgotten. A wake-up says nothing but that there is something: whoever gets it
// starts [Agent.Run]. The error has the reason PUSH_NOT_CONFIGURED if the server
// has no such service; [Agent.Self] tells which it has, and the key to subscribe
// to Web Push with. A registration is a secret between the device, its push service
// and the server.
func (a *Agent) RegisterPush(ctx context.Context, registration *countersignv1.PushRegistration) (*countersignv1.Device, error) {
	if err := checkPush(registration); err != nil {
		return nil, err
	}
	return a.updatePush(ctx, registration)
}

// RemovePush has the server forget how to wake this device. To remove what is not
// there succeeds.
func (a *Agent) RemovePush(ctx context.Context) (*countersignv1.Device, error) {
	return a.updatePush(ctx, &countersignv1.PushRegistration{Service: &countersignv1.PushRegistration_None{None: &countersignv1.NoPush{}}})
}

func (a *Agent) updatePush(ctx context.Context, registration *countersignv1.PushRegistration) (*countersignv1.Device, error) {
	conn, done, err := a.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	response, err := countersignv1.NewDeviceServiceClient(conn).UpdateDevice(ctx, &countersignv1.UpdateDeviceRequest{Push: registration})
	if err != nil {
		return nil, a.explain(conn, err)
	}
	if response.GetDevice().GetId() != a.state.Device {
		return nil, errors.New("the server's answer is not about this device: look at the list of devices")
	}
	return response.GetDevice(), nil
}

// The limits of a registration, as the server has them (docs/protocol.md).
const (
	minToken    = 8 // hexadecimal digits
	maxToken    = 200
	maxEndpoint = 1024 // bytes
	authLength  = 16   // bytes (RFC 8291, 3.2)
)

// checkPush refuses what the server would, in words that say which part it is.
func checkPush(registration *countersignv1.PushRegistration) error {
	switch {
	case registration.GetApns() != nil:
		token := registration.GetApns().GetToken()
		if n := len(token); n < minToken || n > maxToken || n%2 != 0 || strings.Trim(token, "0123456789abcdef") != "" {
			return fmt.Errorf("this is not a device token of Apple's: it has %d to %d lower-case hexadecimal digits, an even number", minToken, maxToken)
		}
		return nil
	case registration.GetWebPush() != nil:
		return checkWebPush(registration.GetWebPush())
	}
	return errors.New("there is nothing to register: a push registration names a service")
}

func checkWebPush(w *countersignv1.WebPushRegistration) error {
	endpoint, err := url.Parse(w.GetEndpoint())
	switch {
	case err != nil || endpoint.Scheme != "https" || endpoint.Hostname() == "" || endpoint.User != nil || endpoint.Fragment != "":
		return errors.New("the endpoint is not an https URL, as a push service gives one")
	case len(w.GetEndpoint()) > maxEndpoint:
		return fmt.Errorf("the endpoint has %d bytes, and at most %d are taken", len(w.GetEndpoint()), maxEndpoint)
	}
	// Only an uncompressed point is 65 bytes long; P-256 also refuses one that is
	// not on the curve.
	if _, err := ecdh.P256().NewPublicKey(w.GetP256Dh()); err != nil || len(w.GetP256Dh()) != 65 {
		return errors.New("the key p256dh is not an uncompressed P-256 point, which has 65 bytes")
	}
	if len(w.GetAuth()) != authLength {
		return fmt.Errorf("the secret auth has %d bytes, and must have %d", len(w.GetAuth()), authLength)
	}
	return nil
}
