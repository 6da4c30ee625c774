package metrics_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/metrics"
)

// clocked is a System's metrics without the System, at a time that the test says.
func clocked(t *testing.T) (s *scraped, observe func(approval.Observation), now *time.Time) {
	t.Helper()
	m := metrics.New("")
	now = new(time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC))
	m.Watch(func() time.Time { return *now }, func() metrics.State { return metrics.State{} })
	s = &scraped{t: t, metrics: m}
	s.url = serve(t, m, func() metrics.Readiness { return metrics.Readiness{} })
	return s, m.Observe().Recorded, now
}

func (s *scraped) want(what string, want map[string]string) {
	s.t.Helper()
	_, samples := s.scrape()
	for name, value := range want {
		if samples[name] != value {
			s.t.Errorf("%s: %s = %q, want %s", what, name, samples[name], value)
		}
	}
}

const (
	expiredUnknown   = `countersign_sign_ins_ended_total{cause="",lane="unknown",outcome="expired"}`
	expiredEnrolment = `countersign_sign_ins_ended_total{cause="",lane="enrolment",outcome="expired"}`
	deniedUnknown    = `countersign_sign_ins_ended_total{cause="",lane="unknown",outcome="denied"}`
	pending          = `countersign_sign_ins_open{state="pending"}`
	approved         = `countersign_sign_ins_open{state="approved"}`
)

// That nobody answers is counted, though it is on no record: once, when the time is
// over, and not for those that ended before.
func TestExpiredSignInsAreCounted(t *testing.T) {
	s, observe, now := clocked(t)
	in := func(minutes int) time.Time { return now.Add(time.Duration(minutes) * time.Minute) }
	begin := func(id string) {
		observe(approval.Observation{Event: approval.EventSignInBegun, SignIn: id, Lane: approval.LaneUnknown, Ends: in(5)})
	}
	begin("unanswered")
	begin("allowed")
	begin("denied")
	observe(approval.Observation{Event: approval.EventTrustRequested, SignIn: "tablet", Lane: approval.LaneEnrolment, Ends: in(5)})
	s.want("at first", map[string]string{pending: "4", approved: "0", expiredUnknown: "0"})

	*now = in(4)
	observe(approval.Observation{Event: approval.EventSignInAllowed, SignIn: "allowed", Lane: approval.LaneUnknown, Ends: in(2)})
	observe(approval.Observation{Event: approval.EventSignInDenied, SignIn: "denied", Lane: approval.LaneUnknown})
	observe(approval.Observation{Event: approval.EventSignInAllowed, SignIn: "from before the start", Lane: approval.LaneUnknown, Ends: in(2)})
	s.want("after answers", map[string]string{pending: "2", approved: "1", expiredUnknown: "0", deniedUnknown: "1"})

	*now = in(1)
	s.want("when the prompts are over", map[string]string{pending: "0", approved: "1", expiredUnknown: "1", expiredEnrolment: "1"})
	*now = in(1)
	s.want("when the code is over", map[string]string{pending: "0", approved: "0", expiredUnknown: "2", expiredEnrolment: "1"})
	s.want("again", map[string]string{expiredUnknown: "2", expiredEnrolment: "1", deniedUnknown: "1"})
}

// What is remembered is bounded by what is open, also where nobody asks.
func TestSignInsThatAreOverAreForgotten(t *testing.T) {
	s, observe, now := clocked(t)
	const all = 10000
	for i := range all {
		observe(approval.Observation{
			Event: approval.EventSignInBegun, SignIn: fmt.Sprint(i), Lane: approval.LaneUnknown, Ends: now.Add(5 * time.Minute),
		})
		*now = now.Add(time.Minute)
		if n := s.metrics.Remembered(); n > 111 { // 5 that are open, so 2×5+100 before the next sweep
			t.Fatalf("after %d sign-ins, one a minute, %d are remembered", i+1, n)
		}
	}
	*now = now.Add(5 * time.Minute)
	s.want("at the end", map[string]string{pending: "0", expiredUnknown: fmt.Sprint(all)})
}
