package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/countersignd/countersign/device-agent/agent"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

type pushCmd struct {
	Key      pushKeyCmd      `cmd:"" help:"Print the key to subscribe with at a Web Push service."`
	Register pushRegisterCmd `cmd:"" help:"Have this device woken through a Web Push subscription."`
	Remove   pushRemoveCmd   `cmd:"" help:"Have this device woken no more."`
}

// Help is shown with push --help.
func (pushCmd) Help() string {
	return `A device that is not connected can be woken through Web Push (RFC 8030), which UnifiedPush uses too. Another program on this machine holds the subscription and starts the agent when a wake-up comes; a wake-up has nothing in it that is worth reading.

Subscribe there with the key that push key prints, hand the subscription to push register, and see with test whether it works.`
}

type pushKeyCmd struct{}

// Help is shown with push key --help.
func (pushKeyCmd) Help() string {
	return `It is the server's public key (RFC 8292, 4), in base64url: the applicationServerKey of a browser's subscribe, the VAPID key of UnifiedPush.`
}

// Run prints the key.
func (pushKeyCmd) Run(ctx context.Context, env *environment) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	self, err := a.Self(ctx)
	if err != nil {
		return explain(err)
	}
	if len(self.GetWebPushKey()) == 0 {
		return noWebPush(self.GetPushServices())
	}
	_, err = fmt.Fprintln(env.out, base64.RawURLEncoding.EncodeToString(self.GetWebPushKey()))
	return err
}

// noWebPush says that a server has no Web Push, and what to do.
func noWebPush(services []countersignv1.PushService) error {
	others := ""
	if slices.Contains(services, countersignv1.PushService_PUSH_SERVICE_APNS) {
		others = ", only through Apple's push service"
	}
	return errors.New("this server does not wake devices through Web Push" + others + ": its operator can configure that; until then, leave the agent running")
}

type pushRegisterCmd struct {
	Endpoint string `required:"" placeholder:"URL" help:"The subscription's endpoint, an https URL. Whoever has it and the keys can wake this device."`
	P256DH   string `required:"" name:"p256dh" placeholder:"KEY" help:"The subscription's public key, in base64url."`
	Auth     string `required:"" placeholder:"SECRET" help:"The subscription's authentication secret, in base64url. Give it with =, since it may begin with a hyphen."`
}

// Run registers a subscription.
func (c *pushRegisterCmd) Run(ctx context.Context, env *environment) error {
	p256dh, err := decode("--p256dh", c.P256DH)
	if err != nil {
		return err
	}
	auth, err := decode("--auth", c.Auth)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	d, err := a.RegisterPush(ctx, &countersignv1.PushRegistration{Service: &countersignv1.PushRegistration_WebPush{
		WebPush: &countersignv1.WebPushRegistration{Endpoint: c.Endpoint, P256Dh: p256dh, Auth: auth}}})
	if agent.Reason(err) == countersignv1.ErrorReason_ERROR_REASON_PUSH_NOT_CONFIGURED {
		return noWebPush(nil)
	}
	if err != nil {
		return explain(err)
	}
	return env.say(env.out, "This device is woken through %s from now on. See whether it works: stop the agent, and on another device run  %s test %s\n", serviceName(d.GetPush()), program, shortID(d))
}

// decode reads base64url, with padding or without.
func decode(flag, s string) ([]byte, error) {
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return nil, fmt.Errorf("%s is not base64url (RFC 4648, 5), as subscriptions have it", flag)
	}
	return data, nil
}

type pushRemoveCmd struct{}

// Run forgets the registration.
func (pushRemoveCmd) Run(ctx context.Context, env *environment) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	if _, err := a.RemovePush(ctx); err != nil {
		return explain(err)
	}
	_, err = fmt.Fprintln(env.out, "This device is woken by nothing any more: it is asked while the agent runs.")
	return err
}
