package approval

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Pushing is a doorbell too. After the commit a sign-in is named here, and
// nothing waits for what follows: the sign-in is read again, and every device
// that must be woken gets a place in the queue of its push service. Before each
// attempt all is read once more, see wakeable in wakeup.go.
const (
	// maxWakes is how many wake-ups of one service wait or are under way. When
	// there are more, the oldest is given up, those that only take a prompt away
	// before all others.
	maxWakes = 4096

	// maxLooks is how many sign-ins may wait to be looked at.
	maxLooks = 4096

	// wakeWorkers is how many pushes of one service are under way at once, and
	// wakesOfAccount how many of these for one account: an endpoint that answers
	// late must not hold up others.
	wakeWorkers    = 16
	wakesOfAccount = 2

	// wakeTimeout is how long one attempt may take.
	wakeTimeout = 10 * time.Second

	// wakePause is how long a push that may be taken later waits after the first
	// attempt; then twice as long each time, up to maxWakePause. The service may
	// ask for more. A fifth more or less of it is left to chance.
	wakePause    = 2 * time.Second
	maxWakePause = time.Minute

	// brokenPause is how long nothing is tried through a service that refuses
	// this server.
	brokenPause = time.Minute

	// idleWait is how long a queue sleeps that nobody rings.
	idleWait = time.Hour

	// deafAfter is how long an open stream counts on which the device does not
	// say that the prompt came: its connection may be dead, and nobody knows yet.
	deafAfter = 10 * time.Second
)

// waking is what waits to be pushed.
type waking struct {
	services map[PushService]*wakeQueue // never changed

	mu    sync.Mutex
	looks []string      // sign-ins that have changed
	lost  bool          // there were more
	bell  chan struct{} // one slot
}

// A wakeQueue holds the wake-ups of one service.
type wakeQueue struct {
	service PushService
	waker   Waker
	bell    chan struct{} // one slot

	mu      sync.Mutex
	tasks   []*wakeTask    // oldest first
	busy    int            // of these, how many are under way
	running map[string]int // the same, by account
	full    bool           // since it was last half empty
	trouble string         // why the service refuses this server
	since   time.Time      // of trouble
	until   time.Time      // nothing is tried before
}

// A wakeTask is one wake-up. A queue has one for a prompt and a device.
type wakeTask struct {
	topic, device, account string
	expires                time.Time
	rung                   time.Time // when the prompt last rang
	test, over             bool

	ready time.Time // not before
	tries int
	busy  bool
	again bool // changed while it was under way: then it starts over
}

// look names a sign-in that has changed. It never waits.
func (w *waking) look(ids ...string) {
	if len(w.services) == 0 || len(ids) == 0 {
		return
	}
	w.mu.Lock()
	for _, id := range ids {
		switch {
		case slices.Contains(w.looks, id):
		case len(w.looks) < maxLooks:
			w.looks = append(w.looks, id)
		default:
			w.lost = true
		}
	}
	w.mu.Unlock()
	knock(w.bell)
}

func (w *waking) taken() (ids []string, lost bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids, lost = w.looks, w.lost
	w.looks, w.lost = nil, false
	return ids, lost
}

func knock(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// ring rings devices and who watches sign-ins, and has those pushed to that do
// not hear the bell. It never waits, and is called only after the commit.
func (b *Broker) ring(devices []string, signIns ...string) {
	b.hub.ring(devices, signIns...)
	b.waking.look(signIns...)
}

// push puts a wake-up into its queue.
func (b *Broker) push(service PushService, t wakeTask) {
	q := b.waking.services[service]
	if q == nil {
		return
	}
	dropped, first := q.put(t)
	if dropped == nil {
		return
	}
	b.observe.Push(service, PushDropped)
	if first {
		b.log.Warn("too many pushes wait, so the oldest are given up: the push service is slow, or this server is", "service", service, "waiting", maxWakes)
	}
	if !dropped.over {
		b.noteGivenUp(dropped, "too many pushes were waiting, so this one was given up")
	}
}

// put adds a wake-up, or renews the one of the same prompt and device if the
// prompt rang again or is over: its pauses are for what it was. If that makes too many, it returns the one that was given up, and whether it is the
// first for a while.
func (q *wakeQueue) put(t wakeTask) (dropped *wakeTask, first bool) {
	defer knock(q.bell)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, old := range q.tasks {
		if old.topic == t.topic && old.device == t.device {
			if old.over != t.over || !old.rung.Equal(t.rung) {
				old.expires, old.rung, old.over, old.ready, old.tries = t.expires, t.rung, t.over, t.ready, 0
				old.again = old.busy
			}
			return nil, false
		}
	}
	q.tasks = append(q.tasks, &t)
	if len(q.tasks) <= maxWakes {
		return nil, false
	}
	i := slices.IndexFunc(q.tasks, func(t *wakeTask) bool { return !t.busy && t.over })
	if i < 0 {
		i = slices.IndexFunc(q.tasks, func(t *wakeTask) bool { return !t.busy })
	}
	dropped, first = q.tasks[i], !q.full
	q.tasks, q.full = slices.Delete(q.tasks, i, i+1), true
	return dropped, first
}

// over makes the wake-ups of a prompt that is over take it away, or nothing if
// they were not sent yet.
func (q *wakeQueue) over(topic string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tasks = slices.DeleteFunc(q.tasks, func(t *wakeTask) bool { return t.topic == topic && !t.busy && !t.over })
	for _, t := range q.tasks {
		if t.topic == topic && !t.over {
			t.over, t.again = true, true
		}
	}
}

// next returns a wake-up whose time has come, and a copy of it as it is, or how
// long to wait for one; 0 means until the bell rings. It is the oldest of an account
// with the fewest under way: those whose pushes take long wait for each other first.
func (q *wakeQueue) next(now time.Time) (t *wakeTask, is wakeTask, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.busy >= wakeWorkers {
		return nil, is, 0
	}
	fewest := wakesOfAccount // that an account with a wake-up whose time has come has under way
	for _, o := range q.tasks {
		switch {
		case o.busy || q.running[o.account] >= fewest:
		case !o.ready.After(now):
			t, fewest = o, q.running[o.account]
		case wait == 0 || o.ready.Sub(now) < wait:
			wait = o.ready.Sub(now)
		}
	}
	if t == nil {
		return nil, is, wait
	}
	t.busy = true
	q.busy++
	q.running[t.account]++
	return t, *t, 0
}

// done takes a wake-up back after an attempt, to be tried again then, or never
// if that is the zero time.
func (q *wakeQueue) done(t *wakeTask, again time.Time) {
	defer knock(q.bell)
	q.mu.Lock()
	defer q.mu.Unlock()
	t.busy = false
	q.busy--
	if q.running[t.account]--; q.running[t.account] == 0 {
		delete(q.running, t.account)
	}
	switch {
	case t.again:
		t.again, t.tries, t.ready = false, 0, time.Time{}
	case !again.IsZero() && again.Before(t.expires):
		t.tries++
		t.ready = again
	default:
		q.tasks = slices.DeleteFunc(q.tasks, func(o *wakeTask) bool { return o == t })
	}
	if len(q.tasks) < maxWakes/2 {
		q.full = false
	}
}

// paused returns until when nothing is tried, and why.
func (q *wakeQueue) paused(now time.Time) (until time.Time, why string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Before(q.until) {
		return q.until, q.trouble
	}
	return time.Time{}, ""
}

// broke notes that the service refuses this server, and reports whether that is
// news.
func (q *wakeQueue) broke(why string, now time.Time) (news bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	news = q.trouble == ""
	if news {
		q.since = now
	}
	q.trouble, q.until = why, now.Add(brokenPause)
	return news
}

// works notes that the service takes pushes, and reports whether that is news.
func (q *wakeQueue) works() (news bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	news = q.trouble != ""
	q.trouble, q.since, q.until = "", time.Time{}, time.Time{}
	return news
}

func (q *wakeQueue) state() PushServiceStatus {
	q.mu.Lock()
	defer q.mu.Unlock()
	return PushServiceStatus{q.service, q.trouble, q.since, len(q.tasks)}
}

// pauseBefore returns how long to wait after so many attempts, at least as long
// as the service asked for.
func pauseBefore(tries int, asked time.Duration) time.Duration {
	pause := maxWakePause
	if tries < 5 {
		pause = wakePause << tries
	}
	return max(asked, time.Duration(float64(pause)*(0.8+0.4*rand.Float64())))
}

// KeepWaking pushes to devices that have no open stream, and writes down how far
// prompts have come, until ctx ends and all that it began has ended. It must run
// beside serving, once.
func (b *Broker) KeepWaking(ctx context.Context) {
	var all sync.WaitGroup
	for _, q := range b.waking.services {
		all.Go(func() { b.keepService(ctx, q) })
	}
	if len(b.waking.services) > 0 {
		all.Go(func() { b.keepLooking(ctx) })
	}
	all.Go(func() { b.keepDeliveries(ctx) })
	all.Wait()
	// What the last second brought. The context is over, and the store is not.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), wakeTimeout)
	defer cancel()
	b.tell(b.writeDeliveries(last), "writing down how far prompts have come")
}

// keepDeliveries writes down once a second what is new.
func (b *Broker) keepDeliveries(ctx context.Context) {
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := b.writeDeliveries(ctx); ctx.Err() == nil {
				b.tell(err, "writing down how far prompts have come")
			}
		}
	}
}

// keepLooking finds out whom to wake for the sign-ins that were named. It looks at
// all that are open where more had changed than could be named, and at the
// beginning: the process before may have ended before it had pushed.
func (b *Broker) keepLooking(ctx context.Context) {
	ids, err := b.allOpen(ctx)
	b.tell(err, "looking for devices to wake")
	for ctx.Err() == nil {
		for _, id := range ids {
			if err := b.lookAt(ctx, id); ctx.Err() == nil {
				b.tell(err, "looking for devices to wake")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-b.waking.bell:
		}
		var lost bool
		if ids, lost = b.waking.taken(); lost {
			b.log.Warn("too many sign-ins changed at once: all that are open are looked at for devices to wake", "more_than", maxLooks)
			open, err := b.allOpen(ctx)
			b.tell(err, "looking for devices to wake")
			ids = append(ids, open...)
		}
	}
}

func (b *Broker) allOpen(ctx context.Context) (ids []string, err error) {
	err = b.view(ctx, func(tx *transaction) error {
		ids = nil
		for id := range tx.Ascend(bucketOpen, "") {
			ids = append(ids, id)
		}
		return nil
	})
	return ids, err
}

func (b *Broker) tell(err error, doing string) {
	if err != nil {
		b.log.Error(doing, "error", err)
	}
}

// keepService pushes what waits in a queue.
func (b *Broker) keepService(ctx context.Context, q *wakeQueue) {
	var workers sync.WaitGroup
	defer workers.Wait()
	for ctx.Err() == nil {
		t, is, wait := q.next(b.now())
		if t != nil {
			workers.Go(func() { q.done(t, b.attempt(ctx, q, &is)) })
			continue
		}
		if wait == 0 {
			wait = idleWait
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-q.bell:
		case <-timer.C:
		}
		timer.Stop()
	}
}
