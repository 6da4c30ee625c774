package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// A backoff says how long to wait before the next attempt: a time anywhere
// between zero and a ceiling that doubles with each attempt ("full jitter", Amazon
// Builders' Library, Timeouts, retries, and backoff with jitter), so that a thousand
// agents that lost their server at one moment do not come back at one moment.
type backoff struct {
	max   time.Duration
	tries int
}

// firstPause is the ceiling of the first pause.
const firstPause = 200 * time.Millisecond

func (b *backoff) next() time.Duration {
	ceiling := b.max
	if doubled := firstPause << b.tries; doubled < b.max {
		ceiling = doubled
		b.tries++
	}
	return rand.N(ceiling)
}

func (b *backoff) reset() { b.tries = 0 }

// sleep waits for d, or until ctx is done; then it returns the cause.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// Persist calls fn again, after jittered pauses, as long as its error may pass
// ([ReactionTo]) and ctx is not done. It returns fn's last error. A server with
// the wrong key is not asked again, nor is a disk of this machine that failed.
func Persist(ctx context.Context, fn func() error) error {
	pause := backoff{max: maxDecisionPause}
	for {
		err := fn()
		if err == nil || ReactionTo(err) != Retry || errors.As(err, new(*WrongServerError)) || errors.As(err, new(*localError)) || ctx.Err() != nil {
			return err
		}
		if sleep(ctx, pause.next()) != nil {
			return err
		}
	}
}
