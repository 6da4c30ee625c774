package webpush

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func TestParseEndpoint(t *testing.T) {
	for _, test := range []struct{ endpoint, host, origin string }{
		{"https://fcm.googleapis.com/fcm/send/dbDqU8xX10w:APA91b", "fcm.googleapis.com", "https://fcm.googleapis.com"},
		{"https://updates.push.services.mozilla.com/wpush/v2/gAAAAABl_x-y==", "updates.push.services.mozilla.com", "https://updates.push.services.mozilla.com"},
		{"https://web.push.apple.com/QGuQyavXutnMH", "web.push.apple.com", "https://web.push.apple.com"},
		{"https://wns2-db5p.notify.windows.com/w/?token=BQYAAAB%2bX", "wns2-db5p.notify.windows.com", "https://wns2-db5p.notify.windows.com"},
		{"https://ntfy.home.example:8443/upAbc?up=1", "ntfy.home.example", "https://ntfy.home.example:8443"},
		{"https://Push.Example.NET:443/X", "push.example.net", "https://push.example.net"},
		{"https://xn--bcher-kva.example/x", "xn--bcher-kva.example", "https://xn--bcher-kva.example"},
		{"https://8.8.8.8/x", "8.8.8.8", "https://8.8.8.8"},
		{"https://[2606:4700:0:0::1]:1024/x", "2606:4700::1", "https://[2606:4700::1]:1024"},
		{"https://a1.b2.example", "a1.b2.example", "https://a1.b2.example"},
	} {
		e, err := newGuard(Allowed{}).parse(test.endpoint)
		if err != nil || e.url != test.endpoint || e.host != test.host || e.origin != test.origin {
			t.Errorf("parse(%s) = %q, %q, %v, want %q, %q", test.endpoint, e.host, e.origin, err, test.host, test.origin)
		}
	}
}

// What the operator allows is taken at registration too.
func TestParseAllowedEndpoint(t *testing.T) {
	for _, test := range []struct {
		allowed, endpoint string
	}{
		{"push", "https://push/x"},
		{"10.0.0.0/8", "https://10.2.3.4/x"},
		{"localhost", "https://localhost:8443/x"},
		{"127.0.0.1", "https://localhost:8443/x"},
		{"::1", "https://a.localhost:8443/x"},
		{"fd00::/8", "https://[fd00::1]/x"},
	} {
		if _, err := newGuard(Allowed{}).parse(test.endpoint); err == nil || !strings.Contains(err.Error(), "web_push.allow") {
			t.Errorf("parse(%s) with nothing allowed = %v, want a refusal that says who can allow it", test.endpoint, err)
		}
		if _, err := newGuard(mustAllow(t, test.allowed)).parse(test.endpoint); err != nil {
			t.Errorf("parse(%s) with %s allowed = %v", test.endpoint, test.allowed, err)
		}
	}
}

// FuzzEndpoint holds that what is taken is an https URL whose host no other parser
// reads as something else, and that no refusal repeats the path, which is secret.
func FuzzEndpoint(f *testing.F) {
	for _, e := range hostileEndpoints {
		f.Add(e.endpoint)
	}
	f.Add("https://push.example.net:8443/secret?token=secret")
	f.Add("https://8.8.8.8/secret")
	f.Add("https://[2606:4700::1]/secret")
	g := newGuard(Allowed{})
	f.Fuzz(func(t *testing.T, s string) {
		e, err := g.parse(s)
		if err != nil {
			if _, path, _ := strings.Cut(strings.TrimPrefix(s, "https://"), "/"); len(path) > 8 && strings.Contains(err.Error(), path) {
				t.Errorf("parse(%q) = %v, which repeats the path", s, err)
			}
			return
		}
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" || u.User != nil || u.Fragment != "" || len(s) > maxEndpoint || e.url != s {
			t.Fatalf("parse(%q) = %+v", s, e)
		}
		if address, err := netip.ParseAddr(u.Hostname()); err == nil {
			if !g.admits(address) {
				t.Errorf("parse(%q) took the address %v", s, address)
			}
		} else if e.host != strings.ToLower(u.Hostname()) || !strings.Contains(e.host, ".") || strings.ContainsAny(e.host, "%:/@\\ _") {
			t.Errorf("parse(%q) has the host %q", s, e.host)
		}
		o, err := url.Parse(e.origin)
		if err != nil || o.Path != "" || o.RawQuery != "" || o.Hostname() != e.host {
			t.Errorf("parse(%q) has the origin %q", s, e.origin)
		}
	})
}
