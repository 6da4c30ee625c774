package webpush

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/webpush/webpushtest"
)

// hostileEndpoints are what a device may register to make the server reach what
// only the server can. PORT is one on which this machine listens.
var hostileEndpoints = []struct {
	endpoint string
	late     bool // refused only when it is connected to, since it takes a look-up
}{
	// Addresses in all spellings that some parser knows.
	{"https://127.0.0.1:PORT/", false},
	{"https://127.0.0.2:PORT/", false},
	{"https://127.1:PORT/", false},
	{"https://127.0.1:PORT/", false},
	{"https://2130706433:PORT/", false},
	{"https://017700000001:PORT/", false},
	{"https://0x7f000001:PORT/", false},
	{"https://0x7f.0.0.1:PORT/", false},
	{"https://0X7F.1:PORT/", false},
	{"https://0177.0.0.1:PORT/", false},
	{"https://0177.0.0.01:PORT/", false},
	{"https://127.0.0.01:PORT/", false},
	{"https://127.0.0.1.:PORT/", false},
	{"https://127.000.000.001:PORT/", false},
	{"https://127.0.0.256:PORT/", false},
	{"https://0:PORT/", false},
	{"https://0.0.0.0:PORT/", false},
	{"https://0x0:PORT/", false},
	{"https://１２７.０.０.１:PORT/", false},
	{"https://①②⑦.⓪.⓪.①:PORT/", false},
	{"https://127。0。0。1:PORT/", false},
	{"https://127.0.0.%31:PORT/", false},
	{"https://%31%32%37.0.0.1:PORT/", false},
	{"https://127.0.0.1%00.example:PORT/", false},
	{"https://[::1]:PORT/", false},
	{"https://[0:0:0:0:0:0:0:1]:PORT/", false},
	{"https://[::]:PORT/", false},
	{"https://[::ffff:127.0.0.1]:PORT/", false},
	{"https://[::ffff:7f00:1]:PORT/", false},
	{"https://[::127.0.0.1]:PORT/", false},
	{"https://[::1%25lo]:PORT/", false},
	{"https://[::1%lo]:PORT/", false},
	{"https://[fe80::1%25eth0]:PORT/", false},
	{"https://[64:ff9b::7f00:1]:PORT/", false},
	{"https://[64:ff9b:1::7f00:1]:PORT/", false},
	{"https://[2002:7f00:1::]:PORT/", false},
	{"https://[2001:0:7f00:1::]:PORT/", false},
	{"https://[fd00::1]:PORT/", false},
	{"https://[fec0::1]:PORT/", false},
	{"https://[ff02::1]:PORT/", false},
	{"https://[127.0.0.1]:PORT/", false},
	{"https://[]:PORT/", false},
	{"https://::1:PORT/", false},
	{"https://10.0.0.1:PORT/", false},
	{"https://172.16.0.1:PORT/", false},
	{"https://192.168.0.1:PORT/", false},
	{"https://169.254.169.254/latest/meta-data/", false},
	{"https://100.100.100.200/latest/meta-data/", false},
	{"https://100.64.0.1:PORT/", false},
	{"https://192.0.0.192/opc/v2/", false},
	{"https://198.18.0.1:PORT/", false},
	{"https://203.0.113.1:PORT/", false},
	{"https://224.0.0.1:PORT/", false},
	{"https://240.0.0.1:PORT/", false},
	{"https://255.255.255.255:PORT/", false},

	// Names, and what is no name.
	{"https://localhost:PORT/", false},
	{"https://LOCALHOST:PORT/", false},
	{"https://localhost.:PORT/", false},
	{"https://x.localhost:PORT/", false},
	{"https://metadata/", false},
	{"https://push.hostile.example.:PORT/", false},
	{"https://push..hostile.example:PORT/", false},
	{"https://-push.hostile.example:PORT/", false},
	{"https://push_.hostile.example:PORT/", false},
	{"https://:PORT/", false},
	{"https:///x", false},
	{"https://", false},
	{"https:127.0.0.1:PORT/", false},

	// Other than host and path.
	{"http://127.0.0.1:PORT/", false},
	{"http://push.example.net/", false},
	{"HTTPS://127.0.0.1:PORT/", false},
	{"ftp://127.0.0.1:PORT/", false},
	{"file:///etc/passwd", false},
	{"unix:///run/admin.sock", false},
	{"//127.0.0.1:PORT/", false},
	{"", false},
	{"https://push.example.net@127.0.0.1:PORT/", false},
	{"https://127.0.0.1:PORT@push.example.net/", false},
	{"https://a:b@push.example.net/", false},
	{"https://push.example.net#@127.0.0.1:PORT/", false},
	{"https://push.example.net\\@127.0.0.1:PORT/", false},
	{"https://127.0.0.1:PORT\\@push.example.net/", false},
	{"https://push.example.net /x", false},
	{"https://push.example.net/\r\nX-Header: 1", false},
	{"https://push.example.net/\x00", false},
	{"\thttps://127.0.0.1:PORT/", false},
	{"https://push.example.net:0/", false},
	{"https://push.example.net:22/", false},
	{"https://push.example.net:25/", false},
	{"https://push.example.net:65536/", false},
	{"https://push.example.net:0443/", false},
	{"https://push.example.net:/", false},
	{"https://push.example.net:https/", false},
	{"https://push.example.net/" + strings.Repeat("x", 1024), false},

	// Names that lead to where they must not, by the resolver below.
	{"https://a-127-0-0-1.hostile.example:PORT/", true},
	{"https://A-127-0-0-1.HOSTILE.example:PORT/", true},
	{"https://a-127-0-0-2.hostile.example:PORT/", true},
	{"https://a-0-0-0-0.hostile.example:PORT/", true},
	{"https://a-10-0-0-1.hostile.example:PORT/", true},
	{"https://a-172-31-255-254.hostile.example:PORT/", true},
	{"https://a-192-168-1-1.hostile.example:PORT/", true},
	{"https://a-169-254-169-254.hostile.example:PORT/", true},
	{"https://a-100-64-0-1.hostile.example:PORT/", true},
	{"https://a-224-0-0-1.hostile.example:PORT/", true},
	{"https://a-255-255-255-255.hostile.example:PORT/", true},
	{"https://loopback6.hostile.example:PORT/", true},
	{"https://mapped6.hostile.example:PORT/", true},
	{"https://nat64.hostile.example:PORT/", true},
	{"https://unspecified6.hostile.example:PORT/", true},
	{"https://linklocal6.hostile.example:PORT/", true},
	{"https://unique6.hostile.example:PORT/", true},
	{"https://two.hostile.example:PORT/", true},
	{"https://alias.hostile.example:PORT/", true},
	{"https://xn--127-0-0-1.hostile.example:PORT/", true},
	{"https://nowhere.hostile.example:PORT/", true},
}

// TestHostileEndpoints holds that none of them makes the server connect to anything.
func TestHostileEndpoints(t *testing.T) {
	if len(hostileEndpoints) < 60 {
		t.Fatalf("there are %d hostile endpoints", len(hostileEndpoints))
	}
	trap := newTrap(t, "0", "127.0.0.1", "127.0.0.2", "::1")
	s := newTestService(t, Config{}, newNames(t))
	for _, test := range hostileEndpoints {
		endpoint := strings.ReplaceAll(test.endpoint, "PORT", trap.port)
		to := newAddress(t, endpoint)
		err := s.Check(to)
		if (err == nil) != test.late {
			t.Errorf("Check(%s) = %v, want it taken only if it takes a look-up to know: %v", endpoint, err, test.late)
		}
		wake, ok := errors.AsType[*approval.WakeError](s.Wake(t.Context(), to, ring()))
		switch {
		case !ok || wake.Verdict != approval.WakeRefused:
			t.Errorf("Wake(%s) = %v, want it refused", endpoint, wake)
		case test.late && !strings.HasSuffix(wake.Why, "has no address that this server may push to"):
			t.Errorf("Wake(%s) = %v, which tells more of the server's network than that", endpoint, wake)
		}
	}
	if n := trap.count.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// TestRebinding holds that a name is not judged by one answer and connected to by
// another: 127.0.0.2 stands for what is allowed, 127.0.0.1 for what is not.
func TestRebinding(t *testing.T) {
	service := webpushtest.New(t, &webpushtest.Options{Address: "127.0.0.2:0", Name: "rebinding.hostile.example"})
	_, port, _ := strings.Cut(strings.TrimPrefix(service.Origin, "https://"), ":")
	trap := newTrap(t, port, "127.0.0.1")
	s := newTestService(t, Config{Allowed: mustAllow(t, "127.0.0.2"), Roots: service.Roots()}, newNames(t))
	s.transport.DisableKeepAlives = true // so that each push looks the name up
	to := addressOf(service.Subscribe(s.vapid.public))
	if err := s.Wake(t.Context(), to, ring()); err != nil {
		t.Fatalf("the first push = %v, want it taken", err)
	}
	wake, ok := errors.AsType[*approval.WakeError](s.Wake(t.Context(), to, ring()))
	if !ok || wake.Verdict != approval.WakeRefused {
		t.Errorf("the push after the name was bound anew = %v, want it refused", wake)
	}
	if n := trap.count.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// One bad address among good ones is left out, and the good ones are tried.
func TestMixedAddresses(t *testing.T) {
	service := webpushtest.New(t, &webpushtest.Options{Address: "127.0.0.2:0", Name: "mixed.hostile.example"})
	_, port, _ := strings.Cut(strings.TrimPrefix(service.Origin, "https://"), ":")
	trap := newTrap(t, port, "127.0.0.1")
	s := newTestService(t, Config{Allowed: mustAllow(t, "127.0.0.2"), Roots: service.Roots()}, newNames(t))
	if err := s.Wake(t.Context(), addressOf(service.Subscribe(s.vapid.public)), ring()); err != nil {
		t.Errorf("the push = %v, want it taken", err)
	}
	if n := trap.count.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// No redirect is followed, nor is an alternative service.
func TestRedirects(t *testing.T) {
	service := webpushtest.New(t, &webpushtest.Options{Address: "127.0.0.2:0", Name: "push.hostile.example"})
	trap := newTrap(t, "0", "127.0.0.1")
	s := newTestService(t, Config{Allowed: mustAllow(t, "127.0.0.2"), Roots: service.Roots()}, newNames(t))
	to := addressOf(service.Subscribe(s.vapid.public))
	for _, status := range []int{300, 301, 302, 303, 307, 308} {
		service.SetAnswer(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "https://127.0.0.1:"+trap.port+"/")
			w.Header().Set("Alt-Svc", `h2="127.0.0.1:`+trap.port+`"`)
			w.WriteHeader(status)
		})
		wake, ok := errors.AsType[*approval.WakeError](s.Wake(t.Context(), to, ring()))
		if want := fmt.Sprintf("Web Push: %d from push.hostile.example: it wants to send the push elsewhere, which is not followed", status); !ok || wake.Verdict != approval.WakeRefused || wake.Why != want {
			t.Errorf("a redirect with %d = %v, want %s", status, wake, want)
		}
	}
	if got := service.Requests(); got != 6 {
		t.Errorf("%d requests were made, want 6", got)
	}
	if n := trap.count.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// A name can have thousands of addresses. One push knocks at a few of them, so that
// no device makes the server search a network for it.
func TestManyAddresses(t *testing.T) {
	many := hostileNames["many"]
	trap := newTrap(t, "0", many[len(many)-1]) // at all others nobody listens
	s := newTestService(t, Config{Allowed: mustAllow(t, "127.0.0.0/8")}, newNames(t))
	to := newAddress(t, "https://many.hostile.example:"+trap.port+"/")
	if wake := wakeError(t, s.Wake(t.Context(), to, ring())); wake.Verdict != approval.WakeLater || !strings.HasSuffix(wake.Why, "could not be reached") {
		t.Errorf("a push to a name with %d addresses = %v, want that it could not be reached", len(many), wake)
	}
	if n := trap.count.Load(); n != 0 {
		t.Errorf("all %d addresses were tried", len(many))
	}
}
