package webpush

import (
	"net"
	"net/netip"
)

// nearby says whether a public address is this machine's own, which its firewall does
// not keep from itself, or an IPv6 address in the network that it is in: there
// everything has a public address, and only the router keeps the internet from it. The
// neighbours of a public IPv4 address are anybody's. Nothing is sent to find out.
//
// The sockets are why it asks no list of addresses: for that the kernel wants a kind of
// socket that a hardened service may not open.
func nearby(to netip.AddrPort) (bool, error) {
	if mine(to.Addr()) {
		return true, nil
	}
	if to.Addr().Is4() {
		return false, nil
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return false, err
	}
	defer conn.Close() // nothing was written
	from := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	return sameNetwork(from, to.Addr()), nil
}

// sameNetwork says whether two IPv6 addresses are in one network, which has 64 bits
// (RFC 4291, 2.5.4).
func sameNetwork(a, b netip.Addr) bool {
	prefix, err := a.WithZone("").Prefix(64)
	return err != nil || prefix.Contains(b)
}

// mine says whether an address is one of this machine's: to no other can a socket be
// bound. Where the kernel was told to allow that for all (ip_nonlocal_bind), it is not
// known, and the answer is no.
func mine(address netip.Addr) bool {
	nobodys := netip.AddrFrom4([4]byte{192, 0, 2, 1}) // documentation (RFC 5737)
	if address.Is6() {
		nobodys = netip.MustParseAddr("2001:db8::1") // likewise (RFC 3849)
	}
	return bindable(address) && !bindable(nobodys)
}

func bindable(address netip.Addr) bool {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 0)))
	if err != nil {
		return false
	}
	conn.Close() // nothing was written
	return true
}
