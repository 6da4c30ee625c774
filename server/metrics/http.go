package metrics

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// The limits of the HTTP listener: it is for a scraper or two and a load balancer.
const (
	maxConnections = 64
	maxScrapes     = 2 // at once; more are answered with 503
	readTimeout    = 5 * time.Second
	writeTimeout   = 15 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeader      = 8 << 10
)

// A Readiness is the answer of /readyz: whether callers should be sent here, and one
// line that says why not, or what they should know all the same.
type Readiness struct {
	Ready bool
	Words string
}

// Serve answers on l, in plain HTTP, until it is closed by the function that it
// returns, which waits until nothing of it runs any more:
//
//	/metrics  all metrics, in the formats of Prometheus
//	/livez    200 as long as the process answers
//	/readyz   200 or 503, and ready's line
//
// It answers GET and HEAD, and nothing else at no other path. ready must not wait
// for anything.
func (m *Metrics) Serve(l net.Listener, ready func() Readiness, log *slog.Logger) (stop func()) {
	srv := &http.Server{
		Handler:           m.handler(ready),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // it names callers' addresses
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := srv.Serve(netutil.LimitListener(l, maxConnections)); err != http.ErrServerClosed {
			log.Error("metrics are not served any more", "error", err)
		}
	}()
	return func() {
		srv.Close()
		<-ended
	}
}

func (m *Metrics) handler(ready func() Readiness) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { line(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		status, r := http.StatusOK, ready()
		if !r.Ready {
			status = http.StatusServiceUnavailable
		}
		line(w, status, r.Words)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

func line(w http.ResponseWriter, status int, words string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, words+"\n")
}
