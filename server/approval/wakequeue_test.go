package approval

import (
	"fmt"
	"testing"
	"time"
)

func newQueue() *wakeQueue {
	return &wakeQueue{service: PushAPNs, bell: make(chan struct{}, 1), running: map[string]int{}}
}

// TestAFullQueueGivesUpTheOldest: what only takes a prompt away goes first, and
// what is under way never.
func TestAFullQueueGivesUpTheOldest(t *testing.T) {
	q := newQueue()
	task := func(i int, over bool) wakeTask {
		return wakeTask{topic: fmt.Sprint(i), device: "phone", account: fmt.Sprint(i), over: over, expires: begun.Add(time.Minute)}
	}
	for i := range maxWakes {
		if dropped, _ := q.put(task(i, i == 7)); dropped != nil {
			t.Fatalf("the queue gave up %s when it held %d", dropped.topic, i)
		}
	}
	busy, _, _ := q.next(begun)
	if busy == nil || busy.topic != "0" {
		t.Fatalf("next = %+v, want the oldest", busy)
	}
	for i, want := range []string{"7", "1", "2"} {
		dropped, first := q.put(task(maxWakes+i, false))
		if dropped == nil || dropped.topic != want || first != (i == 0) || len(q.tasks) != maxWakes {
			t.Errorf("put into a full queue gave up %+v, first %v, and left %d; want %s, first %v, %d", dropped, first, len(q.tasks), want, i == 0, maxWakes)
		}
	}
	if dropped, _ := q.put(task(maxWakes, false)); dropped != nil || len(q.tasks) != maxWakes {
		t.Errorf("what is in the queue already was added again, and %+v given up", dropped)
	}
}

// TestAQueueIsFair: an account whose pushes take long leaves places for others.
func TestAQueueIsFair(t *testing.T) {
	q := newQueue()
	for _, account := range []string{"eve", "ada"} {
		for i := range 20 {
			q.put(wakeTask{topic: fmt.Sprint(i), device: "phone of " + account, account: account, expires: begun.Add(time.Minute)})
		}
	}
	running := map[string]int{}
	for {
		task, _, _ := q.next(begun)
		if task == nil {
			break
		}
		running[task.account]++
	}
	if running["eve"] != wakesOfAccount || running["ada"] != wakesOfAccount {
		t.Errorf("under way are %v, want %d of each", running, wakesOfAccount)
	}
	for i := range 30 {
		q.put(wakeTask{topic: "x", device: fmt.Sprint(i), account: fmt.Sprint(i), expires: begun.Add(time.Minute)})
	}
	n := 4
	for ; ; n++ {
		if task, _, _ := q.next(begun); task == nil {
			break
		}
	}
	if n != wakeWorkers {
		t.Errorf("%d are under way, want %d", n, wakeWorkers)
	}
}

// TestARingThatIsUnderWayIsTakenBack: a prompt may end while the push that
// tells of it is under way.
func TestARingThatIsUnderWayIsTakenBack(t *testing.T) {
	q := newQueue()
	for _, device := range []string{"mac", "phone"} {
		q.put(wakeTask{topic: "a", device: device, account: "ada", expires: begun.Add(time.Minute)})
	}
	busy, is, _ := q.next(begun)
	q.over("a")
	if is.over {
		t.Error("the attempt that is under way has changed")
	}
	q.done(busy, time.Time{})
	again, is, _ := q.next(begun)
	if again != busy || !is.over {
		t.Errorf("next = %+v, want the same once more, to take the prompt away", is)
	}
	q.done(again, time.Time{})
	if task, _, _ := q.next(begun); task != nil || len(q.tasks) != 0 {
		t.Errorf("next = %+v, want nothing: the other was not sent yet", task)
	}
}

func TestPausesGrowAndAreBounded(t *testing.T) {
	for tries, want := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute} {
		if got := pauseBefore(tries, 0); got < want*8/10 || got > want*12/10 {
			t.Errorf("pauseBefore(%d, 0) = %v, want %v, a fifth more or less", tries, got, want)
		}
	}
	if got := pauseBefore(0, 90*time.Second); got != 90*time.Second {
		t.Errorf("pauseBefore(0, 90s) = %v, want what the service asked for", got)
	}
}

func TestFailureWords(t *testing.T) {
	for _, test := range []struct{ why, want string }{
		{"APNs: Unregistered", "APNs: Unregistered"},
		{"", "no reason was given"},
		{"a\x1b[2Jb", `a\u{1b}[2Jb`},
		{"Web Push: \xff", "Web Push: ?"},
	} {
		if got := failureWords(test.why); got != test.want {
			t.Errorf("failureWords(%q) = %q, want %q", test.why, got, test.want)
		}
	}
	long := make([]byte, 5000)
	for i := range long {
		long[i] = 'x'
	}
	if got := failureWords(string(long)); len(got) > maxFailure {
		t.Errorf("failureWords of 5000 bytes has %d, want at most %d", len(got), maxFailure)
	}
}
