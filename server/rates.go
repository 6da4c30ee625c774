package server

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxSources is how many sources the server remembers the rate of. When there
// are more, the one that was quiet the longest is forgotten, so that who owns
// many networks cannot fill the memory; the limit for all sources together
// still holds for them.
const maxSources = 4096

// sourceOf returns what counts as one source: an IPv4 address, or the IPv6
// /64 that a customer or a host is given. All that is no IP address is one
// source.
func sourceOf(addr netip.Addr) netip.Prefix {
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	source, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return source
}

// rates limits how often each source may connect.
type rates struct {
	limit rate.Limit
	burst int

	mu      sync.Mutex
	sources map[netip.Prefix]*list.Element
	recent  list.List // of *sourceRate, the newest first
}

type sourceRate struct {
	source  netip.Prefix
	limiter *rate.Limiter
}

func newRates(perSecond, burst int) *rates {
	return &rates{limit: rate.Limit(perSecond), burst: burst, sources: map[netip.Prefix]*list.Element{}}
}

// allow reports whether source may connect now, and counts it if so.
func (r *rates) allow(source netip.Prefix, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.sources[source]
	if e == nil {
		if len(r.sources) >= maxSources {
			oldest := r.recent.Back()
			delete(r.sources, r.recent.Remove(oldest).(*sourceRate).source)
		}
		e = r.recent.PushFront(&sourceRate{source, rate.NewLimiter(r.limit, r.burst)})
		r.sources[source] = e
	}
	r.recent.MoveToFront(e)
	return e.Value.(*sourceRate).limiter.AllowN(now, 1)
}
