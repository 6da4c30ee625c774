package main

import (
	"cmp"
	"crypto/ecdsa"
	"errors"

	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/webpush"
)

// webPushSettings are those of package webpush. Web Push is on if there is a contact.
type webPushSettings struct {
	Contact string   `toml:"contact" placeholder:"mailto:…|https:…" help:"Wake devices through Web Push and UnifiedPush; this address or page is where a push service's operator can complain of this server. Default: none, and no Web Push."`
	Allow   []string `toml:"allow" placeholder:"HOST|PREFIX" help:"Hosts, addresses and prefixes such as 10.0.0.0/8 that may be pushed to although they are not on the internet; separated by commas. Devices choose what is pushed to, so name the push server and nothing else. Default: none."`
}

// over returns the settings of s, and those of base where s has none.
func (s webPushSettings) over(base webPushSettings) webPushSettings {
	s.Contact = cmp.Or(s.Contact, base.Contact)
	if len(s.Allow) == 0 {
		s.Allow = base.Allow
	}
	return s
}

// check refuses what cannot work.
func (s webPushSettings) check() error {
	if s.Contact == "" {
		if len(s.Allow) > 0 {
			return errors.New("web_push.allow is given without web_push.contact, so there is no Web Push: give the contact too, or neither")
		}
		return nil
	}
	_, err := webpush.ParseAllowed(s.Allow)
	return errors.Join(webpush.CheckContact(s.Contact), err)
}

// waker makes what wakes devices through Web Push services.
func (s webPushSettings) waker(key *ecdsa.PrivateKey) (approval.Waker, error) {
	allowed, err := webpush.ParseAllowed(s.Allow)
	if err != nil {
		return nil, err
	}
	return webpush.New(webpush.Config{Key: key, Contact: s.Contact, Allowed: allowed})
}
