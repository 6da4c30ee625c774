package agent

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// The agent tells the server how far prompts have come on this device, so that
// whoever waits knows whether they arrived. Nothing is decided by it, so it must
// hold up nothing: one goroutine reports, and what it could not say in time is
// said with the next message of the stream.
//
// The server keeps in memory what it is told, so everything is said anew on each
// new stream. What is over, is forgotten with the message that lacks it.

const (
	// maxReports is how many the server takes in one call.
	maxReports = 32

	// reportTimeout is how long one call may take.
	reportTimeout = 10 * time.Second
)

// A TestPrompt is shown to see whether prompts arrive at this device. It asks
// nothing and lets nobody in, and must not look as if it did.
type TestPrompt struct {
	ID string
	// RequestedBy is who asked for it, in the server's words: show it through
	// text.Isolate. A device is named by its id.
	RequestedBy string
	Created     time.Time // by this device's clock, right or wrong
	ExpireTime  time.Time // when it is to be taken away, by this device's clock
}

// PromptsShown says that prompts or test prompts of these ids (Prompt.SignIn and
// TestPrompt.ID) are on the screen now. One that is hidden, locked away, or behind
// another one is not. Saying it again does no harm.
func (a *Agent) PromptsShown(ids ...string) {
	a.mu.Lock()
	changed := false
	for _, id := range ids {
		if a.latest.has(id) && a.stages[id] < countersignv1.DeliveryStage_DELIVERY_STAGE_SHOWN {
			a.stages[id], changed = countersignv1.DeliveryStage_DELIVERY_STAGE_SHOWN, true
		}
	}
	a.mu.Unlock()
	if changed {
		a.wakeReporter()
	}
}

// TestSeen says that the person has put a test prompt away. It is not shown any
// more. Nothing else comes of it.
func (a *Agent) TestSeen(id string) {
	a.mu.Lock()
	if a.latest.tests.has(id) {
		a.stages[id] = countersignv1.DeliveryStage_DELIVERY_STAGE_ANSWERED
	}
	a.mu.Unlock()
	a.ring()
	a.wakeReporter()
}

// tests are the test prompts of one message.
type tests []TestPrompt

func (t tests) has(id string) bool {
	return slices.ContainsFunc(t, func(p TestPrompt) bool { return p.ID == id })
}

// has reports whether the set holds what can be reported under this id.
func (s set) has(id string) bool { return s.asks(id) || s.tests.has(id) }

// trackLocked notes that what the stream said last has come, and forgets what is over.
func (a *Agent) trackLocked() {
	before := a.stages
	a.stages = make(map[string]countersignv1.DeliveryStage)
	came := func(id string) {
		a.stages[id] = max(before[id], countersignv1.DeliveryStage_DELIVERY_STAGE_RECEIVED)
	}
	for _, p := range a.latest.prompts {
		came(p.SignIn)
	}
	for _, t := range a.latest.tests {
		came(t.ID)
	}
}

func (a *Agent) wakeReporter() {
	select {
	case a.reports <- struct{}{}:
	default: // it is awake, and reads what changed
	}
}

// A reporter tells one server what this device has received and shown. It belongs
// to the goroutine of [Agent.report].
type reporter struct {
	conn *Conn // of the stream that the rest is about
	told map[string]countersignv1.DeliveryStage
	mute bool // this server does not take reports
}

// report tells the server how far prompts have come, until ctx is done.
func (a *Agent) report(ctx context.Context) {
	var r reporter
	for {
		select {
		case <-a.reports:
		case <-ctx.Done():
			return
		}
		a.mu.Lock()
		conn, news := a.conn, r.newsLocked(a)
		a.mu.Unlock()
		for batch := range slices.Chunk(news, maxReports) {
			if r.mute || !r.tell(ctx, conn, batch) {
				break
			}
		}
	}
}

// newsLocked returns what the server of the stream does not know yet.
func (r *reporter) newsLocked(a *Agent) []*countersignv1.PromptReport {
	if a.conn != r.conn {
		*r = reporter{conn: a.conn}
	}
	if r.conn == nil {
		return nil
	}
	known := r.told
	r.told = make(map[string]countersignv1.DeliveryStage)
	var news []*countersignv1.PromptReport
	for id, stage := range a.stages {
		if known[id] == stage {
			r.told[id] = stage
		} else {
			news = append(news, &countersignv1.PromptReport{Id: id, Stage: stage})
		}
	}
	return news
}

// tell sends reports, and returns whether the server took them.
func (r *reporter) tell(ctx context.Context, conn *Conn, reports []*countersignv1.PromptReport) bool {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	_, err := countersignv1.NewDeviceServiceClient(conn).ReportPrompts(ctx, &countersignv1.ReportPromptsRequest{Reports: reports})
	if err != nil {
		// A server from before there were reports does without. What may pass is
		// tried again when the stream says something, which it does every 30 s.
		r.mute = status.Code(err) == codes.Unimplemented || ReactionTo(err) != Retry
		return false
	}
	for _, report := range reports {
		r.told[report.Id] = report.Stage
	}
	return true
}
