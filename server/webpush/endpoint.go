package webpush

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxEndpoint is how long an endpoint may be, in bytes: the API says so.
const maxEndpoint = 1024

// An endpoint is a push resource (RFC 8030, 4) that was checked.
type endpoint struct {
	url    string // as it was given
	host   string // lower-case name, or address; for people
	origin string // RFC 6454, 6.2
}

// parse reads an endpoint, of which it has one spelling only: an https URL in ASCII
// with a host name of letters, digits and hyphens or an address in its usual form. It
// refuses the addresses that the guard would refuse, and names that cannot be those
// of a push service. An error goes on behind "the endpoint ".
func (g *guard) parse(s string) (endpoint, error) {
	switch {
	case s == "":
		return endpoint{}, errors.New("is empty")
	case len(s) > maxEndpoint:
		return endpoint{}, fmt.Errorf("has %d bytes, at most %d", len(s), maxEndpoint)
	case !printable(s) || strings.ContainsAny(s, `\"<>^{|}`+"`"):
		return endpoint{}, errors.New("has characters that are in no URL: encode them")
	case !strings.HasPrefix(s, "https://"):
		return endpoint{}, errors.New("does not begin with https://")
	case strings.Contains(s, "#"):
		return endpoint{}, errors.New("has a fragment")
	}
	u, err := url.Parse(s)
	if err != nil || u.Opaque != "" || u.String() != s {
		return endpoint{}, errors.New("is no URL in its usual spelling")
	}
	if u.User != nil {
		return endpoint{}, errors.New("has a user name or a password")
	}
	host, err := g.parseHost(u.Host, u.Hostname())
	if err != nil {
		return endpoint{}, err
	}
	origin := "https://" + bracketed(host)
	port, err := parsePort(u)
	if err != nil {
		return endpoint{}, err
	}
	if port != 443 {
		origin += ":" + strconv.Itoa(port)
	}
	return endpoint{url: s, host: host, origin: origin}, nil
}

// parseHost reads the host of a URL, whose authority begins with a bracket if the
// host is an IPv6 address.
func (g *guard) parseHost(authority, host string) (string, error) {
	if strings.HasPrefix(authority, "[") || strings.Contains(host, ":") {
		address, err := netip.ParseAddr(host)
		if err != nil || !address.Is6() || address.Is4In6() || address.Zone() != "" {
			return "", errors.New("has a host that is no IPv6 address")
		}
		return g.literal(address)
	}
	if address, err := netip.ParseAddr(host); err == nil {
		return g.literal(address)
	}
	name := strings.ToLower(host)
	switch {
	case !validName(name):
		return "", errors.New("has a host that is no name of letters, digits and hyphens and no address in its usual form")
	case g.allowed.host(name):
		return name, nil
	case name == "localhost" || strings.HasSuffix(name, ".localhost"):
		if g.admits(netip.AddrFrom4([4]byte{127, 0, 0, 1})) || g.admits(netip.IPv6Loopback()) {
			return name, nil
		}
		return "", notAllowed(name)
	case !strings.Contains(name, "."):
		return "", notAllowed(name)
	}
	return name, nil
}

func (g *guard) literal(address netip.Addr) (string, error) {
	if !g.admits(address) {
		return "", notAllowed(address.String())
	}
	return address.String(), nil
}

func notAllowed(host string) error {
	return fmt.Errorf("has the host %s, which this server does not push to unless its operator allows it (web_push.allow)", host)
}

// parsePort takes 443 and what is not reserved for system services: a push service is
// nowhere else, and mail, shells and databases of old are.
func parsePort(u *url.URL) (int, error) {
	text := u.Port()
	if text == "" {
		if strings.HasSuffix(u.Host, ":") {
			return 0, errors.New("has a colon without a port")
		}
		return 443, nil
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || strconv.FormatUint(port, 10) != text || port != 443 && port < 1024 {
		return 0, fmt.Errorf("has the port %s: a push service has 443, or one from 1024 on", text)
	}
	return int(port), nil
}

func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

const (
	digits  = "0123456789"
	letters = "abcdefghijklmnopqrstuvwxyz"
)

// validName says whether s is a host name in lower case (RFC 1123, 2.1), without the
// dot at its end. A name whose last label begins with a digit is none: such are the
// other spellings of IPv4 addresses (2130706433, 0x7f.1), and no top-level domain.
func validName(s string) bool {
	if len(s) > 253 {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || !consists(label, letters+digits+"-") || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		last = label
	}
	return !strings.Contains(digits, last[:1])
}

func consists(s, alphabet string) bool {
	return strings.Trim(s, alphabet) == ""
}

// printable says whether s is ASCII without spaces and controls.
func printable(s string) bool {
	for _, b := range []byte(s) {
		if b <= ' ' || b > '~' {
			return false
		}
	}
	return true
}
