package server

import (
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A Call is one that is over, to be counted. It names nobody.
type Call struct {
	// Method is the name of the service and of the method, such as
	// "DeviceService/GetSelf"; it is "other" for a method that is not served.
	Method string

	// Code is the status that the caller was sent, and Reason the reason in it, such
	// as "DEVICE_REVOKED"; empty for a call that succeeded, and where gRPC itself
	// has answered.
	Code   codes.Code
	Reason string

	// Took is how long it took, 0 if it was refused before it was heard.
	Took time.Duration

	// Stream is set for a stream, which takes as long as the caller wants it to.
	Stream bool
}

// A Load is what a server carries at a moment.
type Load struct {
	// How many connections there are on the public listener: in their handshake;
	// of callers that have shown nothing good; of trusted devices; of applications.
	Handshakes, Strangers, Devices, Applications int

	// RefusedConnections is how many were closed since the server began because
	// their source opened too many too fast.
	RefusedConnections uint64

	// Streams is how many of each streaming method are open.
	Streams map[string]int
}

// Load returns what the server carries now.
func (s *Server) Load() Load {
	l := s.budget.load()
	l.Streams = make(map[string]int, len(s.streams))
	for method, open := range s.streams {
		l.Streams[shortMethod(method)] = int(open.Load())
	}
	return l
}

// countable returns a counter for each streaming method that is served.
func countable(servers ...*grpc.Server) map[string]*atomic.Int64 {
	streams := map[string]*atomic.Int64{}
	for _, g := range servers {
		for service, info := range g.GetServiceInfo() {
			for _, m := range info.Methods {
				if m.IsServerStream || m.IsClientStream {
					streams["/"+service+"/"+m.Name] = new(atomic.Int64)
				}
			}
		}
	}
	return streams
}

// begun counts a call that was heard. The function it returns is called when the
// call is over, with what the caller is sent.
func (s *Server) begun(fullMethod string) (over func(*error)) {
	began := time.Now()
	open, stream := s.streams[fullMethod]
	if stream {
		open.Add(1)
	}
	return func(err *error) {
		if stream {
			open.Add(-1)
		}
		s.called(fullMethod, *err, time.Since(began), stream)
	}
}

// called tells of a call that is over.
func (s *Server) called(fullMethod string, err error, took time.Duration, stream bool) {
	if s.config.Called == nil {
		return
	}
	c := Call{Method: "other", Took: took, Stream: stream}
	if _, served := methods[fullMethod]; served {
		c.Method = shortMethod(fullMethod)
	}
	st := status.Convert(err)
	c.Code, c.Reason = st.Code(), reasonOf(st)
	s.config.Called(c)
}

// shortMethod returns the name of a method without the package of its service.
func shortMethod(fullMethod string) string {
	return fullMethod[strings.LastIndexByte(fullMethod, '.')+1:]
}
