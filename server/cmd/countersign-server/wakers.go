package main

import (
	"log/slog"

	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/webpush"
)

// wakers makes what wakes devices, for each push service that the settings name.
// A setting that cannot work is an error with a sentence, before anything is served.
func wakers(s settings, all *secrets, log *slog.Logger) (map[approval.PushService]approval.Waker, error) {
	services := map[approval.PushService]approval.Waker{}
	if all.webPush != nil {
		allowed, err := webpush.ParseAllowed(s.WebPush.Allow)
		if err != nil {
			return nil, err
		}
		service, err := webpush.New(webpush.Config{Key: all.webPush, Contact: s.WebPush.Contact, Allowed: allowed})
		if err != nil {
			return nil, err
		}
		services[approval.PushWebPush] = service
	}
	return services, nil
}
