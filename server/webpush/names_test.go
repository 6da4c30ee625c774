package webpush

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// hostileNames are what newNames answers below hostile.example, besides a-N-N-N-N,
// which is that address.
var hostileNames = map[string][]string{
	"loopback6":     {"::1"},
	"mapped6":       {"::ffff:127.0.0.1"},
	"nat64":         {"64:ff9b::7f00:1"},
	"unspecified6":  {"::"},
	"linklocal6":    {"fe80::1"},
	"unique6":       {"fd00::1"},
	"two":           {"10.0.0.1", "127.0.0.1", "::1"},
	"xn--127-0-0-1": {"127.0.0.1"},
	"mixed":         {"127.0.0.1", "127.0.0.2"},
	"push":          {"127.0.0.2"},
	"many":          manyAddresses(40),
}

// manyAddresses returns n loopback addresses.
func manyAddresses(n int) []string {
	var all []string
	for i := range n {
		all = append(all, netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}).String())
	}
	return all
}

// newNames returns a resolver that asks a DNS server of the test, whose answer for
// rebinding.hostile.example is 127.0.0.2 the first time and then 127.0.0.1.
func newNames(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		bound := false
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var query dnsmessage.Message
			if err := query.Unpack(buf[:n]); err != nil || len(query.Questions) != 1 {
				t.Errorf("a DNS query cannot be read: %v", err)
				continue
			}
			answer, err := answerNames(query, &bound)
			if err != nil {
				t.Errorf("answering a DNS query: %v", err)
				continue
			}
			conn.WriteTo(answer, from)
		}
	})
	t.Cleanup(func() { conn.Close(); serving.Wait() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func answerNames(query dnsmessage.Message, bound *bool) ([]byte, error) {
	q := query.Questions[0]
	label, ours := strings.CutSuffix(strings.ToLower(q.Name.String()), ".hostile.example.")
	addresses, known := hostileNames[label]
	switch text, ok := strings.CutPrefix(label, "a-"); {
	case ok:
		addresses, known = []string{strings.ReplaceAll(text, "-", ".")}, true
	case label == "alias":
		addresses, known = []string{"127.0.0.1"}, true
	case label == "rebinding":
		addresses, known = []string{"127.0.0.2"}, true
		if *bound {
			addresses = []string{"127.0.0.1"}
		}
		*bound = *bound || q.Type == dnsmessage.TypeA
	}
	reply := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: query.ID, Response: true, Authoritative: true, RecursionAvailable: true},
		Questions: query.Questions,
	}
	if !ours || !known {
		reply.RCode = dnsmessage.RCodeNameError
		return reply.Pack()
	}
	name := q.Name
	if label == "alias" {
		name = dnsmessage.MustNewName("localhost.")
		reply.Answers = append(reply.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.CNAMEResource{CNAME: name},
		})
	}
	header := dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET}
	for _, text := range addresses {
		switch address := netip.MustParseAddr(text); {
		case address.Is4() && q.Type == dnsmessage.TypeA:
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: address.As4()}})
		case address.Is6() && q.Type == dnsmessage.TypeAAAA:
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: address.As16()}})
		}
	}
	return reply.Pack()
}

// A trap counts who connects to what must not be reached.
type trap struct {
	port  string
	count atomic.Int64
}

// newTrap listens on a port of each host; "0" means any that is free on the first.
func newTrap(t *testing.T, port string, hosts ...string) *trap {
	t.Helper()
	tr := &trap{port: port}
	for _, host := range hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(host, tr.port))
		if err != nil {
			t.Fatal(err)
		}
		if _, tr.port, err = net.SplitHostPort(l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		var counting sync.WaitGroup
		counting.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				tr.count.Add(1)
				conn.Close()
			}
		})
		t.Cleanup(func() { l.Close(); counting.Wait() })
	}
	return tr
}
