package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/countersignd/countersign/server/approval"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

const (
	// heartbeat is how often a device is told its state though it is the same.
	heartbeat = 30 * time.Second

	// seenEvery is how often an open stream is noted as a sign of life.
	seenEvery = time.Hour

	// sendTimeout is how long a caller may take to make room for a message.
	sendTimeout = 10 * time.Second

	// cutAfter is how long a slow device has to read why its stream ended,
	// before its connection is closed and what is queued for it freed.
	cutAfter = 5 * time.Second

	// minPause keeps a moment that has nearly come from making a busy loop.
	minPause = 50 * time.Millisecond

	// seenTimeout bounds the note that a stream has ended.
	seenTimeout = 2 * time.Second
)

// WatchPrompts implements the API. The goroutine that gRPC gives the call is
// the only one that a quiet stream needs.
func (d *deviceService) WatchPrompts(_ *pb.WatchPromptsRequest, stream grpc.ServerStreamingServer[pb.WatchPromptsResponse]) error {
	ctx, who := stream.Context(), callerOf(stream.Context())
	// Registering comes before reading, so that no ring falls between.
	watch := d.server.broker.WatchDevice(who.device)
	defer watch.Close()
	if err := d.server.broker.Seen(ctx, who.device); err != nil {
		return err
	}
	defer d.server.seenLast(ctx, who.device)

	var last *pb.WatchPromptsResponse
	var covered uint64 // size of the record in the checkpoint that was sent last
	var shown []string // ids of the prompts that were sent last
	var sent, seen time.Time
	seen = d.server.broker.Now()
	for {
		screen, err := d.server.broker.Screen(ctx, who.device)
		if err != nil {
			return err
		}
		now := d.server.broker.Now()
		message := promptsMessage(screen)
		changed := last == nil || !proto.Equal(message, last)
		if changed || now.Sub(sent) >= heartbeat {
			timed := proto.CloneOf(message)
			timed.ServerTime = timestamp(now)
			if changed {
				checkpoint, size, err := d.server.broker.Checkpoint(ctx)
				if err != nil {
					return err
				}
				if size > covered {
					if timed.Checkpoint, err = checkpointMessage(checkpoint); err != nil {
						return err
					}
					covered = size
				}
			}
			if err := d.server.send(ctx, stream, timed); err != nil {
				if err == error(errSlowReader) {
					time.AfterFunc(cutAfter, func() { who.conn.Close() })
				}
				return err
			}
			last, sent = message, now
			ids := screen.IDs()
			d.server.broker.Sent(who.device, slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return slices.Contains(shown, id) })...)
			shown = ids
		}
		if now.Sub(seen) >= seenEvery {
			if err := d.server.broker.Seen(ctx, who.device); err != nil {
				return err
			}
			seen = now
		}
		if err := d.server.waitUntil(ctx, watch, earlier(sent.Add(heartbeat), screen.Next)); err != nil {
			return err
		}
	}
}

// seenLast notes when a stream ended. The stream's own context is over then.
func (s *Server) seenLast(ctx context.Context, device string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), seenTimeout)
	defer cancel()
	err := s.broker.Seen(ctx, device)
	if _, refused := errors.AsType[*approval.Error](err); err != nil && !refused {
		s.log.Error("noting when a device was last seen", "device", device, "error", err)
	}
}

// WatchSignIn implements the API.
func (g *signInService) WatchSignIn(req *pb.WatchSignInRequest, stream grpc.ServerStreamingServer[pb.WatchSignInResponse]) error {
	ctx, who := stream.Context(), callerOf(stream.Context())
	watch := g.server.broker.WatchSignIn(req.GetSignInId())
	defer watch.Close()
	var last *pb.WatchSignInResponse
	for {
		signIn, err := g.server.broker.SignIn(ctx, who.token, req.GetSignInId())
		if err != nil {
			return err
		}
		now := g.server.broker.Now()
		message := &pb.WatchSignInResponse{SignIn: signInMessage(&signIn, now)}
		if last == nil || !proto.Equal(message, last) {
			if err := g.server.send(ctx, stream, message); err != nil {
				return err
			}
			last = message
		}
		// A denied sign-in is not final while a code could still verify it.
		ends := signIn.Ends(now)
		if signIn.At(now).Final() || !now.Before(ends) {
			return nil
		}
		if err := g.server.waitUntil(ctx, watch, ends); err != nil {
			return err
		}
	}
}

// waitUntil returns nil when watch was rung or the moment has come, by the
// Broker's time. If that jumps far ahead meanwhile, the Broker rings.
func (s *Server) waitUntil(ctx context.Context, watch *approval.Watch, moment time.Time) error {
	pause, cancel := context.WithTimeout(ctx, max(moment.Sub(s.broker.Now()), minPause))
	defer cancel()
	err := watch.Wait(pause)
	if err == nil || ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// earlier returns the earlier of two moments, of which b may be zero: never.
func earlier(a, b time.Time) time.Time {
	if b.IsZero() || a.Before(b) {
		return a
	}
	return b
}

// send sends m, and gives up when the caller does not take it in time.
//
// A Send that finds no room waits until the stream ends, and only the return
// of the handler ends it. So it runs on a goroutine of its own, which ends
// with the stream at the latest and is waited for when the server stops. m
// must not be changed afterwards.
func (s *Server) send(ctx context.Context, stream grpc.ServerStream, m proto.Message) error {
	done := make(chan error, 1)
	s.sends.Go(func() { done <- stream.SendMsg(m) })
	timer := time.NewTimer(sendTimeout)
	defer timer.Stop()
	select {
	case err := <-done:
		if err != nil {
			return errCallerCancelled // a Send fails only when the stream is gone
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errSlowReader
	}
}
