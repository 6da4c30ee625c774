package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// A submission is a statement on its way. The server must see the counters of
// a device rise, also if several processes act for it (run, and beside it code
// or devices revoke). So each attempt signs, if it must, and sends while it
// holds the lock of the statements, and no statement can overtake another.
//
// Between two attempts the lock is free, because the network may be away for long.
// If another process has signed meanwhile, the statement is signed anew, with a
// new number; else the same bytes are sent again.
type submission[R any] struct {
	sign func(counter uint64, serverKey string) (string, error)
	send func(ctx context.Context, conn *Conn, signed string) (R, error)

	signed    string // "" if it has to be signed
	counter   uint64 // in signed
	serverKey string // in signed
	moved     bool   // it was signed anew because the server's key was another
}

var errBusy = errors.New("another countersign-agent of this device is sending a statement and does not come to an end")

// alone waits until no other statement of this process is under way: one comes
// to its end after the other. done must be called if err is nil.
func (a *Agent) alone(ctx context.Context) (done func(), err error) {
	select {
	case a.signing <- struct{}{}:
		return func() { <-a.signing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// submit hands in a statement until the server has answered it or ctx is done.
// connect returns the connection to use for an attempt. The caller is [Agent.alone].
func submit[R any](ctx context.Context, a *Agent, s submission[R], connect func(context.Context) (*Conn, error)) (R, error) {
	var none R
	var lastErr error
	lost := false // an answer, so that it may have counted
	pause := backoff{max: maxDecisionPause}
	for {
		conn, err := connect(ctx)
		if err != nil {
			if lastErr == nil { // nothing was sent
				return none, err
			}
			return none, unanswered(lastErr, lost)
		}
		response, err := s.attempt(ctx, a, conn)
		if err == nil {
			return response, nil
		}
		// Behind the system's roots, a server may have another key after a
		// restart, and the connection was made anew unnoticed.
		stale := Reason(err) == countersignv1.ErrorReason_ERROR_REASON_STATEMENT_MISMATCH && conn.ServerKey() != s.serverKey
		if stale && !s.moved {
			s.signed, s.moved = "", true
			continue
		}
		if errors.As(err, new(*localError)) {
			return none, err
		}
		if lastErr = err; !errors.Is(err, errBusy) {
			lastErr = a.explain(conn, err)
		}
		if ReactionTo(err) != Retry {
			return none, lastErr
		}
		lost = lost || !isBarred(err)
		if sleep(ctx, pause.next()) != nil {
			return none, unanswered(lastErr, lost)
		}
	}
}

// unanswered is the error of a statement that was not handed in in time.
func unanswered(lastErr error, lost bool) error {
	if lost {
		return gaveUp(lastErr)
	}
	return lastErr
}

// A localError is one of this machine's disk or keys: to try again is no use.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

// attempt sends the statement once.
func (s *submission[R]) attempt(ctx context.Context, a *Agent, conn *Conn) (R, error) {
	var none R
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	unlock, err := lockStatements(ctx, a.dir)
	if err != nil {
		return none, err
	}
	defer unlock()
	if s.signed != "" {
		newest, err := readCounter(a.dir)
		if err != nil {
			return none, &localError{err}
		}
		if newest != s.counter {
			s.signed = ""
		}
	}
	if s.signed == "" {
		if s.counter, err = nextCounter(a.dir); err != nil {
			return none, &localError{err}
		}
		s.serverKey = conn.ServerKey()
		if s.signed, err = s.sign(s.counter, s.serverKey); err != nil {
			return none, &localError{err}
		}
	}
	return s.send(ctx, conn, s.signed)
}

// statementsName is the file whose lock is held while a statement is signed and
// sent. The lock of the directory is another one: it is held for moments only.
const statementsName = "statements.lock"

// lockPoll is how often a lock that another process holds is asked for.
const lockPoll = 20 * time.Millisecond

// lockStatements waits for the lock of the statements, or until ctx is done.
func lockStatements(ctx context.Context, dir string) (unlock func(), err error) {
	for {
		unlock, err := tryLock(dir, statementsName)
		if err != nil {
			return nil, &localError{fmt.Errorf("locking the agent's statements: %w", err)}
		}
		if unlock != nil {
			return unlock, nil
		}
		if sleep(ctx, lockPoll) != nil {
			return nil, errBusy
		}
	}
}
