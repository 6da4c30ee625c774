package webpush

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// dialTimeout is how long it may take to connect, and again to shake hands.
	dialTimeout = 5 * time.Second

	// maxAddresses is how many addresses of a name one push may knock at. Push
	// services have fewer; who answers for a name can give it thousands.
	maxAddresses = 16
)

// errRefusedAddress is why the guard does not connect.
var errRefusedAddress = errors.New("an address that must not be pushed to")

// Allowed is where to push besides public addresses. The zero value is nowhere.
type Allowed struct {
	prefixes []netip.Prefix
	hosts    []string // lower-case names; to these all of their addresses are allowed
}

// ParseAllowed reads a list of prefixes ("10.0.0.0/8"), addresses ("192.168.1.5")
// and host names ("push.home.example").
func ParseAllowed(list []string) (Allowed, error) {
	var a Allowed
	for _, entry := range list {
		wrong := fmt.Errorf(`cannot allow pushes to %q: give a host name such as "push.home.example", an address, or a prefix such as "10.0.0.0/8"`, entry)
		if prefix, err := netip.ParsePrefix(entry); err == nil {
			switch {
			case prefix.Bits() == 0:
				return Allowed{}, fmt.Errorf("cannot allow pushes to %q: devices choose what is pushed to, and that is everything this machine can reach; give the push server's own address", entry)
			case prefix != prefix.Masked():
				return Allowed{}, fmt.Errorf("cannot allow pushes to %q: it has bits behind the prefix; you may mean %s", entry, prefix.Masked())
			case prefix.Addr().Is4In6():
				return Allowed{}, wrong
			}
			a.prefixes = append(a.prefixes, prefix)
			continue
		}
		if address, err := netip.ParseAddr(entry); err == nil && address.Zone() == "" {
			address = address.Unmap()
			a.prefixes = append(a.prefixes, netip.PrefixFrom(address, address.BitLen()))
			continue
		}
		if name := strings.ToLower(entry); validName(name) {
			a.hosts = append(a.hosts, name)
			continue
		}
		return Allowed{}, wrong
	}
	return a, nil
}

func (a Allowed) host(name string) bool { return slices.Contains(a.hosts, name) }

func (a Allowed) address(address netip.Addr) bool {
	return slices.ContainsFunc(a.prefixes, func(p netip.Prefix) bool { return p.Contains(address) })
}

// A guard keeps pushes from what only this machine can reach.
type guard struct {
	allowed  Allowed
	resolver *net.Resolver                      // nil is the system's
	near     func(netip.AddrPort) (bool, error) // nearby, but in tests
}

func newGuard(a Allowed) *guard { return &guard{allowed: a, near: nearby} }

// dial connects to host:port if the guard admits the address that the host has. The
// name is looked up once, and each address that is tried is judged when its socket
// exists and before it connects, so the address that was judged is the one that is
// connected to.
func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var tried atomic.Int64 // IPv4 and IPv6 are tried side by side
	d := net.Dialer{
		Timeout:  dialTimeout,
		Resolver: g.resolver,
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			if tried.Add(1) > maxAddresses {
				return errRefusedAddress
			}
			return g.admit(host, network, address)
		},
	}
	return d.DialContext(ctx, network, address)
}

// admit judges a connection to address, an IP address with a port, that is made
// because of host.
func (g *guard) admit(host, network, address string) error {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return errRefusedAddress
	}
	if g.allowed.host(strings.ToLower(host)) || g.allowed.address(parsed.Addr().Unmap()) {
		return nil
	}
	if !g.admits(parsed.Addr()) {
		return errRefusedAddress
	}
	near, err := g.near(netip.AddrPortFrom(parsed.Addr().Unmap(), parsed.Port()))
	if err != nil {
		return err
	}
	if near {
		return errRefusedAddress
	}
	return nil
}

func (g *guard) admits(address netip.Addr) bool {
	if address.Zone() != "" {
		return false
	}
	address = address.Unmap()
	return g.allowed.address(address) || public(address)
}

// public says whether an address is one of the internet, by the registries of IANA
// for special-purpose addresses (RFC 6890) as they were in 2026. What is not known to
// be public is not.
func public(address netip.Addr) bool {
	switch {
	case address.Is4():
		return !within(address, notPublic4)
	case nat64.Contains(address):
		// Behind it is an IPv4 address (RFC 6052, 2.1), which is what counts.
		b := address.As16()
		return public(netip.AddrFrom4([4]byte(b[12:])))
	}
	return global6.Contains(address) && !within(address, notPublic6)
}

func within(address netip.Addr, prefixes []netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(address) })
}

var (
	notPublic4 = prefixes(
		"0.0.0.0/8",       // this network (RFC 791)
		"10.0.0.0/8",      // private (RFC 1918)
		"100.64.0.0/10",   // shared by a provider's customers (RFC 6598)
		"127.0.0.0/8",     // loopback
		"169.254.0.0/16",  // link-local (RFC 3927), where clouds have their metadata
		"172.16.0.0/12",   // private
		"192.0.0.0/24",    // protocol assignments (RFC 6890)
		"192.0.2.0/24",    // documentation (RFC 5737)
		"192.88.99.0/24",  // relays of 6to4 (RFC 7526)
		"192.168.0.0/16",  // private
		"198.18.0.0/15",   // benchmarks (RFC 2544)
		"198.51.100.0/24", // documentation
		"203.0.113.0/24",  // documentation
		"224.0.0.0/4",     // multicast
		"240.0.0.0/4",     // reserved, and broadcast
	)

	// global6 is all that is global unicast today (RFC 4291, 2.4). Loopback, the
	// unspecified address, mapped and compatible IPv4, link-local, unique local,
	// multicast and what is not assigned lie outside.
	global6    = netip.MustParsePrefix("2000::/3")
	notPublic6 = prefixes(
		"2001::/23",     // protocol assignments: Teredo, benchmarks, ORCHID (RFC 2928)
		"2001:db8::/32", // documentation (RFC 3849)
		"2002::/16",     // 6to4, whose IPv4 may be any (RFC 7526)
		"3fff::/20",     // documentation (RFC 9637)
	)

	// nat64 is where a network without IPv4 has all of it (RFC 6052). Its sister for
	// local use, 64:ff9b:1::/48, may lead anywhere.
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

func prefixes(list ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, p := range list {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}
