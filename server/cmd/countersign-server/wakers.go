package main

import (
	"context"
	"log/slog"

	"github.com/countersignd/countersign/server/approval"
)

// wakers makes what wakes devices, for each push service that the settings name.
// A setting that cannot work is an error with a sentence, before anything is served.
func wakers(ctx context.Context, s settings, keys *secrets, log *slog.Logger) (map[approval.PushService]approval.Waker, error) {
	all := map[approval.PushService]approval.Waker{}
	var err error
	if s.APNs != (apnsSettings{}) {
		if all[approval.PushAPNs], err = s.APNs.waker(ctx, log); err != nil {
			return nil, err
		}
	}
	if keys.webPush != nil {
		if all[approval.PushWebPush], err = s.WebPush.waker(keys.webPush); err != nil {
			return nil, err
		}
	}
	return all, nil
}
