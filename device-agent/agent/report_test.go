package agent

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/internal/statement"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

const (
	received = pb.DeliveryStage_DELIVERY_STAGE_RECEIVED
	shownNow = pb.DeliveryStage_DELIVERY_STAGE_SHOWN
	answered = pb.DeliveryStage_DELIVERY_STAGE_ANSWERED
)

// stage returns what the fake was told of a prompt.
func (f *fakeServer) stage(id string) pb.DeliveryStage {
	return get(f, func() pb.DeliveryStage { return f.delivery.stages[id] })
}

func (f *fakeServer) reportCalls() int {
	return get(f, func() int { return len(f.delivery.reports) })
}

// bubble runs a device in a bubble of time, where Wait returns when it has nothing
// to do.
func bubble(t *testing.T, fn func(t *testing.T, f *fakeServer, a *Agent, d *desk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		a := trustedAgent(t, f, "ada")
		d, stop := running(t, a)
		synctest.Wait()
		fn(t, f, a, d)
		stop()
		f.stop()
	})
}

func TestReportsWhatCameAndWhatIsShown(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeServer, a *Agent, d *desk) {
		first, second := f.begin("ada"), f.begin("ada")
		other := f.begin("bob")
		hidden := strings.Repeat("v", 26)
		f.change(func() { f.raw = []*pb.Prompt{{SignInId: hidden, Document: []byte("x")}} })
		synctest.Wait()
		if f.stage(first.id) != received || f.stage(second.id) != received {
			t.Errorf("stages = %v, %v, want both received", f.stage(first.id), f.stage(second.id))
		}
		a.PromptsShown(first.id, other.id, hidden)
		synctest.Wait()
		if f.stage(first.id) != shownNow || f.stage(second.id) != received {
			t.Errorf("stages = %v, %v, want the first shown, the second behind it", f.stage(first.id), f.stage(second.id))
		}
		if f.stage(other.id) != 0 || f.stage(hidden) != 0 {
			t.Errorf("it reported what cannot be shown")
		}
		// What was said is not said again, neither with a heartbeat.
		calls := f.reportCalls()
		a.PromptsShown(first.id)
		time.Sleep(5 * time.Minute / 2)
		synctest.Wait()
		if n := f.reportCalls(); n != calls {
			t.Errorf("%d calls, want none after %d", n, calls)
		}
		f.change(func() { first.decision = statement.Deny })
		synctest.Wait()
		if n := get(f, func() int { a.mu.Lock(); defer a.mu.Unlock(); return len(a.stages) }); n != 1 {
			t.Errorf("%d prompts are remembered, want the one that is open", n)
		}
	})
}

// The server forgets with the stream, and is told everything anew.
func TestReportsAnewOnEachStream(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeServer, a *Agent, d *desk) {
		s := f.begin("ada")
		synctest.Wait()
		a.PromptsShown(s.id)
		synctest.Wait()
		f.stop()
		f.change(func() { f.delivery.stages = nil })
		f.start()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if got := f.stage(s.id); got != shownNow {
			t.Errorf("after a restart of the server the stage is %v, want shown", got)
		}
	})
}

// However many there are, a call holds no more than the server takes.
func TestReportsInBatches(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeServer, a *Agent, d *desk) {
		f.stop()
		var ids []string
		for range 70 {
			ids = append(ids, f.begin("ada").id)
		}
		f.start()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		for _, id := range ids {
			if f.stage(id) != received {
				t.Fatalf("%s was not reported", id)
			}
		}
		if n := f.reportCalls(); n != 3 {
			t.Errorf("%d calls for 70 prompts, want 3", n)
		}
	})
}

// A server from before there were reports is asked once on each connection.
func TestOldServerGetsNoReports(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeServer, a *Agent, d *desk) {
		f.change(func() { f.delivery.old = true })
		s := f.begin("ada")
		synctest.Wait()
		a.PromptsShown(s.id)
		f.begin("ada")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := f.reportCalls(); n != 1 {
			t.Errorf("%d calls of what it does not know, want 1", n)
		}
		screen := d.all()[len(d.all())-1]
		if screen.Status != "connected to countersign.test:8443" || len(screen.Prompts) != 2 {
			t.Errorf("screen = %+v, want two prompts and no complaint", screen)
		}
		if _, err := a.Answer(t.Context(), screen.Prompts[0], statement.Deny, ""); err != nil {
			t.Errorf("Answer = %v", err)
		}
	})
}

// A report that failed is made again when the server says something, and not before.
func TestReportsAgainWithTheNextMessage(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeServer, a *Agent, d *desk) {
		f.change(func() { f.delivery.failing = 2 })
		s := f.begin("ada")
		synctest.Wait()
		// The fake tells the streams when it is called, so a message came at once.
		if n := f.reportCalls(); n != 3 || f.stage(s.id) != received {
			t.Errorf("%d calls, stage %v; want 3, received", n, f.stage(s.id))
		}
		f.change(func() { f.heartbeat = 30 * time.Second; f.delivery.slow = make(chan struct{}) })
		a.PromptsShown(s.id)
		time.Sleep(reportTimeout + time.Second)
		f.mu.Lock()
		f.delivery.slow = nil
		f.mu.Unlock()
		synctest.Wait()
		if got := f.stage(s.id); got != received {
			t.Errorf("stage = %v before the heartbeat, want received", got)
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if got := f.stage(s.id); got != shownNow {
			t.Errorf("stage = %v after a heartbeat, want shown", got)
		}
	})
}

// Reports hold up neither prompts nor answers.
func TestSlowReportsDelayNothing(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeServer, a *Agent, d *desk) {
		f.change(func() { f.delivery.slow = make(chan struct{}) })
		began := time.Now()
		f.begin("ada")
		synctest.Wait()
		f.begin("ada")
		s := d.waitFor(t, "both prompts", prompts(2))
		if _, err := a.Answer(t.Context(), s.Prompts[0], statement.Deny, ""); err != nil {
			t.Errorf("Answer = %v", err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v of time, want none", took)
		}
	})
}

func TestRings(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeServer, a *Agent, d *desk) {
		s := f.begin("ada")
		f.change(func() { s.rings = 1 })
		synctest.Wait()
		f.change(func() { s.rings = 2 })
		screen := d.waitFor(t, "two rings", func(s Screen) bool { return len(s.Prompts) == 1 && s.Prompts[0].Rings == 2 })
		if _, err := a.Answer(t.Context(), screen.Prompts[0], statement.Deny, ""); err != nil {
			t.Errorf("Answer = %v", err)
		}
	})
}

func oneTest(s Screen) bool { return len(s.Tests) == 1 }
func noTest(s Screen) bool  { return len(s.Tests) == 0 }

func TestTestPrompt(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeServer, a *Agent, d *desk) {
		f.behind = time.Hour // its clock
		id := f.newTest(a.state.Device, "uid 0 (root)", 2*time.Minute)
		s := d.waitFor(t, "the test", oneTest)
		if got := s.Tests[0]; got.ID != id || got.RequestedBy != "uid 0 (root)" || got.ExpireTime.Sub(time.Now()) != 2*time.Minute {
			t.Errorf("test = %+v, want two minutes of this device's clock", got)
		}
		synctest.Wait()
		if f.stage(id) != received {
			t.Errorf("stage = %v, want received", f.stage(id))
		}
		a.PromptsShown(id)
		synctest.Wait()
		a.TestSeen(id)
		d.waitFor(t, "it put away", noTest)
		a.PromptsShown(id) // late
		synctest.Wait()
		if f.stage(id) != answered {
			t.Errorf("stage = %v, want answered", f.stage(id))
		}
		if n := get(f, func() int { return len(f.decisions) }); n != 0 {
			t.Errorf("%d statements were sent for a test", n)
		}

		// It goes by itself, also when no message says so.
		id = f.newTest(a.state.Device, "x", time.Second)
		d.waitFor(t, "the next test", oneTest)
		time.Sleep(time.Second)
		if s := a.screen(); len(s.Tests) != 0 {
			t.Errorf("it is shown after its time")
		}
		a.TestSeen(strings.Repeat("0", 26)) // there is none of that name
		synctest.Wait()
	})
}

// A test that was put away while the server was gone is told of when it is back.
func TestSeenOffline(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeServer, a *Agent, d *desk) {
		id := f.newTest(a.state.Device, "x", time.Hour)
		d.waitFor(t, "the test", oneTest)
		synctest.Wait()
		f.stop()
		a.TestSeen(id)
		d.waitFor(t, "it put away", noTest)
		f.start()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if f.stage(id) != answered {
			t.Errorf("stage = %v, want answered", f.stage(id))
		}
	})
}

func TestHostileTestPrompts(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	d, _ := running(t, a)
	good := f.begin("ada")
	soon := timestamppb.New(time.Now().Add(time.Hour))
	for name, test := range map[string]*pb.TestPrompt{
		"no id":             {CreateTime: soon, ExpireTime: soon},
		"not an id":         {Id: strings.Repeat("Z", 26), CreateTime: soon, ExpireTime: soon},
		"no end":            {Id: strings.Repeat("v", 26), CreateTime: soon},
		"of a prompt's id":  {Id: good.id, CreateTime: soon, ExpireTime: soon},
		"no time at all":    {Id: strings.Repeat("v", 26), ExpireTime: soon, CreateTime: &timestamppb.Timestamp{Nanos: -1}},
		"an end of no time": {Id: strings.Repeat("v", 26), CreateTime: soon, ExpireTime: &timestamppb.Timestamp{Seconds: 1 << 62}},
	} {
		f.change(func() { f.delivery.rawTest = []*pb.TestPrompt{test} })
		s := d.waitFor(t, name, func(s Screen) bool { return strings.Contains(s.Status, "1 request cannot be shown") })
		if len(s.Tests) != 0 || len(s.Prompts) != 1 {
			t.Errorf("%s: screen = %+v, want the good prompt alone", name, s)
		}
		f.change(func() { f.delivery.rawTest = nil })
		d.waitFor(t, "the good one alone", func(s Screen) bool { return s.Status == "connected to countersign.test:8443" })
	}
	f.change(func() {
		f.delivery.rawTest = []*pb.TestPrompt{{Id: fmt.Sprintf("%026d", 7), CreateTime: soon, ExpireTime: timestamppb.New(time.Now().Add(-time.Hour))}}
	})
	if s := d.waitFor(t, "nothing", noTest); s.Status != "connected to countersign.test:8443" {
		t.Errorf("status = %q, want no complaint of a test that is over", s.Status)
	}
}
