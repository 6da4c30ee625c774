package apnstest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http2"
)

// An Answer is what a server gives to the next push with which nothing is wrong,
// instead of taking it.
type Answer struct {
	Status    int
	Reason    string
	Timestamp time.Time   // zero for none
	Header    http.Header // further ones, such as Retry-After
	Body      string      // instead of the JSON that says reason and timestamp

	// GoAway ends the connection with a GOAWAY frame. It says whether the push may
	// have been taken, or is one to be sent again.
	GoAway GoAway

	// When, if it is not nil, is closed when the answer may be given.
	When <-chan struct{}

	// Stall means no answer at all.
	Stall bool
}

// GoAway is what a GOAWAY frame says of a push.
type GoAway int

// The kinds. The zero value sends no such frame.
const (
	GoAwayNotTaken   GoAway = iota + 1 // it was not looked at
	GoAwayPerhaps                      // it may have been taken
	GoAwayAfterwards                   // it is answered; what comes next needs another connection
)

// Next says what the next pushes are answered with which nothing is wrong, one
// answer for each.
func (s *Server) Next(answers ...Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = append(s.script, answers...)
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn := r.Context().Value(connectionKey{}).(*connection)
	payload, err := io.ReadAll(io.LimitReader(r.Body, maxPayload+1))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	p := Push{
		Connection: conn.number, Proto: r.Proto, Method: r.Method, Path: r.URL.RequestURI(),
		Header: r.Header.Clone(), Payload: payload,
	}
	leave, ok := s.enter(conn)
	defer leave()
	if r.ProtoMajor != 2 || !ok {
		s.keep(p)
		panic(http.ErrAbortHandler)
	}
	a := s.judge(conn, &p)
	p.Status, p.Reason = a.Status, a.Reason
	s.keep(p)
	id := p.Header.Get("apns-id")
	if !canonicalUUID.MatchString(id) {
		id = newUUID()
	}
	if a.Stall || a.When != nil {
		select {
		case <-a.When:
		case <-r.Context().Done():
		case <-s.closing:
		}
	}
	s.answered(conn)
	switch {
	case a.Stall:
		panic(http.ErrAbortHandler)
	case a.GoAway == GoAwayNotTaken, a.GoAway == GoAwayPerhaps:
		goAway(conn.raw, a.GoAway)
		panic(http.ErrAbortHandler)
	case a.GoAway == GoAwayAfterwards:
		w.Header().Set("Connection", "close") // which HTTP/2 says with a GOAWAY frame
	}
	w.Header().Set("apns-id", id)
	maps.Copy(w.Header(), a.Header)
	body := a.Body
	if body == "" && a.Status != http.StatusOK {
		body = a.json()
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(a.Status)
	io.WriteString(w, body)
}

// enter reports whether a connection may have one more push under way. Until one
// with a good provider's token was answered on it, that is one.
func (s *Server) enter(conn *connection) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	conn.open++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		conn.open--
	}, conn.open == 1 || conn.known
}

func (s *Server) answered(conn *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	conn.known = conn.known || conn.bearer != ""
}

func (s *Server) keep(p Push) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pushes = append(s.pushes, p)
}

// judge returns what is answered to a push.
func (s *Server) judge(conn *connection, p *Push) Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.refuse(conn, p)
	if a.Status == http.StatusOK && len(s.script) > 0 {
		a, s.script = s.script[0], s.script[1:]
		if a.Reason == "ExpiredProviderToken" {
			conn.bearer = "" // the next one is not too soon
		}
		conn.known = conn.known || a.Stall // all but the answer is as it should be
		if a.Status == 0 && (a.GoAway == GoAwayAfterwards || a.When != nil) {
			a.Status = http.StatusOK
		}
	}
	return a
}

func (a Answer) json() string {
	said := map[string]any{"reason": a.Reason}
	if !a.Timestamp.IsZero() {
		said["timestamp"] = a.Timestamp.UnixMilli()
	}
	text, err := json.Marshal(said)
	if err != nil {
		panic(err) // a text and a number have a form in JSON
	}
	return string(text)
}

// goAway writes a GOAWAY frame below the HTTP/2 that the server speaks, and ends the
// connection.
func goAway(raw net.Conn, kind GoAway) {
	last := uint32(0)
	if kind == GoAwayPerhaps {
		last = 1<<31 - 1
	}
	// An error means that the connection has ended already.
	http2.NewFramer(raw, nil).WriteGoAway(last, http2.ErrCodeNo, []byte(`{"reason":"Shutdown"}`))
	raw.Close()
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
