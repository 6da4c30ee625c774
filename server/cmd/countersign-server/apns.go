package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/countersignd/countersign/server/apns"
	"github.com/countersignd/countersign/server/approval"
)

// apnsSettings are what APNs knows this server by. All but Endpoint go together.
type apnsSettings struct {
	KeyFile     string `toml:"key_file" placeholder:"FILE" type:"path" help:"The key for Apple's push notification service (AuthKey_….p8), to wake Apple devices. Default: they are not woken."`
	KeyID       string `toml:"key_id" placeholder:"ID" help:"The ten characters that Apple shows with that key."`
	Team        string `toml:"team" placeholder:"ID" help:"The ten characters of the team's ID at Apple."`
	Topic       string `toml:"topic" placeholder:"BUNDLE-ID" help:"The bundle ID of the program on the devices."`
	Environment string `toml:"environment" placeholder:"production|sandbox" help:"Where the program comes from: production is for the App Store and TestFlight, sandbox for Xcode."`
	Endpoint    string `toml:"endpoint" placeholder:"URL" help:"A host that stands in for Apple's, https: a gateway, or a test's. Its certificate is checked with the system's roots."`
}

// over returns the settings of s, and those of base where s has none.
func (s apnsSettings) over(base apnsSettings) apnsSettings {
	return apnsSettings{
		KeyFile:     cmp.Or(s.KeyFile, base.KeyFile),
		KeyID:       cmp.Or(s.KeyID, base.KeyID),
		Team:        cmp.Or(s.Team, base.Team),
		Topic:       cmp.Or(s.Topic, base.Topic),
		Environment: cmp.Or(s.Environment, base.Environment),
		Endpoint:    cmp.Or(s.Endpoint, base.Endpoint),
	}
}

// keyFileName is how Apple names the file with a key.
var keyFileName = regexp.MustCompile(`^AuthKey_([A-Z0-9]{10})\.p8$`)

// check refuses a part of the settings without the rest, and what cannot be right.
func (s apnsSettings) check() error {
	if s == (apnsSettings{}) {
		return nil
	}
	for _, setting := range []struct{ name, value string }{
		{"key_file", s.KeyFile}, {"key_id", s.KeyID}, {"team", s.Team}, {"topic", s.Topic}, {"environment", s.Environment},
	} {
		if setting.value == "" {
			return fmt.Errorf("[apns] has no %s: give key_file, key_id, team, topic and environment together, or none of them", setting.name)
		}
	}
	if m := keyFileName.FindStringSubmatch(filepath.Base(s.KeyFile)); m != nil && m[1] != s.KeyID {
		return fmt.Errorf("[apns] key_id is %q, but by its name %s is the key %s: correct key_id, or key_file", s.KeyID, s.KeyFile, m[1])
	}
	if err := s.config(nil).Check(); err != nil {
		return fmt.Errorf("[apns]: %w", err)
	}
	return nil
}

func (s apnsSettings) config(key []byte) apns.Config {
	return apns.Config{Key: key, KeyID: s.KeyID, Team: s.Team, Topic: s.Topic, Environment: s.Environment, Endpoint: s.Endpoint}
}

// apnsProbe is how long the start waits for APNs to say whether it takes this
// server's key.
const apnsProbe = 3 * time.Second

// waker makes what wakes Apple devices. Settings that APNs refuses are an error;
// an APNs that cannot be reached is not, since the server is of use without.
func (s apnsSettings) waker(ctx context.Context, log *slog.Logger) (approval.Waker, error) {
	key, err := os.ReadFile(s.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("[apns] key_file: %w; put the key there that Apple hands out, or correct the setting", err)
	}
	if err := checkKeyFile(s.KeyFile); err != nil {
		return nil, fmt.Errorf("[apns] key_file: %w", err)
	}
	waker, err := apns.New(s.config(key))
	if err != nil {
		return nil, fmt.Errorf("[apns] key_file: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, apnsProbe)
	defer cancel()
	err = waker.Probe(ctx)
	if refused, ok := errors.AsType[*approval.WakeError](err); ok && refused.Verdict == approval.WakeBroken {
		return nil, fmt.Errorf("[apns] is refused by Apple's push notification service: %w; to start without waking Apple devices, remove [apns]", err)
	}
	if err != nil {
		log.Warn("APNs did not say whether it takes this server's key; devices may not be woken", "error", err)
	}
	return waker, nil
}
