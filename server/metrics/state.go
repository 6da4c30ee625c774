package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersignd/countersign/server"
	"github.com/countersignd/countersign/server/approval"
)

// A State is how a server is at a moment.
type State struct {
	ConnectedDevices int
	Load             server.Load
	PushServices     []approval.PushServiceStatus
	Disk             server.Disk

	// StoreSize is in bytes, and RecordSize in records; 0 means not known.
	StoreSize  int64
	RecordSize uint64

	ClockAhead time.Duration
	Restored   time.Time // from a backup; zero if it never was

	// CertificateExpires is when the TLS certificate does.
	CertificateExpires time.Time
}

// Watch has read called whenever somebody asks for metrics, and now for the time by
// which sign-ins expire. Neither may wait for anything. It is called once.
func (m *Metrics) Watch(now func() time.Time, read func() State) {
	m.signIns.mu.Lock()
	m.signIns.now = now
	m.signIns.mu.Unlock()
	m.registry.MustRegister(watched(read))
}

// watched collects from a State.
type watched func() State

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("countersign_"+name, help, labels, nil)
}

var (
	devicesDesc     = desc("devices_connected", "Devices that have their stream of prompts open.")
	connectionsDesc = desc("connections", "Connections on the public listener: in their handshake, of callers that have shown nothing good, of trusted devices, of applications.", "kind")
	refusedDesc     = desc("connections_refused_total", "Connections that were closed because their source opened too many too fast.")
	streamsDesc     = desc("streams_open", "Streams that are open, by method.", "method")
	queueDesc       = desc("push_queue_length", "Pushes that wait or are under way.", "service")
	brokenDesc      = desc("push_service_broken", "1 if a configured push service refuses this server.", "service")
	sizeDesc        = desc("store_size_bytes", "What of the database's file is in use.")
	recordDesc      = desc("record_entries", "How long the record is.")
	freeDesc        = desc("disk_free_bytes", "What is free where the data lies.")
	lowDesc         = desc("disk_low", "1 if so little is free that nothing new can be begun.")
	ballastDesc     = desc("disk_ballast", "1 if there is a ballast to be given up on a full disk.")
	aheadDesc       = desc("clock_ahead_seconds", "How far the server's time is ahead of the machine's clock, which was set back.")
	restoredDesc    = desc("restored_timestamp_seconds", "When the database was last restored from a backup, 0 if never.")
	expiresDesc     = desc("tls_certificate_expiry_timestamp_seconds", "When the TLS certificate expires.")
)

// Describe implements [prometheus.Collector].
func (watched) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		devicesDesc, connectionsDesc, refusedDesc, streamsDesc, queueDesc, brokenDesc, sizeDesc, recordDesc,
		freeDesc, lowDesc, ballastDesc, aheadDesc, restoredDesc, expiresDesc,
	} {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (read watched) Collect(to chan<- prometheus.Metric) {
	s := read()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(devicesDesc, float64(s.ConnectedDevices))
	gauge(connectionsDesc, float64(s.Load.Handshakes), "handshake")
	gauge(connectionsDesc, float64(s.Load.Strangers), "stranger")
	gauge(connectionsDesc, float64(s.Load.Devices), "device")
	gauge(connectionsDesc, float64(s.Load.Applications), "application")
	to <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(s.Load.RefusedConnections))
	for method, open := range s.Load.Streams {
		gauge(streamsDesc, float64(open), method)
	}
	for _, p := range s.PushServices {
		service := known(services, string(p.Service))
		gauge(queueDesc, float64(p.Waiting), service)
		gauge(brokenDesc, flag(p.Trouble != ""), service)
	}
	if s.StoreSize > 0 {
		gauge(sizeDesc, float64(s.StoreSize))
		gauge(recordDesc, float64(s.RecordSize))
	}
	gauge(freeDesc, float64(s.Disk.Free))
	gauge(lowDesc, flag(s.Disk.Low))
	gauge(ballastDesc, flag(s.Disk.Ballast))
	gauge(aheadDesc, s.ClockAhead.Seconds())
	gauge(restoredDesc, timestamp(s.Restored))
	gauge(expiresDesc, timestamp(s.CertificateExpires))
}

func flag(set bool) float64 {
	if set {
		return 1
	}
	return 0
}

func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}
