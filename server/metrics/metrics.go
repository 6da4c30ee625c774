// Package metrics counts what a server does, for Prometheus.
//
// Three kinds of numbers come together in one registry, which is nobody else's:
//
//   - what happened, counted as it happens: records, sign-ins, decisions, codes,
//     pushes, calls, commits. [Metrics] has a function for each part of the server
//     that tells of something, to be put into its configuration.
//   - how things are, read when they are asked for: see [State].
//   - what Go and the system know of the process.
//
// # Names and labels
//
// All names of our own begin with countersign_ and are in base units. A label never
// holds what a caller has sent or what the server has read, but a word out of a list
// that is in the program: a word that is not in its list is counted as "other". So no
// metric names a person, a device, an account, an application, an address or a
// secret, and how many series there are does not depend on who calls. Those that
// can happen are there from the beginning, with 0, where there are few.
//
// docs/service.md says what each is good for.
package metrics

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc/codes"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server"
	"github.com/countersignd/countersign/server/approval"
)

// Metrics counts for one server. Its methods may be called from many goroutines.
type Metrics struct {
	registry *prometheus.Registry
	signIns  *signIns

	records       *prometheus.CounterVec
	decisions     *prometheus.CounterVec
	denyReasons   *prometheus.CounterVec
	verifications *prometheus.CounterVec
	wrongCodes    prometheus.Counter
	pushes        *prometheus.CounterVec
	prompts       *prometheus.CounterVec

	calls     *prometheus.CounterVec
	refusals  *prometheus.CounterVec
	durations *prometheus.HistogramVec

	commits       prometheus.Histogram
	commitUpdates prometheus.Histogram
	commitsFailed prometheus.Counter
}

// New returns Metrics of a server of this version, in which nothing has happened.
func New(version string) *Metrics {
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "countersign", Name: name, Help: help}
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		signIns:  newSignIns(),

		records: prometheus.NewCounterVec(counter("records_total",
			"What was put on record, by event."), []string{"event"}),
		decisions: prometheus.NewCounterVec(counter("decisions_total",
			"Decisions of devices that changed something."), []string{"decision"}),
		denyReasons: prometheus.NewCounterVec(counter("deny_reasons_total",
			"Reasons that devices gave for a denial."), []string{"reason"}),
		verifications: prometheus.NewCounterVec(counter("verifications_total",
			"Codes that were compared and right, by the kind of code."), []string{"code"}),
		wrongCodes: prometheus.NewCounter(counter("codes_wrong_total",
			"Codes that were compared and wrong.")),
		pushes: prometheus.NewCounterVec(counter("pushes_total",
			"Attempts to push, by push service and what became of them; dropped was none."), []string{"service", "outcome"}),
		prompts: prometheus.NewCounterVec(counter("prompts_total",
			"Prompts that a device says it has received, or shown."), []string{"stage"}),

		calls: prometheus.NewCounterVec(counter("calls_total",
			"Calls that are over, by method and gRPC status."), []string{"method", "code"}),
		refusals: prometheus.NewCounterVec(counter("refusals_total",
			"Calls that were answered with an error, by its reason in the API."), []string{"reason"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "countersign", Name: "call_duration_seconds",
			Help:    "How long calls took that are no streams.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"method"}),

		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "countersign", Name: "store_commit_duration_seconds",
			Help:    "How long it took to write a commit to the disk.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}),
		commitUpdates: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "countersign", Name: "store_commit_operations",
			Help:    "How many operations shared a commit.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11), // to boltstore's 1024
		}),
		commitsFailed: prometheus.NewCounter(counter("store_commit_failures_total",
			"Commits that failed. The first ends the process.")),
	}
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "countersign", Name: "build_info", Help: "1, with the program's version.",
	}, []string{"version"})
	info.WithLabelValues(version).Set(1)
	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info,
		m.signIns, m.records, m.decisions, m.denyReasons, m.verifications, m.wrongCodes, m.pushes, m.prompts,
		m.calls, m.refusals, m.durations, m.commits, m.commitUpdates, m.commitsFailed,
	)
	m.begin()
	return m
}

// The words of labels that package approval has no list of.
var (
	decisions   = []string{statement.Allow, statement.Deny}
	denyReasons = []string{statement.Mistake, statement.NotMe}
	codeKinds   = []string{"code", "requested", "offline"}
	services    = []string{string(approval.PushAPNs), string(approval.PushWebPush)}
	stages      = map[approval.DeliveryStage]string{approval.DeliveryReceived: "received", approval.DeliveryShown: "shown"}
)

// other is what a word is counted as that is not in its list.
const other = "other"

// known returns the word if the list has it.
func known[T ~string](list []T, word T) string {
	if slices.Contains(list, word) {
		return string(word)
	}
	return other
}

// begin makes what can happen visible before it does, so that the first time is a
// step from 0 to 1 and not a series that is there all at once.
func (m *Metrics) begin() {
	for _, e := range approval.Events() {
		m.records.WithLabelValues(string(e))
	}
	for _, d := range decisions {
		m.decisions.WithLabelValues(d)
	}
	for _, r := range denyReasons {
		m.denyReasons.WithLabelValues(r)
	}
	for _, k := range codeKinds {
		m.verifications.WithLabelValues(k)
	}
	for _, s := range stages {
		m.prompts.WithLabelValues(s)
	}
	for _, s := range services {
		for _, o := range approval.PushOutcomes() {
			m.pushes.WithLabelValues(s, string(o))
		}
	}
}

// Observe returns what a Broker must be told to have its work counted.
func (m *Metrics) Observe() approval.Observe {
	return approval.Observe{Recorded: m.recorded, Push: m.pushed, Prompt: m.prompted}
}

func (m *Metrics) recorded(o approval.Observation) {
	m.records.WithLabelValues(known(approval.Events(), o.Event)).Inc()
	switch o.Event {
	case approval.EventSignInAllowed:
		m.decisions.WithLabelValues(statement.Allow).Inc()
	case approval.EventSignInDenied:
		m.decisions.WithLabelValues(statement.Deny).Inc()
	case approval.EventSignInVerified:
		m.verifications.WithLabelValues(known(codeKinds, o.Code)).Inc()
	case approval.EventCodeWrong:
		m.wrongCodes.Inc()
	}
	if o.Reason != "" {
		m.denyReasons.WithLabelValues(known(denyReasons, o.Reason)).Inc()
	}
	m.signIns.observe(o)
}

func (m *Metrics) pushed(service approval.PushService, outcome approval.PushOutcome) {
	m.pushes.WithLabelValues(known(services, string(service)), known(approval.PushOutcomes(), outcome)).Inc()
}

func (m *Metrics) prompted(stage approval.DeliveryStage) {
	m.prompts.WithLabelValues(cmp.Or(stages[stage], other)).Inc()
}

// Called counts a call: it is for [server.Config].
func (m *Metrics) Called(c server.Call) {
	m.calls.WithLabelValues(c.Method, c.Code.String()).Inc()
	if c.Code != codes.OK && c.Reason != "" {
		m.refusals.WithLabelValues(c.Reason).Inc()
	}
	if c.Took > 0 && !c.Stream {
		m.durations.WithLabelValues(c.Method).Observe(c.Took.Seconds())
	}
}

// Committed counts a commit: it is for the options of package boltstore.
func (m *Metrics) Committed(took time.Duration, operations int, err error) {
	if err != nil {
		m.commitsFailed.Inc()
		return
	}
	m.commits.Observe(took.Seconds())
	m.commitUpdates.Observe(float64(operations))
}
