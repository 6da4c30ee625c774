package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersignd/countersign/server/approval"
)

// signIns counts sign-ins as they begin and end. That one expires is put on no
// record: it happens by the clock alone. So those that are open are remembered
// here, as many as the server lets be open, and counted as expired when their time
// is over. Those from before the process began are not known.
type signIns struct {
	begun *prometheus.CounterVec
	ended *prometheus.CounterVec

	mu    sync.Mutex
	open  map[string]openSignIn // by id
	swept int                   // how many were left when those that are over were last removed
	now   func() time.Time      // the Broker's time; nil before there is a Broker
}

type openSignIn struct {
	lane    string
	allowed bool
	ends    time.Time
}

// How a sign-in ends. One that was denied can be verified, or cancelled, afterwards.
const (
	endVerified  = "verified"
	endDenied    = "denied"
	endExpired   = "expired"
	endCancelled = "cancelled" // with a cause
)

// notSilent is what the silence is called of a sign-in that rang.
const notSilent = "no"

var (
	silences = []approval.Silence{approval.SilentBudget, approval.SilentGap, approval.SilentSource, approval.SilentLane}
	causes   = []approval.CancelCause{
		approval.CancelApplication, approval.CancelTooManyTries, approval.CancelDeviceRevoked, approval.CancelAccountSuspended,
		approval.CancelApplicationRemoved, approval.CancelClockChanged, approval.CancelRestored, approval.CancelMadeRoom,
	}
	openDesc = prometheus.NewDesc("countersign_sign_ins_open",
		"Sign-ins and requests to be trusted, begun since the start, that can be answered (pending) or verified (approved).", []string{"state"}, nil)
)

func newSignIns() *signIns {
	s := &signIns{
		begun: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "countersign", Name: "sign_ins_begun_total",
			Help: "Sign-ins and requests to be trusted that were begun, by lane and by why they rang nobody (no: they rang).",
		}, []string{"lane", "silent"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "countersign", Name: "sign_ins_ended_total",
			Help: "Sign-ins and requests to be trusted that ended, by lane, how, and what cancelled them.",
		}, []string{"lane", "outcome", "cause"}),
		open: map[string]openSignIn{},
	}
	for _, lane := range approval.Lanes() {
		s.begun.WithLabelValues(string(lane), notSilent)
		for _, why := range silences {
			s.begun.WithLabelValues(string(lane), string(why))
		}
		for _, end := range []string{endVerified, endDenied, endExpired} {
			s.ended.WithLabelValues(string(lane), end, "")
		}
		for _, cause := range causes {
			s.ended.WithLabelValues(string(lane), endCancelled, string(cause))
		}
	}
	return s
}

// observe counts what a record says of a sign-in.
func (s *signIns) observe(o approval.Observation) {
	lane := known(approval.Lanes(), o.Lane)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch o.Event {
	case approval.EventSignInBegun, approval.EventTrustRequested:
		silent := notSilent
		if o.Silent != "" {
			silent = known(silences, o.Silent)
		}
		s.begun.WithLabelValues(lane, silent).Inc()
		s.open[o.SignIn] = openSignIn{lane: lane, ends: o.Ends}
		// So that they are not kept where nobody asks for metrics.
		if len(s.open) > 2*s.swept+100 {
			s.sweepLocked()
		}
	case approval.EventSignInAllowed:
		if _, ok := s.open[o.SignIn]; ok {
			s.open[o.SignIn] = openSignIn{lane: lane, allowed: true, ends: o.Ends}
		}
	case approval.EventSignInVerified:
		s.endLocked(o.SignIn, lane, endVerified, "")
	case approval.EventSignInDenied:
		s.endLocked(o.SignIn, lane, endDenied, "")
	case approval.EventSignInCancelled:
		s.endLocked(o.SignIn, lane, endCancelled, known(causes, o.Cause))
	}
}

func (s *signIns) endLocked(id, lane, outcome, cause string) {
	s.ended.WithLabelValues(lane, outcome, cause).Inc()
	delete(s.open, id)
}

// sweepLocked counts and forgets those that have expired.
func (s *signIns) sweepLocked() {
	if s.now != nil {
		now := s.now()
		for id, o := range s.open {
			if !now.Before(o.ends) {
				s.endLocked(id, o.lane, endExpired, "")
			}
		}
	}
	s.swept = len(s.open)
}

// Describe implements [prometheus.Collector].
func (s *signIns) Describe(to chan<- *prometheus.Desc) {
	s.begun.Describe(to)
	s.ended.Describe(to)
	to <- openDesc
}

// Collect implements [prometheus.Collector].
func (s *signIns) Collect(to chan<- prometheus.Metric) {
	s.mu.Lock()
	s.sweepLocked()
	approved := 0
	for _, o := range s.open {
		if o.allowed {
			approved++
		}
	}
	pending := len(s.open) - approved
	s.mu.Unlock()
	s.begun.Collect(to)
	s.ended.Collect(to)
	to <- prometheus.MustNewConstMetric(openDesc, prometheus.GaugeValue, float64(pending), "pending")
	to <- prometheus.MustNewConstMetric(openDesc, prometheus.GaugeValue, float64(approved), "approved")
}
