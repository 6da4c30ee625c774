package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/internal/text"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// unary surrounds every call that is answered once: who calls, what became of
// it, and what the log says. The crew does the work, which takes a deep stack.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	defer done(ctx)
	defer s.begun(info.FullMethod)(&err)
	began := time.Now()
	who, err := s.identify(ctx, info.FullMethod)
	if err == nil {
		err = s.crew.call(func(errand) (err error) {
			resp, err = handler(context.WithValue(ctx, callerKey{}, who), req)
			return err
		})
	}
	if who.kind == anyone {
		return resp, err // gRPC's own service, with its own errors
	}
	if err = s.finish(ctx, call{info.FullMethod, who, began, req, resp}, err); err != nil {
		return nil, err
	}
	return resp, nil
}

// stream does the same for every stream. Its context also ends when the server
// stops, but for the streams of devices: of these there are thousands, and they
// are rung instead.
func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer done(ss.Context())
	defer s.begun(info.FullMethod)(&err)
	began := time.Now()
	ctx := ss.Context()
	if methods[info.FullMethod].caller != device {
		cancellable, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		stop := context.AfterFunc(s.stopping, func() { cancel(errShuttingDown) })
		defer stop()
		ctx = cancellable
	}
	who, err := s.identify(ctx, info.FullMethod)
	if err == nil {
		err = handleStream(srv, &serverStream{ss, context.WithValue(ctx, callerKey{}, who)}, handler)
	}
	if who.kind == anyone {
		return err
	}
	if errors.Is(err, context.Canceled) && context.Cause(ctx) == errShuttingDown {
		err = errShuttingDown
	}
	return s.finish(ctx, call{info.FullMethod, who, began, nil, nil}, err)
}

func handleStream(srv any, ss grpc.ServerStream, handler grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p, debug.Stack()}
		}
	}()
	return handler(srv, ss)
}

// serverStream is a stream with a context of ours.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements [grpc.ServerStream].
func (s *serverStream) Context() context.Context { return s.ctx }

// panicError is a panic of a handler. It costs the call, not the process:
// every change is one transaction of the store, so nothing is left half done.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprint("panic: ", p.value) }

// A call is one that is over, for the log.
type call struct {
	method    string
	who       caller
	began     time.Time
	req, resp any
}

// finish writes what the log says of a call, and returns the error that the
// caller is sent.
//
// Nothing of a request is logged but the id of a sign-in if it has the form of
// one: people type passwords into the wrong field. No address is logged.
func (s *Server) finish(ctx context.Context, c call, err error) error {
	attrs := []slog.Attr{slog.String("method", path.Base(c.method)), slog.String("caller", c.who.kind.String())}
	if c.who.device != "" {
		attrs = append(attrs, slog.String("device", c.who.device))
	}
	if c.who.kind == administrator {
		attrs = append(attrs, slog.Uint64("uid", uint64(c.who.uid)))
	}
	attrs = append(attrs, subject(c.req, c.resp)...)
	attrs = append(attrs, slog.Duration("took", time.Since(c.began).Round(time.Microsecond)))
	if err == nil {
		s.log.LogAttrs(ctx, levelOf(c, nil), "call", attrs...)
		return nil
	}
	st, fault := toStatus(err)
	reason := reasonOf(st)
	attrs = append(attrs, slog.String("reason", reason))
	if reason == reasonName(pb.ErrorReason_ERROR_REASON_DEVICE_REVOKED) && c.who.conn != nil && !c.who.conn.stranger() {
		c.who.conn.dismiss()
	}
	if !fault {
		s.log.LogAttrs(ctx, levelOf(c, err), "call refused", attrs...)
		return st.Err()
	}
	attrs = append(attrs, slog.String("error", text.Escape(err.Error())))
	if p, ok := errors.AsType[*panicError](err); ok {
		attrs = append(attrs, slog.String("stack", string(p.stack)))
	}
	s.log.LogAttrs(ctx, slog.LevelError, "call failed", attrs...)
	return st.Err()
}

// levelOf returns the level at which a call is logged that was no fault. Who
// has shown nothing yet must not be able to fill the log.
func levelOf(c call, err error) slog.Level {
	if !methods[c.method].log || c.who.kind == nobody || c.who.conn != nil && c.who.conn.stranger() {
		return slog.LevelDebug
	}
	if err != nil {
		if st, _ := toStatus(err); st.Code() == codes.Unauthenticated {
			return slog.LevelDebug
		}
	}
	return slog.LevelInfo
}

// reasonOf returns the reason in the one detail that each of our errors has.
func reasonOf(st *status.Status) string {
	for _, d := range st.Details() {
		if info, ok := d.(interface{ GetReason() string }); ok {
			return info.GetReason()
		}
	}
	return ""
}

// subject returns what a call was about, from the answer where it says so.
func subject(req, resp any) []slog.Attr {
	var attrs []slog.Attr
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, text.Escape(value)))
		}
	}
	if r, ok := req.(interface{ GetSignInId() string }); ok && statement.ValidSignIn(r.GetSignInId()) {
		add("sign_in", r.GetSignInId())
	}
	if r, ok := req.(*pb.CreateInvitationRequest); ok && statement.ValidAccount(r.GetAccount()) {
		add("account", r.GetAccount())
	}
	switch r := resp.(type) {
	case *pb.BeginSignInResponse:
		add("sign_in", r.GetSignIn().GetId())
		add("account", r.GetSignIn().GetAccount())
		add("application", r.GetSignIn().GetApplication())
	case *pb.EnrollDeviceResponse:
		add("account", r.GetDevice().GetAccount())
	case *pb.CompleteTrustResponse:
		add("account", r.GetDevice().GetAccount())
	case *pb.RequestTrustResponse:
		add("sign_in", r.GetRequestId())
	case interface{ GetDevice() *pb.Device }:
		add("subject", r.GetDevice().GetId())
		add("account", r.GetDevice().GetAccount())
	case interface{ GetAccount() *pb.Account }:
		add("account", r.GetAccount().GetName())
	case interface{ GetApplication() *pb.Application }:
		add("application", r.GetApplication().GetId())
	}
	return attrs
}
