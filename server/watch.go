package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
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

	// cutAfter is how long a slow device, or one that was revoked, has to read why
	// its stream or call ended, before its connection is closed and what is queued
	// for it freed.
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
	p := &promptStream{server: d.server, stream: stream, caller: who, watch: watch}
	if err := d.server.crew.call(func(errand) error { return p.begin(ctx) }); err != nil {
		return err
	}
	defer d.server.crew.call(func(errand) error {
		p.end(ctx)
		return nil
	})
	for {
		if err := d.server.crew.call(func(e errand) error { return p.show(ctx, e) }); err != nil {
			if err == error(errSlowReader) {
				time.AfterFunc(cutAfter, func() { who.conn.Close() })
			}
			return err
		}
		if err := d.server.waitUntil(ctx, watch, p.next); err != nil {
			return err
		}
	}
}

// screenBuffers has room for encoded screens, of type *[]byte. A screen of many
// notices is some thousand bytes, and hundreds may be made at once.
var screenBuffers = sync.Pool{New: func() any { return new([]byte) }}

// A promptStream is what one call of WatchPrompts remembers.
type promptStream struct {
	server *Server
	stream grpc.ServerStreamingServer[pb.WatchPromptsResponse]
	caller caller
	watch  *approval.Watch

	last    [sha256.Size]byte // hash of what was sent last; zero if nothing was
	shown   []string          // ids of the prompts in it
	covered uint64            // size of the record in the checkpoint that was sent last
	sent    time.Time
	seen    time.Time // when the device is noted to have been there
	next    time.Time // when show is to be called again at the latest
}

// begin notes that the device is there. If it was there a moment ago, show finds out
// whether it may be.
func (p *promptStream) begin(ctx context.Context) error {
	p.seen = p.caller.conn.lastSeen
	return p.note(ctx)
}

// note notes that the device is there, if that is not noted already.
func (p *promptStream) note(ctx context.Context) error {
	broker := p.server.broker
	if broker.SeenNow(p.seen) {
		return nil
	}
	now := broker.Now()
	if err := broker.Seen(ctx, p.caller.device); err != nil {
		return err
	}
	p.seen = now
	return nil
}

// end notes when the stream ended. The stream's own context is over then.
func (p *promptStream) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), seenTimeout)
	defer cancel()
	err := p.note(ctx)
	if _, refused := errors.AsType[*approval.Error](err); err != nil && !refused {
		p.server.log.Error("noting when a device was last seen", "device", p.caller.device, "error", err)
	}
}

// show sends the device what it must show, if that has changed or it is time for
// a heartbeat.
func (p *promptStream) show(ctx context.Context, e errand) error {
	broker, device := p.server.broker, p.caller.device
	screen, err := broker.WatchedScreen(ctx, p.watch)
	if err != nil {
		return err
	}
	now := broker.Now()
	buffer := screenBuffers.Get().(*[]byte)
	defer screenBuffers.Put(buffer)
	encoded, err := appendScreen((*buffer)[:0], &screen)
	if err != nil {
		return err
	}
	*buffer = encoded
	hash := sha256.Sum256(encoded)
	if changed := hash != p.last; changed || now.Sub(p.sent) >= heartbeat {
		message := &pb.WatchPromptsResponse{ServerTime: timestamp(now)}
		if changed {
			checkpoint, size, err := broker.CheckpointOf(ctx, screen.Records)
			if err != nil {
				return err
			}
			if size > p.covered {
				message.Checkpoint, p.covered = p.server.checkpointMessage(checkpoint), size
			}
		}
		// What is encoded already follows what is not, as if this program did not
		// know it.
		message.ProtoReflect().SetUnknown(encoded)
		if err := e.send(p.stream, message); err != nil {
			return err
		}
		p.last, p.sent = hash, now
		ids := screen.IDs()
		broker.Sent(device, slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return slices.Contains(p.shown, id) })...)
		p.shown = ids
	}
	if now.Sub(p.seen) >= seenEvery {
		if err := p.note(ctx); err != nil {
			return err
		}
	}
	p.next = earlier(p.sent.Add(heartbeat), screen.Next)
	return nil
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
			if err := g.server.send(stream, message); err != nil {
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
// Broker's time. If that jumps far ahead meanwhile, the Broker rings; and if the
// server stops, it rings the devices and waitUntil says so.
func (s *Server) waitUntil(ctx context.Context, watch *approval.Watch, moment time.Time) error {
	if err := s.stopping.Err(); err != nil {
		return errShuttingDown
	}
	if err := watch.WaitFor(ctx, max(moment.Sub(s.broker.Now()), minPause)); err != nil {
		return err
	}
	if err := s.stopping.Err(); err != nil {
		return errShuttingDown
	}
	return nil
}

// earlier returns the earlier of two moments, of which b may be zero: never.
func earlier(a, b time.Time) time.Time {
	if b.IsZero() || a.Before(b) {
		return a
	}
	return b
}

// send has m sent, and gives up when the caller does not take it in time. m must not
// be changed afterwards.
func (s *Server) send(stream grpc.ServerStream, m proto.Message) error {
	return s.crew.call(func(e errand) error { return e.send(stream, m) })
}
