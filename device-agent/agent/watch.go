package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

const (
	// firstMessage is how long the first message may take, which the server
	// sends at once: to connect, to shake hands, and a little more.
	firstMessage = 25 * time.Second

	// silence is how long a stream may be silent. The server repeats itself
	// every 30 seconds; two and a half of these mean that it is gone.
	silence = 75 * time.Second

	// steady is how long a stream must have lived for its end to be an event
	// of its own and not one more failure of the same kind.
	steady = time.Minute

	// maxPause is the longest ceiling of the pauses between two attempts.
	// After half an hour's absence of the server, half of a thousand
	// agents are back within 7.5 s and all within 15 s and one attempt.
	maxPause = 15 * time.Second

	// barredPause is the same for a device that does not count at present: only
	// a person, or days, can change that.
	barredPause = time.Minute
)

// Why a stream was given up by this side. The person sees the first only.
var (
	errSilent    = errors.New("the server has gone silent")
	errSuspended = errors.New("this device was asleep")
	errEnded     = errors.New("the server ended the stream")
)

// Run keeps a stream of prompts open and the prompter up to date, until ctx
// is done; then it returns nil. It returns an error only if calling again
// changes nothing: [Reason] and [ReactionTo] say why and what to do about it.
// Run must not be called twice at the same time.
func (a *Agent) Run(ctx context.Context, prompter Prompter) error {
	ctx, cancel := context.WithCancel(ctx)
	var display sync.WaitGroup
	display.Go(func() { a.display(ctx, prompter) })
	display.Go(func() { a.watchRecord(ctx) })
	display.Go(func() { a.report(ctx) })
	defer display.Wait()
	defer cancel()

	a.say("connecting to " + a.state.Server)
	pause := backoff{max: maxPause}
	for {
		began := time.Now()
		stood, err := a.watch(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case ReactionTo(err) != Retry:
			a.say(err.Error())
			return err
		}
		lived := stood && time.Since(began) > steady
		pause.max = maxPause
		if isBarred(err) {
			a.bar(err)
			pause.max = barredPause
		}
		if lived {
			pause.reset()
		} else {
			// The end of a stream that has lived is not told: the server ends
			// connections now and then, and the next attempt mends it.
			a.say(err.Error() + "; trying again")
		}
		if errors.Is(err, errSuspended) {
			pause.reset()
			continue
		}
		a.pause(ctx, pause.next())
	}
}

// isBarred reports whether the server knows this device and does not count it
// at present, which may pass. Nothing came of the call then.
func isBarred(err error) bool {
	switch Reason(err) {
	case countersignv1.ErrorReason_ERROR_REASON_DEVICE_WAITING,
		countersignv1.ErrorReason_ERROR_REASON_DEVICE_DORMANT,
		countersignv1.ErrorReason_ERROR_REASON_DEVICE_UNCONFIRMED:
		return true
	}
	return false
}

// bar notes why this device does not count, until a stream says otherwise.
func (a *Agent) bar(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.barred = err.Error()
}

// pause waits for d, but no longer than until the device wakes up from sleep.
func (a *Agent) pause(ctx context.Context, d time.Duration) {
	ctx, stop := a.untilSuspended(ctx)
	defer stop()
	sleep(ctx, d)
}

// watch holds one stream until it ends. stood reports whether there was one.
func (a *Agent) watch(ctx context.Context) (stood bool, err error) {
	ctx, stop := a.untilSuspended(ctx)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dead := time.AfterFunc(firstMessage, func() { cancel(errSilent) })
	defer dead.Stop()

	conn, err := a.newConn()
	if err != nil {
		return false, err
	}
	defer conn.Close()
	stream, err := countersignv1.NewDeviceServiceClient(conn).WatchPrompts(ctx, &countersignv1.WatchPromptsRequest{})
	if err != nil {
		return false, a.lost(ctx, conn, err)
	}
	defer a.disconnected()
	for {
		message, err := stream.Recv()
		if err != nil {
			return stood, a.lost(ctx, conn, err)
		}
		dead.Reset(silence)
		a.receive(conn, message)
		a.showRecord(showing{conn, message.GetCheckpoint(), !stood})
		stood = true
	}
}

// lost says why a stream is lost.
func (a *Agent) lost(ctx context.Context, conn *Conn, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSuspended) {
		return cause
	} else if errors.Is(cause, errSilent) && conn.ServerKey() == "" {
		return fmt.Errorf("cannot reach %s: no answer", a.state.Server)
	} else if errors.Is(cause, errSilent) {
		return cause
	}
	if errors.Is(err, io.EOF) {
		return errEnded
	}
	return a.explain(conn, err)
}

func (a *Agent) disconnected() {
	a.mu.Lock()
	if a.conn != nil {
		a.conn = nil
		a.up = make(chan struct{})
	}
	a.mu.Unlock()
	a.ring()
}

// receive takes in the complete set that the server sent.
func (a *Agent) receive(conn *Conn, message *countersignv1.WatchPromptsResponse) {
	latest := a.read(message)
	a.mu.Lock()
	if a.conn == nil {
		close(a.up)
	}
	a.conn = conn
	a.latest, a.barred = latest, ""
	a.status = "connected to " + a.state.Server
	if latest.trouble != "" {
		a.status += ", but " + latest.trouble
	}
	a.settleLocked(time.Now())
	a.trackLocked()
	a.mu.Unlock()
	a.ring()
	a.wakeReporter()
	a.noteClock(clockAhead(message.GetServerTime(), time.Now()))
}

// say changes the status line.
func (a *Agent) say(status string) {
	a.mu.Lock()
	a.status = status
	a.mu.Unlock()
	a.ring()
}

func (a *Agent) ring() {
	select {
	case a.bell <- struct{}{}:
	default: // it rings already, and what changed will be read
	}
}

// display shows the screen whenever the bell rings, and once more at the end,
// so that why Run returned has been shown.
func (a *Agent) display(ctx context.Context, prompter Prompter) {
	for {
		select {
		case <-a.bell:
			prompter.Show(a.screen())
		case <-ctx.Done():
			select {
			case <-a.bell:
				prompter.Show(a.screen())
			default:
			}
			return
		}
	}
}

// clocks are two readings taken at one moment.
type clocks struct {
	wall      time.Time     // goes on while the device sleeps
	monotonic time.Duration // does not (on Linux, CLOCK_MONOTONIC)
}

var processStart = time.Now()

func readClocks() clocks {
	now := time.Now()
	return clocks{wall: now.Round(0), monotonic: now.Sub(processStart)}
}

const (
	lookAtClocks = 5 * time.Second
	asleep       = 15 * time.Second // a shorter sleep, connections survive
)

// slept reports whether the device slept between the readings a and b. A clock
// that was set looks the same, and does no harm.
func slept(a, b clocks) bool {
	return b.wall.Sub(a.wall)-(b.monotonic-a.monotonic) > asleep
}

// untilSuspended returns a context that is cancelled with the cause errSuspended when
// the device wakes up from sleep: its connections are dead then, and nothing
// but a long wait would tell. stop must be called.
func (a *Agent) untilSuspended(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		ticker := time.NewTicker(lookAtClocks)
		defer ticker.Stop()
		for before := a.clocks(); ; {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			now := a.clocks()
			if slept(before, now) {
				cancel(errSuspended)
				return
			}
			before = now
		}
	})
	return ctx, func() {
		cancel(nil)
		watching.Wait()
	}
}

// trouble is what a set of prompts holds that cannot be shown.
func trouble(count int, first error) string {
	switch count {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("1 request cannot be shown: %v", first)
	}
	return fmt.Sprintf("%d requests cannot be shown, the first because: %v", count, first)
}
