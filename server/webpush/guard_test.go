package webpush

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func mustAllow(t testing.TB, list ...string) Allowed {
	t.Helper()
	a, err := ParseAllowed(list)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestPublic(t *testing.T) {
	for _, test := range []struct {
		addresses string
		want      bool
	}{
		// The first and the last of each range that is refused, and their neighbours.
		{"1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0", true},
		{"169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0", true},
		{"192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0", true},
		{"198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255 8.8.8.8", true},
		{"0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.0 127.255.255.255", false},
		{"169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.255", false},
		{"192.0.2.0 192.0.2.255 192.88.99.1 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255", false},
		{"198.51.100.7 203.0.113.7 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255", false},

		{"2001:200:: 2001:4860:4860::8888 2606:4700::1 2a00:1450::1 2003::1 2001:db7:: 2001:db9::", true},
		{":: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 fe80::1 febf::1 fec0::1 fc00::1 fdff::1 ff02::1", false},
		{"2001::1 2001:2::1 2001:10::1 2001:20::1 2001:1ff::1 2001:db8::1 2002:7f00:1::1 2002:808:808::1", false},
		{"3fff::1 4000::1 100::1 5f00::1 1fff::1", false},
		{"::ffff:8.8.8.8", true},
		{"64:ff9b::8.8.8.8", true},
		{"64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b:0:0:1::1 64:ff9b:1::8.8.8.8", false},
	} {
		for address := range strings.FieldsSeq(test.addresses) {
			if got := newGuard(Allowed{}).admits(netip.MustParseAddr(address)); got != test.want {
				t.Errorf("admits(%s) = %v, want %v", address, got, test.want)
			}
		}
	}
	if newGuard(Allowed{}).admits(netip.MustParseAddr("2606:4700::1%eth0")) {
		t.Error("an address with a zone is admitted")
	}
}

func TestAdmit(t *testing.T) {
	g := newGuard(mustAllow(t, "10.1.0.0/16", "192.168.7.7", "fd00:7::/32", "Push.Home.Example", "2606:4700::77"))
	g.near = func(to netip.AddrPort) (bool, error) {
		if to.Addr() == netip.MustParseAddr("2001:4860::1") {
			return false, errors.New("no route")
		}
		return to.Addr() == netip.MustParseAddr("9.9.9.9") || to.Addr() == netip.MustParseAddr("2606:4700::77"), nil
	}
	for _, test := range []struct {
		host, network, address string
		want                   bool
	}{
		{"push.example.net", "tcp4", "8.8.8.8:443", true},
		{"push.example.net", "tcp6", "[2606:4700::1]:443", true},
		{"push.example.net", "tcp4", "9.9.9.9:443", false}, // this machine's own
		{"push.example.net", "tcp6", "[::ffff:9.9.9.9]:443", false},
		{"push.home.example", "tcp4", "9.9.9.9:443", true},
		{"push.example.net", "tcp6", "[2606:4700::77]:443", true}, // likewise, and allowed
		{"push.example.net", "tcp6", "[2001:4860::1]:443", false}, // nobody knows
		{"push.example.net", "tcp4", "10.1.255.1:8443", true},
		{"push.example.net", "tcp6", "[::ffff:10.1.255.1]:8443", true},
		{"push.example.net", "tcp4", "10.2.0.1:443", false},
		{"push.example.net", "tcp4", "192.168.7.7:443", true},
		{"push.example.net", "tcp4", "192.168.7.8:443", false},
		{"push.example.net", "tcp6", "[fd00:7::1]:443", true},
		{"push.example.net", "tcp6", "[fd00:8::1]:443", false},
		{"push.home.example", "tcp4", "10.2.0.1:443", true},
		{"PUSH.HOME.EXAMPLE", "tcp4", "10.2.0.1:443", true},
		{"x.push.home.example", "tcp4", "10.2.0.1:443", false},
		{"push.example.net", "tcp4", "localhost:443", false},
		{"push.example.net", "tcp4", "8.8.8.8", false},
		{"push.example.net", "unix", "8.8.8.8:443", false},
		{"push.example.net", "tcp6", "[fe80::1%eth0]:443", false},
	} {
		if err := g.admit(test.host, test.network, test.address); (err == nil) != test.want {
			t.Errorf("admit(%s, %s, %s) = %v, want admitted %v", test.host, test.network, test.address, err, test.want)
		}
	}
}

// What has a public address can still be where only this machine reaches it: on it, or
// beside it.
func TestNearby(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1": true, "127.0.0.2": true, "::1": true, // as good as public ones, here
		"198.51.100.7": false,
	} {
		if got, err := nearby(netip.AddrPortFrom(netip.MustParseAddr(address), 443)); err != nil || got != want {
			t.Errorf("nearby(%s) = %v, %v, want %v", address, got, err, want)
		}
	}
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"2001:db8:0:7::1", "2001:db8:0:7:ffff::2", true},
		{"2001:db8:0:7::1", "2001:db8:0:8::1", false},
		{"fe80::1%eth0", "fe80::2", true},
	} {
		if got := sameNetwork(netip.MustParseAddr(test.a), netip.MustParseAddr(test.b)); got != test.want {
			t.Errorf("sameNetwork(%s, %s) = %v, want %v", test.a, test.b, got, test.want)
		}
	}
}

func TestParseAllowed(t *testing.T) {
	for entry, ok := range map[string]bool{
		"10.0.0.0/8": true, "fd00::/8": true, "192.168.1.5": true, "fd00::5": true, "::ffff:10.0.0.1": true, "localhost": true,
		"push.home.example": true, "Push.Home.Example": true,
		"": false, "0.0.0.0/0": false, "::/0": false, "10.1.0.0/8": false, "10.0.0.0/33": false, "::ffff:10.0.0.0/104": false,
		"fe80::1%eth0": false, "*.home.example": false, "https://push.home.example": false, "push.home.example:8443": false,
		"push.home.example.": false, "10.0.0": false, "push home": false,
	} {
		_, err := ParseAllowed([]string{"127.0.0.1", entry})
		if (err == nil) != ok {
			t.Errorf("ParseAllowed(%q) = %v, want ok %v", entry, err, ok)
		}
		if err != nil && !strings.Contains(err.Error(), entry) {
			t.Errorf("ParseAllowed(%q) = %v, which does not name it", entry, err)
		}
	}
}
